"""Label ids: the ids in the files of a data set, and the train ids 0 .. nclass-1 that networks learn."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from .decoding import IGNORE

_UNKNOWN = -1
_MAX_BINS = 1 << 24  # calcHist counts in float32, which is exact up to here


class LabelTable:
    """Conversion of the label ids in the files of a data set to train ids, and back.

    Args:
        label_map: id in the files -> train id or IGNORE; None if the files hold train ids. A file value of 255 is
            IGNORE unless the map says otherwise.
        nclass: number of classes.
        name: name of the data set, for messages.
    """

    def __init__(self, label_map: Mapping[int, int] | None, nclass: int, name: str):
        self._label_map, self._nclass, self._name = label_map, nclass, name
        self._train_ids = np.full(256, _UNKNOWN, np.int16)
        self._train_ids[IGNORE] = IGNORE
        if label_map is None:
            self._train_ids[:nclass] = np.arange(nclass)
        else:
            for raw, train in label_map.items():
                self._train_ids[raw] = train

    def to_train_ids(self, raw: np.ndarray, path: Path, hint: str) -> np.ndarray:
        """Convert the ids of a file to train ids.

        Args:
            raw: uint8 (H, W), ids as the file holds them.
            path: the file, for the message.
            hint: what to do about an id that belongs to no class, for the message.

        Returns:
            uint8 (H, W), train ids and IGNORE.

        Raises:
            DataError: an id belongs to no class.
        """
        train = self._train_ids.take(raw)  # unlike indexing, take() releases the lock for other threads
        if train.size and train.min() < 0:
            known = f"0..{self._nclass - 1}" if self._label_map is None else _ranges(sorted(self._label_map))
            raise DataError(
                f"a mask of {self._name} holds labels outside the classes",
                where=path,
                received=f"{_describe_values(raw[train < 0])}; known ids are {known}, ignore is {IGNORE}",
                fix=hint,
            )
        return train.astype(np.uint8)

    def to_raw_ids(self, class_map: np.ndarray) -> np.ndarray:
        """Convert train ids to the ids of the data set's own files.

        Args:
            class_map: integers of any shape, each a train id or IGNORE.

        Returns:
            uint8 of the same shape. Where several file ids share a train id, the smallest is taken.

        Raises:
            DataError: a value is neither a train id nor IGNORE.
        """
        class_map = np.asarray(class_map)
        wrong = class_map[(class_map != IGNORE) & ((class_map < 0) | (class_map >= self._nclass))]
        if wrong.size:
            raise DataError(
                f"a class map for {self._name} holds values that are not train ids",
                received=f"{_describe_values(wrong)}; classes are 0..{self._nclass - 1}, ignore is {IGNORE}",
                fix="give the class map that the network of this data set predicted",
            )

        table = np.arange(256, dtype=np.uint8)
        if self._label_map is not None:
            for raw in sorted(self._label_map, reverse=True):  # the smallest id is written last and stays
                table[self._label_map[raw]] = raw
        return table[class_map]


def count_ids(mask: np.ndarray) -> np.ndarray:
    """Count each value of a mask, uint8 (H, W): int64 (256,)."""
    rows = max(_MAX_BINS // max(mask.shape[1], 1), 1)
    total = np.zeros(256, np.int64)
    for top in range(0, len(mask), rows):  # unlike np.bincount, it releases the lock and copies nothing
        part = np.ascontiguousarray(mask[top:top + rows])
        total += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return total


def refuse_one_class(classes: Sequence[str], *, where: object) -> None:
    """Refuse a single class, on which every network would score 100 %.

    Raises:
        DataError: there are fewer than two classes.
    """
    if len(classes) < 2:
        name = classes[0] if classes else "object"
        raise DataError(
            "a data set needs two classes or more: with one, every prediction is right", where=where,
            received=", ".join(classes) or "none",
            fix=f"add a class for everything else: the lines 'background' and {name!r} in classes.txt, with 0 and 1 "
                f"in the masks.\nMasks of 0 and 255: mxnetseg prepare colours SRC DST, with the lines "
                f"'background #000000' and '{name} #ffffff' in SRC/classes.txt")


def _describe_values(values: np.ndarray) -> str:
    found, counts = np.unique(values, return_counts=True)
    shown = ", ".join(f"{v} ({n} pixels)" for v, n in zip(found[:8], counts[:8]))
    return shown + (f", and {len(found) - 8} more" if len(found) > 8 else "")


def _ranges(ids: Sequence[int]) -> str:
    """Write sorted ids as ranges: ``[0, 1, 2, 7]`` -> ``'0..2, 7'``."""
    runs: list[list[int]] = []
    for i in ids:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)
