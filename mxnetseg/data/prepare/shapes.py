"""Rasterise outlines and run lengths."""
from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import DataError

_CROSSINGS = 2 ** 20  # crossings of edges and rows that are computed at a time, which bounds the memory
_MAX_BITS = 35  # bits of a packed run length, more than enough for any image


def polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels whose centre is inside a polygon, by the even-odd rule: bool (height, width).

    Args:
        points: (n, 2), x and y in pixels; (0, 0) is the upper left corner of the first pixel. The last point is
            joined to the first.
        height, width: size of the image in pixels; parts of the polygon outside are cut off.
    """
    start = np.asarray(points, np.float64).reshape(-1, 2)
    end = np.roll(start, -1, axis=0)
    # orient all edges downwards, so that neighbouring polygons compute a shared edge identically
    downward = start[:, 1] < end[:, 1]
    upper, lower = (np.where(downward[:, None], *ends) for ends in ((start, end), (end, start)))
    sloping = upper[:, 1] != lower[:, 1]
    (x0, y0), (x1, y1) = upper[sloping].T, lower[sloping].T
    # rows whose centre line an edge crosses; a corner counts for the edge that starts there
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (y0, y1))
    counts = last - first

    filled = np.zeros((height, width), bool)
    if not counts.any():
        return filled
    top, bottom = first[counts > 0].min(), last[counts > 0].max()
    crossings = np.zeros((bottom - top, width + 1), np.uint8)  # parity of the crossings at a column

    chunk = counts.cumsum() // _CROSSINGS
    for part in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(chunk)) + 1):
        edge = np.repeat(part, counts[part])
        row = np.arange(len(edge)) - np.repeat(counts[part].cumsum() - counts[part], counts[part]) + first[edge]
        x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0) / (y1 - y0))[edge]
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)  # first pixel to the right of the edge
        places, times = np.unique((row - top) * (width + 1) + column, return_counts=True)
        crossings.flat[places] ^= (times & 1).astype(np.uint8)

    filled[top:bottom] = np.bitwise_xor.accumulate(crossings, axis=1)[:, :width]
    return filled


def circle(centre: Sequence[float], edge: Sequence[float], height: int, width: int) -> np.ndarray:
    """Return the pixels whose centre is in the circle around ``centre`` through ``edge``: bool (height, width).

    Args:
        centre, edge: points (x, y) in pixels.
        height, width: size of the image in pixels.
    """
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(edge[0] - centre[0], edge[1] - centre[1])
    return np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) <= radius


def run_lengths(segmentation: Any, height: int, width: int, *, where: object) -> np.ndarray:
    """Decode COCO's run lengths, ``{'size': [h, w], 'counts': [...] or '...'}``: bool (height, width).

    Runs of 0 and of 1 alternate, column by column. As text they are packed: five bits in a character, lowest bits
    first; from the fourth run on, the difference to the run two before is stored.

    Raises:
        DataError: the runs do not fill the image.
    """
    counts = segmentation.get("counts")
    runs = _unpack_runs(counts, where) if isinstance(counts, str) else list(counts or [])
    if list(segmentation.get("size", [])) != [height, width] or sum(runs) != height * width or min(runs) < 0:
        raise DataError("run lengths do not fill their image", where=where, fix="restore the annotations",
                        received=f"size {segmentation.get('size')}, {sum(runs)} pixels; image {[height, width]}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def segment(segmentation: Any, height: int, width: int, *, where: object) -> np.ndarray:
    """Return the pixels of a segmentation in COCO's format: bool (height, width).

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, which are united, or run lengths as for
            :func:`run_lengths`.
        height, width: size of the image in pixels.
        where: location of the segmentation, for messages.

    Raises:
        DataError: the segmentation is neither.
    """
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, height, width, where=where)
    filled = np.zeros((height, width), bool)
    if not isinstance(segmentation, list) or any(len(part) % 2 or len(part) < 6 for part in segmentation):
        raise DataError("a segmentation is neither a list of polygons nor run lengths", where=where,
                        received=f"{str(segmentation)[:80]}", fix="write polygons as [[x, y, x, y, x, y, ...], ...]")
    for part in segmentation:
        filled |= polygon(np.reshape(part, (-1, 2)), height, width)
    return filled


def outline(shape: str, points: Sequence[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """Return the pixels of a polygon, rectangle (two corners) or circle (centre, a point on it): bool (height, width).

    Raises:
        DataError: another type of shape, or the wrong number of points.
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


def _unpack_runs(text: str, where: object) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _MAX_BITS:
            raise DataError("run lengths are not packed in COCO's format", where=where, received=reprlib.repr(text),
                            fix="restore the annotations")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue

        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
