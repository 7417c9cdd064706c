"""Confusion matrix of a segmentation, counted image by image, and the scores computed from it.

Convention of this project: a mean includes a class if it occurs, that is, if at least one valid pixel is labelled or
predicted as this class (its union is above 0). The number of classes in the mean is reported beside every mean.
GluonCV's convention, where an absent class scores 0, is ``absent_as='zero'``.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, UsageError

ABSENT_AS = ("skip", "zero")
_VALUES = 256  # class maps are uint8


class ConfusionMatrix:
    """Counts of (true class, predicted class) over any number of images, in constant memory.

    Args:
        nclass: number of classes, 1 to 255.
        ignore: label value, 0 to 255, of the pixels that are not counted. A class id is allowed: its pixels are then
            left out.

    Raises:
        UsageError: ``nclass`` or ``ignore`` out of range.

    Example::

        >>> import numpy as np
        >>> from mxnetseg.metrics import ConfusionMatrix
        >>> matrix = ConfusionMatrix(2)
        >>> matrix.update(pred=np.array([[0, 1], [1, 1]]), label=np.array([[0, 0], [1, 255]]))
        >>> matrix.counts.tolist()
        [[1, 1], [0, 1]]
        >>> matrix.miou()
        0.5
        >>> print(matrix.result(["road", "car"]).table())  # doctest: +NORMALIZE_WHITESPACE
        class    IoU  accuracy  share
        -----------------------------
        road   50.00     50.00  66.67
        car    50.00    100.00  33.33
        -----------------------------
        PA     66.67
        mPA    75.00
        mIoU   50.00  (2/2 classes)
    """

    def __init__(self, nclass: int, *, ignore: int = 255):
        if not 1 <= nclass <= 255:
            raise UsageError("the number of classes must be from 1 to 255", received=f"nclass={nclass}")
        if not 0 <= ignore <= 255:
            raise UsageError("the label to ignore must be from 0 to 255", received=f"ignore={ignore}",
                             fix="map the data set's ignored label to 255 when it is loaded")
        self.nclass, self.ignore = int(nclass), int(ignore)
        self._counts = np.zeros((self.nclass, self.nclass), np.int64)

    @classmethod
    def from_counts(cls, counts: np.ndarray, *, ignore: int = 255) -> ConfusionMatrix:
        """Make a matrix that continues from ``counts``, an (n, n) table of whole numbers, true classes in rows.

        Raises:
            UsageError: not a square table, or a count that is negative or not a whole number.
        """
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise UsageError("the counts of a confusion matrix must be a square table",
                             received=f"shape {counts.shape}")
        if counts.dtype.kind not in "iu" or (counts < 0).any():
            raise UsageError("the counts of a confusion matrix must be whole numbers >= 0",
                             received=f"{counts.dtype} values such as {counts.ravel()[:3]}",
                             fix="pass the pixel counts, not a normalised matrix")
        matrix = cls(len(counts), ignore=ignore)
        matrix._counts += counts.astype(np.int64)
        return matrix

    @property
    def counts(self) -> np.ndarray:
        """Copy of the counts, int64 (n, n): ``counts[t, p]`` pixels of true class ``t`` were predicted as ``p``."""
        return self._counts.copy()

    def update(self, pred: np.ndarray, label: np.ndarray) -> None:
        """Count one class map, or a batch of them, against the truth.

        Args:
            pred: integer class ids, any shape, 0 to nclass-1 wherever the label is not ``ignore``.
            label: integer train ids of the same shape, 0 to nclass-1 or ``ignore``.

        Raises:
            UsageError: shapes differ, values are not integers, or a prediction is not a class.
            DataError: a label is neither a class nor ``ignore``.
            In both cases nothing was counted.
        """
        pred, label = np.asarray(pred), np.asarray(label)
        if pred.shape != label.shape:
            raise UsageError("prediction and label differ in shape",
                             received=f"prediction {pred.shape}, label {label.shape}",
                             fix="resize the prediction to the label's size, by nearest neighbour")
        pred, label = self._as_uint8(pred, "prediction"), self._as_uint8(label, "label")

        # One table over all 256 x 256 pairs of values needs no masks, since ignored and wrong values have their own
        # rows and columns.
        pairs = label.astype(np.uint16).ravel()
        pairs <<= 8
        pairs |= pred.ravel()
        table = np.bincount(pairs, minlength=_VALUES * _VALUES).reshape(_VALUES, _VALUES)

        table[self.ignore] = 0
        self._refuse_others(table[self.nclass:].sum(axis=1), "label")
        self._refuse_others(table[:, self.nclass:].sum(axis=0), "prediction")
        self._counts += table[:self.nclass, :self.nclass]

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of another part of the same data (from another device or process); return self.

        Raises:
            UsageError: the matrices differ in their number of classes or in the label that they ignore.
        """
        if (self.nclass, self.ignore) != (other.nclass, other.ignore):
            raise UsageError("confusion matrices with different settings cannot be added",
                             received=f"{self!r} and {other!r}")
        self._counts += other._counts
        return self

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return self.from_counts(self._counts, ignore=self.ignore).merge(other)

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.nclass}, ignore={self.ignore}): {self.pixels} pixels"

    # ---- scores of each class: (n,) float64, NaN where the denominator is 0

    def iou(self) -> np.ndarray:
        """Return the intersection over union, TP / (TP + FP + FN); NaN for classes neither labelled nor predicted."""
        return _ratio(self._hits, self._union)

    def recall(self) -> np.ndarray:
        """Return the class accuracy, TP / (TP + FN); NaN for classes without a labelled pixel."""
        return _ratio(self._hits, self._labelled)

    def precision(self) -> np.ndarray:
        """Return the precision, TP / (TP + FP); NaN for classes without a predicted pixel."""
        return _ratio(self._hits, self._predicted)

    def dice(self) -> np.ndarray:
        """Return the Dice coefficient or F1 score, 2 TP / (2 TP + FP + FN); NaN as in :meth:`iou`."""
        return _ratio(2 * self._hits, self._labelled + self._predicted)

    # ---- scores over all classes: floats, NaN if nothing was counted

    @property
    def pixels(self) -> int:
        """Number of valid pixels counted."""
        return int(self._counts.sum())

    def pixel_accuracy(self) -> float:
        """Return the fraction of valid pixels that are predicted correctly (PA)."""
        return float(_ratio(self._hits.sum(), self._counts.sum()))

    def mean_accuracy(self, absent_as: str = "skip") -> float:
        """Return the mean of :meth:`recall` (mPA) over the classes with labelled pixels, or over all ('zero')."""
        return _mean(self.recall(), absent_as)

    def miou(self, absent_as: str = "skip") -> float:
        """Return the mean of :meth:`iou` over the classes whose union is above 0, or over all ('zero').

        Args:
            absent_as: ``'skip'`` leaves classes that do not occur out of the mean; ``'zero'`` counts
                them as 0, like GluonCV's ``SegmentationMetric``.
        """
        return _mean(self.iou(), absent_as)

    def frequency_weighted_iou(self) -> float:
        """Return the mean IoU, weighted by the fraction of labelled pixels of each class (FWIoU)."""
        weighted = np.nansum(self._labelled * self.iou())
        return float(_ratio(weighted, self._counts.sum()))

    def result(self, class_names: Sequence[str] | None = None, *, absent_as: str = "skip") -> Scores:
        """Compute all scores of the pixels counted so far. Without names, classes are named by their ids.

        Raises:
            UsageError: the number of names differs from the number of classes, or ``absent_as`` is unknown.
        """
        names = tuple(map(str, range(self.nclass) if class_names is None else class_names))
        if len(names) != self.nclass:
            raise UsageError("one name per class is needed",
                             received=f"{len(names)} names for {self.nclass} classes")
        iou = self.iou()
        return Scores(
            classes=names, iou=iou, accuracy=self.recall(), precision=self.precision(), dice=self.dice(),
            labelled=self._labelled, predicted=self._predicted, pixels=self.pixels,
            pixel_accuracy=self.pixel_accuracy(),
            mean_accuracy=self.mean_accuracy(absent_as), miou=self.miou(absent_as),
            frequency_weighted_iou=self.frequency_weighted_iou(), absent_as=absent_as,
            averaged=self.nclass if absent_as == "zero" else int(np.count_nonzero(~np.isnan(iou))))

    @property
    def _hits(self) -> np.ndarray:
        return np.diagonal(self._counts)

    @property
    def _labelled(self) -> np.ndarray:
        return self._counts.sum(axis=1)

    @property
    def _predicted(self) -> np.ndarray:
        return self._counts.sum(axis=0)

    @property
    def _union(self) -> np.ndarray:
        return self._labelled + self._predicted - self._hits

    @staticmethod
    def _as_uint8(values: np.ndarray, name: str) -> np.ndarray:
        if values.dtype == np.uint8:
            return values
        if values.dtype.kind not in "biu":
            raise UsageError(f"a {name} must hold integer class ids", received=f"dtype {values.dtype}",
                             fix="take the argmax over the classes first")
        if values.size and not 0 <= values.min() <= values.max() < _VALUES:
            raise UsageError(f"a {name} must hold values from 0 to 255",
                             received=f"values from {values.min()} to {values.max()}")
        return values.astype(np.uint8)

    def _refuse_others(self, counts: np.ndarray, name: str) -> None:
        """Refuse values that are not classes.

        Args:
            counts: (256 - nclass,), number of pixels of each value from ``nclass`` on.
            name: ``'label'`` or ``'prediction'``.
        """
        found = np.flatnonzero(counts)
        if not len(found):
            return
        values = ", ".join(f"{self.nclass + i} ({counts[i]} pixels)" for i in found[:5])
        values += f" and {len(found) - 5} more" if len(found) > 5 else ""
        if name == "label":
            raise DataError(f"a label is neither one of the {self.nclass} classes nor the ignored {self.ignore}",
                            received=values, fix="correct the data set's label map, or the number of classes")
        raise UsageError(f"a prediction is not one of the {self.nclass} classes", received=values,
                         fix="use the number of classes that the network was trained for")


