"""The confusion matrix of a segmentation, counted picture by picture, and the scores derived from it.

The convention of this project: a class is averaged over if it occurs, that is, if at least one valid
pixel is labelled or predicted as it (its union is above 0), and the number of classes averaged is
reported beside every mean. GluonCV's convention, where an absent class scores 0, is
``absent_as='zero'``.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from ..errors import DataError, UsageError

ABSENT_AS = ("skip", "zero")
_VALUES = 256  # class maps are uint8


class ConfusionMatrix:
    """Counts of (true class, predicted class) over any number of pictures, in constant memory.

    Args:
        nclass: number of classes, 1 to 255.
        ignore: label value, 0 to 255, of the pixels that do not count, whatever is predicted there.
            A class id is allowed: its pixels are then left out.

    Raises:
        UsageError: ``nclass`` or ``ignore`` out of range.
    """

    def __init__(self, nclass: int, *, ignore: int = 255):
        if not 1 <= nclass <= 255:
            raise UsageError("a confusion matrix has 1 to 255 classes", received=f"nclass={nclass}")
        if not 0 <= ignore <= 255:
            raise UsageError("the label to ignore is a uint8 value", received=f"ignore={ignore}",
                             fix="map the data set's ignored label to 255 when it is loaded")
        self.nclass, self.ignore = int(nclass), int(ignore)
        self._counts = np.zeros((self.nclass, self.nclass), np.int64)

    @classmethod
    def from_counts(cls, counts: np.ndarray, *, ignore: int = 255) -> ConfusionMatrix:
        """A matrix that continues from ``counts``, an (n, n) table of whole numbers, true classes in rows.

        Raises:
            UsageError: not a square table, or a count that is negative or not a whole number.
        """
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise UsageError("the counts of a confusion matrix are a square table",
                             received=f"shape {counts.shape}")
        if counts.dtype.kind not in "iu" or (counts < 0).any():
            raise UsageError("the counts of a confusion matrix are whole numbers from 0",
                             received=f"{counts.dtype} values such as {counts.ravel()[:3]}",
                             fix="pass the pixel counts, not a normalised matrix")
        matrix = cls(len(counts), ignore=ignore)
        matrix._counts += counts.astype(np.int64)
        return matrix

    @property
    def counts(self) -> np.ndarray:
        """(n, n) int64, a copy: ``counts[t, p]`` pixels of true class ``t`` were predicted as ``p``."""
        return self._counts.copy()

    def update(self, pred: np.ndarray, label: np.ndarray) -> None:
        """Count one class map, or a batch of them, against the truth.

        Args:
            pred: integer class ids, any shape, 0 to nclass-1 wherever the label counts.
            label: integer train ids of the same shape, 0 to nclass-1 or ``ignore``.

        Raises:
            UsageError: shapes differ, values are not integers, or a prediction is not a class.
            DataError: a label is neither a class nor ``ignore``.
            Nothing has been counted when either is raised.
        """
        pred, label = np.asarray(pred), np.asarray(label)
        if pred.shape != label.shape:
            raise UsageError("prediction and label differ in shape",
                             received=f"prediction {pred.shape}, label {label.shape}",
                             fix="resize the prediction to the label's size, by nearest neighbour")
        pred, label = self._as_uint8(pred, "prediction"), self._as_uint8(label, "label")

        # One table over all 256 x 256 value pairs: ignored and impossible values need no masks, they
        # have rows and columns of their own.
        pairs = label.astype(np.uint16).ravel()
        pairs <<= 8
        pairs |= pred.ravel()
        table = np.bincount(pairs, minlength=_VALUES * _VALUES).reshape(_VALUES, _VALUES)
        table[self.ignore] = 0
        self._refuse_others(table[self.nclass:].sum(axis=1), "label")
        self._refuse_others(table[:, self.nclass:].sum(axis=0), "prediction")
        self._counts += table[:self.nclass, :self.nclass]

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of another part of the same data (another device, another process); return self.

        Raises:
            UsageError: the other matrix has another number of classes or ignores another label.
        """
        if (self.nclass, self.ignore) != (other.nclass, other.ignore):
            raise UsageError("confusion matrices of different kinds cannot be added",
                             received=f"{self!r} and {other!r}")
        self._counts += other._counts
        return self

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return self.from_counts(self._counts, ignore=self.ignore).merge(other)

    def __repr__(self):
        return f"ConfusionMatrix({self.nclass}, ignore={self.ignore}): {self.pixels} pixels"

    # ---- scores of each class: (n,) float64, NaN where the class gives nothing to divide by

    def iou(self) -> np.ndarray:
        """Intersection over union, TP / (TP + FP + FN); NaN for classes neither labelled nor predicted."""
        return _ratio(self._hits, self._union)

    def recall(self) -> np.ndarray:
        """Class accuracy, TP / (TP + FN); NaN for classes without a labelled pixel."""
        return _ratio(self._hits, self._labelled)

    def precision(self) -> np.ndarray:
        """TP / (TP + FP); NaN for classes without a predicted pixel."""
        return _ratio(self._hits, self._predicted)

    def dice(self) -> np.ndarray:
        """Dice coefficient, which is the F1 score, 2 TP / (2 TP + FP + FN); NaN like :meth:`iou`."""
        return _ratio(2 * self._hits, self._labelled + self._predicted)

    # ---- scores of the whole: floats, NaN if nothing was counted

    @property
    def pixels(self) -> int:
        """The number of valid pixels counted."""
        return int(self._counts.sum())

    def pixel_accuracy(self) -> float:
        """The share of valid pixels that are predicted right (PA)."""
        return float(_ratio(self._hits.sum(), self._counts.sum()))

    def mean_accuracy(self, absent_as: str = "skip") -> float:
        """The mean of :meth:`recall` (mPA) over the classes with labelled pixels, or over all ('zero')."""
        return _mean(self.recall(), absent_as)

    def miou(self, absent_as: str = "skip") -> float:
        """The mean of :meth:`iou` over the classes whose union is above 0, or over all ('zero').

        Args:
            absent_as: ``'skip'`` leaves classes that do not occur out of the mean; ``'zero'`` counts
                them as 0, as GluonCV's ``SegmentationMetric`` does.
        """
        return _mean(self.iou(), absent_as)

    def frequency_weighted_iou(self) -> float:
        """The IoU averaged with each class's share of the labelled pixels as its weight (FWIoU)."""
        weighted = np.nansum(self._labelled * self.iou())
        return float(_ratio(weighted, self._counts.sum()))

    def result(self, class_names: Optional[Sequence[str]] = None, *, absent_as: str = "skip") -> Scores:
        """All scores at this moment, by class name; without names, classes are called by their ids.

        Raises:
            UsageError: not one name per class, or an unknown ``absent_as``.
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
            raise UsageError(f"a {name} holds integer class ids", received=f"dtype {values.dtype}",
                             fix="take the argmax over the classes first")
        if values.size and not 0 <= values.min() <= values.max() < _VALUES:
            raise UsageError(f"a {name} holds values from 0 to 255",
                             received=f"values from {values.min()} to {values.max()}")
        return values.astype(np.uint8)

    def _refuse_others(self, counts: np.ndarray, name: str) -> None:
        """``counts``: (256 - nclass,) pixels of each value that is not a class."""
        found = np.flatnonzero(counts)
        if not len(found):
            return
        values = ", ".join(f"{self.nclass + i} ({counts[i]} pixels)" for i in found[:5])
        values += f" and {len(found) - 5} more" if len(found) > 5 else ""
        if name == "label":
            raise DataError(f"a label is none of the {self.nclass} classes and not the ignored {self.ignore}",
                            received=values, fix="correct the data set's label map, or the number of classes")
        raise UsageError(f"a prediction is none of the {self.nclass} classes", received=values,
                         fix="use the number of classes that the network was trained for")


@dataclass(frozen=True, eq=False)  # eq: arrays do not compare to one truth value
class Scores:
    """The scores of one evaluation. Ratios lie in [0, 1]; NaN means that there was nothing to score.

    The arrays have one entry per class: ``iou``, ``accuracy`` (recall), ``precision``, ``dice`` (F1), and the pixels of
    that class in the truth (``labelled``) and in the prediction (``predicted``). ``averaged`` is the number of classes
    in ``miou``.
    """

    classes: Tuple[str, ...]
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

    def to_dict(self) -> Dict[str, Any]:
        """Everything as what JSON knows: NaN becomes None."""
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

    def table(self) -> str:
        """The scores as aligned text, in percent: one line per class, then PA, mPA and mIoU.

        ``share`` is the class's part of the labelled pixels; ``-`` stands where there was nothing to
        score.
        """
        rows = [("class", "IoU", "accuracy", "share")]
        for i, name in enumerate(self.classes):
            share = self.labelled[i] / self.pixels if self.pixels else math.nan
            rows.append((name, _percent(self.iou[i]), _percent(self.accuracy[i]), _percent(share)))
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


def _ratio(numerator, denominator) -> np.ndarray:
    """numerator / denominator in float64, NaN where the denominator is 0."""
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


def _or_none(value: float) -> Optional[float]:
    return None if math.isnan(value) else float(value)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"
