"""Confusion matrix: scores computed by hand, and properties that hold for every input."""
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxnetseg.errors import DataError, UsageError
from mxnetseg.metrics import ConfusionMatrix

# Four classes: 0 and 1 are confused, 2 is only predicted, 3 does not occur.
#            true 0 0 0 0 1 1 1 1 ignored
#       predicted 0 0 0 1 1 1 2 0 2
LABEL = np.array([0, 0, 0, 0, 1, 1, 1, 1, 255], np.uint8)
PRED = np.array([0, 0, 0, 1, 1, 1, 2, 0, 2], np.uint8)


def matrix_of(pred, label, nclass=4, **options):
    matrix = ConfusionMatrix(nclass, **options)
    matrix.update(pred, label)
    return matrix


@pytest.fixture
def matrix():
    return matrix_of(PRED, LABEL)


def test_a_row_of_a_log_leaves_out_scores_of_absent_classes(matrix):
    row = matrix.result(["a", "b", "c", "d"]).log_row()
    assert row == pytest.approx({"val_pa": 5 / 8, "val_mpa": (3 / 4 + 2 / 4) / 2, "val_miou": (3 / 5 + 2 / 5) / 3,
                                 "val_iou/a": 3 / 5, "val_iou/b": 2 / 5, "val_iou/c": 0})
    assert json.loads(json.dumps(row)) == row
    assert ConfusionMatrix(2).result().log_row() == {}


# ---- computed by hand

def test_counts(matrix):
    assert matrix.counts.tolist() == [[3, 1, 0, 0], [1, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert matrix.counts.dtype == np.int64
    assert matrix.pixels == 8


@pytest.mark.parametrize("score, expected", [
    ("iou", [3 / 5, 2 / 5, 0, math.nan]),
    ("recall", [3 / 4, 2 / 4, math.nan, math.nan]),
    ("precision", [3 / 4, 2 / 3, 0, math.nan]),
    ("dice", [6 / 8, 4 / 7, 0, math.nan]),
])
def test_scores_of_each_class(matrix, score, expected):
    np.testing.assert_allclose(getattr(matrix, score)(), expected, rtol=1e-15)


def test_scores_over_all_classes(matrix):
    assert matrix.pixel_accuracy() == 5 / 8
    assert matrix.mean_accuracy() == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert matrix.mean_accuracy("zero") == pytest.approx((3 / 4 + 2 / 4) / 4)
    assert matrix.miou() == pytest.approx((3 / 5 + 2 / 5 + 0) / 3)
    assert matrix.miou("zero") == pytest.approx((3 / 5 + 2 / 5) / 4)
    assert matrix.frequency_weighted_iou() == pytest.approx(0.5 * 3 / 5 + 0.5 * 2 / 5)


def test_perfect_with_absent_classes():
    """Three of five classes are absent: 1.0 by the convention of this project, 0.4 by GluonCV's."""
    label = np.array([[0, 1], [1, 255]])
    matrix = matrix_of(label.clip(max=1), label, nclass=5)
    assert matrix.miou() == 1.0
    assert matrix.miou("zero") == pytest.approx(0.4)


def test_ignore_may_be_a_class():
    matrix = matrix_of(np.array([1, 1, 0]), np.array([0, 1, 1]), nclass=2, ignore=0)
    assert matrix.counts.tolist() == [[0, 0], [1, 1]]


def test_predictions_at_ignored_pixels_are_not_checked():
    assert matrix_of(np.array([255, 1]), np.array([255, 1])).pixels == 1


def test_scores_without_counted_pixels_are_nan():
    matrix = matrix_of(np.zeros((2, 2), int), np.full((2, 2), 255))
    assert matrix.pixels == 0
    assert math.isnan(matrix.pixel_accuracy()) and math.isnan(matrix.miou())
    assert math.isnan(matrix.mean_accuracy()) and math.isnan(matrix.frequency_weighted_iou())
    assert np.isnan(matrix.iou()).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint16])
