"""Videos of ``mxnetseg predict``: an overlay as a video, and a table with a row for each frame."""
from __future__ import annotations

import csv
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..engine.predictor import Predictor, class_fractions
from ..engine.video import VideoReader, choose_codec, write_video
from ..errors import DataError
from ..files import atomic_write
from ..viz.names import draw_names
from ..viz.overlay import overlay, with_legend
from ._predict_results import ResultFolder
from .common import progress_bar

_MOST_IN_LEGEND = 40  # classes; the legend of a video lists all, because its height must not change


def video_files(args: Namespace, name: str) -> list[Path]:
    """Return the files to write for a video: the table, and the overlay if it is wanted."""
    return [args.out / f"{name}{suffix}" for suffix in ("_shares.csv", *["_overlay.mp4"] * (not args.no_overlay))]


def predict_video(args: Namespace, predictor: Predictor, results: ResultFolder, name: str, file: Path) -> None:
    """Predict a video and record it, or its failure. An interrupted run leaves nothing under the final names."""
    codec = None if args.no_overlay else choose_codec()
    identity = results.identity(name)
    began = time.perf_counter()
    try:
        reader = VideoReader(file, args.every)
        try:
            count, size, fractions = _predict(args, predictor, reader, codec, name)
        finally:
            reader.close()
    except DataError as error:
        results.fail(name, error)
        tqdm.write(f"{file}: not predicted")
        return

    problem, missing = None, reader.missing()
    if missing:
        problem = f"damaged: the last {missing} of {missing + reader.read} frames could not be read"
        tqdm.write(f"{file}: {problem}")
    written = video_files(args, name)
    results.add(name, identity, size, fractions, written, frames=count, every=args.every, rate=reader.rate,
                codec=codec, problem=problem)
    seconds = time.perf_counter() - began
    tqdm.write(f"{file}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} frames/s -> {written[-1]}")


def _predict(args: Namespace, predictor: Predictor, reader: VideoReader, codec: str | None,
             name: str) -> tuple[int, tuple[int, int], np.ndarray]:
    """Write table and overlay; return the number of frames, their (height, width), and the mean class fractions."""
    table_path, *overlay_paths = video_files(args, name)
    bar = progress_bar(Path(name).name, args.quiet, unit="frame")
    total, count, size = np.zeros(len(predictor.classes)), 0, (0, 0)
    with ExitStack() as files:
        table = csv.writer(files.enter_context(atomic_write(table_path, "w")), lineterminator="\n")
        table.writerow(["frame", "seconds", *predictor.classes])
        writer = files.enter_context(write_video(overlay_paths[0], reader.rate, codec)) if codec else None
        draw = _Drawing(predictor, args.names)
        for frame, class_map in bar(_computed(predictor, reader), reader.count):
            if not count:
                size = class_map.shape
            fractions = class_fractions(class_map, len(predictor.classes))
            table.writerow([count * args.every, f"{count / reader.rate:.3f}", *(f"{100 * f:.4f}" for f in fractions)])
            if writer is not None:
                writer.add(draw(frame, class_map))
            total += fractions
            count += 1
        if not count:
            raise DataError("no frame of a video can be decoded", where=reader.path,
                            received=f"{reader.path.stat().st_size} bytes",
                            fix="play it to check; ffmpeg -i VIDEO -c:v libx264 NEW.mp4 converts it")
    return count, size, total / count


def _computed(predictor: Predictor, reader: VideoReader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame with its class map."""
    def image_of(frame: np.ndarray) -> np.ndarray:
        predictor.segmenter.check_size((frame.shape[0], frame.shape[1]))
        return frame
    return predictor.segmenter.stream_items(reader, image_of)


class _Drawing:
    """Overlays of frames above one legend of all classes, which is drawn once."""

    def __init__(self, predictor: Predictor, names: bool):
        self._classes, self._palette, self._names = predictor.classes, predictor.palette, names
        self._sheet: np.ndarray | None = None

    def __call__(self, frame: np.ndarray, class_map: np.ndarray) -> np.ndarray:
        tinted = overlay(frame, class_map, self._palette, classes=self._classes)
        if self._names:
            tinted = draw_names(tinted, class_map, self._classes)
        if len(self._classes) > _MOST_IN_LEGEND:
            return tinted
        if self._sheet is None:
            self._sheet = with_legend(tinted, self._classes, self._palette, of_overlay=True)
        left = (self._sheet.shape[1] - frame.shape[1]) // 2
        self._sheet[:frame.shape[0], left:left + frame.shape[1]] = tinted
        return self._sheet
