"""Drawing of annotated regions: functions of (data, height, width, where) that return bool (height, width)."""
from __future__ import annotations

import numpy as np

from .shapes import polygon


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
