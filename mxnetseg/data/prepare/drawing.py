"""Drawing of annotated regions: functions of (data, height, width, where) that return bool (height, width).

:class:`RegionPainter` paints the drawn regions of an image into one mask.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...errors import DataError
from ..base import IGNORE
from .shapes import polygon


class _Drawn(NamedTuple):
    """Region of a mask, its pixels packed to bits, because an image may have hundreds of regions."""

    area: int
    class_id: int
    bits: np.ndarray
    name: str


class RegionPainter:
    """Mask of one image that is painted from regions, which may overlap.

    Args:
        height, width: size of the image in pixels.
        uncovered: class id of the pixels outside all regions.
    """

    def __init__(self, height: int, width: int, uncovered: int):
        self._mask = np.full((height, width), uncovered, np.uint8)
        self._regions: list[_Drawn] = []

    def ignore(self, inside: np.ndarray) -> None:
        """Ignore pixels, bool (H, W), unless a region covers them."""
        self._mask[inside] = IGNORE

    def add(self, class_id: int, inside: np.ndarray, name: str = "") -> None:
        """Add a region, bool (H, W); ``name`` is for messages."""
        self._regions.append(_Drawn(np.count_nonzero(inside), class_id, np.packbits(inside), name))

    def paint(self, *, small_on_top: bool) -> np.ndarray:
        """Return the mask, uint8 (H, W), with small regions over large ones, or else later ones over earlier ones."""
        if small_on_top:
            self._regions.sort(key=lambda region: -region.area)
        for region, inside in self._unpacked():
            self._mask[inside] = region.class_id
        return self._mask

    def refuse_overlaps(self, path: object, fix: str) -> None:
        """Check that no pixel is in regions of two classes.

        Args:
            path: path of the image, for the message.
            fix: what to do about an overlap.

        Raises:
            DataError: there is such a pixel; the message shows both readings.
        """
        owner = np.full(self._mask.shape, -1, np.int32)
        for i, (region, inside) in enumerate(self._unpacked()):
            for j in np.unique(owner[inside & (owner >= 0)]):
                other = self._regions[j]
                if other.class_id != region.class_id:
                    y, x = np.nonzero(inside & (owner == j))
                    raise DataError("a pixel has two classes, since two regions overlap", where=path, fix=fix,
                                    received=f"{len(y)} pixels, the first at x = {x[0]}, y = {y[0]}:\n"
                                             f"{other.name}\n{region.name}")
            owner[inside] = i

    def _unpacked(self) -> Iterator[tuple[_Drawn, np.ndarray]]:
        for region in self._regions:
            pixels = np.unpackbits(region.bits, count=self._mask.size)
            yield region, pixels.reshape(self._mask.shape).view(bool)


def draw_rings(rings: list[list[list[float]]], height: int, width: int, where: str = "") -> np.ndarray:
    """Return the pixels inside the first of several polygons and outside the others, its holes.

    Args:
        rings: for each polygon, its points ``[x, y]`` in pixels.
    """
    outer, *holes = (polygon(np.array(ring), height, width) for ring in rings)
    for hole in holes:
        outer &= ~hole
    return outer


def draw_fractions(rings: list[list[list[float]]], height: int, width: int, where: str = "") -> np.ndarray:
    """Return the pixels of :func:`draw_rings`, with points as fractions of width and height."""
    return draw_rings([(np.array(ring) * (width, height)).tolist() for ring in rings], height, width)


def draw_ellipse(ellipse: tuple[float, ...], height: int, width: int, where: str = "") -> np.ndarray:
    """Return the pixels whose centre is in an ellipse.

    Args:
        ellipse: centre x and y and radii in x and y in pixels, and clockwise rotation in degrees.
    """
    x0, y0, rx, ry, degrees = ellipse
    y, x = np.ogrid[:height, :width]
    angle = np.deg2rad(degrees)
    along = (x + 0.5 - x0) * np.cos(angle) + (y + 0.5 - y0) * np.sin(angle)
    across = (y + 0.5 - y0) * np.cos(angle) - (x + 0.5 - x0) * np.sin(angle)
    return (along / max(rx, 1e-9)) ** 2 + (across / max(ry, 1e-9)) ** 2 <= 1


def box_corners(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """Return the corners of an upright box as points ``[x, y]``."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def rotated_box(left: float, top: float, width: float, height: float, degrees: float,
                pivot: tuple[float, float]) -> list[list[float]]:
    """Return the corners of a box as points ``[x, y]``, rotated clockwise around ``pivot``."""
    corners = np.array(box_corners(left, top, left + width, top + height)) - pivot
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (corners @ np.array([[cos, sin], [-sin, cos]]) + pivot).tolist()
