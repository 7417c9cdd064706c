"""IoU of objects by their size, where an object is a connected region of one class in the true mask."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .counts import HITS, LABELLED, PREDICTED

LIMITS = (0.001, 0.01, 0.1)  # fractions of the image's area that separate the sizes


def size_counts(pred: np.ndarray, label: np.ndarray, nclass: int, *,
                limits: Sequence[float] = LIMITS) -> tuple[np.ndarray, np.ndarray]:
    """Divide the counts of an image among the sizes of its objects.

    An object is a region of one class whose pixels touch by sides or corners. Each labelled pixel counts for the size
    of its object. A pixel that is wrongly predicted as a class counts for the object of that class that its predicted
    region overlaps most; a region that overlaps none counts for the size that it has itself. So each pixel counts
    once, and the counts of all sizes add up to :func:`.counts.class_counts`.

    Args:
        pred: (H, W) uint8 class ids.
        label: (H, W) uint8 train ids; those from ``nclass`` on are ignored.
        nclass: number of classes.
        limits: rising fractions of the image's area; an object of exactly a limit has the larger size.

    Returns:
        int64 (sizes, 3, n), see :mod:`.counts`, with ``len(limits) + 1`` sizes; and the number of objects, int64
        (sizes, n).
    """
    counts = np.zeros((len(limits) + 1, 3, nclass), np.int64)
    objects = np.zeros((len(limits) + 1, nclass), np.int64)
    areas = np.asarray(limits) * label.size
    valid = label < nclass
    for c in np.union1d(label[valid], pred[valid]):
        truth, guess = label == c, (pred == c) & valid
        box = _bounding_box(truth | guess)
        _count_class(truth[box], guess[box], areas, counts[:, :, c], objects[:, c])
    return counts, objects


def _count_class(truth: np.ndarray, guess: np.ndarray, areas: np.ndarray, counts: np.ndarray,
                 objects: np.ndarray) -> None:
    """Add one class to ``counts``, (sizes, 3), and ``objects``, (sizes,)."""
    true_count, true_regions, true_stats, _ = cv2.connectedComponentsWithStats(truth.view(np.uint8), connectivity=8)
    guess_count, guess_regions, guess_stats, _ = cv2.connectedComponentsWithStats(guess.view(np.uint8), connectivity=8)
    both = truth & guess
    true_both, guess_both = true_regions[both], guess_regions[both]

    # Number 0 is the background of a map of regions.
    true_area = true_stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    hits = np.bincount(true_both, minlength=true_count)
    false = guess_stats[:, cv2.CC_STAT_AREA] - np.bincount(guess_both, minlength=guess_count)

    size = np.searchsorted(areas, true_area, side="right")
    size_of_guess = np.searchsorted(areas, guess_stats[:, cv2.CC_STAT_AREA], side="right")
    overlaps, pixels = np.unique(guess_both.astype(np.int64) * true_count + true_both, return_counts=True)
    order = np.argsort(pixels, kind="stable")  # the largest overlap of a region is written last
    size_of_guess[overlaps[order] // true_count] = size[overlaps[order] % true_count]

    for row, sizes, values in ((HITS, size, hits), (LABELLED, size, true_area), (PREDICTED, size, hits),
                               (PREDICTED, size_of_guess, false)):
        np.add.at(counts[:, row], sizes[1:], values[1:])
    np.add.at(objects, size[1:], 1)


def _bounding_box(region: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
