"""Writer of the details of an evaluation: counts of each image, and small copies of the images.

``details/record.json`` describes the evaluation, ``details/counts.npz`` holds the counts, and ``details/images`` holds
``00000.jpg``, ``00000_truth.png`` and ``00000_prediction.png`` of each image. ``images.csv``, beside ``details``, has a
row of scores for each image.
"""
from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..files import atomic_write
from ..metrics import ConfusionMatrix
from ..metrics.boundary import WIDTHS, boundary_counts, trimap_counts
from ..metrics.calibration import BINS, Calibration
from ..metrics.counts import HITS, class_counts, iou, mean_iou, pixel_accuracy
from ..metrics.objects import LIMITS, size_counts
from ..viz.palette import Palette, save_color_png
from ..viz.sheet import scale_down

FORMAT = 1
DETAILS, RECORD, COUNTS, IMAGES, TABLE = "details", "record.json", "counts.npz", "images", "images.csv"
CALIBRATED = 50  # images whose probabilities are computed, because that doubles their time
_MOST_PROBABILITIES = 1 << 27  # of an image, over all classes: half a GiB
_IGNORE = 255


def discard_details(folder: Path) -> None:
    """Invalidate the details of an earlier evaluation, which a report would take for those of the next one."""
    for path in (folder / DETAILS / RECORD, folder / TABLE):
        path.unlink(missing_ok=True)


