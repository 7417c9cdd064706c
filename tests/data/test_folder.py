"""Folder data: its splits, its classes, and the mistakes of users who make it by hand."""
import re
import unicodedata

import numpy as np
import pytest

from mxnetseg.data.base import IGNORE, voc_palette
from mxnetseg.data.folder import FolderDataset, read_classes
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError, DataNotFoundError
from mxnetseg.viz.palette import class_palette


def names(root, split):
    dataset = FolderDataset(split=split, root=root)
    return [dataset[i].name for i in range(len(dataset))]


def test_declaration(folder):
    dataset = FolderDataset(root=folder)
    assert (dataset.name, dataset.classes, dataset.nclass) == ("pets", ("ground", "cat", "big dog"), 3)
    assert np.array_equal(dataset.palette, class_palette(dataset.classes))
    assert dataset.image_path(0) == folder / "images" / "a0.jpg"
    assert dataset.info()["raw_ids"] is None
    assert np.array_equal(dataset.to_raw_ids(np.array([0, 2, IGNORE])), [0, 2, IGNORE])


def test_two_folders_do_not_share_their_classes(folder, tmp_path, write):
    other = tmp_path / "other"
    write(other / "images" / "b.png")
    write(other / "masks" / "b.png", 0)
    (other / "classes.txt").write_text("ground\nthing\n")
    first, second = FolderDataset(root=folder), FolderDataset(root=other)
    assert (first.nclass, second.nclass, FolderDataset.classes) == (3, 2, ())


def test_split_by_a_hash_of_the_names(folder, write):
    train, val = names(folder, "train"), names(folder, "val")
    assert len(val) == 1 and sorted(train + val) == [f"a{i}" for i in range(10)]
    assert names(folder, "val") == val == ["a8"]  # the same on every machine
    assert FolderDataset(root=folder).held_out


def test_added_images_move_no_other_image_to_another_split(folder, write):
    before = {"train": set(), "val": set()}
    for count in range(40):
        write(folder / "images" / f"img_{count:02d}.jpg")
        write(folder / "masks" / f"img_{count:02d}.png", 0)
        now = {split: set(names(folder, split)) for split in ("train", "val")}
        # a8 has the smallest hash of the first images, but above 0.1: held out only until an image below 0.1 comes
        assert before["train"] <= now["train"] and before["val"] - {"a8"} <= now["val"]
        before = now
    assert len(before["val"]) > 2 and "a8" in before["train"]


def test_copies_of_one_image_stay_in_one_split(folder, write):
    copies = [f"b{i}_jpg.rf.{copy}" for i in range(30) for copy in "0123"]
    for name in copies:
        write(folder / "images" / f"{name}.jpg")
        write(folder / "masks" / f"{name}.png", 0)
    first = {split: {name.partition(".rf.")[0] for name in names(folder, split)} for split in ("train", "val")}
    assert len(first["val"]) > 1 and not first["train"] & first["val"]


def test_split_of_two_images(folder):
    for i in range(2, 10):
        (folder / "images" / f"a{i}.jpg").unlink()
    assert sorted(names(folder, "train") + names(folder, "val")) == ["a0", "a1"]


def test_splits_by_lists(folder):
    (folder / "train.txt").write_text("a3\na1.jpg\nimages/a2.jpg masks/a2.png\n")
    (folder / "val.txt").write_text("a0\n")
    assert names(folder, "train") == ["a3", "a1", "a2"]
    assert names(folder, "val") == ["a0"]


def test_a_name_in_a_list_may_contain_spaces(folder, write):
    write(folder / "images" / "my cat.v2.jpg")
    write(folder / "masks" / "my cat.v2.png", 1)
    (folder / "train.txt").write_text("my cat.v2\n")
    assert names(folder, "train") == ["my cat.v2"]


def test_splits_by_subfolders(tmp_path, write):
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for i in range(count):
            write(tmp_path / "images" / split / f"{i}.png")
            if split != "test":
                write(tmp_path / "masks" / split / f"{i}.png", 0)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert names(tmp_path, "train") == ["train/0", "train/1"]
    assert names(tmp_path, "val") == ["val/0"]
    assert not FolderDataset(root=tmp_path).held_out
    assert names(tmp_path, "test") == ["test/0"]
    assert FolderDataset(split="test", root=tmp_path)[0].mask is None


def by_folders(root, write, *folders):
    for part in folders:
        write(root / "images" / part / f"{part}_0.png")
        write(root / "masks" / part / f"{part}_0.png", 0)
    (root / "classes.txt").write_text("a\nb\n")
    return root


@pytest.mark.parametrize("val", ["valid", "validation", "Val"])
def test_other_spellings_of_val(tmp_path, write, val):
    root = by_folders(tmp_path, write, "train", val, "test")
    assert names(root, "train") == ["train/train_0"] and names(root, "val") == [f"{val}/{val}_0"]
    assert names(root, "test") == ["test/test_0"]
    (root / "train.txt").write_text("train/train_0\n")
    (root / f"{val}.txt").write_text("test/test_0\n")
    assert names(root, "val") == ["test/test_0"]


