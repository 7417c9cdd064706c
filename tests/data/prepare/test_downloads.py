"""Conversions of downloads, each from a miniature written as the original is."""
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.ade20k import ADE20K
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import prepare
from mxnetseg.data.prepare.ade20k import NAMES, _words
from mxnetseg.data.prepare.coco import CATEGORIES as COCO_CATEGORIES
from mxnetseg.data.prepare.pascalcontext import CATEGORIES as CONTEXT_CATEGORIES
from mxnetseg.errors import DataError, DataNotFoundError

from .conftest import SIZE

scipy_io = pytest.importorskip("scipy.io")


def png(path):
    with Image.open(path) as image:
        return np.array(image)


def names(dataset):
    return [dataset.pair(i).name for i in range(len(dataset))]


# ---- VOC and SBD

def test_the_lists_and_masks_of_voc_and_sbd(voc_and_sbd, tmp_path):
    source, masks = voc_and_sbd
    target = tmp_path / "VOCAug"
    prepare("pascalvocaug", source, target)
    # SBD's train and val and VOC's train, without VOC's val
    assert names(get_dataset("pascalvocaug", root=target)) == ["s1", "s2", "v1", "v2"]
    assert names(get_dataset("pascalvocaug", split="val", root=target)) == ["v3", "v4"]
    assert names(get_dataset("pascalvocaug", split="trainval", root=target)) == ["s1", "s2", "v1", "v2", "v3", "v4"]
    assert names(get_dataset("pascalvocaug", split="train_voc", root=target)) == ["v1", "v2"]
    for name, mask in masks.items():  # v1, v3 and v4 have two masks; VOC's wins
        assert np.array_equal(png(target / "cls_aug" / f"{name}.png"), mask)


# ---- NYU

@pytest.fixture
def nyu(tmp_path, ids, rng, hdf5_mat):
    """Five images with a red upper left corner and distinct labels: 1, 2, 5 for training, 3, 4 for testing."""
    def write(newer_labels=False):
        source = tmp_path / "nyu"
        images = rng.integers(0, 200, (5, *SIZE, 3), dtype=np.uint8)
        images[:, 0, 0] = (255, 0, 0)
        labels = np.stack([ids(41) for _ in range(5)])
        # MATLAB 7.3 saves images(h, w, c, k) and labels40(h, w, k) with dimensions in reverse order
        hdf5_mat(source / "nyu_depth_v2_labeled.mat", lambda file: file.create_dataset(
            "images", data=images.transpose(0, 3, 2, 1)))
        if newer_labels:
            hdf5_mat(source / "labels40.mat", lambda file: file.create_dataset(
                "labels40", data=labels.transpose(0, 2, 1)))
        else:
            scipy_io.savemat(source / "labels40.mat", {"labels40": labels.transpose(1, 2, 0)})
        scipy_io.savemat(source / "splits.mat", {"trainNdxs": np.array([[1], [2], [5]], np.uint16),
                                                 "testNdxs": np.array([[3], [4]], np.uint16)})
        return source, images, labels
    return write


@pytest.mark.parametrize("newer_labels", [False, True])
def test_nyu_is_neither_flipped_nor_transposed(nyu, tmp_path, newer_labels):
    source, images, labels = nyu(newer_labels)
    target = tmp_path / "NYUv2"
    done = prepare("nyuv2", source, target)
    assert done.made == 10 and done.audit.passed
    for k in range(5):
        assert np.array_equal(png(target / "images" / f"{k + 1:04d}.png"), images[k])
        assert np.array_equal(png(target / "labels40" / f"{k + 1:04d}.png"), labels[k])
    train = get_dataset("nyuv2", root=target)
    assert names(train) == ["0001", "0002", "0005"]
    assert names(get_dataset("nyuv2", split="val", root=target)) == ["0003", "0004"]
    image, mask, _ = train[2]
    assert tuple(image[0, 0]) == (255, 0, 0)
    assert np.array_equal(mask, np.where(labels[4] == 0, IGNORE, labels[4] - 1))


def test_the_files_of_nyu_must_belong_together(nyu, tmp_path):
    source, _, labels = nyu()
    scipy_io.savemat(source / "labels40.mat", {"labels40": labels[:4].transpose(1, 2, 0)})
    with pytest.raises(DataError, match="do not belong together") as error:
        prepare("nyuv2", source, tmp_path / "NYUv2")
    assert "(24, 32, 3, 5)" in error.value.received and "(24, 32, 4)" in error.value.received
    scipy_io.savemat(source / "labels40.mat", {"labels": labels.transpose(1, 2, 0)})
    with pytest.raises(DataError, match="has no variable labels40"):
        prepare("nyuv2", source, tmp_path / "NYUv2")


