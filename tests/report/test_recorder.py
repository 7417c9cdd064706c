"""Details that an evaluation keeps of its images: counts, a table, small copies."""
import csv

import numpy as np
import pytest
from evaluations import CLASSES, evaluation, painted, probabilities_of
from PIL import Image

from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.report import recorder as module
from mxnetseg.report.record import read_record
from mxnetseg.report.recorder import CALIBRATED, Recorder, discard_details
from mxnetseg.viz.palette import make_palette
from mxnetseg.viz.sheet import SIDE


def matrix_of(number):
    matrix = ConfusionMatrix(3)
    _, mask, prediction = painted(number)
    matrix.update(prediction, mask)
    return matrix


def table(folder):
    return list(csv.DictReader((folder / "images.csv").read_text(encoding="utf-8").splitlines()))


def test_the_counts_of_an_image_are_those_of_its_confusion_matrix(tmp_path):
    record = read_record(evaluation(tmp_path))
    total = ConfusionMatrix(3)
    for i, regions in enumerate(record.regions):
        counts = matrix_of(i).counts
        np.testing.assert_array_equal(regions, [counts.diagonal(), counts.sum(1), counts.sum(0)])
        total.merge(matrix_of(i))
    np.testing.assert_array_equal(record.confusion, total.counts)
    np.testing.assert_array_equal(record.sizes.sum(axis=0), record.regions.sum(axis=0))
    assert record.bin_pixels.sum() == total.pixels
    assert (record.bin_confidence.sum() / total.pixels).round(6) == 0.8
    assert record.bin_correct.sum() == total.counts.trace()
    assert record.about["calibrated_images"] == 8


def test_the_table_lists_all_images_the_worst_first(tmp_path):
    evaluation(tmp_path)
    rows = table(tmp_path)
    scores = [float(row["miou"]) for row in rows]
    assert scores == sorted(scores) and rows[0]["image"] == "val/7" and len(rows) == 8
    matrix = matrix_of(7)
    assert float(rows[0]["miou"]) == pytest.approx(matrix.miou(), abs=1e-4)
    assert float(rows[0]["pixel_accuracy"]) == pytest.approx(matrix.pixel_accuracy(), abs=1e-4)
    assert int(rows[0]["valid_pixels"]) == matrix.pixels
    assert int(rows[0]["wrong_pixels"]) == matrix.pixels - matrix.counts.trace()
    assert float(rows[0][f"iou {CLASSES[2]}"]) == pytest.approx(matrix.iou()[2], abs=1e-4)


def test_small_copies_are_small_and_keep_the_class_ids(tmp_path):
    recorder = Recorder(tmp_path, 1, CLASSES, make_palette(3))
    image, mask, prediction = (np.repeat(np.repeat(a, 20, 0), 20, 1) for a in painted(0))
    recorder.add("large", image, mask, prediction)
    folder = tmp_path / "details/images"
    with Image.open(folder / "00000.jpg") as copy:
        assert copy.size == (SIDE, SIDE * 3 // 4) and copy.format == "JPEG"
    for part, class_map in (("truth", mask), ("prediction", prediction)):
        with Image.open(folder / f"00000_{part}.png") as copy:
            assert copy.size == (SIDE, SIDE * 3 // 4)
            assert set(np.unique(np.array(copy))) == set(np.unique(class_map))


def test_the_calibrated_images_are_spread_over_the_split(tmp_path):
    recorder, chosen = Recorder(tmp_path, 500, CLASSES, make_palette(3)), []
    for i in range(500):
        if recorder.wants_probabilities(np.zeros((4, 4, 3), np.uint8)):
            chosen.append(i)
        recorder._names.append(str(i))
    assert len(chosen) == CALIBRATED and chosen[0] == 0 and chosen[-1] == 499
    assert np.ptp(np.diff(chosen)) <= 1


def test_probabilities_of_a_very_large_image_are_not_wanted(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, 2, CLASSES, make_palette(3))
    monkeypatch.setattr(module, "_MOST_PROBABILITIES", 48 * 64 * 3)
    assert recorder.wants_probabilities(np.zeros((48, 64, 3), np.uint8))
    assert not recorder.wants_probabilities(np.zeros((48, 65, 3), np.uint8))


def test_an_image_without_a_valid_pixel_has_empty_scores(tmp_path):
    recorder = Recorder(tmp_path, 2, CLASSES, make_palette(3))
    image, mask, prediction = painted(0)
    recorder.add("void", image, np.full_like(mask, 255), prediction, probabilities_of(prediction))
    recorder.add("good", image, mask, prediction)
    recorder.finish({})
    good, void = table(tmp_path)
    assert good["image"] == "good" and void["miou"] == "" and void["valid_pixels"] == "0"


def test_names_that_are_no_unicode_are_escaped_in_the_table(tmp_path):
    evaluation(tmp_path, count=1, names=["val/\udcff\N{SNOWMAN}"])
    assert table(tmp_path)[0]["image"] == "val/\\udcff\N{SNOWMAN}"
    assert read_record(tmp_path).names == ["val/\udcff\N{SNOWMAN}"]


def test_a_new_evaluation_invalidates_the_details_of_the_old_one(tmp_path):
    evaluation(tmp_path)
    Recorder(tmp_path, 1, CLASSES, make_palette(3))
    assert not (tmp_path / "details/record.json").exists() and not (tmp_path / "images.csv").exists()
    evaluation(tmp_path)
    discard_details(tmp_path)
    discard_details(tmp_path / "never there")
    assert not (tmp_path / "details/record.json").exists() and not (tmp_path / "images.csv").exists()
