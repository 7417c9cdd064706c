"""Boundary IoU equals the authors' definition, and the trimap equals a search over all pairs of pixels."""
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maps import label_and_prediction

from mxnetseg.errors import UsageError
from mxnetseg.metrics.boundary import boundary_band, boundary_counts, trimap_counts
from mxnetseg.metrics.counts import class_counts, iou


def near_another_value(class_map, distance, frame):
    """Find a boundary band by comparing each pixel with its neighbours, one by one."""
    height, width = class_map.shape
    band = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            for v in range(y - distance, y + distance + 1):
                for u in range(x - distance, x + distance + 1):
                    inside = 0 <= v < height and 0 <= u < width
                    band[y, x] |= class_map[v, u] != class_map[y, x] if inside else frame
    return band


def mask_boundary(mask, ratio):
    """Return the boundary of a binary mask by the paper: the mask without what d erosions by 3 x 3 leave of it."""
    distance = max(int(round(ratio * math.hypot(*mask.shape))), 1)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


@given(label_and_prediction(), st.integers(1, 5), st.booleans())
def test_a_band_equals_a_search_in_a_loop(maps, distance, frame):
    label = maps[0]
    np.testing.assert_array_equal(boundary_band(label, distance, frame=frame),
                                  near_another_value(label, distance, frame))


@given(label_and_prediction(most=30), st.sampled_from([0.001, 0.02, 0.1, 0.6]))
def test_boundary_iou_equals_the_definition_for_each_class(maps, ratio):
    label, pred, nclass = maps
    counts = boundary_counts(pred, label, nclass, ratio=ratio)
    for c in range(nclass):
        truth = mask_boundary(label == c, ratio)
        guess = mask_boundary((pred == c) & (label != 255), ratio)
        assert counts[:, c].tolist() == [(truth & guess).sum(), truth.sum(), guess.sum()]


def test_a_shifted_square_scores_lower_at_its_boundary_than_as_a_region():
    label, pred = np.zeros((2, 200, 200), np.uint8)
    label[40:160, 40:160] = 1
    pred[43:163, 43:163] = 1
    region, boundary = iou(class_counts(pred, label, 2))[1], iou(boundary_counts(pred, label, 2))[1]
    assert boundary < 0.5 < 0.9 < region


@given(label_and_prediction())
def test_the_boundary_iou_of_a_perfect_prediction_is_1(maps):
    label, _, nclass = maps
    values = iou(boundary_counts(np.where(label == 255, 0, label), label, nclass))
    assert np.all((values == 1) | np.isnan(values))
    assert (~np.isnan(values)).sum() == len(set(label[label != 255].tolist()))


@given(label_and_prediction())
def test_the_trimap_counts_the_pixels_near_true_boundaries(maps):
    label, pred, nclass = maps
    counts = trimap_counts(pred, label, nclass, widths=(1, 3, 40))
    for width, one in zip((1, 3), counts):
        where = near_another_value(label, width, frame=False)
        np.testing.assert_array_equal(one, class_counts(pred, label, nclass, where=where))
    if len(np.unique(label)) > 1:  # a band wider than the image holds all of it
        np.testing.assert_array_equal(counts[-1], class_counts(pred, label, nclass))
    else:
        assert not counts.any()


def test_a_band_without_width_is_refused():
    with pytest.raises(UsageError, match="at least 1 pixel"):
        boundary_band(np.zeros((3, 3), np.uint8), 0, frame=True)
