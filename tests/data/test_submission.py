"""Zip for an evaluation server: read as the server's rules say, and refused where it would be incomplete."""
import fnmatch
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.acdc import ACDC
from mxnetseg.data.base import Sample
from mxnetseg.data.cityscapes import Cityscapes
from mxnetseg.data.submission import RULES, check, open_submission
from mxnetseg.errors import DataError, UsageError

NAMES = {"Cityscapes": ["leftImg8bit/test/{city}/{city}_000000_000019_leftImg8bit.png", ("berlin", "bonn")],
         "ACDC": ["rgb_anon/{city}/test/GOPR0122/GOPR0122_{city}_000161_rgb_anon.png",
                  ("fog", "night", "rain", "snow")]}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Function that writes the test images of a data set, black ones, and returns the split."""
    def write(name, size=None):
        pattern, parts = NAMES[name]
        for number, part in enumerate(parts):
            path = tmp_path / name / pattern.format(city=part)
            path.parent.mkdir(parents=True)
            Image.new("RGB", size if size and number else RULES[name].size).save(path)
        for cls in (Cityscapes, ACDC):
            monkeypatch.setattr(cls, "counts", {"test": len(NAMES[cls.name][1])})
        return get_dataset(name, split="test", root=tmp_path / name)
    return write


def predictions(dataset):
    """Return samples, whose images are not read, and class maps, the first of which holds every class."""
    width, height = RULES[dataset.name].size
    rng = np.random.default_rng(0)
    for i in range(len(dataset)):
        row = rng.permutation(np.arange(width) % 19).astype(np.uint8)
        yield Sample(None, None, dataset.pair(i).name), np.tile(row, (height, 1))


def write(dataset, path, count=None):
    with open_submission(path, dataset) as submission:
        for sample, prediction in list(predictions(dataset))[:count]:
            submission.add(sample, prediction)


def images(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        found = {}
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert (image.format, image.mode) == ("PNG", "L")  # one channel of 8 bits
                found[name] = np.asarray(image)
    return found


def test_cityscapes(make, tmp_path):
    dataset = make("Cityscapes")
    write(dataset, tmp_path / "results.zip")
    found = images(tmp_path / "results.zip")
    for sample, prediction in predictions(dataset):
        city, sequence, frame = sample.name.split("/")[-1].split("_")
        # as the organisers' script finds a prediction, in any folder, and exactly one
        name, = (n for n in found if fnmatch.fnmatch(n.split("/")[-1], f"{city}_{sequence}_{frame}*.png"))
        np.testing.assert_array_equal(found[name], dataset.to_raw_ids(prediction))
        assert found[name].shape == (1024, 2048) and set(np.unique(found[name])) == {
            7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}
    assert len(found) == 2


def test_acdc(make, tmp_path):
    dataset = make("ACDC")
    write(dataset, tmp_path / "results.zip")
    found = images(tmp_path / "results.zip")
    assert set(found) == {f"labelTrainIds/GOPR0122_{part}_000161_rgb_anon.png" for part in NAMES["ACDC"][1]}
    for i, (_, prediction) in enumerate(predictions(dataset)):
        np.testing.assert_array_equal(found[f"labelTrainIds/{dataset.image_path(i).name}"], prediction)
        assert prediction.shape == (1080, 1920)


def test_without_a_prediction_there_is_no_file(make, tmp_path):
    dataset = make("Cityscapes")
    with pytest.raises(DataError, match="predictions are missing"):
        write(dataset, tmp_path / "results.zip", 1)
    with pytest.raises(KeyboardInterrupt), open_submission(tmp_path / "results.zip", dataset):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["Cityscapes"]


def test_an_incomplete_split(make, monkeypatch):
    dataset = make("Cityscapes")
    monkeypatch.setattr(Cityscapes, "counts", {"test": 1525})
    with pytest.raises(DataError, match="not complete") as error:
        check(dataset)
    assert "2 of 1525 images" in str(error.value)


def test_an_image_of_another_size(make):
    dataset = make("Cityscapes", (1024, 512))
    with pytest.raises(DataError, match="2048 x 1024") as error:
        check(dataset)
    assert "1024 x 512" in str(error.value) and "bonn" in str(error.value)


def test_a_prediction_of_another_size(make, tmp_path):
    dataset = make("Cityscapes")
    with pytest.raises(DataError, match="2048 x 1024"), open_submission(tmp_path / "a.zip", dataset) as submission:
        submission.add(Sample(None, None, dataset.pair(0).name), np.zeros((512, 1024), np.uint8))


def test_two_images_of_one_name(make, tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, "ACDC", ["rgb_anon/{city}/test/GOPR0122/same_rgb_anon.png", NAMES["ACDC"][1]])
    with pytest.raises(DataError, match="two test images have one name"):
        check(make("ACDC"))


def test_data_without_a_known_server():
    with pytest.raises(UsageError, match="no evaluation server") as error:
        check(get_dataset("sample", split="val"))
    assert "it knows Cityscapes, ACDC" in str(error.value)
