"""Line charts as SVG, which adapt to the colours of the page."""
from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 12, 44  # margins
_MARKED = 60  # points of a line that are drawn as dots, with their values as tooltips


class Line(NamedTuple):
    """A curve.

    Attributes:
        label: its name.
        colour: as in CSS.
        points: (x, y); points that are not finite interrupt the curve.
        dashes: dashes of the line as in SVG, ``''`` for a solid one.
    """

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashes: str = ""


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, y_label: str,
               y_range: tuple[float, float] | None = None, x_ticks: Sequence[float] | None = None,
               log_x: bool = False, diagonal: bool = False) -> str:
    """Draw curves.

    Args:
        lines: at least one, with at least one finite point among them.
        title: description for readers who do not see the chart.
        x_label, y_label: titles of the axes.
        y_range: of the vertical axis; by default from 0 to the largest value.
        x_ticks: places of the marks on the horizontal axis.
        log_x: logarithmic horizontal axis.
        diagonal: draw the line of equal values.

    Returns:
        an ``svg`` element.
    """
    finite = [(x, y) for line in lines for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    xs = [x for x, _ in finite] + list(x_ticks or ())
    y_ticks = _ticks(*(y_range or (min(0.0, *(y for _, y in finite), 0.0), max(y for _, y in finite) or 1.0)))
    bottom, top = (y_range or (y_ticks[0], max(y_ticks[-1], *(y for _, y in finite))))
    x_ticks = x_ticks or _ticks(min(xs), max(xs), whole=True)
    left, right = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log(x / left) / (math.log(right / left) or 1)) if log_x else (x - left) / ((right - left) or 1)
        return (_LEFT + along * (_WIDTH - _LEFT - _RIGHT),
                _HEIGHT - _BOTTOM - (y - bottom) / ((top - bottom) or 1) * (_HEIGHT - _TOP - _BOTTOM))

    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(title)}</title>']
    for y in y_ticks:
        _, v = place(left, y)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>'
                     f'<text class="tick" x="{_LEFT - 6}" y="{v + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        u, _ = place(x, bottom)
        parts.append(f'<text class="tick" x="{u:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
                 f'{escape(x_label)}</text><text class="axis" transform="translate(13 {(_HEIGHT - _BOTTOM) / 2}) '
                 f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    if diagonal:
        (u, v), (w, z) = place(left, max(left, bottom)), place(right, min(right, top))
        parts.append(f'<line class="diagonal" x1="{u:.1f}" y1="{v:.1f}" x2="{w:.1f}" y2="{z:.1f}"/>')
    for line in lines:
        parts.append(_curve(line, place))
    return "".join([*parts, "</svg>"])


def _curve(line: Line, place) -> str:
    """Return the path of a curve, and its points with their values."""
    path, pen, dots = [], "M", []
    for x, y in line.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        u, v = place(x, y)
        path.append(f"{pen}{u:.1f} {v:.1f}")
        pen = "L"
        dots.append(f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{line.colour}"><title>{escape(line.label)}: '
                    f'{y:.4g} at {x:.4g}</title></circle>')
    return (f'<path d="{"".join(path)}" fill="none" stroke="{line.colour}" stroke-width="2" '
            f'stroke-dasharray="{line.dashes}"/>' + "".join(dots if len(dots) <= _MARKED else ()))


def interval_bar(value: float, low: float, high: float, colour: str) -> str:
    """Draw a fraction as a bar with its interval: an ``svg`` element, or nothing for NaN."""
    if not math.isfinite(value):
        return ""
    whisker = ""
    if math.isfinite(low) and math.isfinite(high):
        whisker = f'<path class="whisker" d="M{100 * low:.1f} 5H{100 * high:.1f}M{100 * low:.1f} 2V8' \
                  f'M{100 * high:.1f} 2V8"/>'
    return (f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="track" '
            f'width="100" height="10"/><rect width="{100 * value:.1f}" height="10" fill="{colour}"/>{whisker}</svg>')


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers from ``low`` or below to at most ``high``."""
    span = high - low if high - low > 1e-12 else 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    if whole:
        step = max(round(step), 1)
    first = math.floor(low / step) if not whole else math.ceil(low / step)
    return [float(f"{k * step:.12g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]
