"""Every data set from a miniature of its real layout, and finding them by name."""
import logging
import shutil
import unicodedata

import miniatures
import numpy as np
import pytest

from mxnetseg.data import get_dataset, get_dataset_class, list_datasets, without_folder
from mxnetseg.data.audit import audit
from mxnetseg.data.base import IGNORE
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError, UsageError

PUBLISHED = [name for name in list_datasets() if get_dataset_class(name).counts]
EVERY = {**{name: (name, make) for name, make in miniatures.MAKERS.items()}, **miniatures.VARIANTS}



@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """``ready(name)``: a miniature below a folder ``dataset``, made once; to be read only."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = EVERY[name][1](tmp_path_factory.mktemp("mini") / "dataset")
        return made[name]

    return get


# ---- every registered data set


def test_every_data_set_has_a_miniature():
    assert sorted(miniatures.MAKERS) == list_datasets()


@pytest.mark.parametrize("name", list_datasets())
def test_declaration_is_whole(name):
    kind = get_dataset_class(name)
    assert kind.name and kind.splits and kind.layout and kind.label_hint
    assert len(kind.classes) == len(kind.palette) == len(set(kind.classes))
    shared = 1 if name == "ade20k" else 0  # its published colours are the same for road and skyscraper
    assert len({tuple(color) for color in kind.palette.tolist()}) == len(kind.classes) - shared
    assert kind.palette.dtype == np.uint8
    assert {"train", "val"} <= set(kind.splits) >= {*kind.combined, *kind.counts}
    assert all(set(parts) <= set(kind.splits) for parts in kind.combined.values())
    if kind.label_map is not None:
        assert set(kind.label_map.values()) - {IGNORE} == set(range(len(kind.classes)))
    if name not in ("folder", "list", "sample"):
        assert kind.subdir and kind.home_page and kind.licence


@pytest.mark.parametrize("name", EVERY)
def test_every_split_is_read_with_the_right_ids(ready, name):
    mini, name = ready(name), EVERY[name][0]
    assert set(mini.splits) == set(get_dataset_class(name).splits)
    for split, names in mini.splits.items():
        dataset = get_dataset(name, split=split, root=mini.root)
        samples = [dataset[i] for i in range(len(dataset))]
        assert [sample.name for sample in samples] == list(names)
        for sample in samples:
            assert sample.image.ndim == 3 and sample.image.dtype == np.uint8
            if split in mini.bare:
                assert sample.mask is None
            elif name != "sample":
                assert named_by(dataset, sample.mask[0]) == [n for _, n in zip(range(32), cycle(mini.ids.values()))]
                assert (sample.mask == sample.mask[0]).all() and sample.image.shape == (24, 32, 3)


def named_by(dataset, train_ids):
    return [None if i == IGNORE else dataset.classes[i] for i in train_ids.tolist()]


def cycle(values):
    while True:
        yield from values


@pytest.mark.parametrize("name", EVERY)
def test_training_and_validation_share_no_picture(ready, name):
    root, name = ready(name).root, EVERY[name][0]
    opened = {split: get_dataset(name, split=split, root=root) for split in get_dataset_class(name).splits}
    paths = {split: {d.image_path(i) for i in range(len(d))} for split, d in opened.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test"), ("trainval", "test")):
        assert not paths.get(one, set()) & paths.get(other, set())
    if "trainval" in paths:
        assert paths["trainval"] >= paths["train"] | paths["val"]


@pytest.mark.parametrize("name", list_datasets())
def test_the_audit_passes_every_miniature(ready, name):
    result = audit(name, root=ready(name).root, workers=1)
    assert result.passed, [f"{f.kind}, {f.split}: {f.error}" for f in result.findings if result.fails(f.kind)]


@pytest.mark.parametrize("name", [n for n in list_datasets() if n not in ("folder", "list", "sample")])
@pytest.mark.parametrize("how", ["dataset", "variable", "above"])
def test_found_where_the_data_sets_are(ready, monkeypatch, name, how):
    mini = ready(name)
    base = next(folder for folder in mini.root.parents if folder.name == "dataset")
    monkeypatch.chdir(base.parent if how == "dataset" else "/")
    monkeypatch.delenv("MXNETSEG_DATA", raising=False)
    if how == "variable":
        monkeypatch.setenv("MXNETSEG_DATA", str(base))
    dataset = get_dataset(name, root=base if how == "above" else None)
    assert dataset.root.resolve() == mini.root.resolve() and len(dataset) == len(mini.splits["train"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_count_that_is_not_the_published_one_is_a_warning(ready, caplog, monkeypatch, name):
    mini = ready(name)
    split = next(iter(get_dataset_class(name).counts))
    get_dataset(name, split=split, root=mini.root)
    published = get_dataset_class(name).counts[split]
    assert f"{len(mini.splits[split])} images here, {published} published" in caplog.text
    caplog.clear()
    monkeypatch.setattr(get_dataset_class(name), "counts", {split: len(mini.splits[split])})
    get_dataset(name, split=split, root=mini.root)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_published_count_of_a_combined_split():
    assert get_dataset_class("cityscapes").published_count("trainval") == 2975 + 500
    assert get_dataset_class("pascalvocaug").published_count("trainval") == 10582 + 1449
    assert get_dataset_class("coco").published_count("train") is None


@pytest.mark.parametrize("name, needs", [
    ("coco", "instances_train2017.json"), ("nyuv2", "nyu_depth_v2_labeled.mat"), ("pascalcontext", "JPEGImages"),
    ("pascalcontext60", "JPEGImages"), ("pascalvocaug", "benchmark_RELEASE"), ("sunrgbd", "SUNRGBDtoolbox")])
def test_one_that_must_be_prepared_says_how(tmp_path, name, needs):
    with pytest.raises(DataNotFoundError, match="was not found") as error:
        get_dataset(name, root=tmp_path)
    assert f"mxnetseg prepare {name.replace('60', '')} SRC DST" in error.value.fix and needs in error.value.fix


def test_one_that_is_read_as_downloaded_needs_no_preparation(tmp_path):
    with pytest.raises(DataNotFoundError) as error:
        get_dataset("cityscapes", root=tmp_path)
    assert "prepare" not in error.value.fix


ALONE = {  # of those that have more than one folder or list: what may be missing beside the split
    ("camvid", "test"): ("train", "trainannot", "val", "valannot", "train.txt", "val.txt"),
    ("camvid", "val"): ("train", "trainannot", "test", "testannot", "train.txt", "test.txt"),
    ("mhpv1", "test"): ("train_list.txt",), ("bdd100k", "test"): ("labels", "images/train", "images/val"),
    ("citycoarse", "val"): ("gtCoarse", "leftImg8bit/train", "leftImg8bit/train_extra"),
    ("cityscapes", "test"): ("gtFine", "leftImg8bit/train", "leftImg8bit/val"),
    ("pascalvoc", "test"): ("SegmentationClass", "ImageSets/Segmentation/train.txt"),
    ("folder", "test"): ("masks", "train.txt", "val.txt"), ("list", "test"): ("ids", "train.txt", "val.txt")}


@pytest.mark.parametrize("name, split", ALONE)
@pytest.mark.parametrize("above", [False, True])
def test_a_folder_with_one_split_alone_is_found(tmp_path, name, split, above):
    mini = EVERY[name][1](tmp_path / "dataset")
    for part in ALONE[name, split]:
        path = mini.root / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    above = above and name not in ("folder", "list")
    root = next(f for f in mini.root.parents if f.name == "dataset") if above else mini.root
    dataset = get_dataset(name, split=split, root=root)
    assert [dataset[i].name for i in range(len(dataset))] == list(mini.splits[split])
    assert audit(name, root=root, splits=[split]).passed


def test_a_whole_data_set_goes_before_one_split_alone(tmp_path):
    mini = miniatures.camvid(tmp_path)
    for part in ("test", "testannot"):
        miniatures.write_image(tmp_path / part / "x.png")
    assert get_dataset("camvid", split="test", root=tmp_path).root == mini.root


@pytest.mark.parametrize("name", ["siftflow as released", "mhpv1", "stanfordbackground as released", "nyuv2"])
def test_what_a_mac_leaves_is_no_picture(tmp_path, name):
    mini, name = EVERY[name][1](tmp_path), EVERY[name][0]
    for path in [p for p in mini.root.rglob("*") if p.suffix in (".jpg", ".png", ".txt")]:
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    for folder in ("images", "labels"):  # by these endings the arrangement is recognised
        if (mini.root / folder).is_dir():
            (mini.root / folder / "._x.png").write_bytes(b"Mac OS X")
    for split, names in mini.splits.items():
        dataset = get_dataset(name, split=split, root=mini.root)
        assert [dataset[i].name for i in range(len(dataset))] == list(names)


# ---- by name


@pytest.mark.parametrize("name, root", [
    ("folder:~/pets", None), ("~/pets", None), ("folder", "~/pets"), ("folder:~nobody/pets", None)])
def test_from_the_home_folder(tmp_path, monkeypatch, name, root):
    miniatures.folder(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    if "nobody" in name:
        with pytest.raises(DataNotFoundError, match="was not found"):
            get_dataset(name)
    else:
        assert get_dataset(name, root=root).root == tmp_path / "pets"


def test_without_the_folder_in_a_name():
    for name, wanted in (("folder:a/b", "folder"), ("list:~/a", "list"), ("pack:a", "pack"), ("./a", "folder"),
                         ("camvid", "camvid"), ("CityScapes", "CityScapes"), ("nothing", "nothing")):
        assert without_folder(name) == wanted


@pytest.fixture
def camvid(tmp_path):
    return miniatures.camvid(tmp_path).root


@pytest.mark.parametrize("name", ["camvid", "CamVid", "cam_vid", "CAM-VID"])
def test_names_are_forgiving(camvid, name):
    assert get_dataset(name, root=camvid).name == "CamVid"


@pytest.mark.parametrize("alias, name", [
    ("citys", "Cityscapes"), ("VOC", "PascalVOC"), ("pascal_voc", "PascalVOC"), ("VOCAug", "PascalVOCAug"),
    ("pascal_aug", "PascalVOCAug"), ("MSCOCO", "COCO"), ("MHPV1", "MHPv1"), ("ACDC-night", "ACDC-night"),
    ("CamVidFull", "CamVidFull"), ("BDD", "BDD100K")])
def test_aliases(alias, name):
    assert get_dataset_class(alias).name == name


@pytest.mark.parametrize("name", ["ADE20K", "Aeroscapes", "BDD100K", "CamVid", "CityCoarse", "Cityscapes", "COCOStuff",
                                  "GATECH", "Mapillary", "MHPV1", "MSCOCO", "NYUv2", "PascalContext", "SBD", "SiftFlow",
                                  "StanfordBackground", "SUNRGBD", "PascalVOC", "PascalVOCAug", "WeizmannHorses"])
def test_every_name_of_mxnetseg_is_known(name):
    assert get_dataset_class(name)


def test_unknown_name():
    with pytest.raises(UnknownNameError, match="did you mean 'cityscapes'"):
        get_dataset("cityscape")


def test_folder_by_prefix_by_path_and_by_name(folder, monkeypatch):
    assert len(get_dataset(f"folder:{folder}")) == len(get_dataset(str(folder))) == 9
    assert len(get_dataset("folder", root=folder)) == 9
    monkeypatch.chdir(folder.parent)
    assert len(get_dataset("pets")) == 9


def test_lists_by_prefix(tmp_path):
    mini = miniatures.listfile(tmp_path)
    assert len(get_dataset(f"list:{mini.root}")) == len(get_dataset("list", root=mini.root)) == 2
    assert get_dataset(f"list:{mini.root}").name == "lists"


@pytest.mark.parametrize("name", ["folder", "list"])
def test_own_data_needs_a_folder(name):
    with pytest.raises(DataNotFoundError, match=f"--data {name}:PATH"):
        get_dataset(name)


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


# ---- what is peculiar to one

def test_camvid_back_to_its_ids(camvid):
    assert get_dataset("camvid", root=camvid).to_raw_ids(np.array([10, IGNORE])).tolist() == [10, 11]


def test_camvid_without_lists(camvid):
    with_list = get_dataset("camvid", root=camvid)
    (camvid / "train.txt").unlink()
    without = get_dataset("camvid", root=camvid)
    assert [without.mask_path(i) for i in range(2)] == [with_list.mask_path(i) for i in range(2)]


@pytest.mark.parametrize("name", ["camvid", "camvidfull"])
def test_camvid_in_mxnetsegs_layout(tmp_path, name):
    mini = miniatures.Mini(tmp_path / name, {}, miniatures.CAMVID)
    miniatures.write_list(mini.root / "train.txt", ["a.png a.png", "b.png b.png"])
    miniatures.write_pairs(mini, {n: ("images/{}.png", "labels/{}.png") for n in ("a", "b")})
    dataset = get_dataset(name, root=mini.root)
    assert len(dataset) == 2 and named_by(dataset, dataset[1].mask[0, :6]) == list(miniatures.CAMVID.values())


def test_cityscapes_back_to_the_ids_of_its_server(tmp_path):
    dataset = get_dataset("cityscapes", root=miniatures.cityscapes(tmp_path).root)
    assert dataset.to_raw_ids(np.array([0, 17, 18, IGNORE])).tolist() == [7, 32, 33, 0]


def test_cityscapes_label_that_is_none(tmp_path):
    dataset = get_dataset("citys", split="val", root=miniatures.cityscapes(tmp_path).root)
    miniatures.write_mask(dataset.mask_path(0), np.full((24, 32), 34, np.uint8))
    with pytest.raises(DataError, match="outside the classes") as error:
        _ = dataset[0]
    assert "known ids are 0..33" in error.value.received and "labelIds" in error.value.fix


def test_pascal_context_as_mxnetseg_prepared_it(tmp_path, monkeypatch):
    mini = miniatures.pascalcontext(tmp_path)
    new = mini.root.rename(tmp_path / "PContext")
    (new / "SegmentationClassContext").rename(new / "Labels_59")
    for part in ("train", "val"):
        (new / "ImageSets" / "SegmentationContext" / f"{part}.txt").rename(new / f"{part}.txt")
    monkeypatch.setenv("MXNETSEG_DATA", str(tmp_path))
    dataset = get_dataset("pascalcontext")
    assert dataset.root == new and named_by(dataset, dataset[1].mask[0, :7]) == list(mini.ids.values())


def test_bdd_in_its_newer_layout(tmp_path):
    mini = miniatures.Mini(tmp_path / "bdd100k", {}, miniatures.TRAIN_IDS)
    miniatures.write_pairs(mini, {"x": ("images/10k/train/{}.jpg", "labels/sem_seg/masks/train/{}.png")})
    dataset = get_dataset("bdd100k", root=mini.root)
    assert named_by(dataset, dataset[0].mask[0, :7]) == list(miniatures.TRAIN_IDS.values())


def test_mapillary_takes_its_colours_from_its_file(tmp_path):
    dataset = get_dataset("mapillary", root=miniatures.mapillary(tmp_path).root)
    assert dataset.palette.tolist() == [[i, 2 * i, 255 - i] for i in range(65)]


@pytest.mark.parametrize("name, ids, hint", [
    ("mapillary", np.full((24, 32), 2000, np.uint16), "instances holds 16 bits: take labels"),
    ("ade20k", np.zeros((24, 32, 3), np.uint8), "take ADEChallengeData2016.zip"),
    ("bdd100k", np.zeros((24, 32, 3), np.uint8), "not the colormaps"),
])
def test_the_wrong_masks_of_a_published_set_are_told_from_the_right_ones(tmp_path, name, ids, hint):
    dataset = get_dataset(name, root=miniatures.MAKERS[name](tmp_path).root)
    miniatures.write_mask(dataset.mask_path(1), ids)
    with pytest.raises(DataError) as error:
        _ = dataset[1]
    assert error.value.where == dataset.mask_path(1) and hint in error.value.fix


def test_mapillary_in_mxnetsegs_folders(tmp_path):
    root = miniatures.mapillary(tmp_path).root
    (root / "training").rename(root / "train")
    assert len(get_dataset("mapillary", root=root)) == 2


def test_gatech_validates_on_whole_videos(tmp_path):
    root = miniatures.gatech(tmp_path).root
    videos = {}
    for split in ("train", "val"):
        dataset = get_dataset("gatech", split=split, root=root)
        videos[split] = {dataset[i].name.split("_")[0] for i in range(len(dataset))}
    assert videos == {"train": {"01", "02"}, "val": {"03"}}


def test_palette_pictures_serve_as_masks_everywhere(tmp_path):
    from PIL import Image

    mini = miniatures.pascalvoc(tmp_path)
    for path in mini.root.glob("SegmentationClass/*.png"):
        picture = Image.fromarray(np.array(Image.open(path)))
        picture.putpalette(np.arange(768, dtype=np.uint8)[::-1].tobytes())
        picture.save(path)
    dataset = get_dataset("pascalvoc", root=mini.root)
    assert named_by(dataset, dataset[0].mask[0, :6]) == list(miniatures.VOC.values())


@pytest.mark.parametrize("line, image, mask", [
    ("x.jpg y.png", "x.jpg", "y.png"), ("x.jpg\ty.png", "x.jpg", "y.png"), ("x.jpg, y.png", "x.jpg", "y.png"),
    ("a b.jpg\tc d.png", "a b.jpg", "c d.png"), ("a b.jpg c d.png", "a b.jpg", "c d.png"),
])
def test_a_line_of_a_list(tmp_path, line, image, mask):
    miniatures.write_list(tmp_path / "classes.txt", ["a", "b"])
    miniatures.write_list(tmp_path / "train.txt", [line])
    miniatures.write_image(tmp_path / image)
    miniatures.write_mask(tmp_path / mask, np.ones((24, 32), np.uint8))
    dataset = get_dataset(f"list:{tmp_path}")
    assert (dataset.image_path(0), dataset.mask_path(0)) == (tmp_path / image, tmp_path / mask)


def test_lists_may_name_files_anywhere(tmp_path):
    image = miniatures.write_image(tmp_path / "far" / "x.jpg")
    mask = miniatures.write_mask(tmp_path / "away" / "x.png", np.ones((24, 32), np.uint8))
    miniatures.write_list(tmp_path / "lists" / "classes.txt", ["a", "b"])
    miniatures.write_list(tmp_path / "lists" / "train.txt", [f"{image} ../away/x.png"])
    dataset = get_dataset(f"list:{tmp_path / 'lists'}")
    assert dataset[0].name.endswith("far/x") and not dataset[0].name.startswith("/")
    assert dataset.mask_path(0).samefile(mask) and (dataset[0].mask == 1).all()


def test_other_spellings_of_a_list(tmp_path):
    mini = miniatures.listfile(tmp_path)
    mini.lists["val"].rename(mini.root / "valid.txt")
    assert get_dataset(f"list:{mini.root}", split="val")[0].name == "in/y1"
    assert len(get_dataset(f"list:{mini.root}", split="trainval")) == 3
    (mini.root / "val.txt").write_text("in/z1.jpg ids/y1.png\n")
    with pytest.raises(DataError, match="exists under 2 names") as error:
        get_dataset(f"list:{mini.root}", split="val")
    assert error.value.where == f"{mini.root / 'val.txt'}\n{mini.root / 'valid.txt'}"


def test_a_list_in_another_encoding_of_accents(tmp_path):
    for line, disk in (("NFC", "NFD"), ("NFD", "NFC")):
        root = tmp_path / line
        miniatures.write_list(root / "classes.txt", ["a", "b"])
        miniatures.write_list(root / "train.txt", [unicodedata.normalize(line, "caf\u00e9 1.jpg\tm\u00fc.png")])
        image = miniatures.write_image(root / unicodedata.normalize(disk, "caf\u00e9 1.jpg"))
        miniatures.write_mask(root / unicodedata.normalize(disk, "m\u00fc.png"), np.ones((24, 32), np.uint8))
        dataset = get_dataset(f"list:{root}")
        assert dataset.image_path(0) == image and dataset[0].name == "caf\u00e9 1" and dataset[0].mask.all()


def test_lists_that_share_a_picture_do_not_make_a_trainval(tmp_path):
    mini = miniatures.listfile(tmp_path)
    with mini.lists["val"].open("a") as stream:
        stream.write("in/x2.jpg ids/x2.png\n")
    with pytest.raises(DataError, match="holds an image twice") as error:
        get_dataset(f"list:{mini.root}", split="trainval")
    assert error.value.received == "in/x2"