def test_the_splits_of_nyu_must_fit(nyu, tmp_path):
    source, _, _ = nyu()
    scipy_io.savemat(source / "splits.mat", {"trainNdxs": [[1], [6]], "testNdxs": [[3]]})
    with pytest.raises(DataError, match="trainNdxs names images that do not exist"):
        prepare("nyuv2", source, tmp_path / "NYUv2")


# ---- COCO

def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


@pytest.fixture
def coco(tmp_path, write_image, text):
    """Three training images, of which the third has too few object pixels, and one validation image."""
    source, size = tmp_path / "coco", (60, 80)
    for folder, count in (("train2017", 3), ("val2017", 1)):
        images = [{"id": 7 + i, "file_name": f"{i:012d}.jpg", "height": 60, "width": 80} for i in range(count)]
        for image in images:
            write_image(source / folder / image["file_name"], size)
        annotations = [
            {"image_id": 7, "category_id": 18, "segmentation": square(0, 0, 40), "iscrowd": 0},  # a dog
            {"image_id": 7, "category_id": 1, "segmentation": square(20, 20, 40), "iscrowd": 0},  # a person
            {"image_id": 7, "category_id": 13, "segmentation": square(70, 0, 9), "iscrowd": 0},  # not a class of VOC
            {"image_id": 8, "category_id": 5, "iscrowd": 1,  # aeroplanes
             "segmentation": {"size": [60, 80], "counts": [60 * 10, 60 * 30, 60 * 40]}},
            {"image_id": 9, "category_id": 18, "segmentation": square(0, 0, 31), "iscrowd": 0},  # 961 pixels
        ]
        text(source / "annotations" / f"instances_{folder}.json", {
            "images": images, "annotations": [a for a in annotations if a["image_id"] < 7 + count],
            "categories": [{"id": i, "name": f"category {i}"} for i in (*COCO_CATEGORIES, 13)]})
    return source


def test_instances_of_coco_become_classes_of_voc(coco, tmp_path):
    target = tmp_path / "COCO"
    done = prepare("coco", coco, target)
    assert (done.made, done.left_out) == (3, 1) and done.audit.passed
    train = get_dataset("coco", root=target)
    assert names(train) == ["000000000000", "000000000001"]  # the third has at most 1000 pixels of objects
    wanted = np.zeros((60, 80), np.uint8)
    wanted[20:60, 20:60] = train.classes.index("person")
    wanted[:40, :40] = train.classes.index("dog")  # the earlier instance wins
    assert np.array_equal(train[0].mask, wanted)
    planes = np.zeros((60, 80), np.uint8)
    planes[:, 10:40] = train.classes.index("aeroplane")
    assert np.array_equal(train[1].mask, planes)
    assert prepare("coco", coco, target).made == 0


def test_the_categories_of_coco_match_the_class_names():
    known = {1: "person", 2: "bicycle", 3: "car", 4: "motorbike", 5: "aeroplane", 6: "bus", 7: "train", 9: "boat",
             16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 44: "bottle", 62: "chair",
             63: "sofa", 64: "pottedplant", 67: "diningtable", 72: "tvmonitor"}
    from mxnetseg.data.pascalvoc import PascalVOC
    assert [known[c] for c in COCO_CATEGORIES] == list(PascalVOC.classes[1:])


@pytest.mark.parametrize("content, words", [
    ("{", "not JSON"), ("[]", "not in COCO's format"),
    ('{"images": [], "annotations": [{}]}', "categories: expected a list"),
])
def test_broken_annotations_of_coco(coco, tmp_path, content, words):
    path = coco / "annotations" / "instances_val2017.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as error:
        prepare("coco", coco, tmp_path / "COCO")
    assert error.value.where == path


def test_coco_without_annotations(coco, tmp_path):
    for path in (coco / "annotations").iterdir():
        path.unlink()
    with pytest.raises(DataNotFoundError, match="lacks both"):
        prepare("coco", coco, tmp_path / "COCO")


# ---- PASCAL-Context