def test_two_spellings_of_val_are_refused(tmp_path, write):
    root = by_folders(tmp_path, write, "train", "val", "valid")
    with pytest.raises(DataError, match="exists under 2 names") as error:
        FolderDataset(split="val", root=root)
    assert error.value.where == f"{root / 'images' / 'val'}\n{root / 'images' / 'valid'}"
    for name in ("train", "val"):
        (root / f"{name}.txt").write_text("train/train_0\n")
    assert names(root, "val") == ["train/train_0"]  # there are lists, so the folders are not splits
    (root / "validation.txt").write_text("train/train_0\n")
    with pytest.raises(DataError, match="exists under 2 names") as error:
        FolderDataset(split="val", root=root)
    assert error.value.where == f"{root / 'val.txt'}\n{root / 'validation.txt'}"


def test_images_of_no_split_are_reported(tmp_path, write, caplog):
    root = by_folders(tmp_path, write, "train", "val", "extra")
    assert names(root, "train") == ["train/train_0"]
    write(root / "images" / "train station" / "x.png")
    assert names(root, "train") == ["train/train_0"]  # this folder is not a split
    assert "1 images" in caplog.text and "extra_0.png" in caplog.text and "images/train or images/val" in caplog.text


def test_two_splits_may_be_links_to_one_folder(tmp_path, write):
    root = by_folders(tmp_path, write, "train")
    by_folders(tmp_path / "disk", write, "pool")
    for part in ("images", "masks"):
        for split in ("val", "test"):
            (root / part / split).symlink_to(tmp_path / "disk" / part / "pool")
    assert names(root, "val") == ["val/pool_0"] and names(root, "test") == ["test/pool_0"]


def test_names_match_in_both_encodings_of_accents(folder, write):
    for image, mask in (("NFC", "NFD"), ("NFD", "NFC")):
        name = f"caf\u00e9 {image}"
        write(folder / "images" / f"{unicodedata.normalize(image, name)}.jpg")
        write(folder / "masks" / f"{unicodedata.normalize(mask, name)}.png", 1)
    lines = [unicodedata.normalize("NFD", f"caf\u00e9 {encoding}") for encoding in ("NFC", "NFD")]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    dataset = FolderDataset(root=folder)
    assert [dataset[i].name for i in range(2)] == ["caf\u00e9 NFC", "caf\u00e9 NFD"]
    write(folder / "images" / f"{lines[0]}.jpg")  # beside the other encoding of the same name
    with pytest.raises(DataError, match="share one name"):
        FolderDataset(root=folder)


def test_hidden_files_are_left_out(folder):
    (folder / "images" / "._a0.jpg").write_bytes(b"of a Mac")
    (folder / "images" / ".cache").mkdir()
    (folder / "images" / ".cache" / "x.jpg").write_bytes(b"thumbnail")
    assert len(FolderDataset(root=folder)) == 9


def test_rgb_masks_by_the_classes_colors(folder, write):
    (folder / "classes.txt").write_text("ground #102030\ncat #00FF00\nbig dog #0000ff\n")
    dataset = FolderDataset(root=folder)
    ids = dataset[0].mask
    assert np.array_equal(dataset.palette, [(16, 32, 48), (0, 255, 0), (0, 0, 255)])
    write(dataset.mask_path(0), dataset.palette[ids])
    assert np.array_equal(dataset[0].mask, ids)


def test_rgb_masks_without_colors_are_refused(folder, write):
    dataset = FolderDataset(root=folder)
    write(dataset.mask_path(0), voc_palette(3)[dataset[0].mask])
    with pytest.raises(DataError, match="RGB image"):
        _ = dataset[0]


def test_label_outside_the_classes(folder, write):
    dataset = FolderDataset(root=folder)
    write(dataset.mask_path(0), 3)
    with pytest.raises(DataError) as error:
        _ = dataset[0]
    assert error.value.received == "3 (768 pixels); known ids are 0..2, ignore is 255"
    assert "classes.txt" in error.value.fix


# ---- missing and wrong files

@pytest.mark.parametrize("missing", ["classes.txt", "images"])
def test_not_folder_data(folder, missing):
    (folder / "masks").rename(folder / "labels")
    (folder / missing).rename(folder / "renamed")
    with pytest.raises(DataNotFoundError, match="not found") as error:
        FolderDataset(root=folder)
    assert f"it lacks {missing}" in error.value.where and FolderDataset.layout in error.value.fix


def test_no_root():
    with pytest.raises(DataNotFoundError, match="needs a folder"):
        FolderDataset()


