"""Calibration: does a network that is 80 % sure of its pixels predict 80 % of them correctly?"""
from __future__ import annotations

import math

import numpy as np

from ..errors import UsageError

BINS = 15


class Calibration:
    """Histogram of confidences, over any number of images in constant memory.

    The confidence of a pixel is the probability of its predicted class.

    Args:
        bins: number of bins of equal width.

    Attributes:
        pixels: int64 (bins,), pixels of each bin.
        correct: int64 (bins,), those predicted correctly.
        confidence: float64 (bins,), sum of the confidences.

    Source:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equations 2, 3 and 5.

    Example::

        >>> import numpy as np
        >>> from mxnetseg.metrics.calibration import Calibration
        >>> calibration = Calibration(bins=2)
        >>> calibration.update(np.array([0.75, 0.75, 0.75, 0.75]), np.array([True, True, True, False]))
        >>> calibration.ece()
        0.0
    """

    def __init__(self, bins: int = BINS):
        if bins < 1:
            raise UsageError("a calibration needs at least one bin", received=f"bins={bins}")
        self.pixels, self.correct = (np.zeros(bins, np.int64) for _ in range(2))
        self.confidence = np.zeros(bins)

    def update(self, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Add pixels.

        Args:
            confidence: float, any shape, 0 to 1; rounding may exceed the range by 1e-3.
            correct: bool of the same shape.

        Raises:
            UsageError: the shapes differ, or a confidence is not a probability. Nothing was added.
        """
        if confidence.shape != correct.shape:
            raise UsageError("confidences and results differ in shape",
                             received=f"{confidence.shape} and {correct.shape}")
        values = confidence.astype(np.float64).ravel()
        if values.size and not (values.min() >= -1e-3 and values.max() <= 1 + 1e-3):  # False for NaN too
            raise UsageError("confidences must be probabilities from 0 to 1",
                             received=f"values from {values.min()} to {values.max()}")
        values = values.clip(0, 1)
        bins = len(self.pixels)
        place = np.minimum((values * bins).astype(np.intp), bins - 1)
        self.pixels += np.bincount(place, minlength=bins)
        self.correct += np.bincount(place[correct.ravel()], minlength=bins)
        self.confidence += np.bincount(place, values, minlength=bins)

    def add(self, other: Calibration) -> None:
        """Add the pixels of another histogram with the same bins."""
        self.pixels = self.pixels + other.pixels
        self.correct = self.correct + other.correct
        self.confidence = self.confidence + other.confidence

    def reliability(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean confidence and the accuracy of each bin: two float64 (bins,), NaN for an empty bin."""
        divisor = np.where(self.pixels > 0, self.pixels, np.nan)
        return self.confidence / divisor, self.correct / divisor

    def ece(self) -> float:
        """Return the expected calibration error, from 0 to 1; NaN if nothing was added."""
        total = int(self.pixels.sum())
        return float(np.abs(self.confidence - self.correct).sum() / total) if total else math.nan
