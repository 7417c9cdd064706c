"""Warnings of a run that does not learn all its classes."""
import logging

import numpy as np
import pytest

from mxnetseg.engine.watch import LabelWatch, warn_of_one_class
from mxnetseg.metrics import ConfusionMatrix

CLASSES = ("road", "tree", "pole")


def masks(*values):
    return np.array(values, np.uint8).repeat(50).reshape(len(values), 5, 10)


def test_a_class_without_a_labelled_pixel_is_named_once(caplog):
    watch = LabelWatch(CLASSES, 2)
    for _ in range(3):
        watch.note(masks(0, 255))
        watch.note(masks(2, 2))
        watch.end_epoch()
    warning, = caplog.records
    assert "'tree'" in warning.getMessage() and "road" not in warning.getMessage()


def test_one_pixel_among_millions_counts(caplog):
    batch = np.zeros((8, 1024, 1024), np.uint8)
    batch[7, 1023, 1023], batch[0, 0, 0] = 2, 1
    watch = LabelWatch(CLASSES, 1)
    watch.note(batch)
    watch.end_epoch()
    assert not caplog.records


def test_a_resumed_epoch_is_skipped_and_the_next_one_counts(caplog):
    watch = LabelWatch(CLASSES, 3)
    watch.note(masks(0, 0))
    watch.end_epoch()
    assert not caplog.records
    for _ in range(3):
        watch.note(masks(0, 1))
    watch.end_epoch()
    assert len(caplog.records) == 1 and "'pole'" in caplog.text


def scores(counts):
    return ConfusionMatrix.from_counts(np.array(counts)).result(CLASSES)


@pytest.mark.parametrize("counts, warned", [
    ([[600, 0, 0], [300, 0, 0], [100, 0, 0]], True), ([[600, 0, 0], [295, 5, 0], [100, 0, 0]], True),
    ([[600, 0, 0], [280, 20, 0], [100, 0, 0]], False),  # it has learned something of a second class
    ([[960, 0, 0], [30, 0, 0], [10, 0, 0]], False),  # nearly all pixels are road
    ([[0, 0, 0]] * 3, False)])
def test_nearly_everything_predicted_as_one_class(caplog, counts, warned):
    with caplog.at_level(logging.WARNING):
        warn_of_one_class(scores(counts))
    assert bool(caplog.records) == warned
    if warned:
        assert "'road'" in caplog.text and "60.0 %" in caplog.text and "--epochs" in caplog.text
