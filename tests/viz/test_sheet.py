"""Sheets of image, truth, prediction and errors."""
import numpy as np
import pytest

from mxnetseg.errors import UsageError
from mxnetseg.viz.sheet import SIDE, draw_errors, scale_down, sheet

PALETTE = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
MASK = np.array([[0, 1, 255], [2, 2, 1]], np.uint8)
PREDICTION = np.array([[0, 2, 1], [2, 0, 1]], np.uint8)
IMAGE = np.full((2, 3, 3), 200, np.uint8)


def test_wrong_pixels_have_the_colour_of_their_prediction():
    drawn = draw_errors(IMAGE, MASK, PREDICTION, PALETTE)
    dark = [90, 90, 90]  # right pixels
    assert drawn.tolist() == [[dark, [0, 0, 200], [0, 0, 0]], [dark, [200, 0, 0], dark]]
    assert IMAGE.min() == 200


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(UsageError):
        draw_errors(IMAGE, MASK + np.uint8(5), PREDICTION, PALETTE)


def test_a_sheet_has_four_images_and_a_legend_of_the_present_classes():
    big = [np.repeat(np.repeat(a, 100, 0), 100, 1) for a in (IMAGE, MASK, PREDICTION)]
    one = sheet(*big, ("a", "b", "c"), PALETTE)
    assert one.shape[1] >= 4 * 300 and one.shape[0] > 200
    for colour in PALETTE:
        assert (one == colour).all(axis=2).any()


@pytest.mark.parametrize("shape", [(1024, 2048, 3), (2048, 1024), (5000, 3)])
def test_large_images_are_scaled_down(shape):
    small = scale_down(np.zeros(shape, np.uint8))
    assert max(small.shape[:2]) == SIDE and small.shape[2:] == shape[2:] and min(small.shape[:2]) >= 1
    assert scale_down(small).shape == small.shape
    assert scale_down(np.zeros(shape, np.uint8), 64).shape[:2] == tuple(max(s * 64 // max(shape), 1) for s in shape[:2])