def test_any_integer_type(matrix, dtype):
    other = matrix_of(PRED.astype(dtype), LABEL)
    assert (other.counts == matrix.counts).all()


def test_counts_beyond_32_bits():
    matrix = ConfusionMatrix.from_counts(np.array([[2 ** 33, 0], [2 ** 33, 0]]))
    matrix.update(np.array([0]), np.array([0]))
    assert matrix.pixels == 2 ** 34 + 1


def test_counts_are_a_copy(matrix):
    matrix.counts[0, 0] = 99
    given_counts = matrix.counts
    other = ConfusionMatrix.from_counts(given_counts)
    other.update(PRED, LABEL)
    assert given_counts[0, 0] == matrix.counts[0, 0] == 3


# ---- properties

NCLASS = 5
PAIRS = st.lists(st.tuples(st.integers(0, NCLASS - 1), st.sampled_from([*range(NCLASS), 255])), max_size=60)


def given_any(*strategies):
    """Return the decorator ``given`` without a time limit, which a busy machine would exceed."""
    return lambda test: settings(deadline=None)(given(*strategies)(test))


def matrix_of_pairs(pairs):
    pred, label = np.array(pairs, np.uint8).reshape(-1, 2).T
    return matrix_of(pred, label, NCLASS)


@given_any(PAIRS, PAIRS)
def test_parts_add_up_to_the_whole(first, second):
    whole = matrix_of_pairs(first + second).counts
    a, b = matrix_of_pairs(first), matrix_of_pairs(second)
    before = a.counts
    assert ((a + b).counts == whole).all()
    assert (a.counts == before).all()  # + makes a new matrix
    assert a.merge(b) is a and (a.counts == whole).all()
    a = matrix_of_pairs(first)
    a.update(*np.array(second, np.uint8).reshape(-1, 2).T)
    assert (a.counts == whole).all()


@given_any(PAIRS, st.permutations(range(NCLASS)))
def test_renaming_the_classes_renames_the_scores(pairs, new_id):
    matrix = matrix_of_pairs(pairs)
    renamed = matrix_of_pairs([(new_id[p], 255 if t == 255 else new_id[t]) for p, t in pairs])
    for score in ("iou", "recall", "precision", "dice"):
        np.testing.assert_array_equal(getattr(renamed, score)()[list(new_id)], getattr(matrix, score)())
    for score in ("miou", "mean_accuracy", "pixel_accuracy", "frequency_weighted_iou"):
        np.testing.assert_allclose(getattr(renamed, score)(), getattr(matrix, score)(), rtol=1e-12)


@given_any(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_pixels_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert (matrix_of_pairs(shuffled).counts == matrix_of_pairs(pairs).counts).all()


@given_any(st.lists(st.integers(0, NCLASS - 1), min_size=1))
def test_a_perfect_prediction_scores_1(labels):
    matrix = matrix_of_pairs([(t, t) for t in labels])
    assert matrix.miou() == matrix.pixel_accuracy() == matrix.mean_accuracy() == 1
    assert matrix.frequency_weighted_iou() == pytest.approx(1)


@given_any(PAIRS)
def test_bounds(pairs):
    matrix = matrix_of_pairs(pairs)
    iou, dice, recall, precision = matrix.iou(), matrix.dice(), matrix.recall(), matrix.precision()
    for scores in (iou, dice, recall, precision):
        present = scores[~np.isnan(scores)]
        assert ((present >= 0) & (present <= 1)).all()
    # IoU is the smallest of the four scores, and Dice is a function of it
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou))
    assert (iou <= np.fmin(np.fmin(recall, precision), 1) + 1e-12)[~np.isnan(iou)].all()
    assert math.isnan(matrix.miou()) or matrix.miou("zero") <= matrix.miou()


@given_any(PAIRS)
def test_counts_equal_a_loop_over_pixels(pairs):
    counts = np.zeros((NCLASS, NCLASS), int)
    for p, t in pairs:
        if t != 255:
            counts[t, p] += 1
    assert (matrix_of_pairs(pairs).counts == counts).all()


