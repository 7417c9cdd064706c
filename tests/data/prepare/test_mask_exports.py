"""Conversion of exports whose annotations are mask files: CVAT, Roboflow, VOC's layout, masks beside images."""
import json

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE, voc_palette
from mxnetseg.data.prepare import PREPARATIONS, prepare, recognise
from mxnetseg.errors import DataError, DataNotFoundError, UsageError
from mxnetseg.tools.main import main

from .conftest import SIZE

CVAT = {"background": (0, 128, 0), "cat": (10, 10, 128), "dog": (108, 0, 100)}  # not black, as CVAT's docs show


def png(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def names(target, split):
    dataset = get_dataset(str(target), split=split)
    return [dataset.pair(i).name for i in range(len(dataset))]


def check_masks(target, wanted):
    """Compare every mask of a result, and that there is no other."""
    found = {path.relative_to(target / "masks").as_posix()[:-4]: path for path in (target / "masks").rglob("*.png")}
    assert found.keys() == wanted.keys()
    for name, mask in wanted.items():
        assert np.array_equal(png(found[name]), mask), name


# ---- miniatures, written as the tools write them

@pytest.fixture
def cvat(tmp_path, write_image, ids, text):
    """Export of CVAT: train a, b; val c in a subfolder; d in no list."""
    source, masks = tmp_path / "cvat", {}
    for name in ("a", "b", "frames/c", "d"):
        write_image(source / "JPEGImages" / f"{name}.jpg")
        masks[name] = ids(3)
        rgb = np.array(list(CVAT.values()), np.uint8)[masks[name]]
        save(rgb, source / "SegmentationClass" / f"{name}.png")
        save(rgb[::-1], source / "SegmentationObject" / f"{name}.png")
    text(source / "labelmap.txt", "# label:color_rgb:parts:actions",
         *(f"{name}:{','.join(map(str, colour))}::" for name, colour in CVAT.items()))
    text(source / "ImageSets" / "Segmentation" / "Train.txt", "a", "b")
    text(source / "ImageSets" / "Segmentation" / "Validation.txt", "frames/c")
    return source, masks


@pytest.fixture
def roboflow(tmp_path, write_image, rng, text):
    """Export of Roboflow: two images in each split; the pixel values of the classes are 0, 2 and 5."""
    source, masks = tmp_path / "roboflow", {}
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for i in range(2):
            name = f"{folder}{i}_jpg.rf.{i}abc"
            write_image(source / folder / f"{name}.jpg")
            index = rng.integers(0, 3, SIZE)
            save(np.array([0, 2, 5], np.uint8)[index], source / folder / f"{name}_mask.png")
            masks[f"{split}/{name}"] = index
        text(source / folder / "_classes.csv", "Pixel Value, Class", "0, unlabeled", "2, cat", "5, dog")
    text(source / "README.dataset.txt", "Roboflow")
    return source, masks


@pytest.fixture
def voc(tmp_path, write_image, ids, palette_png, text):
    """VOC's layout below a folder: train a, b; val c; test e without a mask. Borders are 255."""
    source, masks = tmp_path / "voc", {}
    root = source / "VOCdevkit" / "VOC2031"
    for name in "abce":
        write_image(root / "JPEGImages" / f"{name}.jpg")
        if name != "e":
            mask = masks[name] = ids(3)
            mask[5] = IGNORE
            palette_png(root / "SegmentationClass" / f"{name}.png", mask)
    for split, members in {"train": "ab", "val": "c", "trainval": "abc", "test": "e"}.items():
        text(root / "ImageSets" / "Segmentation" / f"{split}.txt", *members)
    text(source / "classes.txt", "background", "cat", "dog")
    return source, masks


@pytest.fixture
def paired(tmp_path, write_image, ids, text):
    """Four images with masks of ids beside them."""
    source, masks = tmp_path / "paired", {}
    for name in ("a", "b", "sub/c", "sub/d"):
        write_image(source / f"{name}.jpg")
        masks[name] = ids(3)
        save(masks[name], source / f"{name}_mask.png")
    text(source / "classes.txt", "ground", "cat", "dog")
    return source, masks


@pytest.fixture
def painted(tmp_path, write_image, ids, text):
    source = tmp_path / "painted"
    for name in "ab":
        write_image(source / "images" / f"{name}.jpg")
        save(np.array([(16, 32, 48), (0, 255, 0)], np.uint8)[ids(2)], source / "masks" / f"{name}.png")
    text(source / "classes.txt", "ground #102030", "cat #00ff00")
    return source


@pytest.fixture
def labelme(tmp_path, write_image, text):
    source = tmp_path / "labelme"
    for name in "ab":
        write_image(source / f"{name}.png")
        text(source / f"{name}.json", {
            "version": "5.5.0", "flags": {}, "imagePath": f"{name}.png", "imageData": None, "imageHeight": SIZE[0],
            "imageWidth": SIZE[1], "shapes": [{"label": "cat", "shape_type": "polygon", "flags": {}, "group_id": None,
                                               "points": [[1, 1], [9, 1], [1, 9]]}]})
    return source


@pytest.fixture
def coco(tmp_path, write_image, text):
    source = tmp_path / "coco"
    for i in range(2):
        write_image(source / "images" / f"{i}.jpg")
    text(source / "annotations" / "instances_default.json", {
        "info": {}, "licenses": [], "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in range(2)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 32, "bbox": [1, 1, 8, 8],
                         "segmentation": [[1, 1, 9, 1, 1, 9]]} for i in range(2)]})
    return source


