"""Counts of hits, labelled and predicted pixels of each class, from which every IoU of this package is computed.

Counts are int64 arrays whose last two axes are (3, n): row 0 holds the pixels of a class that are predicted correctly,
row 1 the pixels that are labelled as it, row 2 the pixels that are predicted as it. Counts of images, or of parts of an
image, add up.
"""
from __future__ import annotations

import numpy as np

from ..errors import UsageError

HITS, LABELLED, PREDICTED = range(3)


def class_counts(pred: np.ndarray, label: np.ndarray, nclass: int, *, where: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of an image.

    Args:
        pred: (H, W) class ids, 0 to nclass-1.
        label: (H, W) train ids; pixels with an id from ``nclass`` on are ignored.
        nclass: number of classes.
        where: (H, W) bool, the pixels to count; all by default.

    Returns:
        int64 (3, n): hits, labelled and predicted pixels of each class.

    Raises:
        UsageError: the shapes differ.
    """
    if pred.shape != label.shape or (where is not None and where.shape != label.shape):
        raise UsageError("prediction and label differ in shape",
                         received=f"prediction {pred.shape}, label {label.shape}")
    valid = label < nclass
    if where is not None:
        valid &= where
    label, pred = label[valid], pred[valid]
    return np.stack([np.bincount(values, minlength=nclass) for values in (label[label == pred], label, pred)])


def iou(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union of counts (..., 3, n): (..., n), NaN for a class without a pixel."""
    hits, union = counts[..., HITS, :], counts[..., LABELLED, :] + counts[..., PREDICTED, :] - counts[..., HITS, :]
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def mean_iou(counts: np.ndarray, absent_as: str = "skip") -> np.ndarray:
    """Return the mean IoU of counts (..., 3, n) over the classes: (...), NaN if there is no pixel at all.

    Args:
        counts: hits, labelled and predicted pixels.
        absent_as: ``'skip'`` leaves classes without a pixel out of the mean, ``'zero'`` counts them as 0.
    """
    values = iou(counts)
    present = ~np.isnan(values)
    number = present.sum(axis=-1)
    divisor = np.where(number > 0, values.shape[-1] if absent_as == "zero" else number, 0)
    total = np.where(present, values, 0).sum(axis=-1)
    return np.divide(total, divisor, out=np.full(total.shape, np.nan), where=divisor > 0)


def pixel_accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the fraction of correct pixels of counts (..., 3, n): (...), NaN if there is no pixel."""
    hits, pixels = counts[..., HITS, :].sum(axis=-1), counts[..., LABELLED, :].sum(axis=-1)
    return np.divide(hits, pixels, out=np.full(hits.shape, np.nan), where=pixels > 0)
