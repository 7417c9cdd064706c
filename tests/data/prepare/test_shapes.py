"""Outlines and run lengths, compared with brute force and with pycocotools."""
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mxnetseg.data.prepare.shapes import circle, outline, polygon, run_lengths, segment
from mxnetseg.errors import DataError

COORDINATES = st.floats(-5, 15, allow_nan=False).map(lambda x: round(x, 2))
POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=9)


def inside(points, x, y):
    """Return whether a ray from (x, y) to the left crosses the outline an odd number of times.

    Return None on the outline, where rounding decides.
    """
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
        if (y0 <= y) != (y1 <= y):
            crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
            if abs(crossing - x) < 1e-6:
                return None
            crossings += crossing <= x
    return crossings % 2 == 1


@given(POINTS)
@example([(0.0, 0.0), (7.0, 7.0), (-1.62, -1.62)])
def test_polygon_is_the_pixels_whose_centre_is_inside(points):
    filled = polygon(np.array(points), 9, 11)
    for y, x in np.ndindex(9, 11):
        wanted = inside(points, x + 0.5, y + 0.5)
        assert wanted is None or filled[y, x] == wanted, (y, x)


@given(POINTS, st.integers(0, 8))
def test_the_first_point_and_the_direction_of_a_polygon_do_not_matter(points, start):
    rotated = points[start % len(points):] + points[:start % len(points)]
    filled = polygon(np.array(points), 9, 11)
    assert (polygon(np.array(rotated), 9, 11) == filled).all()
    assert (polygon(np.array(points[::-1]), 9, 11) == filled).all()


@given(POINTS)
def test_adjacent_polygons_neither_overlap_nor_leave_a_gap(points):
    """Cut a polygon from its first to its third corner: each pixel belongs to exactly one of the parts."""
    triangle, rest = points[:3], [points[0], *points[2:]]
    parts = polygon(np.array(triangle), 9, 11) ^ polygon(np.array(rest), 9, 11)
    assert (parts == polygon(np.array(points), 9, 11)).all()


def test_squares_are_exact():
    wanted = np.zeros((5, 6), bool)
    wanted[1:3, 2:5] = True
    assert (polygon(np.array([(2, 1), (5, 1), (5, 3), (2, 3)]), 5, 6) == wanted).all()
    assert (outline("rectangle", [(5, 3), (2, 1)], 5, 6) == wanted).all()
    assert not polygon(np.array([(2, 1), (5, 1), (4, 1)]), 5, 6).any()


def test_circle():
    filled = circle((4.5, 3.5), (4.5, 6.1), 8, 9)
    assert filled[3, 4] and filled[1, 4] and filled[3, 6] and not filled[0, 4] and not filled[1, 2]
    assert (filled[:7] == filled[6::-1]).all()


# counts as packed by pycocotools 2.0.10
GOLDEN = [
    ((5, 4), "62303O", [(slice(1, 3), slice(1, 3)), (4, 3)], []),
    ((70, 9), "f4b1d000ROF0:0F0:n000l1", [(slice(10, 60), slice(2, 8))], [(slice(30, 40), slice(4, 6))]),
]


@pytest.mark.parametrize("size, counts, filled, holes", GOLDEN)
def test_packed_run_lengths(size, counts, filled, holes):
    wanted = np.zeros(size, bool)
    for window in filled:
        wanted[window] = True
    for window in holes:
        wanted[window] = False
    assert (run_lengths({"size": list(size), "counts": counts}, *size, where="") == wanted).all()


@given(st.integers(1, 6), st.integers(1, 6), st.randoms())
def test_run_lengths_as_numbers(height, width, random):
    mask = np.array([random.random() < 0.5 for _ in range(height * width)]).reshape(height, width)
    runs, last = [0], False
    for value in mask.T.ravel().tolist():
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    assert (segment({"size": [height, width], "counts": runs}, height, width, where="") == mask).all()


def test_several_polygons_are_united():
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 4, 1, 4, 3, 1, 3]]
    filled = segment(parts, 4, 5, where="")
    assert filled.sum() == 4 + 6 - 1 and filled[1, 1]


@pytest.mark.parametrize("segmentation", [
    {"size": [3, 3], "counts": [4, 4]}, {"size": [3, 4], "counts": [12]}, {"counts": "abc"}, {},
    [[0, 0, 1]], [[0, 0, 1, 1]], "polygon", None,
])
def test_broken_segmentations_are_refused(segmentation):
    with pytest.raises(DataError) as error:
        segment(segmentation, 3, 3, where="instances.json, a.jpg")
    assert error.value.where == "instances.json, a.jpg"


@pytest.mark.parametrize("shape, points", [("point", [(1, 1)]), ("polygon", [(1, 1), (2, 2)]), ("rectangle", [(1, 1)])])
def test_shapes_without_area_are_refused(shape, points):
    with pytest.raises(DataError, match="no area"):
        outline(shape, points, 5, 5)
