"""Windows that cover an axis of an image in sliding evaluation."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """Return the starts of windows that cover ``length``; the last window may extend beyond it."""
    step = max(int(window * stride), 1)
    return [i * step for i in range(-(-max(length - window, 0) // step) + 1)]


def inner_window_starts(length: int, window: int, stride: float) -> list[int]:
    """Return the starts of windows that cover ``length``, with the last moved so that it ends there."""
    return [min(start, length - window) for start in window_starts(length, window, stride)]


def coverage(length: int, starts: Sequence[int], window: int) -> np.ndarray:
    """Return the number of windows that cover each position: (length,)."""
    return sum((np.bincount(np.arange(start, start + window), minlength=length) for start in starts),
               np.zeros(length, np.int64))
