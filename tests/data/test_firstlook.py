"""Masks from which nothing can be learnt, and masks that look like them at first."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import firstlook
from mxnetseg.data.firstlook import class_frequency, refuse_unlabelled
from mxnetseg.data.folder import FolderDataset
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError


@pytest.fixture
def make(tmp_path):
    """Write a folder data set with these masks; return its training split."""
    def write(masks, classes="background\nobject\n"):
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
        (tmp_path / "classes.txt").write_text(classes)
        names = [f"{i:03d}" for i in range(len(masks))]
        for name, mask in zip(names, masks):
            Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
            Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
        for split in ("train", "val"):
            (tmp_path / f"{split}.txt").write_text("\n".join(names))
        return FolderDataset(split="train", root=tmp_path)
    return write


def of(*values):
    return np.array(values, np.uint8).repeat(8).reshape(-1, 8)


BINARY = of(0, 0, 255, 0)


def test_0_and_255_is_refused_with_both_readings_and_the_first_fix_works(make, tmp_path):
    dataset = make([BINARY] * 5)
    with pytest.raises(DataError) as error:
        refuse_unlabelled(dataset)
    text = str(error.value)
    for words in ("'background'", "'object'", "all 5 masks", "75%", "25%", "two readings",
                  "'background #000000'", "'object #ffffff'", "mxnetseg prepare colours SRC DST", "label some pixels"):
        assert words in text, words
    (tmp_path / "classes.txt").write_text("background #000000\nobject #ffffff\n")
    prepare("colours", tmp_path, tmp_path.with_name("converted"))
    fixed = FolderDataset(split="train", root=tmp_path.with_name("converted"))
    refuse_unlabelled(fixed)
    assert np.unique(fixed[0].mask).tolist() == [0, 1]


@pytest.mark.parametrize("where", [0, 17, 99])
def test_one_mask_with_a_second_class_is_enough(make, where):
    masks = [BINARY] * 100
    masks[where] = of(0, 1, 255)
    refuse_unlabelled(make(masks))  # also if it is not among the first 32


@pytest.mark.parametrize("masks, classes", [
    ([of(0, 0)] * 3, "a\nb\n"),  # one class without ignored pixels: reported by a warning after the first epoch
    ([of(0, 255), of(1, 255)], "a\nb\n"), ([of(2, 1, 255)], "a\nb\nc\n")])
def test_possible_masks_are_not_refused(make, masks, classes):
    refuse_unlabelled(make(masks, classes))


def test_nothing_labelled(make):
    with pytest.raises(DataError, match="no training mask has a labelled pixel"):
        refuse_unlabelled(make([of(255, 255)] * 4))


def test_it_takes_seconds_at_most_and_at_least_one_mask(make, monkeypatch):
    monkeypatch.setattr(firstlook, "_SECONDS", 0.0)
    monkeypatch.setattr(firstlook, "_SECONDS_FOR_MORE", 0.0)
    with pytest.raises(DataError) as error:
        refuse_unlabelled(make([BINARY] * 200))
    assert "2 of 200 masks" in error.value.received  # one of the first masks, one of the others


def test_masks_of_a_good_data_set_are_read_once(make, monkeypatch):
    dataset, read = make([of(0, 1)] * 100), []
    plain = dataset.load_raw_mask
    monkeypatch.setattr(dataset, "load_raw_mask", lambda i: read.append(i) or plain(i))
    refuse_unlabelled(dataset)
    assert len(read) == len(set(read)) <= 32 and {0, 99} <= set(read)


def test_fractions_of_the_labelled_pixels_of_all_masks(make):
    dataset = make([of(0, 0, 0, 255), of(1, 1), of(0, 2, 255)] * 30, "a\nb\nc\nd\n")
    np.testing.assert_allclose(class_frequency(dataset), [4 / 7, 2 / 7, 1 / 7, 0], rtol=1e-15)


def test_without_a_labelled_pixel_every_fraction_is_0(make):
    assert class_frequency(make([of(255, 255)])).tolist() == [0, 0]