class Recorder:
    """Collect the details of an evaluation, image by image.

    Args:
        folder: of the evaluation; ``details`` and ``images.csv`` are written there.
        images: number of images that will be added.
        classes: names of the n classes.
        palette: (n, 3) RGB, 0 to 255.
        numbers: the numbers in the split, from 0, of the images that will be added; all by default. If they are
            some, ``images`` still is the number of all.

    Raises:
        UsageError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, images: int, classes: Sequence[str], palette: Palette,
                 numbers: Sequence[int] | None = None):
        self.folder = folder
        self._numbers = range(images) if numbers is None else numbers
        self.classes, self.palette = tuple(classes), np.asarray(palette)
        nclass = len(self.classes)
        # evenly spread, because neighbours in a split are often frames of one video
        self._chosen = set(np.linspace(0, images - 1, min(images, CALIBRATED)).round().astype(int).tolist())
        self._names: list[str] = []
        self._regions: list[np.ndarray] = []
        self._boundaries: list[np.ndarray] = []
        self._confusion = ConfusionMatrix(nclass, ignore=_IGNORE)
        self._trimap = np.zeros((len(WIDTHS), 3, nclass), np.int64)
        self._sizes = np.zeros((len(LIMITS) + 1, 3, nclass), np.int64)
        self._objects = np.zeros((len(LIMITS) + 1, nclass), np.int64)
        self._calibrations: dict[int, Calibration] = {}  # number of the image -> its own

        discard_details(folder)
        (folder / DETAILS / IMAGES).mkdir(parents=True, exist_ok=True)

    def wants_probabilities(self, image: np.ndarray) -> bool:
        """Return True if the next image counts for the calibration, which leaves very large ones out."""
        pixels = image.shape[0] * image.shape[1]
        return self._numbers[len(self._names)] in self._chosen and pixels * len(self.classes) <= _MOST_PROBABILITIES

    def add(self, name: str, image: np.ndarray, mask: np.ndarray, prediction: np.ndarray,
            probabilities: np.ndarray | None = None) -> None:
        """Add an image.

        Args:
            name: of the image in the data set.
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) uint8 train ids, 255 is ignored.
            prediction: (H, W) uint8 class ids.
            probabilities: (n, H, W) float, for the images for which :meth:`wants_probabilities` asked.
        """
        nclass, number = len(self.classes), self._numbers[len(self._names)]
        self._regions.append(class_counts(prediction, mask, nclass))
        self._boundaries.append(boundary_counts(prediction, mask, nclass))
        self._confusion.update(prediction, mask)
        self._trimap += trimap_counts(prediction, mask, nclass)
        sizes, objects = size_counts(prediction, mask, nclass)
        self._sizes += sizes
        self._objects += objects
        if probabilities is not None:
            valid = mask != _IGNORE
            calibration = self._calibrations[number] = Calibration()
            calibration.update(probabilities.max(axis=0)[valid], (prediction == mask)[valid])

        stem = self.folder / DETAILS / IMAGES / f"{number:05d}"
        _save_jpeg(scale_down(image), stem.with_suffix(".jpg"))
        for part, class_map in (("truth", mask), ("prediction", prediction)):
            save_color_png(scale_down(class_map), self.palette, stem.with_name(f"{stem.name}_{part}.png"))
        self._names.append(name)

    def counts(self) -> dict[str, np.ndarray]:
        """Return what was counted so far, to be joined with the counts of other parts of a split by :meth:`join`."""
        shape = (0, 3, len(self.classes))
        bins = [self._calibrations[number] for number in self._calibrations]
        return {
            "numbers": np.array(self._numbers[:len(self._names)], np.int64),
            "regions": np.stack(self._regions) if self._regions else np.zeros(shape, np.int64),
            "boundaries": np.stack(self._boundaries) if self._boundaries else np.zeros(shape, np.int64),
            "trimap": self._trimap, "sizes": self._sizes, "objects": self._objects,
            "calibrated": np.array(list(self._calibrations), np.int64),
            "bin_pixels": np.array([c.pixels for c in bins], np.int64).reshape(-1, BINS),
            "bin_correct": np.array([c.correct for c in bins], np.int64).reshape(-1, BINS),
            "bin_confidence": np.array([c.confidence for c in bins], np.float64).reshape(-1, BINS)}

    @property
    def names(self) -> list[str]:
        """Names of the images that were added."""
        return self._names

    def join(self, parts: Sequence[tuple[Sequence[str], np.ndarray, Mapping[str, np.ndarray]]]) -> None:
        """Replace what was counted by the counts of all parts of the split: names, confusion matrix, :meth:`counts`."""
        images = {int(number): (name, regions, boundaries) for names, _, counts in parts for number, name, regions,
                  boundaries in zip(counts["numbers"], names, counts["regions"], counts["boundaries"])}
        self._numbers = sorted(images)
        self._names, self._regions, self._boundaries = map(list, zip(*(images[number] for number in self._numbers)))
        self._trimap, self._sizes, self._objects = (
            np.sum([counts[key] for _, _, counts in parts], axis=0) for key in ("trimap", "sizes", "objects"))
        self._confusion = ConfusionMatrix.from_counts(np.sum([confusion for _, confusion, _ in parts], axis=0))
        for _, _, counts in parts:
            for i, number in enumerate(counts["calibrated"]):
                calibration = self._calibrations[int(number)] = Calibration()
                calibration.pixels, calibration.correct = counts["bin_pixels"][i], counts["bin_correct"][i]
                calibration.confidence = counts["bin_confidence"][i]

    def finish(self, description: Mapping[str, Any]) -> None:
        """Write the counts, the table, and last the record, without which the details are incomplete.

        Args:
            description: of the evaluation, fit for JSON.
        """
        details = self.folder / DETAILS
        regions, boundaries = np.stack(self._regions), np.stack(self._boundaries)
        self._write_table(regions)
        calibration = Calibration()
        for number in sorted(self._calibrations):  # in this order, because sums of floats depend on it
            calibration.add(self._calibrations[number])
        arrays = {"regions": regions, "boundaries": boundaries, "confusion": self._confusion.counts,
                  "trimap": self._trimap, "sizes": self._sizes, "objects": self._objects,
                  "bin_pixels": calibration.pixels, "bin_correct": calibration.correct,
                  "bin_confidence": calibration.confidence}
        with atomic_write(details / COUNTS) as stream:
            np.savez_compressed(stream, **arrays)

        record = {"format": FORMAT, "mxnetseg": __version__,
                  "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                  "classes": list(self.classes), "palette": self.palette.tolist(), "names": self._names,
                  "calibrated_images": len(self._calibrations), "trimap_widths": list(WIDTHS),
                  "size_limits": list(LIMITS), **description}
        with atomic_write(details / RECORD, "w") as stream:
            json.dump(record, stream, indent=1, allow_nan=False)

    def _write_table(self, regions: np.ndarray) -> None:
        """Write a row for each image, the worst first; scores are fractions of 1, empty for absent classes."""
        with atomic_write(self.folder / TABLE, "w") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["image", "miou", "pixel_accuracy", "valid_pixels", "wrong_pixels",
                            *(f"iou {name}" for name in self.classes)])
            scores, valid = mean_iou(regions), regions[:, 1].sum(axis=1)
            for i in np.argsort(scores, kind="stable"):
                numbers = [scores[i], pixel_accuracy(regions[i]), *iou(regions[i])]
                miou, accuracy, *classes = ("" if np.isnan(value) else f"{value:.4f}" for value in numbers)
                name = self._names[i].encode("utf-8", "backslashreplace").decode()  # it need not be valid Unicode
                table.writerow([name, miou, accuracy, valid[i], valid[i] - regions[i, HITS].sum(), *classes])


def _save_jpeg(image: np.ndarray, path: Path) -> None:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    with atomic_write(path) as stream:
        stream.write(data.tobytes())
