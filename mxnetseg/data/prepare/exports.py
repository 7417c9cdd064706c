"""Checks and messages that the preparations of exports share."""
from __future__ import annotations

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ...errors import DataError, UsageError
from ..listing import nfc
from ..splits import group_of

SHOWN = 3  # names in a message
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, line separators
_log = logging.getLogger(__name__)

ItemType = TypeVar("ItemType")


def some(names: Sequence[str]) -> str:
    """Return the first names for a message."""
    return ", ".join([*names[:SHOWN], *["..."] * (len(names) > SHOWN)])


def as_class_name(text: str) -> str | None:
    """Return a label as a class name in Unicode form NFC, or None if it does not fit on one line of classes.txt."""
    name = nfc(text).strip()
    if not name or "#" in name or any(unicodedata.category(character) in _UNPRINTABLE for character in name):
        return None
    return name


def check_boxes_option(boxes: str | None) -> str | None:
    """Return the value of ``--boxes``.

    Raises:
        UsageError: it is not ``'ignore'``, ``'fill'`` or None.
    """
    if boxes not in (None, "ignore", "fill"):
        raise UsageError("boxes must be 'ignore' or 'fill'", received=boxes, fix="--boxes ignore, or --boxes fill")
    return boxes


def check_boxes(boxes: str | None, number: int, count: int, *, where: object, received: str) -> None:
    """Refuse objects with a box but no outline, or log the chosen treatment.

    Args:
        boxes: value of ``--boxes``.
        number: number of such objects; 0 does nothing.
        count: number of all objects.
        where, received: file and description of the first such object, for the message.

    Raises:
        DataError: there are such objects, and ``boxes`` is None.
    """
    if not number:
        return
    if boxes is None:
        raise DataError(
            f"{number} of {count} objects have a box but no outline, so their pixels are unknown",
            where=where, received=received,
            fix="draw their outlines and export again; or choose how to use their boxes:\n"
                "--boxes ignore  ignore the pixels of the box (255), except in outlined objects\n"
                "--boxes fill    give all pixels of the box its class")
    _log.warning("%d of %d objects have a box but no outline: %s", number, count,
                 "their boxes are ignored" if boxes == "ignore" else "their boxes are filled")


def merge_lone_split(items: list[ItemType], *, name: Callable[[ItemType], object],
                     where: Callable[[ItemType, ItemType], object], fix: str) -> list[ItemType]:
    """Drop the split of all items if it is train, because nothing would be left for validation.

    Args:
        items: named tuples with a field ``split``.
        name: returns an item's name for the message; ``where`` the place of two items.
        fix: what to do if only some of the items have a split.

    Raises:
        DataError: only some of the items have a split.
    """
    every: list[Any] = items
    splits = {item.split for item in every}
    if None in splits and len(splits) > 1:
        without = next(item for item in every if item.split is None)
        with_split = next(item for item in every if item.split is not None)
        raise DataError("some images belong to a split and others to none", where=where(without, with_split),
                        received=f"{name(without)}: no split\n{name(with_split)}: {with_split.split}", fix=fix)
    return [item._replace(split=None) for item in every] if splits == {"train"} else items


def warn_of_copies(named: Iterable[tuple[str, str | None]]) -> None:
    """Log a warning if augmented copies of one photo, by Roboflow's names, are in several splits.

    Args:
        named: (file name, split) of each image.
    """
    groups: dict[str, set[str | None]] = defaultdict(set)
    for name, split in named:
        if ".rf." in name:
            groups[group_of(name)].add(split)
    shared = sorted(group for group, splits in groups.items() if len(splits) > 1)
    if shared:
        _log.warning("%d photos have augmented copies in several splits, judged by equal names before '.rf.': %s; "
                     "scores would be too high", len(shared), some(shared))
