"""Counts of classes equal the confusion matrix's, and their scores equal its scores."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maps import label_and_prediction

from mxnetseg.errors import UsageError
from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.metrics.counts import class_counts, iou, mean_iou, pixel_accuracy


@given(label_and_prediction(), st.sampled_from(["skip", "zero"]))
def test_scores_equal_those_of_the_confusion_matrix(maps, absent_as):
    label, pred, nclass = maps
    matrix = ConfusionMatrix(nclass)
    matrix.update(pred, label)
    counts = class_counts(pred, label, nclass)
    np.testing.assert_array_equal(counts, [matrix.counts.diagonal(), matrix.counts.sum(1), matrix.counts.sum(0)])
    np.testing.assert_array_equal(iou(counts), matrix.iou())
    if matrix.pixels:
        assert mean_iou(counts, absent_as) == pytest.approx(matrix.miou(absent_as))
        assert pixel_accuracy(counts) == pytest.approx(matrix.pixel_accuracy())
    else:
        assert np.isnan(mean_iou(counts, absent_as)) and np.isnan(pixel_accuracy(counts))


@given(label_and_prediction(), label_and_prediction())
def test_several_images_are_scored_at_once(one, other):
    nclass = max(one[2], other[2])
    counts = np.stack([class_counts(pred, label, nclass) for label, pred, _ in (one, other)])
    np.testing.assert_array_equal(iou(counts), np.stack([iou(counts[0]), iou(counts[1])]))
    np.testing.assert_array_equal(mean_iou(counts), [mean_iou(counts[0]), mean_iou(counts[1])])


def test_where_selects_pixels():
    label, pred = np.array([[0, 1, 1]], np.uint8), np.array([[0, 1, 0]], np.uint8)
    assert class_counts(pred, label, 2, where=np.array([[True, False, True]])).tolist() == [[1, 0], [1, 1], [2, 0]]


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match="differ in shape"):
        class_counts(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