def categories_of(mask):
    """Return a mask of 0..59 with the original category ids; 0 becomes a category outside the 59."""
    return np.array([400, *CONTEXT_CATEGORIES])[mask]


def test_context_from_its_json(tmp_path, write_image, ids, text):
    source, target, masks = tmp_path / "source", tmp_path / "VOC2010", {}
    regions, images = [], []
    for number, phase in ((2008000001, "train"), (2008000002, "val"), (2008000003, "test")):
        name = f"{str(number)[:4]}_{str(number)[4:]}"
        write_image(source / "VOCdevkit" / "VOC2010" / "JPEGImages" / f"{name}.jpg")
        masks[name] = ids(60)
        images.append({"image_id": number, "file_name": f"{name}.jpg", "phase": phase, "height": 24, "width": 32})
        for category in np.unique(categories_of(masks[name])):
            flat = (categories_of(masks[name]) == category).T.ravel()
            edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
            counts = np.diff([0, *edges, flat.size]).tolist()
            regions.append({"image_id": number, "category_id": int(category), "segmentation": {
                "size": [24, 32], "counts": [0, *counts] if flat[0] else counts}})
    text(source / "trainval_merged.json", {"images": images, "annos_segmentation": regions})
    assert prepare("pascalcontext", source, target).audit.passed
    for split, name in (("train", "2008_000001"), ("val", "2008_000002")):
        dataset = get_dataset("pascalcontext60", split=split, root=target)
        assert names(dataset) == [name] and np.array_equal(dataset[0].mask, masks[name])
        narrower = get_dataset("pascalcontext", split=split, root=target)[0].mask
        assert np.array_equal(narrower, np.where(masks[name] == 0, IGNORE, masks[name] - 1))


def test_context_from_its_matlab_files_in_place(tmp_path, write_image, ids, text):
    """Prepare inside the folder of VOC 2010."""
    voc, masks = tmp_path / "VOC2010", {}
    for name in ("2008_000001", "2008_000002"):
        write_image(voc / "JPEGImages" / f"{name}.jpg")
        masks[name] = ids(60)
        (voc / "trainval").mkdir(exist_ok=True)
        scipy_io.savemat(voc / "trainval" / f"{name}.mat", {"LabelMap": categories_of(masks[name]).astype(np.uint16)})
    text(voc / "ImageSets" / "Main" / "train.txt", "2008_000001", "2009_999999")  # the last is not in Context
    text(voc / "ImageSets" / "Main" / "val.txt", "2008_000002")
    assert prepare("pascalcontext", voc, voc).audit.passed
    for split, name in (("train", "2008_000001"), ("val", "2008_000002")):
        dataset = get_dataset("pascalcontext60", split=split, root=voc)
        assert names(dataset) == [name] and np.array_equal(dataset[0].mask, masks[name])


def test_context_refuses_other_matrices(tmp_path, write_image, text):
    voc = tmp_path / "VOC2010"
    write_image(voc / "JPEGImages" / "a.jpg")
    (voc / "trainval").mkdir()
    scipy_io.savemat(voc / "trainval" / "a.mat", {"LabelMap": np.full(SIZE, 460, np.uint16)})
    for split in ("train", "val"):
        text(voc / "ImageSets" / "Main" / f"{split}.txt", "a")
    with pytest.raises(DataError, match="459 categories") as error:
        prepare("pascalcontext", voc, tmp_path / "out")
    assert error.value.where == voc / "trainval" / "a.mat"


# ---- ADE20K

def test_the_names_of_ade20k_are_the_classes_of_the_benchmark():
    assert len(NAMES) == len(ADE20K.classes) == 150
    assert [line.split("|")[0].split(",")[0].strip() for line in NAMES] == list(ADE20K.classes)
    every = [_words(name) for line in NAMES for name in line.split("|")]
    assert len(set(every)) == len(every)


