"""Training masks before the first step: those without labels are refused, and the pixels of each class are counted."""
from __future__ import annotations

import math
import time
from collections.abc import Generator

import numpy as np

from ..errors import DataError
from .base import IGNORE, SegDataset
from .labels import count_ids
from .parallel import TIMEOUT, in_parallel

_FIRST_MASKS, _SECONDS = 32, 2.0  # number of masks read first, and the time for them
_SECONDS_FOR_MORE = 30.0  # time for all other masks, if the first ones look wrong


def refuse_unlabelled(dataset: SegDataset, *, timeout: float = TIMEOUT) -> None:
    """Refuse a training split from which nothing can be learnt, judging by some of its masks.

    Up to 32 masks, spread over the split, are read within two seconds. If they look wrong, more are read, until
    one is right, all are read or half a minute has passed. Then two cases are refused: no pixel is labelled, or only
    one class is labelled and all else is ignored, as in masks of 0 and 255. Labelled pixels of a second class in any
    mask are enough to pass.

    Args:
        dataset: a split with masks.
        timeout: seconds to wait for one mask.

    Raises:
        DataError: no second class has a labelled pixel; or a mask is damaged.
    """
    count = len(dataset)
    first = np.unique(np.linspace(0, count - 1, min(count, _FIRST_MASKS)).astype(int))
    others = np.setdiff1d(np.arange(count), first)
    total, seen = np.zeros(256, np.int64), 0
    for masks, seconds in ((first, _SECONDS), (others, _SECONDS_FOR_MORE)):
        for histogram in _histograms(dataset, masks, seconds, timeout):
            total, seen = total + histogram, seen + 1
        if not _is_suspicious(dataset, total):
            return

    labelled = np.flatnonzero(total[:dataset.nclass])
    inspected = f"all {seen} masks" if seen == count else f"{seen} of {count} masks"
    if not len(labelled):
        raise DataError("no training mask has a labelled pixel, so nothing can be learnt", where=dataset.mask_path(0),
                        received=f"{inspected} hold nothing but the value {IGNORE}, which means ignore",
                        fix=f"write the class ids into the masks; {dataset.label_hint}")
    shown, hidden = (dataset.classes[i] for i in (labelled[0], next(i for i in range(dataset.nclass)
                                                                    if i != labelled[0])))
    raise DataError(
        f"the training masks have labelled pixels of one class only, {shown!r}, so nothing can be learnt",
        where=dataset.mask_path(0),
        received=f"{inspected} hold {total[labelled[0]] / total.sum():.0%} {shown!r} and "
                 f"{total[IGNORE] / total.sum():.0%} of the value {IGNORE}, which means ignore",
        fix=f"there are two readings of {IGNORE}\n"
            f"it is the class {hidden!r}: put a classes.txt with the lines '{shown} #000000' and '{hidden} #ffffff' "
            "beside images/ and masks/ of a folder SRC, then: mxnetseg prepare colours SRC DST\n"
            f"it is unlabelled: label some pixels of {hidden!r} with its id, {dataset.classes.index(hidden)}")


def class_frequency(dataset: SegDataset, *, timeout: float = TIMEOUT) -> np.ndarray:
    """Read all masks of a split; return the fraction of the labelled pixels of each class: float64 (nclass,).

    Args:
        dataset: a split with masks.
        timeout: seconds to wait for one mask.

    Raises:
        DataError: a mask is damaged.
    """
    total = sum(_histograms(dataset, np.arange(len(dataset)), math.inf, timeout), np.zeros(256, np.int64))
    pixels = total[:dataset.nclass]
    return pixels / max(int(pixels.sum()), 1)


def _is_suspicious(dataset: SegDataset, total: np.ndarray) -> bool:
    """Return whether only one class of several is labelled and all else ignored, or nothing is labelled."""
    classes = np.count_nonzero(total[:dataset.nclass])
    return classes == 0 or (classes == 1 < dataset.nclass and total[IGNORE] > 0)


def _histograms(dataset: SegDataset, chosen: np.ndarray, seconds: float,
                timeout: float) -> Generator[np.ndarray, None, None]:
    """Yield the number of pixels of each train id, (256,), for as many masks as fit into the time, at least one."""
    def read(i: int) -> np.ndarray:
        return count_ids(dataset.to_train_ids(dataset.load_raw_mask(i), dataset.mask_path(i)))

    end = time.monotonic() + seconds
    histograms = in_parallel(read, chosen.tolist(), timeout=timeout, where=dataset.mask_path)
    try:
        for histogram in histograms:
            yield histogram
            if time.monotonic() > end:
                return
    finally:
        histograms.close()