def test_image_without_mask(folder):
    (folder / "masks" / "a0.png").unlink()
    with pytest.raises(DataNotFoundError, match="1 of 9 images") as error:
        FolderDataset(root=folder)
    assert error.value.where == str(folder / "images" / "a0.jpg")
    assert str(folder / "masks" / "a0.png") in error.value.received


def test_no_masks_at_all(folder):
    (folder / "masks").rename(folder / "labels")
    with pytest.raises(DataNotFoundError, match="no folder masks"):
        FolderDataset(root=folder)


def test_no_images(folder):
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="empty"):
        FolderDataset(root=folder)


def test_no_test_split(folder):
    with pytest.raises(DataNotFoundError, match="no test split"):
        FolderDataset(split="test", root=folder)


def test_only_one_list(folder):
    (folder / "train.txt").write_text("a0\n")
    with pytest.raises(DataNotFoundError, match="'val' has no list"):
        FolderDataset(split="val", root=folder)


def test_list_of_unknown_image(folder):
    (folder / "train.txt").write_text("a0\nb7\n")
    with pytest.raises(DataNotFoundError) as error:
        FolderDataset(root=folder)
    assert error.value.received == "b7" and error.value.where == folder / "train.txt"


def test_list_with_a_repeated_image(folder):
    (folder / "train.txt").write_text("a0\na1\na0.jpg\n")
    with pytest.raises(DataError, match="more than once") as error:
        FolderDataset(root=folder)
    assert error.value.received == "a0"


def test_two_images_of_one_name(folder, write):
    write(folder / "images" / "a0.png")
    with pytest.raises(DataError, match="share one name") as error:
        FolderDataset(root=folder)
    assert "a0.jpg" in error.value.where and "a0.png" in error.value.where


@pytest.mark.parametrize("text, what", [
    ("a\nb\na\n", "class is given twice"),
    ("a #000001\nb #000001\n", "colour is given twice"),
    ("a\nb #12\n", "neither"),
    ("#123456\n", "neither"),
    ("\n", "empty"),
    ("a\n", "two classes or more"),
    ("\n".join(map(str, range(256))), "too many classes"),
])
def test_bad_classes(tmp_path, text, what):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=what) as error:
        read_classes(tmp_path / "classes.txt")
    assert "classes.txt" in str(error.value.where) and error.value.fix


def test_255_classes(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(255))))
    assert len(read_classes(tmp_path / "classes.txt")[0]) == 255


def test_the_fix_for_a_single_class_works(folder, write):
    """Masks of 0 and 255 with one class: the lines and the command of the message make a valid data set."""
    (folder / "classes.txt").write_text("cat\n")
    for i in range(10):
        write(folder / "masks" / f"a{i}.png", np.uint8([[0, 255] * 16] * 24))
    with pytest.raises(DataError, match="two classes or more") as error:
        FolderDataset(root=folder)
    lines = re.findall(r"'(\w+ #\w+)'", error.value.fix)
    assert lines == ["background #000000", "cat #ffffff"] and error.value.received == "cat"
    (folder / "classes.txt").write_text("\n".join(lines))
    prepare("colours", folder, folder.parent / "made")
    sample = FolderDataset(root=folder.parent / "made")[0]
    assert (sample.mask == np.uint8([[0, 1] * 16] * 24)).all()


def test_one_class_of_any_data_set_is_refused(folder, tmp_path):
    class Pets(FolderDataset):
        def _prepare(self):
            self.classes = ("cat",)

    with pytest.raises(DataError, match="two classes or more"):
        Pets(root=folder)


def test_digest_of_the_names(folder, write):
    digests = {split: FolderDataset(split=split, root=folder).names_digest for split in ("train", "val")}
    assert digests["train"] != digests["val"] and len(digests["train"]) == 64
    (folder / "train.txt").write_text("".join(f"a{i}\n" for i in (9, 7, 6, 5, 4, 3, 2, 1, 0)))
    assert FolderDataset(root=folder).names_digest == digests["train"]  # in another order
    (folder / "train.txt").write_text("".join(f"a{i}\n" for i in (8, 7, 6, 5, 4, 3, 2, 1, 0)))
    assert FolderDataset(root=folder).names_digest != digests["train"]


@pytest.mark.parametrize("make, problem", [
    (lambda path: path.symlink_to(path.parent / "gone.txt"), "a link that leads nowhere"),
    (lambda path: path.mkdir(), "is a folder")], ids=["broken link", "folder"])
@pytest.mark.parametrize("name", ["train.txt", "valid.txt"])
def test_a_list_that_is_not_a_file_is_refused(folder, make, problem, name):
    """Without the refusal the split would silently be chosen by a hash."""
    make(folder / name)
    for split in ("train", "val"):
        with pytest.raises(DataError, match=problem) as error:
            FolderDataset(split=split, root=folder)
        assert error.value.where == folder / name and error.value.fix
