"""Bootstrap intervals of IoU, by images: how much would a score change with other images of the same kind?

Images, not pixels, are drawn again, because the pixels of one image resemble each other. Two networks that are scored
on the same images are compared on the same draws, so that the difference of their scores has an interval of its own.

Source:
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals).
"""
from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from .counts import iou, mean_iou

SAMPLES, LEVEL = 1000, 0.95


class Resampled(NamedTuple):
    """Scores of bootstrap samples.

    Attributes:
        iou: (samples, n), NaN where a sample holds no pixel of a class.
        miou: (samples,).
    """

    iou: np.ndarray
    miou: np.ndarray


def resample(counts: np.ndarray, *, samples: int = SAMPLES, seed: int = 0, absent_as: str = "skip") -> Resampled:
    """Score samples of as many images as there are, drawn with replacement.

    Args:
        counts: int (images, 3, n), see :mod:`.counts`.
        samples: number of samples.
        seed: the same seed draws the same images from equally many.
        absent_as: see :func:`.counts.mean_iou`.

    Raises:
        UsageError: there is no image, or no sample is wanted.
    """
    images = len(counts)
    if images == 0 or samples < 1:
        raise UsageError("a bootstrap needs at least one image and one sample",
                         received=f"{images} images, {samples} samples")
    times = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=samples)
    # float64 is exact here: the sums stay below 2^53 pixels
    sums = times.astype(np.float64) @ counts.reshape(images, -1).astype(np.float64)
    sums = sums.reshape(samples, *counts.shape[1:])
    return Resampled(iou(sums), mean_iou(sums, absent_as))


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the interval that holds ``level`` of the values along the first axis.

    Samples that are NaN are left out; an end is NaN if all are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
