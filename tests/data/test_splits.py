"""Splits that names mean, and groups of augmented copies."""
import pytest

from mxnetseg.data.splits import group_of, split_of
from mxnetseg.errors import DataError


@pytest.mark.parametrize("path, split", [
    ("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "val"),
    ("test/_annotations.coco.json", "test"), ("annotations/instances_val2017.json", "val"),
    ("annotations/instances_Train.json", "train"), ("Validation", "val"), ("my-training-set.json", "train"),
    ("testing 2/x.json", "test"), ("val/instances_valid.json", "val"), ("a\\val\\x.json", "val"),
    ("latest.json", None), ("restrained.json", None), ("constraint.json", None), ("trainval.json", None),
    ("evaluation.json", None), ("invalid.json", None), ("annotations/instances_default.json", None),
    ("2017.json", None),
])
def test_split_names_are_whole_words(path, split):
    assert split_of(path) == split


@pytest.mark.parametrize("path, words", [("train/val.json", ("'train' means train", "'val' means val")),
                                         ("test_valid2.json", ("'test' means test", "'valid2' means val"))])
def test_a_path_with_two_splits_is_refused_and_shows_both(path, words):
    with pytest.raises(DataError, match="several splits") as error:
        split_of(path)
    assert error.value.where == path and all(word in error.value.received for word in words)


def test_augmented_copies_of_one_photo_are_one_group():
    assert group_of("cat_jpg.rf.0a1b.jpg") == group_of("cat_jpg.rf.9f8e") == "cat_jpg"
    assert group_of("a.rf.x/dog_png.rf.1") == "a.rf.x/dog_png"
    assert group_of("wharf.jpg") == "wharf.jpg" and group_of("a.rf/b.jpg") == "a.rf/b.jpg"