@pytest.fixture
def ade(tmp_path, write_image, rng):
    """An index of 600 names, with the 150 of the benchmark among them, and one image of each split."""
    source = tmp_path / "ADE20K_2016_07_26"
    objects = [f"thing {i}" for i in range(600)]
    indices = rng.permutation(600)[:150]
    for index, line in zip(indices, NAMES):
        objects[index] = line.split("|")[-1].strip()
    source.mkdir()
    scipy_io.savemat(source / "index_ade20k.mat", {"index": {"objectnames": np.array(objects, object)[None]}})
    wanted = {}
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        image = write_image(source / "images" / split / "a" / "abbey" / f"{name}.jpg")
        numbers = rng.integers(0, 601, SIZE)
        numbers.flat[:151] = [0, *(indices + 1)]
        seg = np.zeros((*SIZE, 3), np.uint8)
        seg[..., 0], seg[..., 1] = numbers // 256 * 10 + rng.integers(0, 10, SIZE), numbers % 256
        seg[..., 2] = rng.integers(0, 256, SIZE)  # the instance, which is not used
        Image.fromarray(seg).save(image.with_name(f"{name}_seg.png"))
        classes = np.zeros(601, np.uint8)
        classes[indices + 1] = np.arange(1, 151)
        wanted[split] = classes[numbers]
    return source, wanted


def test_the_full_ade20k_becomes_150_classes(ade, tmp_path):
    source, wanted = ade
    target = tmp_path / "ADEChallengeData2016"
    assert prepare("ade20k", source, target).audit.passed
    for split, folder in (("train", "training"), ("val", "validation")):
        dataset = get_dataset("ade20k", split=split, root=target)
        assert np.array_equal(png(dataset.mask_path(0)), wanted[folder])


def test_mask_and_index_of_ade20k_must_fit(ade, tmp_path):
    source, _ = ade
    path = next(source.rglob("ADE_val*_seg.png"))
    Image.fromarray(np.full((*SIZE, 3), 240, np.uint8)).save(path)
    with pytest.raises(DataError, match="names that are not in the index") as error:
        prepare("ade20k", source, tmp_path / "out")
    assert error.value.where == path


def test_names_that_the_index_lacks_are_reported(ade, tmp_path, caplog):
    source, _ = ade
    scipy_io.savemat(source / "index_ade20k.mat", {"index": {"objectnames": np.array(["wall"] * 600, object)[None]}})
    prepare("ade20k", source, tmp_path / "out")
    assert "149 of the 150 classes have no name" in caplog.text


# ---- SUN RGB-D

@pytest.fixture
def sun(tmp_path, write_image, ids, hdf5_mat):
    """Three images in folders of three cameras: the second for training, the others for testing."""
    h5py = pytest.importorskip("h5py")
    source, above = tmp_path / "sun", "/n/fs/sun3d/data/"
    folders = ("SUNRGBD/kv1/NYUdata/NYU0001", "SUNRGBD/kv2/k/000002", "SUNRGBD/xtion/x/000003")
    for folder in folders:
        write_image(source / folder / "image" / "frame.jpg")
    masks = [ids(38) for _ in folders]
    toolbox = source / "SUNRGBDtoolbox"
    for name in ("Metadata", "traintestSUNRGBD"):
        (toolbox / name).mkdir(parents=True)
    meta = np.zeros((1, 3), [("rgbpath", object), ("rgbname", object)])
    for i, folder in enumerate(folders):
        meta[0, i] = (f"{above}{folder}/image/frame.jpg", "frame.jpg")
    scipy_io.savemat(toolbox / "Metadata" / "SUNRGBDMeta.mat", {"SUNRGBDMeta": meta})
    scipy_io.savemat(toolbox / "traintestSUNRGBD" / "allsplit.mat", {
        "alltrain": np.array([[above + folders[1]]], object),
        "alltest": np.array([[above + folders[0], above + folders[2] + "/"]], object)})

    def fill(file):
        cells = file.create_dataset("SUNRGBD2Dseg/seglabel", (3, 1), dtype=h5py.ref_dtype)
        for i, mask in enumerate(masks):
            file.create_dataset(f"#refs#/{i}", data=mask.T.astype(np.uint16))  # as MATLAB stores a matrix
            cells[i, 0] = file[f"#refs#/{i}"].ref

    hdf5_mat(toolbox / "Metadata" / "SUNRGBD2Dseg.mat", fill)
    return source, masks


def test_sun_rgbd_from_the_toolbox(sun, tmp_path):
    source, masks = sun
    target = tmp_path / "SUNRGBD-prepared"
    done = prepare("sunrgbd", source, target)
    assert done.made == 6
    test = get_dataset("sunrgbd", split="test", root=target)
    assert [test.image_path(i).name for i in range(len(test))] == ["00001.jpg", "00003.jpg"]
    assert [line.split()[0] for line in (target / "train.txt").read_text().splitlines()] == ["00002.jpg"]
    for number, mask in enumerate(masks, 1):
        assert np.array_equal(png(target / "labels" / f"{number:05d}.png"), mask)
    first = source / "SUNRGBD" / "kv1" / "NYUdata" / "NYU0001" / "image" / "frame.jpg"
    assert (target / "images" / "00001.jpg").read_bytes() == first.read_bytes()