@dataclass(frozen=True, eq=False)  # comparing arrays does not give a single truth value
class Scores:
    """Scores of one evaluation. Ratios lie in [0, 1]; NaN means that there was nothing to score.

    The arrays have one entry per class.

    Attributes:
        classes: names of the classes.
        iou, accuracy, precision, dice: scores of each class; ``accuracy`` is the recall, ``dice`` the F1 score.
        labelled, predicted: number of pixels of each class in the labels and in the predictions.
        pixels: number of valid pixels.
        pixel_accuracy, mean_accuracy, miou, frequency_weighted_iou: scores over all classes.
        absent_as: ``'skip'`` or ``'zero'``, see :meth:`ConfusionMatrix.miou`.
        averaged: number of classes in ``miou``.
    """

    classes: tuple[str, ...]
    iou: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray
    dice: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray
    pixels: int
    pixel_accuracy: float
    mean_accuracy: float
    miou: float
    frequency_weighted_iou: float
    absent_as: str
    averaged: int

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain values, fit for JSON; NaN becomes None."""
        return {
            "pixel_accuracy": _or_none(self.pixel_accuracy),
            "mean_accuracy": _or_none(self.mean_accuracy),
            "miou": _or_none(self.miou),
            "frequency_weighted_iou": _or_none(self.frequency_weighted_iou),
            "absent_as": self.absent_as,
            "classes_averaged": self.averaged,
            "nclass": len(self.classes),
            "pixels": self.pixels,
            "classes": [
                {"name": name, "iou": _or_none(self.iou[i]), "accuracy": _or_none(self.accuracy[i]),
                 "precision": _or_none(self.precision[i]), "dice": _or_none(self.dice[i]),
                 "pixels": int(self.labelled[i])}
                for i, name in enumerate(self.classes)],
        }

    def log_row(self) -> dict[str, float]:
        """Return what a training logs: ``val_pa``, ``val_mpa``, ``val_miou``, and ``val_iou/NAME`` of each class.

        A score that is NaN is left out, because it is neither a number to log nor a best score.
        """
        scores = {"val_pa": self.pixel_accuracy, "val_mpa": self.mean_accuracy, "val_miou": self.miou,
                  **{f"val_iou/{name}": float(value) for name, value in zip(self.classes, self.iou)}}
        return {key: value for key, value in scores.items() if not math.isnan(value)}

    def table(self) -> str:
        """Format the scores as aligned text, in percent: one line per class, then PA, mPA and mIoU.

        The column ``share`` is the fraction of the labelled pixels; ``-`` means that there was nothing to score.
        """
        rows = [("class", "IoU", "accuracy", "share")]
        for i, name in enumerate(self.classes):
            fraction = self.labelled[i] / self.pixels if self.pixels else math.nan
            rows.append((name, _percent(self.iou[i]), _percent(self.accuracy[i]), _percent(fraction)))
        name_width, *widths = (max(map(len, column)) for column in zip(*rows))

        def line(name: str, *cells: str) -> str:
            return "  ".join([name.ljust(name_width), *(c.rjust(w) for c, w in zip(cells, widths))])

        absent = int(np.count_nonzero(np.isnan(self.iou)))
        note = f"  ({self.averaged}/{len(self.classes)} classes"
        note += f", {absent} absent counted as 0)" if self.absent_as == "zero" and absent else ")"
        lines = [line(*row) for row in rows]
        rule = "-" * len(lines[0])
        totals = [line("PA", _percent(self.pixel_accuracy)), line("mPA", _percent(self.mean_accuracy)),
                  line("mIoU", _percent(self.miou)) + note]
        return "\n".join([lines[0], rule, *lines[1:], rule, *totals])


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Divide in float64, with NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)


def _mean(scores: np.ndarray, absent_as: str) -> float:
    if absent_as not in ABSENT_AS:
        raise UsageError("unknown way to treat absent classes", received=f"absent_as={absent_as!r}",
                         fix=f"one of {', '.join(map(repr, ABSENT_AS))}")
    if absent_as == "zero":
        return float(np.nan_to_num(scores).mean())
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if len(present) else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