# ---- CVAT

def test_cvat(cvat, tmp_path):
    source, masks = cvat
    done = prepare("cvat-masks", source, tmp_path / "out")
    assert done.audit.passed and done.notes == ("left out, images in no list of a split: 1",)
    check_masks(tmp_path / "out", {f"{split}/{name}": masks[name] for split, name in
                                   (("train", "a"), ("train", "b"), ("val", "frames/c"))})
    assert (tmp_path / "out" / "classes.txt").read_text() == "background #008000\ncat #0a0a80\ndog #6c0064\n"
    assert names(tmp_path / "out", "train") == ["train/a", "train/b"] and names(tmp_path / "out", "val") == [
        "val/frames/c"]
    again = prepare("cvat-masks", source, tmp_path / "out")
    assert (again.made, again.kept) == (0, 6)


def test_cvat_with_one_list_is_not_split(cvat, tmp_path, text):
    source, masks = cvat
    for path in (source / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    text(source / "ImageSets" / "Segmentation" / "default.txt", *masks)
    assert prepare("cvat-masks", source, tmp_path / "out").audit.passed
    check_masks(tmp_path / "out", masks)
    assert sorted(names(tmp_path / "out", "train") + names(tmp_path / "out", "val")) == sorted(masks)


def test_cvat_palette_masks_and_ignored_pixels(cvat, tmp_path, text):
    source, masks = cvat
    text(source / "labelmap.txt", "cat:10,10,128::", "ignored:0,0,0::", "background:0,128,0:head,body:jump",
         "dog:108,0,100::")
    for path in (source / "SegmentationClass").glob("?.png"):
        rgb = np.array(Image.open(path))
        rgb[3] = 0
        Image.fromarray(rgb).quantize(8).save(path)  # the palette has an order of its own
    prepare("cvat-masks", source, tmp_path / "out")
    wanted = np.array([1, 0, 2], np.uint8)[masks["a"]]
    wanted[3] = IGNORE
    assert np.array_equal(png(tmp_path / "out" / "masks" / "train" / "a.png"), wanted)


def test_cvat_grey_masks_hold_the_numbers_of_the_lines(cvat, tmp_path):
    source, masks = cvat
    for name, mask in masks.items():
        save(mask, source / "SegmentationClass" / f"{name}.png")
    prepare("cvat-masks", source, tmp_path / "out")
    assert np.array_equal(png(tmp_path / "out" / "masks" / "train" / "a.png"), masks["a"])


def test_cvat_classes_lose_grey_colours_that_mean_other_ids(cvat, tmp_path, text):
    """A mask of id 0 alone would else be read as the black class by the data set."""
    source, masks = cvat
    text(source / "labelmap.txt", "cat:10,10,128::", "dog:108,0,100::", "background:0,0,0::")
    for name, mask in masks.items():
        mask[:] = np.where(mask == 2, 0, mask)  # 0 and 1: cat and dog
        save(np.array([(10, 10, 128), (108, 0, 100)], np.uint8)[mask], source / "SegmentationClass" / f"{name}.png")
    assert prepare("cvat-masks", source, tmp_path / "out").audit.passed
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\nbackground\n"
    check_masks(tmp_path / "out", {f"{split}/{name}": masks[name] for split, name in
                                   (("train", "a"), ("train", "b"), ("val", "frames/c"))})


@pytest.mark.parametrize("lines, words", [
    (["cat:10,10::"], "three numbers"),
    (["cat:10,10,256::"], "three numbers"),
    (["cat::"], "three numbers"),
    (["cat:1,2,3::", "dog:1,2,3::"], "no earlier line"),
    (["cat:1,2,3::", "cat:1,2,4::"], "no earlier line"),
    (["a:b:1,2,3::"], "without ':'"),
    (["a:b:1,2,3"], "three numbers"),
    (["cat:1,2,3:::"], "without ':'"),
    ([":1,2,3::"], "empty"),
    (["# only a comment"], "no label"),
])
def test_cvat_wrong_label_maps(cvat, tmp_path, text, lines, words):
    source, _ = cvat
    text(source / "labelmap.txt", *lines)
    with pytest.raises(DataError, match=words) as error:
        prepare("cvat-masks", source, tmp_path / "out")
    assert "labelmap.txt" in str(error.value.where) and not (tmp_path / "out").exists()


def test_cvat_colours_without_a_label(cvat, tmp_path):
    source, _ = cvat
    path = source / "SegmentationClass" / "a.png"
    for colour, words in (((0, 0, 0), "black pixels"), ((9, 9, 9), "belong to no class")):
        rgb = np.array(Image.open(path))
        rgb[0, 0] = colour
        save(rgb, path)
        with pytest.raises(DataError, match=words) as error:
            prepare("cvat-masks", source, tmp_path / "out")
        assert error.value.where == path


def test_cvat_without_images(cvat, tmp_path):
    source, _ = cvat
    (source / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(DataNotFoundError, match="without their images") as error:
        prepare("auto", source, tmp_path / "out")
    assert "Save images" in error.value.fix


def test_lists_with_unsafe_and_missing_names(cvat, tmp_path, text):
    source, _ = cvat
    for line, words in (("../a", "outside the source"), ("/etc/passwd", "outside the source"), ("x", "missing image")):
        text(source / "ImageSets" / "Segmentation" / "Train.txt", "a", line)
        with pytest.raises(DataError, match=words) as error:
            prepare("cvat-masks", source, tmp_path / "out")
        assert error.value.received == line
    text(source / "ImageSets" / "Segmentation" / "Train.txt", "a", "frames/c")
    with pytest.raises(DataError, match="in two splits"):
        prepare("cvat-masks", source, tmp_path / "out")


# ---- Roboflow

def test_roboflow(roboflow, tmp_path):
    source, masks = roboflow
    done = prepare("roboflow-masks", source, tmp_path / "out")
    assert done.audit.passed and not done.notes
    check_masks(tmp_path / "out", masks)
    assert get_dataset(str(tmp_path / "out")).classes == ("unlabeled", "cat", "dog")
    for split in ("train", "val", "test"):
        assert names(tmp_path / "out", split) == [name for name in masks if name.startswith(split)]


def test_roboflow_with_ids(roboflow, tmp_path):
    source, masks = roboflow
    prepare("roboflow-masks", source, tmp_path / "out", ids="0:255,2:0,5:1")
    check_masks(tmp_path / "out", {name: np.array([255, 0, 1])[mask] for name, mask in masks.items()})
    assert get_dataset(str(tmp_path / "out")).classes == ("cat", "dog")
    prepare("roboflow-masks", source, tmp_path / "joined", ids={0: 0, 2: 1, 5: 1})
    assert get_dataset(str(tmp_path / "joined")).classes == ("unlabeled", "cat+dog")
    with pytest.raises(DataError, match="lists no id") as error:
        prepare("roboflow-masks", source, tmp_path / "other", ids="0:0,2:1")
    assert error.value.received == "5: dog" and "5:255" in error.value.fix
    with pytest.raises(DataError, match="gaps"):
        prepare("roboflow-masks", source, tmp_path / "other", ids="0:0,2:2,5:3")


@pytest.mark.parametrize("lines, words", [
    (["0, unlabeled", "2, cat"], "does not list"),
    (["0, unlabeled", "2, cat", "300, dog"], "not a pixel value"),
    (["0, unlabeled", "2, cat", "2, dog"], "used once"),
    (["0, unlabeled", "2, cat", "5, #dog"], "name of a class"),
    (["0, unlabeled", "2, cat", "5, fox"], "different classes"),
    (["0, unlabeled", "2, cat", "5, dog", "255, x"], "also means ignore"),
    (["0, unlabeled", "2, cat", "5, dog", "6, cat"], "the same class"),
])
def test_roboflow_wrong_tables(roboflow, tmp_path, text, lines, words):
    source, _ = roboflow
    for folder in ("train", "valid", "test") if words != "different classes" else ("valid",):
        text(source / folder / "_classes.csv", "Pixel Value, Class", *lines)
    with pytest.raises(DataError, match=words):
        prepare("roboflow-masks", source, tmp_path / "out")


# ---- VOC's layout

def test_voc_folder(voc, tmp_path):
    source, masks = voc
    done = prepare("voc-folder", source, tmp_path / "out")
    assert done.audit.passed and not done.notes
    check_masks(tmp_path / "out", {f"{'val' if name == 'c' else 'train'}/{name}": mask for name, mask in masks.items()})
    assert names(tmp_path / "out", "test") == ["test/e"]
    assert get_dataset(str(tmp_path / "out"), split="test").mask_path(0) is None


def test_voc_folder_of_labelme2voc(tmp_path, write_image, ids, palette_png, text):
    """labelme2voc writes SegmentationClassPNG, class_names.txt, and no lists."""
    source, masks = tmp_path / "labelme2voc", {}
    for name in ("a", "b", "c"):
        write_image(source / "JPEGImages" / f"{name}.jpg")
        masks[name] = ids(2)
        palette_png(source / "SegmentationClassPNG" / f"{name}.png", masks[name])
    (source / "SegmentationClass").mkdir()
    np.save(source / "SegmentationClass" / "a.npy", masks["a"])
    text(source / "class_names.txt", "_background_", "cat")
    assert recognise(source).name == "voc-folder"
    assert prepare("auto", source, tmp_path / "out").audit.passed
    check_masks(tmp_path / "out", masks)


def test_voc_folder_without_names_of_classes(voc, tmp_path):
    source, _ = voc
    (source / "classes.txt").unlink()
    with pytest.raises(DataNotFoundError, match="4 values; a draft follows") as error:
        prepare("voc-folder", source, tmp_path / "out")
    assert "class0 #000000\nclass1 #800000\nclass2 #008000" in error.value.fix
    (source / "classes.txt").write_text("\n".join(error.value.fix.splitlines()[1:]))
    assert prepare("voc-folder", source, tmp_path / "out").audit.passed  # the fix works, with VOC's colours


def test_voc_folder_with_a_palette_of_other_classes(voc, tmp_path, text, palette_png):
    """The palette gives value 1 the colour of class 2: two readings."""
    source, masks = voc
    for name, mask in masks.items():
        mask[5] = 0  # the colour of 255 belongs to no class, so only the values could be read
        palette_png(source / "VOCdevkit" / "VOC2031" / "SegmentationClass" / f"{name}.png", mask)
    colours = [f"#{bytes(c).hex()}" for c in voc_palette(3)]
    text(source / "classes.txt", f"background {colours[0]}", f"cat {colours[2]}", f"dog {colours[1]}")
    with pytest.raises(DataError, match="two ways") as error:
        prepare("voc-folder", source, tmp_path / "out")
    assert "class 1 by its value, class 2 by its colour" in error.value.received
    option = error.value.fix.splitlines()[0].rpartition("--ids ")[2]
    prepare("voc-folder", source, tmp_path / "out", ids=option)
    assert np.array_equal(png(tmp_path / "out" / "masks" / "train" / "a.png"), masks["a"])


def test_voc_folder_two_data_sets(voc, tmp_path, write_image, ids, palette_png):
    source, _ = voc
    palette_png(source / "other" / "SegmentationClass" / "a.png", ids(2))
    write_image(source / "other" / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match="several data sets"):
        prepare("voc-folder", source, tmp_path / "out")


# ---- masks beside images

@pytest.mark.parametrize("end", ["_mask", "_label", "_seg"])
def test_paired_masks(paired, tmp_path, end):
    source, masks = paired
    for path in list(source.rglob("*_mask.png")):
        path.rename(path.with_name(path.name.replace("_mask", end)))
    done = prepare("paired-masks", source, tmp_path / "out")
    assert done.audit.passed and done.made == 8
    check_masks(tmp_path / "out", masks)
    assert get_dataset(str(tmp_path / "out")).classes == ("ground", "cat", "dog")


def test_paired_masks_in_folders_of_splits(paired, tmp_path):
    source, masks = paired
    (source / "sub").rename(source / "valid")
    (source / "train").mkdir()
    for path in list(source.glob("[ab]*")):
        path.rename(source / "train" / path.name)
    prepare("paired-masks", source, tmp_path / "out")
    check_masks(tmp_path / "out", {f"{'train' if name in 'ab' else 'val'}/{name[-1]}": mask
                                   for name, mask in masks.items()})
    assert names(tmp_path / "out", "val") == ["val/c", "val/d"]
    (source / "valid").rename(source / "test")
    with pytest.raises(DataError, match="none for validation"):
        prepare("paired-masks", source, tmp_path / "other")
    (source / "test").rename(source / "sub")
    with pytest.raises(DataError, match="others to none"):
        prepare("paired-masks", source, tmp_path / "other")


def test_paired_masks_in_colours(paired, tmp_path, text):
    source, masks = paired
    text(source / "classes.txt", "ground #000000", "cat #00ff00", "dog #0000ff")
    colours = np.array([(0, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    for name in list(masks)[:3]:  # the last mask stays in grey: its values are ids
        save(colours[masks[name]], source / f"{name}_mask.png")
    prepare("paired-masks", source, tmp_path / "out")
    check_masks(tmp_path / "out", masks)


def binary(source, masks):
    for name, mask in masks.items():
        save(np.where(mask > 0, 255, 0).astype(np.uint8), source / f"{name}_mask.png")
    return {name: (mask > 0).astype(np.uint8) for name, mask in masks.items()}


def test_paired_masks_of_0_and_255_can_be_read_in_two_ways(paired, tmp_path, text):
    source, masks = paired
    wanted = binary(source, masks)
    text(source / "classes.txt", "ground", "cat")
    with pytest.raises(DataError, match="two ways") as error:
        prepare("paired-masks", source, tmp_path / "out")
    assert "as class ids: 0 = ground, 255 = ignored" in error.value.received
    assert "as shades of grey: 0 = ground, 255 = cat" in error.value.received
    by_id, by_shade = (line.rpartition("--ids ")[2] for line in error.value.fix.splitlines()[1:])
    assert prepare("paired-masks", source, tmp_path / "out", ids=by_shade).audit.passed
    check_masks(tmp_path / "out", wanted)
    prepare("paired-masks", source, tmp_path / "ids", ids=by_id)
    check_masks(tmp_path / "ids", {name: np.where(mask, IGNORE, 0) for name, mask in wanted.items()})


def test_paired_masks_of_0_and_255_with_black_and_white_classes(paired, tmp_path, text):
    source, masks = paired
    wanted = binary(source, masks)
    text(source / "classes.txt", "ground #000000", "cat #ffffff")
    prepare("paired-masks", source, tmp_path / "out")
    check_masks(tmp_path / "out", wanted)


def test_paired_masks_of_0_and_255_without_classes(paired, tmp_path):
    source, masks = paired
    binary(source, masks)
    (source / "classes.txt").unlink()
    with pytest.raises(DataNotFoundError, match="a draft follows") as error:
        prepare("paired-masks", source, tmp_path / "out")
    assert "#000000" in error.value.fix and "#ffffff" in error.value.fix


def test_paired_masks_in_greys_that_are_also_ids(paired, tmp_path, text):
    source, _ = paired
    text(source / "classes.txt", "ground #010101", "cat #000000", "dog #020202")
    with pytest.raises(DataError, match="two ways") as error:
        prepare("paired-masks", source, tmp_path / "out")
    assert error.value.received.splitlines()[1:] == [
        "as class ids: 0 = ground, 1 = cat, 2 = dog", "as shades of grey: 0 = cat, 1 = ground, 2 = dog"]
    assert "--ids 0:1,1:0,2:2" in error.value.fix


def test_paired_masks_of_other_values(paired, tmp_path):
    source, masks = paired
    for shades, option in (((0, 128, 255), "--ids 0:0,128:1,255:2"), ((1, 2, 3), "--ids 1:0,2:1,3:2"),
                           ((0, 85, 170), "--ids 0:0,85:1,170:2")):
        for name, mask in masks.items():
            save(np.array(shades, np.uint8)[mask], source / f"{name}_mask.png")
        with pytest.raises(DataError, match="not class ids") as error:
            prepare("paired-masks", source, tmp_path / "out")
        assert option in error.value.fix and "4 masks; the 3 classes" in error.value.received
        prepare("paired-masks", source, tmp_path / str(shades[1]), ids=option.split()[1])
        check_masks(tmp_path / str(shades[1]), masks)


def test_paired_masks_bad_input(paired, tmp_path, caplog):
    source, _ = paired
    Image.open(source / "a_mask.png").save(source / "a_seg.png")
    with pytest.raises(DataError, match="two masks"):
        prepare("paired-masks", source, tmp_path / "out")
    (source / "a_seg.png").unlink()
    Image.open(source / "a_mask.png").save(source / "a_label.jpg")
    with pytest.raises(DataError, match="JPEG"):
        prepare("paired-masks", source, tmp_path / "out")
    (source / "a_label.jpg").unlink()
    (source / "a.jpg").unlink()
    (source / "b_mask.png").unlink()
    done = prepare("paired-masks", source, tmp_path / "out")
    assert done.notes == ("left out, masks without an image: 1", "left out, images without a mask: 1")
    assert "a_mask.png" in caplog.text
    (source / "sub" / "c_mask.png").write_bytes((source / "sub" / "c_mask.png").read_bytes()[:99])
    with pytest.raises(DataError, match="decoded") as error:
        prepare("paired-masks", source, tmp_path / "other")
    assert error.value.where == source / "sub" / "c_mask.png" and not (tmp_path / "other").exists()


# ---- --ids and --reduce-zero-label

def test_reduce_zero_label(paired, tmp_path, text):
    source, masks = paired
    for name, mask in masks.items():
        mask[0, 0] = IGNORE
        save(mask, source / f"{name}_mask.png")
    text(source / "classes.txt", "cat", "dog")
    with pytest.raises(DataError, match="not class ids") as error:
        prepare("paired-masks", source, tmp_path / "out")
    assert "--reduce-zero-label" in error.value.fix
    prepare("paired-masks", source, tmp_path / "out", reduce_zero_label=True)
    table = np.array([IGNORE, 0, 1, *[0] * 252, IGNORE], np.uint8)
    check_masks(tmp_path / "out", {name: table[mask] for name, mask in masks.items()})


def test_other_ids_make_the_masks_again(paired, tmp_path):
    source, masks = paired
    prepare("paired-masks", source, tmp_path / "out")
    done = prepare("paired-masks", source, tmp_path / "out", ids="0:2,1:1,2:0")
    assert done.made == 4 and len(done.remade) == 4
    check_masks(tmp_path / "out", {name: 2 - mask for name, mask in masks.items()})


def test_ids_of_masks_in_a_folder(painted, tmp_path, text):
    text(painted / "classes.txt", "cat", "dog")
    mask = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 3
    for name in "ab":
        save(mask, painted / "masks" / f"{name}.png")
    prepare("colours", painted, tmp_path / "out", ids="1:0,2:1,0:255")
    check_masks(tmp_path / "out", dict.fromkeys("ab", np.array([255, 0, 1], np.uint8)[mask]))


@pytest.mark.parametrize("arguments, words", [
    ({"ids": "1:0,x"}, "VALUE:ID"),
    ({"ids": "1:256"}, "VALUE:ID"),
    ({"ids": "-1:0"}, "VALUE:ID"),
    ({"ids": ""}, "VALUE:ID"),
    ({"ids": {}}, "VALUE:ID"),
    ({"ids": "1:0,1:1"}, "two ids"),
    ({"ids": "0:0", "reduce_zero_label": True}, "exclude each other"),
    ({"ids": "0:0,1:1,2:3"}, "has no class"),
])
def test_wrong_options(paired, tmp_path, arguments, words):
    with pytest.raises(UsageError, match=words):
        prepare("paired-masks", paired[0], tmp_path / "out", **arguments)


def test_values_that_ids_do_not_list(paired, tmp_path):
    with pytest.raises(DataError, match="does not list") as error:
        prepare("paired-masks", paired[0], tmp_path / "out", ids="0:0,1:1")
    assert error.value.received.startswith("2 (") and "2:255" in error.value.fix


def test_preparations_by_colour_take_no_ids(cvat, labelme, tmp_path):
    for name, source in (("cvat-masks", cvat[0]), ("labelme", labelme)):
        with pytest.raises(UsageError, match="takes no ids"):
            prepare(name, source, tmp_path / "out", ids="0:1")
        with pytest.raises(UsageError) as error:
            prepare(name, source, tmp_path / "out", reduce_zero_label=True)
        assert "--reduce-zero-label" in error.value.fix


# ---- auto

MINIATURES = {"cvat": "cvat-masks", "roboflow": "roboflow-masks", "voc": "voc-folder", "paired": "paired-masks",
              "painted": "colours", "labelme": "labelme", "coco": "coco-json"}


@pytest.mark.parametrize("fixture, name", MINIATURES.items())
def test_exactly_one_preparation_recognises_each_miniature(fixture, name, request, tmp_path):
    source = request.getfixturevalue(fixture)
    source = source[0] if isinstance(source, tuple) else source
    evidence = {other: PREPARATIONS.get(other).recognises(source) for other in PREPARATIONS.names()}
    assert [other for other, line in evidence.items() if line] == [name]
    assert "\n" not in evidence[name] and recognise(source) == (name, evidence[name])
    prepare("auto", source, tmp_path / "auto")
    prepare(name, source, tmp_path / "named")
    files = {path.relative_to(tmp_path / "auto"): path.read_bytes() for path in (tmp_path / "auto").rglob("*")
             if path.is_file() and path.name[0] != "."}
    assert files and files == {path.relative_to(tmp_path / "named"): path.read_bytes()
                               for path in (tmp_path / "named").rglob("*") if path.is_file() and path.name[0] != "."}
    stamp = json.loads((tmp_path / "auto" / ".mxnetseg-prepare.json").read_text())
    assert stamp["preparation"] == name  # so that the named preparation may update it


def test_the_command_prints_what_it_recognised(cvat, tmp_path, capsys):
    source, _ = cvat
    assert main(["prepare", "auto", str(source), str(tmp_path / "out"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("recognised cvat-masks: labelmap.txt beside SegmentationClass with 3 masks")
    assert f"mxnetseg prepare cvat-masks {source} {tmp_path / 'out'}\n" in out and "6 files made" in out


def test_auto_recognises_masks_of_0_and_255_in_a_folder(painted, tmp_path, ids, text):
    text(painted / "classes.txt", "ground", "cat")
    for name in "ab":
        save(ids(2) * 255, painted / "masks" / f"{name}.png")
    assert recognise(painted) == ("colours", f"2 masks in {painted / 'masks'}, of 0 and 255")
    prepare("auto", painted, tmp_path / "out", ids="0:0,255:1")
    assert set(np.unique(png(tmp_path / "out" / "masks" / "a.png"))) == {0, 1}


def test_auto_passes_options_on(paired, tmp_path, capsys):
    source, masks = paired
    assert main(["prepare", "auto", str(source), str(tmp_path / "out"), "--ids", "0:2,1:1,2:0", "--quiet"]) == 0
    check_masks(tmp_path / "out", {name: 2 - mask for name, mask in masks.items()})
    with pytest.raises(UsageError, match="'paired-masks' takes no boxes"):
        prepare("auto", source, tmp_path / "out", boxes="fill")


def test_auto_refuses_a_source_of_two_formats(labelme, tmp_path, ids):
    for name in "ab":
        save(ids(2), labelme / f"{name}_mask.png")
    with pytest.raises(UsageError, match="fits 2 formats") as error:
        prepare("auto", labelme, tmp_path / "out")
    for name in ("labelme", "paired-masks"):
        assert f"{name}: " in error.value.received
        assert f"mxnetseg prepare {name} {labelme} DST" in error.value.fix
    assert not (tmp_path / "out").exists()


def test_auto_lists_what_it_looked_for(tmp_path, write_image, ids, text):
    source = tmp_path / "own"
    for name in "ab":
        write_image(source / "images" / f"{name}.jpg")
        save(ids(2), source / "masks" / f"{name}.png")
    text(source / "classes.txt", "ground", "cat")
    with pytest.raises(DataNotFoundError, match="no preparation recognises") as error:
        prepare("auto", source, tmp_path / "out")
    assert error.value.received == "2 .jpg, 2 .png, 1 .txt"
    assert all(f"\n{name}: " in error.value.fix for name in MINIATURES.values())
    assert f"mxnetseg check-data {source}" in error.value.fix
    assert "nyuv2" not in error.value.fix
    with pytest.raises(DataNotFoundError, match="no such source"):
        recognise(tmp_path / "nowhere")


def test_auto_shows_why_a_damaged_export_is_not_recognised(paired, tmp_path):
    source, _ = paired
    Image.open(source / "a_mask.png").save(source / "a_seg.png")
    with pytest.raises(DataNotFoundError) as error:
        recognise(source)
    assert "paired-masks: an image has two masks" in error.value.received