def test_the_toolbox_of_sun_rgbd_must_be_complete(sun, tmp_path):
    source, _ = sun
    path = source / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
    scipy_io.savemat(path, {"trainvalsplit": 1})
    with pytest.raises(DataError, match="unexpected structure"):
        prepare("sunrgbd", source, tmp_path / "out")


def test_sun_rgbd_from_extracted_masks(tmp_path, write_image, ids):
    """Images are numbered from 1 in both train and test; the masks of the test images come first."""
    source, target, masks = tmp_path / "sun", tmp_path / "SUNRGBD", []
    for folder, count in (("SUNRGBD-test_images", 3), ("SUNRGBD-train_images", 12)):
        for i in range(1, count + 1):
            write_image(source / folder / f"img-{i:06d}.jpg")
    for i in range(1, 16):
        (source / "labels").mkdir(exist_ok=True)
        masks.append(ids(38))
        Image.fromarray(masks[-1]).save(source / "labels" / f"img-{i:06d}.png")
    assert prepare("sunrgbd", source, target).audit.passed
    test = get_dataset("sunrgbd", split="test", root=target)
    assert names(test) == ["00001", "00002", "00003"]
    assert np.array_equal(test[1].mask, np.where(masks[1] == 0, IGNORE, masks[1] - 1))
    assert len(get_dataset("sunrgbd", split="trainval", root=target)) == 12
    assert (target / "images" / "00004.jpg").read_bytes() == \
        (source / "SUNRGBD-train_images" / "img-000001.jpg").read_bytes()
    (source / "labels" / "img-000015.png").unlink()
    with pytest.raises(DataError, match="numbers of images and masks differ"):
        prepare("sunrgbd", source, tmp_path / "again")


# ---- lists

def test_lists_of_cityscapes(tmp_path, write_image):
    root = tmp_path / "cs"
    for split, city in (("train", "ulm"), ("val", "bonn")):
        write_image(root / "leftImg8bit" / split / city / f"{city}_0_1_leftImg8bit.png")
        mask = root / "gtFine" / split / city / f"{city}_0_1_gtFine_labelIds.png"
        mask.parent.mkdir(parents=True)
        cv2.imwrite(str(mask), np.full(SIZE, 7, np.uint8))
    done = prepare("cityscapes", root, tmp_path / "lists")
    # the test split is not unpacked
    assert (done.made, done.left_out) == (3, 1) and done.audit.dataset.name == "Cityscapes"
    line = "leftImg8bit/{0}/{1}/{1}_0_1_leftImg8bit.png gtFine/{0}/{1}/{1}_0_1_gtFine_labelIds.png\n"
    train, val = line.format("train", "ulm"), line.format("val", "bonn")
    assert (tmp_path / "lists" / "train.txt").read_text() == train
    assert (tmp_path / "lists" / "trainval.txt").read_text() == train + val


def test_lists_of_acdc(tmp_path, write_image):
    root = tmp_path / "acdc"
    for split in ("train", "val", "test"):
        for condition in ("fog", "snow"):
            write_image(root / "rgb_anon" / condition / split / "GP01" / "a_rgb_anon.png")
            mask = root / "gt" / condition / split / "GP01" / "a_gt_labelIds.png"
            mask.parent.mkdir(parents=True)
            cv2.imwrite(str(mask), np.full(SIZE, 7, np.uint8))
    prepare("acdc", root, tmp_path / "lists")
    assert (tmp_path / "lists" / "val.txt").read_text().splitlines() == [
        f"rgb_anon/{c}/val/GP01/a_rgb_anon.png gt/{c}/val/GP01/a_gt_labelIds.png" for c in ("fog", "snow")]
    assert (tmp_path / "lists" / "test.txt").read_text().splitlines() == [
        f"rgb_anon/{c}/test/GP01/a_rgb_anon.png" for c in ("fog", "snow")]


def test_json_is_read_as_utf8(coco, tmp_path):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["info"] = {"description": "Häuser 街"}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    assert prepare("coco", coco, tmp_path / "COCO").audit.passed
