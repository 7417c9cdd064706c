"""Images of ``mxnetseg predict``: read ahead, computed in batches, written one by one."""
from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.decoding import Decoding, read_image
from ..data.parallel import in_parallel
from ..engine.predictor import Prediction, Predictor, class_fractions, shares_of
from ..errors import DataError, MXNetSegError, UsageError
from ..files import atomic_write
from ..viz.palette import save_color_png, save_id_png, save_rgb_png
from ..viz.sheet import scale_down
from ._predict_results import ResultFolder
from .common import progress_bar

_CALIBRATION = 8  # number of the given images that int8 is calibrated on
_LARGEST_OVERLAY = 6000  # pixels, the long side; larger ones are scaled down, since viewers fail on them
_MOST_PROBABILITIES = 2 << 30  # bytes of an image, before compression
_BYTES = {"uint8": 1, "float16": 2}


def wanted_files(args: Namespace, name: str) -> list[Path]:
    """Return the files to write for an image."""
    suffixes = ["_classes.png", *["_overlay.png"] * (not args.no_overlay), *["_ids.png"] * args.ids,
                *["_probabilities.npz"] * bool(args.save_probabilities)]
    return [args.out / f"{name}{suffix}" for suffix in suffixes]


def predict_images(args: Namespace, predictor: Predictor, results: ResultFolder, files: Mapping[str, Path]) -> None:
    """Predict images and record them; one that cannot be read does not stop the others.

    Args:
        args: of the command.
        predictor: computes.
        results: gets the results and the failures.
        files: name of the results -> image.

    Raises:
        UsageError: the network does not record the ids of its data set, or the probabilities do not fit on the disk.
    """
    if not files:
        return
    ids = _raw_ids(predictor) if args.ids else None
    if args.save_probabilities and not predictor.segmenter.runtime.has_scores:
        raise UsageError("the network gives class maps only, without probabilities", where="--save-probabilities",
                         fix="export the network with --input float32")
    if args.save_probabilities:
        _check_room(args, files.values(), len(predictor.classes))
    bar = progress_bar("predict", args.quiet)
    read = in_parallel(partial(_read, results, files, predictor.decoding), list(files), workers=1,
                       ahead=args.batch + 1, timeout=args.timeout, where=files.__getitem__)
    for name, identity, image, class_map, probabilities in bar(
            _computed(args, predictor, results, files, read), len(files)):
        prediction = Prediction(image, class_map, predictor.classes, predictor.palette, name)
        written = _write(args, prediction, ids, probabilities)
        fractions = class_fractions(class_map, len(predictor.classes))
        results.add(name, identity, class_map.shape, fractions, written)
        largest = list(shares_of(fractions, predictor.classes).items())[:4]
        seen = ", ".join(f"{label} {part:.0%}" for label, part in largest)
        tqdm.write(f"{files[name]}: {seen} -> {written[min(1, len(written) - 1)]}")


def read_some(files: Sequence[Path], decoding: Decoding) -> list[np.ndarray]:
    """Return the first images that can be read, for int8 to measure the ranges of its layers on."""
    images: list[np.ndarray] = []
    for file in files:
        if len(images) == _CALIBRATION:
            break
        try:
            images.append(read_image(file, decoding=decoding))
        except MXNetSegError:
            continue  # reported when it is predicted
    return images


def _read(results: ResultFolder, files: Mapping[str, Path], decoding: Decoding, name: str) -> tuple[str, Any, Any]:
    """Return a name, the identity of its file, and its image, or the error of reading it."""
    identity = results.identity(name)  # before reading: a change meanwhile makes it incomplete
    try:
        return name, identity, read_image(files[name], decoding=decoding)
    except MXNetSegError as error:
        return name, identity, error


def _computed(args: Namespace, predictor: Predictor, results: ResultFolder, files: Mapping[str, Path],
              read: Iterator[tuple[str, Any, Any]]) -> Iterator[tuple]:
    """Yield name, identity, image, class map, and probabilities if they are wanted, of every image that can be read."""
    def readable() -> Iterator[tuple[str, Any, np.ndarray]]:
        for name, identity, image in read:
            try:
                if isinstance(image, MXNetSegError):
                    raise image
                predictor.segmenter.check_size(image.shape[:2])
                if args.save_probabilities:
                    _check_probabilities(image.shape, len(predictor.classes), args.save_probabilities, files[name])
            except MXNetSegError as error:
                results.fail(name, error)
                tqdm.write(f"{files[name]}: not predicted")
                continue
            yield name, identity, image

    if args.save_probabilities:
        for name, identity, image in readable():
            yield name, identity, image, *_probabilities(predictor, image, args.save_probabilities)
    else:
        for item, class_map in predictor.segmenter.stream_items(readable(), lambda item: item[2]):
            yield *item, class_map, None


