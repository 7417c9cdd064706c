"""Change the ids of masks: ``--ids 1:0,2:1,0:255`` and ``--reduce-zero-label``."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, UsageError
from ..base import IGNORE

_UNLISTED = -1
_SHOWN = 8  # values in a message


class IdMap:
    """Table from the values in mask files to class ids.

    Args:
        table: value -> id or IGNORE, each from 0 to 255. A value of 255 is IGNORE unless the table says otherwise.
        option: the option that chose the table, for messages.
    """

    def __init__(self, table: Mapping[int, int], option: str):
        self.table, self.option = {IGNORE: IGNORE, **table}, option
        self._ids = np.full(256, _UNLISTED, np.int16)
        for value, class_id in self.table.items():
            self._ids[value] = class_id

    def apply(self, values: np.ndarray, path: Path) -> np.ndarray:
        """Return the ids, uint8 (H, W), of the values of a mask.

        Raises:
            DataError: the table does not list a value.
        """
        ids = self._ids.take(values)
        if ids.size and ids.min() < 0:
            found, counts = np.unique(values[ids < 0], return_counts=True)
            raise DataError(
                f"a mask holds values that {self.option} does not list", where=path,
                received=", ".join(f"{v} ({n} pixels)" for v, n in zip(found[:_SHOWN], counts[:_SHOWN])),
                fix=f"add them to {self.option}, such as {found[0]}:{IGNORE} to ignore these pixels")
        return ids.astype(np.uint8)

    def check(self, classes: Sequence[str], where: Path) -> None:
        """Refuse ids that have no class.

        Raises:
            UsageError: the table holds an id without a class.
        """
        highest = max((i for i in self.table.values() if i != IGNORE), default=0)
        if self.option == "--ids" and highest >= len(classes):
            raise UsageError("--ids gives a value an id that has no class", where=where,
                             received=f"id {highest}; {len(classes)} classes: {', '.join(classes[:_SHOWN])}",
                             fix=f"use ids from 0 to {len(classes) - 1}, and {IGNORE} for ignored pixels")


def make_id_map(ids: Mapping[int, int] | str | None, reduce_zero_label: bool) -> IdMap | None:
    """Return the table that the options describe, or None without an option.

    Args:
        ids: value -> id, or text such as ``1:0,2:1,0:255``.
        reduce_zero_label: 0 becomes IGNORE, each other value except 255 becomes smaller by one.

    Raises:
        UsageError: both are given, or ``ids`` is not of this form.
    """
    if ids is not None and reduce_zero_label:
        raise UsageError("--ids and --reduce-zero-label exclude each other", received=f"--ids {ids}",
                         fix="use --ids alone, and give 0 the id 255")
    if reduce_zero_label:
        return IdMap({0: IGNORE, **{value: value - 1 for value in range(1, IGNORE)}}, "--reduce-zero-label")
    if ids is None:
        return None
    return IdMap(_parse(ids) if isinstance(ids, str) else _checked(list(ids.items()), ids), "--ids")


def _parse(text: str) -> dict[int, int]:
    pairs = []
    for part in text.split(","):
        value, _, class_id = part.strip().partition(":")
        if not (value.isdecimal() and class_id.isdecimal()):
            raise _wrong(f"{part.strip()!r} in {text!r}")
        pairs.append((int(value), int(class_id)))
    return _checked(pairs, text)


def _checked(pairs: Sequence[tuple[int, int]], received: object) -> dict[int, int]:
    numbers = [number for pair in pairs for number in pair]
    if not pairs or any(type(n) is not int or not 0 <= n <= 255 for n in numbers):
        raise _wrong(received)
    if len(dict(pairs)) < len(pairs):
        raise UsageError("--ids gives a value two ids", received=received, fix="list each value once")
    return dict(pairs)


def _wrong(received: object) -> UsageError:
    return UsageError("--ids is not a list of VALUE:ID, both from 0 to 255", received=received,
                      fix="write it like --ids 1:0,2:1,0:255, where 255 means ignore")
