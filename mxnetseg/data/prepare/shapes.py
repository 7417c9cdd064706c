"""Outlines and run lengths -> pixels."""
from __future__ import annotations

import reprlib
from typing import Any, List, Sequence, Tuple

import numpy as np

from ...errors import DataError

_CROSSINGS = 2 ** 20  # of edges and rows that are computed at a time, so that memory stays bounded
_BITS = 35  # of a packed run length; more than any image has pixels


def polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centre lies inside a polygon, by the even-odd rule: bool (height, width).

    Args:
        points: (n, 2), x and y in pixels; (0, 0) is the upper left corner of the first pixel. The last point is
            joined to the first.
        height, width: of the picture; what is outside is cut off.
    """
    start = np.asarray(points, np.float64).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    downward = start[:, 1] < end[:, 1]  # from the upper end, whichever way it goes: neighbours share an edge exactly
    upper, lower = (np.where(downward[:, None], *ends) for ends in ((start, end), (end, start)))
    sloping = upper[:, 1] != lower[:, 1]
    (x0, y0), (x1, y1) = upper[sloping].T, lower[sloping].T
    # the rows whose centre line an edge crosses; a corner belongs to the edge that begins there
    first, last = (np.clip(np.ceil(end - 0.5), 0, height).astype(int) for end in (y0, y1))
    counts = last - first

    filled = np.zeros((height, width), bool)
    if not counts.any():
        return filled
    top, bottom = first[counts > 0].min(), last[counts > 0].max()
    crossings = np.zeros((bottom - top, width + 1), np.uint8)  # number of crossings before a column, even or odd
    chunk = counts.cumsum() // _CROSSINGS
    for part in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(chunk)) + 1):
        edge = np.repeat(part, counts[part])
        row = np.arange(len(edge)) - np.repeat(counts[part].cumsum() - counts[part], counts[part]) + first[edge]
        x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0) / (y1 - y0))[edge]
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)  # from here on the inside has changed
        places, times = np.unique((row - top) * (width + 1) + column, return_counts=True)
        crossings.flat[places] ^= (times & 1).astype(np.uint8)
    filled[top:bottom] = np.bitwise_xor.accumulate(crossings, axis=1)[:, :width]
    return filled


def circle(centre: Sequence[float], edge: Sequence[float], height: int, width: int) -> np.ndarray:
    """The pixels whose centre lies in a circle through ``edge``, both points (x, y): bool (height, width)."""
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(edge[0] - centre[0], edge[1] - centre[1])
    return np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) <= radius


def run_lengths(segmentation: Any, height: int, width: int, *, where: object) -> np.ndarray:
    """COCO's run lengths, ``{'size': [h, w], 'counts': [...] or '...'}``: bool (height, width).

    The runs of 0 and 1 take turns, down one column after the other. As text they are packed: five bits in a
    character, lowest first, and from the fourth on the difference to the last but one.

    Raises:
        DataError: the runs do not fill the picture.
    """
    counts = segmentation.get("counts")
    runs = _unpacked(counts, where) if isinstance(counts, str) else list(counts or [])
    if list(segmentation.get("size", [])) != [height, width] or sum(runs) != height * width or min(runs) < 0:
        raise DataError("run lengths do not fill their picture", where=where, fix="restore the annotations",
                        received=f"size {segmentation.get('size')}, {sum(runs)} pixels; picture {[height, width]}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def segment(segmentation: Any, height: int, width: int, *, where: object) -> np.ndarray:
    """A segmentation as COCO writes it, a list of polygons or run lengths: bool (height, width).

    Args:
        segmentation: ``[[x, y, x, y, ...], ...]``, whose union it is, or as for :func:`run_lengths`.
        height, width: of the picture.
        where: what the message names.

    Raises:
        DataError: it is neither.
    """
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, height, width, where=where)
    filled = np.zeros((height, width), bool)
    if not isinstance(segmentation, list) or any(len(part) % 2 or len(part) < 6 for part in segmentation):
        raise DataError("a segmentation is neither polygons nor run lengths", where=where,
                        received=f"{str(segmentation)[:80]}", fix="polygons are [[x, y, x, y, x, y, ...], ...]")
    for part in segmentation:
        filled |= polygon(np.reshape(part, (-1, 2)), height, width)
    return filled


def outline(shape: str, points: Sequence[Tuple[float, float]], height: int, width: int) -> np.ndarray:
    """A polygon, rectangle (two corners) or circle (centre, a point of it): bool (height, width).

    Raises:
        DataError: another kind, or the wrong number of points.
    """
    if shape == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return polygon(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), height, width)
    if shape == "circle" and len(points) == 2:
        return circle(points[0], points[1], height, width)
    if shape == "polygon" and len(points) >= 3:
        return polygon(np.array(points), height, width)
    raise DataError("a shape has no area", received=f"{shape} of {len(points)} points",
                    fix="draw it as a polygon, rectangle or circle, or remove it")


def _unpacked(text: str, where: object) -> List[int]:
    runs: List[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _BITS:
            raise DataError("run lengths are not packed as COCO packs them", where=where, received=reprlib.repr(text),
                            fix="restore the annotations")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
