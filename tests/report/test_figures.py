"""Charts: places of points, gaps, and round marks on the axes."""
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.report.figures import Line, _ticks, interval_bar, line_chart


def chart(points, **options):
    text = line_chart([Line("a & b", "#123456", points)], title="t < u", x_label="x", y_label="y", **options)
    return ElementTree.fromstring(text)


def dots(svg):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")]


def test_points_are_placed_in_proportion():
    (x0, y0), (x1, y1), (x2, y2) = dots(chart([(0, 0), (1, 5), (4, 10)], y_range=(0, 10)))
    assert (x1 - x0) / (x2 - x0) == pytest.approx(1 / 4, abs=1e-3)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(1 / 2, abs=1e-3)
    assert x0 < x2 and y2 < y0


def test_a_logarithmic_axis():
    (x0, _), (x1, _), (x2, _) = dots(chart([(1, 0), (2, 5), (4, 10)], log_x=True, x_ticks=[1, 2, 4]))
    assert (x1 - x0) / (x2 - x0) == pytest.approx(1 / 2, abs=1e-3)


def test_a_missing_value_interrupts_the_line():
    svg = chart([(0, 1), (1, math.nan), (2, 1), (3, 2)])
    path = next(p.get("d") for p in svg.iter("path"))
    assert re.sub(r"[\d. ]", "", path) == "MML" and len(dots(svg)) == 3


def test_a_long_line_has_no_dots():
    assert dots(chart([(i, i) for i in range(100)])) == []


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_every_point_is_inside(points):
    for x, y in dots(chart(points)):
        assert 0 <= x <= 560 and -0.1 <= y <= 300


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_marks_are_few_and_in_order(low, span):
    marks = _ticks(low, low + span)
    assert 1 <= len(marks) <= 7 and marks == sorted(marks)


def test_a_bar_with_its_interval():
    svg = ElementTree.fromstring(interval_bar(0.5, 0.4, 0.7, "#123456"))
    assert [r.get("width") for r in svg.iter("rect")] == ["100", "50.0"] and "40.0" in svg.find("path").get("d")
    assert ElementTree.fromstring(interval_bar(0.5, math.nan, math.nan, "red")).find("path") is None
    assert interval_bar(math.nan, 0, 1, "red") == ""
