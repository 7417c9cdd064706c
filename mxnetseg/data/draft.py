"""Draft of ``classes.txt``, made from the masks; only the names of the classes must be added."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .decoding import IGNORE

_MOST_MASKS = 200  # of all masks, so that a draft takes seconds
_MOST_CLASSES = 255
_SHOWN = 12


class Draft(NamedTuple):
    """Draft of ``classes.txt``.

    Attributes:
        found: number of values or colours in the masks: ``'3 colours'``.
        values: the most common of them, with their numbers of pixels.
        lines: lines of the draft; empty if the classes cannot be derived from the masks.
        convert: whether the masks must first be converted by their colours.
    """

    found: str
    values: str
    lines: list[str]
    convert: bool


def draft_classes(masks: Sequence[Path]) -> Draft | None:
    """Draft the classes of some masks; at most 200, spread evenly over the list, are read.

    Returns:
        The draft, or None if no mask can be read.
    """
    ids: Counter = Counter()
    shown: Counter = Counter()  # the same pixels, counted by the colour that a viewer shows
    colours: Counter = Counter()  # of RGB masks
    palette: dict[int, str] = {}
    consistent = True
    chosen = [masks[i] for i in np.unique(np.linspace(0, len(masks) - 1, min(len(masks), _MOST_MASKS), dtype=int))]
    for path in chosen:
        try:
            with Image.open(path) as image:
                own_palette = _palette(image)
                array = np.asarray(image)
        except Exception:  # a damaged mask is reported with its name when the data set is read
            continue
        if array.ndim == 3 and array.shape[2] >= 3:
            colours.update(_count_colours(array))
        elif array.dtype in (np.uint8, bool):
            for value, count in zip(*(a.tolist() for a in np.unique(array.astype(np.uint8), return_counts=True))):
                colour = own_palette.get(value, "")
                consistent &= palette.setdefault(value, colour) == colour
                ids[value] += count
                shown[colour or "#" + 3 * f"{value:02x}"] += count

    among = "" if len(chosen) == len(masks) else f" in {len(chosen)} of {len(masks)} masks"
    if not ids and not colours:
        return None

    classes = sorted(value for value in ids if value != IGNORE)
    grey_levels = not any(palette.values()) and (set(ids) == {0, IGNORE} or max(classes, default=0) >= 2 * len(classes))
    if colours or not consistent or (ids and grey_levels):
        return _by_colour(colours + shown, among, convert=bool(ids))
    given = [palette[value] for value in classes]
    distinct = len(set(given)) == len(given)
    lines = [f"class{value} {palette.get(value, '') if distinct else ''}".rstrip()
             for value in range(max(classes, default=-1) + 1)]
    return Draft(_number(len(ids), "value") + among, _commonest(ids), lines, convert=False)


def _by_colour(colours: Counter, among: str, *, convert: bool) -> Draft:
    ranked = [colour for colour, _ in colours.most_common()]
    lines = [f"class{i} {colour}" for i, colour in enumerate(ranked)] if len(ranked) <= _MOST_CLASSES else []
    return Draft(_number(len(ranked), "colour") + among, _commonest(colours), lines, convert)


def _palette(image: Image.Image) -> dict[int, str]:
    values = (image.getpalette() if image.mode == "P" else None) or []
    return {i: "#" + bytes(values[3 * i:3 * i + 3]).hex() for i in range(len(values) // 3)}


def _count_colours(rgb: np.ndarray) -> dict[str, int]:
    packed = rgb[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    values, counts = np.unique(packed, return_counts=True)
    return {f"#{value:06x}": count for value, count in zip(values.tolist(), counts.tolist())}


def _commonest(counts: Counter) -> str:
    more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{value} ({_number(count, 'pixel')})" for value, count in counts.most_common(_SHOWN)) + more


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