# ---- Scores

def test_result_is_json_with_null_for_nan(matrix):
    text = json.dumps(matrix.result(["road", "car", "sky", "dog"]).to_dict(), allow_nan=False)
    scores = json.loads(text)
    assert scores["miou"] == pytest.approx(1 / 3)
    assert (scores["classes_averaged"], scores["nclass"], scores["pixels"]) == (3, 4, 8)
    assert [c["name"] for c in scores["classes"]] == ["road", "car", "sky", "dog"]
    assert scores["classes"][1] == {"name": "car", "iou": 0.4, "accuracy": 0.5, "pixels": 4,
                                    "precision": pytest.approx(2 / 3), "dice": pytest.approx(4 / 7)}
    assert scores["classes"][3]["iou"] is None


def test_result_without_pixels_is_json():
    scores = ConfusionMatrix(2).result().to_dict()
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert scores["miou"] is None


def test_table(matrix):
    assert matrix.result(["road", "car", "traffic light", "dog"]).table().splitlines() == [
        "class            IoU  accuracy  share",
        "-------------------------------------",
        "road           60.00     75.00  50.00",
        "car            40.00     50.00  50.00",
        "traffic light   0.00         -   0.00",
        "dog                -         -   0.00",
        "-------------------------------------",
        "PA             62.50",
        "mPA            62.50",
        "mIoU           33.33  (3/4 classes)",
    ]


def test_table_says_when_absent_classes_count_as_zero(matrix):
    assert matrix.result(absent_as="zero").table().splitlines()[-1].split(None, 2) == \
        ["mIoU", "25.00", "(4/4 classes, 1 absent counted as 0)"]


# ---- errors

@pytest.mark.parametrize("nclass, ignore", [(0, 255), (256, 255), (19, -1), (19, 256)])
def test_invalid_arguments(nclass, ignore):
    with pytest.raises(UsageError):
        ConfusionMatrix(nclass, ignore=ignore)


def test_label_out_of_range_names_value_and_count(matrix):
    before = matrix.counts
    with pytest.raises(DataError) as caught:
        matrix.update(np.zeros(4, np.uint8), np.array([0, 7, 7, 30], np.uint8))
    assert caught.value.received == "7 (2 pixels), 30 (1 pixels)"
    assert (matrix.counts == before).all()


def test_prediction_out_of_range(matrix):
    before = matrix.counts
    with pytest.raises(UsageError, match="not one of the 4 classes"):
        matrix.update(np.array([0, 4]), np.array([0, 0]))
    assert (matrix.counts == before).all()


@pytest.mark.parametrize("pred, label", [
    (np.zeros((2, 3), int), np.zeros((3, 2), int)),
    (np.zeros((1, 4), int), np.zeros(4, int)),
    (np.zeros(4, np.float32), np.zeros(4, int)),
    (np.zeros(4, int), np.full(4, -1)),
    (np.zeros(4, int), np.full(4, 256)),
])
def test_invalid_class_maps_are_not_counted(matrix, pred, label):
    with pytest.raises(UsageError):
        matrix.update(pred, label)
    assert matrix.pixels == 8


@pytest.mark.parametrize("counts", [np.zeros((2, 3), int), np.zeros(4, int), [[-1]], [[0.5]]])
def test_invalid_counts(counts):
    with pytest.raises(UsageError):
        ConfusionMatrix.from_counts(counts)


def test_matrices_with_different_settings_cannot_be_added(matrix):
    for other in (ConfusionMatrix(5), ConfusionMatrix(4, ignore=0)):
        with pytest.raises(UsageError):
            matrix.merge(other)


def test_wrong_names_and_conventions(matrix):
    with pytest.raises(UsageError, match="one name per class"):
        matrix.result(["a"])
    with pytest.raises(UsageError, match="absent"):
        matrix.miou("drop")
