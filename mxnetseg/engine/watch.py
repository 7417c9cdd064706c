"""Warnings of a network that does not learn all its classes, which raises no error."""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ..metrics import Scores

log = logging.getLogger(__name__)

_NEARLY_ALL, _CLEARLY_LESS = 0.99, 0.95  # fractions of the pixels: predicted as one class, labelled as it


class LabelWatch:
    """Warning of classes without a labelled pixel in the first epoch that is seen in full; it is given once.

    Args:
        classes: names, in the order of the ids.
        batches: number of batches of an epoch.
        sum_arrays: sums the counts over the processes that see other parts of the batches.
    """

    def __init__(self, classes: Sequence[str], batches: int,
                 sum_arrays: Callable[[list[np.ndarray]], list[np.ndarray]] = list):
        self._classes, self._batches, self._sum_arrays = tuple(classes), batches, sum_arrays
        self._pixels, self._noted, self._is_done = np.zeros(256), 0, False

    def note(self, masks: np.ndarray) -> None:
        """Count the pixels of a batch: uint8 (N, H, W) train ids. On a CPU it takes a thousandth of a training step."""
        if not self._is_done:
            self._pixels += cv2.calcHist([masks.reshape(len(masks), -1)], [0], None, [256], [0, 256])[:, 0]
            self._noted += 1

    def end_epoch(self) -> None:
        """Warn of the classes without a labelled pixel, at the end of the first epoch that was seen in full."""
        if not self._is_done and self._noted == self._batches:
            self._is_done = True
            total, = self._sum_arrays([self._pixels])
            missing = [name for name, pixels in zip(self._classes, total) if not pixels]
            if missing:
                log.warning("no pixel of the first epoch's crops is labelled as %s: the network cannot learn %s. "
                            "`mxnetseg check-data` counts the labels of each class", ", ".join(map(repr, missing)),
                            "it" if len(missing) == 1 else "them")
        self._pixels[:], self._noted = 0, 0


def warn_of_one_class(scores: Scores) -> None:
    """Warn if nearly all pixels are predicted as one class while the masks clearly hold others."""
    if not scores.pixels:
        return
    k = int(scores.predicted.argmax())
    predicted, labelled = scores.predicted[k] / scores.pixels, scores.labelled[k] / scores.pixels
    if predicted > _NEARLY_ALL and labelled < _CLEARLY_LESS:
        log.warning("%.1f %% of the pixels are predicted as %r, which %.1f %% are: the network has learned little "
                    "else. Train longer (--epochs), try another learning rate (--lr), or weight rare classes "
                    "(loss.class_weights; `mxnetseg check-data` computes some)", 100 * predicted, scores.classes[k],
                    100 * labelled)