def _write(args: Namespace, prediction: Prediction, ids: np.ndarray | None,
           probabilities: np.ndarray | None) -> list[Path]:
    """Write the files of :func:`wanted_files`; return their paths."""
    written = wanted_files(args, prediction.name)
    for path in written:
        if path.name.endswith("_classes.png"):
            save_color_png(prediction.class_map, prediction.palette, path)
        elif path.name.endswith("_overlay.png"):
            small = Prediction(scale_down(prediction.image, _LARGEST_OVERLAY),
                               scale_down(prediction.class_map, _LARGEST_OVERLAY), prediction.classes,
                               prediction.palette)
            save_rgb_png(small.draw(names=args.names), path)
        elif path.name.endswith("_ids.png"):
            save_id_png(ids[prediction.class_map], path)
        else:
            with atomic_write(path) as stream:
                np.savez_compressed(stream, probabilities=probabilities, classes=np.array(prediction.classes))
    return written


def _raw_ids(predictor: Predictor) -> np.ndarray:
    """Return the id of each class in the data set's own files: uint8 (nclass,)."""
    data = predictor.sidecar["data"]
    if "raw_ids" not in data:
        raise UsageError("the network does not record the ids of its data set's files", where="--ids",
                         fix="leave --ids out: NAME_classes.png holds the class ids, 0 to n-1")
    ids = data["raw_ids"]
    return np.arange(len(predictor.classes), dtype=np.uint8) if ids is None else np.array(ids, np.uint8)


# ---- probabilities --------------------------------------------------------------------------


def _probabilities(predictor: Predictor, image: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the class map, uint8 (H, W), and the probabilities in a small type, (K, H, W)."""
    segmenter, size = predictor.segmenter, (image.shape[0], image.shape[1])
    class_map, kept = np.empty(size, np.uint8), np.empty((len(predictor.classes), *size), dtype)
    tiles = segmenter.tiles(size)
    if not tiles:
        probabilities = segmenter.probabilities(image)
        class_map[:], kept[:] = probabilities.argmax(0), _rounded(probabilities, dtype)
    for tile in tiles:
        probabilities = segmenter.tile_probabilities(image, tile)
        class_map[tile.kept_rows, tile.kept_columns] = probabilities.argmax(0)
        kept[:, tile.kept_rows, tile.kept_columns] = _rounded(probabilities, dtype)
    return class_map, kept


def _rounded(probabilities: np.ndarray, dtype: str) -> np.ndarray:
    return np.rint(255 * probabilities.clip(0, 1)) if dtype == "uint8" else probabilities


def _check_probabilities(shape: Sequence[int], nclass: int, dtype: str, file: Path) -> None:
    needed = shape[0] * shape[1] * nclass * _BYTES[dtype]
    if needed > _MOST_PROBABILITIES:
        raise DataError("the probabilities of an image are too many", where=file,
                        received=f"{shape[1]} x {shape[0]} pixels x {nclass} classes x {_BYTES[dtype]} bytes = "
                                 f"{needed / 1e9:.1f} GB", fix="leave --save-probabilities out, or scale the image")


def _check_room(args: Namespace, files: Any, nclass: int) -> None:
    """Refuse probabilities that would fill the disk, if they cannot be compressed."""
    pixels = 0
    for file in files:
        try:
            with Image.open(file) as image:
                pixels += image.width * image.height
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reported when it is predicted
    needed, free = pixels * nclass * _BYTES[args.save_probabilities], shutil.disk_usage(args.out).free
    if needed > free:
        raise UsageError("the probabilities of all images do not fit on the disk", where=os.path.abspath(args.out),
                         received=f"{pixels / 1e6:.0f} megapixels x {nclass} classes x "
                                  f"{_BYTES[args.save_probabilities]} bytes = {needed / 1e9:.1f} GB before "
                                  f"compression, {free / 1e9:.1f} GB are free",
                         fix="leave --save-probabilities out, predict fewer images, or choose another folder (--out)")
