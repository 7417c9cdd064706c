"""The published data sets, each from a miniature of its real layout, and finding them by name."""
import numpy as np
import pytest

from mxnetseg.data import get_dataset, get_dataset_class, list_datasets
from mxnetseg.data.base import IGNORE
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError, UsageError

# ---- every registered data set


@pytest.mark.parametrize("name", list_datasets())
def test_declaration_is_whole(name):
    kind = get_dataset_class(name)
    assert kind.name and kind.splits and kind.layout and kind.label_hint
    assert len(kind.classes) == len(kind.palette) == len(set(kind.classes))
    shared = 1 if name == "ade20k" else 0  # its published colours are the same for road and skyscraper
    assert len({tuple(color) for color in kind.palette.tolist()}) == len(kind.classes) - shared
    assert kind.palette.dtype == np.uint8
    if kind.label_map is not None:
        assert set(kind.label_map.values()) - {IGNORE} == set(range(len(kind.classes)))


# ---- by name

@pytest.mark.parametrize("name", ["camvid", "CamVid", "cam_vid", "CAM-VID"])
def test_names_are_forgiving(camvid, name):
    assert get_dataset(name, root=camvid).name == "CamVid"


@pytest.mark.parametrize("alias, name", [("citys", "Cityscapes"), ("VOC", "PascalVOC"), ("pascal_voc", "PascalVOC")])
def test_aliases(alias, name):
    assert get_dataset_class(alias).name == name


def test_unknown_name():
    with pytest.raises(UnknownNameError, match="did you mean 'cityscapes'"):
        get_dataset("cityscape")


def test_folder_by_prefix_by_path_and_by_name(folder, monkeypatch):
    assert len(get_dataset(f"folder:{folder}")) == len(get_dataset(str(folder))) == 9
    assert len(get_dataset("folder", root=folder)) == 9
    monkeypatch.chdir(folder.parent)
    assert len(get_dataset("pets")) == 9


def test_a_data_sets_name_goes_before_a_folder(tmp_path, monkeypatch):
    (tmp_path / "camvid").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFoundError, match="data set CamVid was not found"):
        get_dataset("camvid")


def test_path_that_is_not_there(tmp_path):
    with pytest.raises(DataNotFoundError, match="folder was not found") as error:
        get_dataset(str(tmp_path / "nothing"))
    assert str(tmp_path / "nothing") in error.value.where


def test_two_folders(folder):
    with pytest.raises(UsageError, match="two folders"):
        get_dataset(f"folder:{folder}", root=folder)


# ---- CamVid

def test_camvid(camvid):
    dataset = get_dataset("camvid", root=camvid)
    assert [dataset[i].name for i in range(2)] == ["train/0001_1", "train/0001_2"]
    assert np.unique(dataset[0].mask) == 10 and np.unique(dataset[1].mask) == IGNORE  # 11 is unlabelled
    assert dataset.to_raw_ids(np.array([10, IGNORE])).tolist() == [10, 11]


def test_camvid_trainval(camvid):
    dataset = get_dataset("camvid", split="trainval", root=camvid)
    assert [dataset[i].name for i in range(3)] == ["train/0001_1", "train/0001_2", "val/0016_1"]


def test_camvid_without_lists(camvid):
    with_list = get_dataset("camvid", root=camvid)
    (camvid / "train.txt").unlink()
    without = get_dataset("camvid", root=camvid)
    assert [without.mask_path(i) for i in range(2)] == [with_list.mask_path(i) for i in range(2)]


def test_camvid_without_test_split(camvid):
    with pytest.raises(DataError, match="'test' of CamVid is empty"):
        get_dataset("camvid", split="test", root=camvid)


def test_camvid_list_without_masks(camvid):
    (camvid / "train.txt").write_text("train/0001_1.png\n")
    with pytest.raises(DataError, match="not a pair") as error:
        get_dataset("camvid", root=camvid)
    assert error.value.received == "train/0001_1.png" and "entry 1" in error.value.where


def test_camvid_list_of_a_missing_image(camvid):
    (camvid / "train.txt").write_text("/x/train/0001_9.png /x/trainannot/0001_1.png\n")
    with pytest.raises(DataNotFoundError, match="1 of the files") as error:
        get_dataset("camvid", root=camvid)
    assert error.value.where == str(camvid / "train" / "0001_9.png")


# ---- Cityscapes

@pytest.fixture
def cityscapes(tmp_path, write):
    root = tmp_path / "Cityscapes"
    for part, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")):
        stem = f"{city}_000000_000019"
        write(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png")
        if part != "test":
            ids = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 34
            write(root / "gtFine" / part / city / f"{stem}_gtFine_labelIds.png", ids)
            write(root / "gtFine" / part / city / f"{stem}_gtFine_color.png")
    return root


def test_cityscapes(cityscapes):
    dataset = get_dataset("cityscapes", root=cityscapes)
    assert [dataset[i].name for i in range(2)] == ["aachen/aachen_000000_000019", "bochum/bochum_000000_000019"]
    by_id = dict(zip(range(32), dataset[0].mask[0].tolist()))
    named = {raw: dataset.classes[train] for raw, train in by_id.items() if train != IGNORE}
    assert named == {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
                     19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
                     24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train"}
    assert dataset.to_raw_ids(np.array([0, 17, 18, IGNORE])).tolist() == [7, 32, 33, 0]


def test_cityscapes_splits(cityscapes):
    assert len(get_dataset("citys", split="trainval", root=cityscapes)) == 3
    test = get_dataset("citys", split="test", root=cityscapes)
    assert test[0].mask is None and test.mask_path(0) is None


def test_cityscapes_label_that_is_none(cityscapes, write):
    dataset = get_dataset("citys", split="val", root=cityscapes)
    write(dataset.mask_path(0), 34)
    with pytest.raises(DataError, match="outside the classes") as error:
        _ = dataset[0]
    assert "known ids are 0..33" in error.value.received and "labelIds" in error.value.fix


def test_cityscapes_without_masks(cityscapes):
    (cityscapes / "gtFine").rename(cityscapes / "gtCoarse")
    with pytest.raises(DataNotFoundError, match="2 of the files"):
        get_dataset("citys", root=cityscapes)


# ---- PASCAL VOC

@pytest.fixture
def voc(tmp_path, write):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in (("train", ["2007_1"]), ("val", ["2007_2"]), ("trainval", ["2007_1", "2007_2"]),
                         ("test", ["2008_1"])):
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            write(root / "JPEGImages" / f"{name}.jpg")
            if split != "test":
                mask = np.full((24, 32), 15, np.uint8)
                mask[0] = 255
                write(root / "SegmentationClass" / f"{name}.png", mask)
    return root


def test_voc(voc):
    dataset = get_dataset("voc", root=voc.parent)
    sample = dataset[0]
    assert len(dataset) == 1 and sample.name == "2007_1" and dataset.classes[15] == "person"
    assert (sample.mask[0] == IGNORE).all() and (sample.mask[1:] == 15).all()
    assert dataset.palette[15].tolist() == [192, 128, 128]


def test_voc_splits(voc):
    assert len(get_dataset("voc", split="trainval", root=voc)) == 2
    assert get_dataset("voc", split="test", root=voc)[0].mask is None


def test_voc_without_the_list_of_the_test_split(voc):
    (voc / "ImageSets" / "Segmentation" / "test.txt").unlink()
    with pytest.raises(DataNotFoundError, match="list of files is missing"):
        get_dataset("voc", split="test", root=voc)
