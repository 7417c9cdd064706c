"""Exports in COCO's format, with layouts and damage of real exports."""
import json
import logging
import os

import numpy as np
import pytest
from mutations import dump, mutate_json
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError, DataNotFoundError, UsageError
from mxnetseg.tools.main import main

from .conftest import SIZE

SQUARE = [[4, 4, 14, 4, 14, 14, 4, 14]]
ROBOFLOW = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "pets"},
            {"id": 2, "name": "dog", "supercategory": "pets"}]


@pytest.fixture
def export(write_image, text):
    """``export(json, folder, names)`` writes images, each with a cat, and a dog in front of it."""
    def write(path, folder, names, size=SIZE, prefix=""):
        for name in names:
            write_image(folder / name, size)
        dog = [[8, 8, 12, 8, 12, 12, 8, 12]]
        return text(path, {
            "info": {}, "licenses": [], "categories": ROBOFLOW,
            "images": [{"id": i, "file_name": prefix + n, "height": size[0], "width": size[1]}
                       for i, n in enumerate(names)],
            "annotations": [{"id": 2 * i + k, "image_id": i, "category_id": 1 + k, "segmentation": outline,
                             "bbox": [4, 4, 10, 10], "area": 100, "iscrowd": 0}
                            for i in range(len(names)) for k, outline in enumerate((SQUARE, dog))]})
    return write


@pytest.fixture
def roboflow(tmp_path, export):
    """Export of Roboflow: the images and _annotations.coco.json in train/, valid/ and test/."""
    source = tmp_path / "pets-3"
    for folder, names in (("train", ["a_jpg.rf.1.jpg", "a_jpg.rf.2.jpg", "b_jpg.rf.1.jpg"]),
                          ("valid", ["c_jpg.rf.1.jpg"]), ("test", ["d_jpg.rf.1.jpg"])):
        export(source / folder / "_annotations.coco.json", source / folder, names)
    return source


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def images(target):
    return sorted(path.relative_to(target / "images").as_posix() for path in (target / "images").rglob("*.*"))


def mask(path):
    with Image.open(path) as image:
        return np.array(image)


# ---- splits

def test_the_splits_of_roboflow_are_kept(roboflow, tmp_path, caplog):
    target = tmp_path / "out"
    with caplog.at_level(logging.INFO, "mxnetseg"):
        assert prepare("coco-json", roboflow, target).audit.passed
    assert images(target) == ["test/d_jpg.rf.1.jpg", "train/a_jpg.rf.1.jpg", "train/a_jpg.rf.2.jpg",
                              "train/b_jpg.rf.1.jpg", "val/c_jpg.rf.1.jpg"]
    assert [len(get_dataset(str(target), split=split)) for split in ("train", "val", "test")] == [3, 1, 1]
    assert get_dataset(str(target)).classes == ("background", "cat", "dog")  # pets is the project, not a class
    for line in ("split train: 3 images: 3 of train/_annotations.coco.json", "split val: 1 images: 1 of valid/_anno",
                 "split test: 1 images: 1 of test/_annotations.coco.json", "not made a class, since"):
        assert line in caplog.text
    found = mask(target / "masks" / "val" / "c_jpg.rf.1.png")
    assert found[5, 5] == 1 and found[9, 9] == 2 and found[0, 0] == 0


def test_a_supercategory_is_a_class_if_it_is_annotated(roboflow, tmp_path):
    edit(roboflow / "test" / "_annotations.coco.json", lambda c: c["annotations"][0].update(category_id=0))
    prepare("coco-json", roboflow, tmp_path / "out")
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "pets", "cat", "dog")


def test_a_split_must_be_a_whole_word(tmp_path, export, caplog):
    source = tmp_path / "source"
    export(source / "latest.json", source / "latest", ["a.jpg", "b.jpg"])
    export(source / "restrained.json", source / "restrained", ["c.jpg"])
    with caplog.at_level(logging.INFO, "mxnetseg"):
        prepare("coco-json", source, tmp_path / "out")
    assert images(tmp_path / "out") == ["a.jpg", "b.jpg", "c.jpg"]
    assert "no name means val or test" in caplog.text and "2 of latest.json, 1 of restrained.json" in caplog.text


@pytest.mark.parametrize("annotations, folder", [
    ("annotations/instances_{}.json", "images/{}"), ("annotations/instances_{}2017.json", "{}2017"),
    ("{}.json", "{}"), ("annotations/{}.json", "images"), ("{0}/labels.json", "{0}/images"),
])
def test_the_layouts_of_other_tools(tmp_path, export, annotations, folder):
    source = tmp_path / "source"
    for split in ("train", "val"):
        export(source / annotations.format(split), source / folder.format(split), [f"{split}-1.jpg"])
    prepare("coco-json", source, tmp_path / "out")
    assert images(tmp_path / "out") == ["train/train-1.jpg", "val/val-1.jpg"]


@pytest.mark.parametrize("annotations, folder", [("annotations/instances_{}.json", "images/{}"), ("{0}/x.json", "{0}")])
def test_one_name_in_two_splits(tmp_path, export, annotations, folder):
    """CVAT names the first frame of every task frame_000000.png."""
    source = tmp_path / "source"
    for split in ("train", "val", "test"):
        export(source / annotations.format(split), source / folder.format(split), ["frame_0.png"])
    prepare("coco-json", source, tmp_path / "out")
    for split in ("train", "val", "test"):
        path = tmp_path / "out" / "images" / split / "frame_0.png"
        assert path.read_bytes() == (source / folder.format(split) / "frame_0.png").read_bytes()


def test_one_file_whose_images_are_in_folders_of_splits(tmp_path, export):
    source = tmp_path / "source"
    for folder in ("train", "valid"):
        export(source / "all.json", source / folder, [f"{folder}.jpg"])
    edit(source / "all.json", lambda c: c["images"].append({**c["images"][0], "id": 5, "file_name": "train/train.jpg"}))
    prepare("coco-json", source, tmp_path / "out")
    assert images(tmp_path / "out") == ["train/train.jpg", "val/valid.jpg"]


@pytest.mark.parametrize("names, words", [
    (("train/val.json", "test/x.json"), ("'train' means train", "'val' means val")),
    (("train.json", "others.json"), ("0.jpg: train", "1.jpg: no split")),
])
def test_ambiguous_splits_are_refused(tmp_path, export, names, words):
    source = tmp_path / "source"
    for i, name in enumerate(names):
        export(source / name, source / "images", [f"{i}.jpg"])
    with pytest.raises(DataError, match="split") as error:
        prepare("coco-json", source, tmp_path / "out")
    assert all(word in error.value.received for word in words) and not (tmp_path / "out").exists()


def test_an_image_in_two_splits_is_refused(tmp_path, export):
    source = tmp_path / "source"
    for split in ("train", "val"):
        export(source / f"{split}.json", source / "images", ["a.jpg"])
    with pytest.raises(DataError, match="in two splits") as error:
        prepare("coco-json", source, tmp_path / "out")
    assert error.value.where == f"{source / 'train.json'}\n{source / 'val.json'}"
    assert error.value.received == "images/a.jpg: train and val"


def test_an_image_of_another_split_does_not_replace_a_missing_image(roboflow, tmp_path):
    (roboflow / "valid" / "c_jpg.rf.1.jpg").rename(roboflow / "train" / "c_jpg.rf.1.jpg")
    with pytest.raises(DataError, match="different splits") as error:
        prepare("coco-json", roboflow, tmp_path / "out")
    assert error.value.received == "valid/_annotations.coco.json means val\ntrain/c_jpg.rf.1.jpg means train"


def test_copies_of_one_photo_in_two_splits_are_reported(roboflow, tmp_path, export, caplog):
    export(roboflow / "valid" / "_annotations.coco.json", roboflow / "valid", ["a_jpg.rf.9.jpg", "c_jpg.rf.1.jpg"])
    prepare("coco-json", roboflow, tmp_path / "out")
    assert "1 photos have augmented copies in several splits" in caplog.text and "a_jpg" in caplog.text


def test_a_lone_training_split_is_not_kept_as_a_split(roboflow, tmp_path):
    """Roboflow writes only train/ if the user made no splits; a part is then held out."""
    for folder in ("valid", "test"):
        for path in (roboflow / folder).iterdir():
            path.unlink()
    edit(roboflow / "train" / "_annotations.coco.json",
         lambda c: [image.update(file_name=f"../train/{image['file_name']}") for image in c["images"]])
    prepare("coco-json", roboflow, tmp_path / "out")
    assert images(tmp_path / "out") == ["a_jpg.rf.1.jpg", "a_jpg.rf.2.jpg", "b_jpg.rf.1.jpg"]


# ---- objects without an outline

@pytest.fixture
def boxed(roboflow):
    """The dog of the only validation image has a box, [4, 4, 10, 10], and no outline."""
    path = roboflow / "valid" / "_annotations.coco.json"
    edit(path, lambda c: c["annotations"][1].update(segmentation=[], bbox=[2, 2, 8, 4]))
    return roboflow


@pytest.mark.parametrize("absent", [[], None, "", [[]], {}, "missing"])
def test_an_object_without_an_outline_is_refused(boxed, tmp_path, absent):
    path = boxed / "valid" / "_annotations.coco.json"
    edit(path, lambda c: c["annotations"][1].pop("segmentation") if absent == "missing" else
         c["annotations"][1].update(segmentation=absent))
    with pytest.raises(DataError, match="1 of 10 objects have a box but no outline") as error:
        prepare("coco-json", boxed, tmp_path / "out")
    assert error.value.where == path and error.value.received.startswith("annotations[1]: bbox [2, 2, 8, 4]")
    assert "--boxes ignore" in error.value.fix and "--boxes fill" in error.value.fix
    assert not (tmp_path / "out").exists()


def test_boxes_that_are_ignored(boxed, tmp_path):
    assert main(["prepare", "coco-json", str(boxed), str(tmp_path / "out"), "--boxes", "ignore", "--quiet"]) == 0
    wanted = np.zeros(SIZE, np.uint8)
    wanted[2:6, 2:10] = IGNORE
    wanted[4:14, 4:14] = 1  # outlines win over ignored boxes
    assert np.array_equal(mask(tmp_path / "out" / "masks" / "val" / "c_jpg.rf.1.png"), wanted)


def test_boxes_that_are_filled(boxed, tmp_path):
    prepare("coco-json", boxed, tmp_path / "out", boxes="fill")
    wanted = np.zeros(SIZE, np.uint8)
    wanted[4:14, 4:14] = 1
    wanted[2:6, 2:10] = 2  # the smaller object is drawn over the larger one
    assert np.array_equal(mask(tmp_path / "out" / "masks" / "val" / "c_jpg.rf.1.png"), wanted)


def test_boxes_takes_two_values(boxed, tmp_path):
    with pytest.raises(UsageError, match="boxes must be"):
        prepare("coco-json", boxed, tmp_path / "out", boxes="paint")
    with pytest.raises(UsageError, match="takes no boxes"):
        prepare("labelme", boxed, tmp_path / "out", boxes="fill")


# ---- parts that are left out are counted

@pytest.mark.parametrize("change, words", [
    (lambda c: c["annotations"].append({**c["annotations"][0], "id": 9, "image_id": 77}),
     "1 of 3 annotations belong to no image of the file and are left out, the first is annotations[2].image_id 77"),
    (lambda c: c["annotations"][0].update(segmentation=[], bbox=[3, 3, 0, 9]),
     "1 of 2 annotations have neither an outline nor a box with an area and are left out, the first is annotations[0]"),
    (lambda c: c["annotations"][1].update(segmentation=[[40, 1, 50, 1, 50, 9]]),
     "1 of 2 annotations are outside their image and are left out, the first is annotations[1]"),
    (lambda c: c["annotations"][1].update(id=0), "1 ids are given to several annotations, the first is 0"),
    (lambda c: c.update(images=c["images"][:0] + [{**c["images"][0], "id": 0}]), ""),
])
def test_annotations_that_are_left_out_are_counted(roboflow, tmp_path, caplog, change, words):
    path = roboflow / "valid" / "_annotations.coco.json"
    edit(path, change)
    assert prepare("coco-json", roboflow, tmp_path / "out").audit.passed
    assert words in caplog.text and (str(path) in caplog.text) == bool(words)


def test_images_and_files_that_are_left_out_are_counted(roboflow, tmp_path, write_image, text, caplog):
    write_image(roboflow / "train" / "spare.jpg")
    text(roboflow / "captions.json", {"images": [], "annotations": []})
    prepare("coco-json", roboflow, tmp_path / "out")
    assert "1 images are in no annotation file and are left out: train/spare.jpg" in caplog.text
    assert "1 JSON files without images, annotations and categories are left out: captions.json" in caplog.text


@pytest.mark.parametrize("change, words", [
    (lambda c: c["annotations"][0].update(category_id=7), r"annotations\[0\].category_id: expected the id of a categ"),
    (lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4]]),
     r"annotations\[1\].segmentation\[0\]: expected at least 6 numbers"),
    (lambda c: c["annotations"][1].update(segmentation=[SQUARE[0], [1, 2, 3, 4, float("nan"), 6]]),
     r"annotations\[1\].segmentation\[1\]\[4\]: expected a number"),
    (lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1e300, 0, 1, 1]]), r"segmentation\[0\]\[2\]: expected"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4]), r"annotations\[0\].bbox\[2\]: expected a number"),
    (lambda c: c["annotations"][0].update(segmentation={"size": [24, 32], "counts": [-1]}), r"counts\[0\]: expected"),
    (lambda c: c["annotations"][0].update(segmentation={"size": [24, 32], "counts": "oooooooooooooo"}), "run lengths"),
    (lambda c: c["images"].append(c["images"][0]), r"images\[1\].id: expected a different id from images\[0\]"),
    (lambda c: c["categories"].append(c["categories"][0]), r"categories\[3\].id: expected a different id"),
    (lambda c: c["images"][0].update(width=-32), r"images\[0\].width: expected a whole number"),
    (lambda c: c["images"][0].update(width=10 ** 9), r"images\[0\]: expected at most"),
    (lambda c: c["images"][0].update(width=2 ** 20, height=2 ** 20), r"images\[0\]: expected at most"),
    (lambda c: c["images"][0].update(width=10 ** 8, height=2), "size of an image differs"),
    (lambda c: c["images"][0].update(file_name="none.jpg"), "1 of 5 images are missing"),
    (lambda c: c["images"][0].update(file_name="c_jpg.rf.1.txt"), "expected a name that ends in"),
    (lambda c: c["categories"][1].update(name="two\nlines"), "a name of one line"),
    (lambda c: [a.update(image_id=str(a["image_id"])) for a in c["annotations"]], "no annotation belongs to an image"),
    (lambda c: [a.update(segmentation=[[.1, .1, .5, .1, .5, .5]]) for a in c["annotations"]], "fractions"),
])
def test_the_message_names_the_wrong_element(roboflow, tmp_path, change, words):
    edit(roboflow / "valid" / "_annotations.coco.json", change)
    with pytest.raises(DataError, match=words):
        prepare("coco-json", roboflow, tmp_path / "out")


def test_too_many_categories(roboflow, tmp_path):
    for path in roboflow.rglob("*.json"):
        edit(path, lambda c: c["categories"].extend({"id": i, "name": f"c{i}"} for i in range(3, 300)))
    with pytest.raises(DataError, match="too many categories"):
        prepare("coco-json", roboflow, tmp_path / "out")


def test_an_image_with_the_same_name_in_another_folder_is_not_used(roboflow, tmp_path, write_image):
    write_image(roboflow / "valid" / "dogs" / "1.jpg")
    edit(roboflow / "valid" / "_annotations.coco.json", lambda c: c["images"][0].update(file_name="cats/1.jpg"))
    with pytest.raises(DataError, match="are missing") as error:
        prepare("coco-json", roboflow, tmp_path / "out")
    assert error.value.received == "cats/1.jpg; only valid/dogs/1.jpg"


# ---- names that lead out of the source

@pytest.mark.parametrize("name", [
    "{outside}/secret.jpg", "../../outside/secret.jpg", "..\\..\\outside\\secret.jpg", "a/../../../outside/secret.jpg",
    "C:\\outside\\secret.jpg", "\\\\server\\secret.jpg", "~/secret.jpg", "/etc/passwd", "../../outside/./secret.jpg",
    "..", ".hidden.jpg", "", "x\0.jpg", "\ud800.jpg", "a" * 5000 + ".jpg",
], ids=lambda name: ascii(name)[:40])
@pytest.mark.parametrize("preparation", ["coco-json", "coco"])
def test_names_that_lead_out_of_the_source_are_refused(roboflow, tmp_path, write_image, name, preparation):
    outside = write_image(tmp_path / "outside" / "secret.jpg").parent
    path = roboflow / "valid" / "_annotations.coco.json"
    if preparation == "coco":
        (roboflow / "annotations").mkdir()
        path = path.rename(roboflow / "annotations" / "instances_val2017.json")
        (roboflow / "valid").rename(roboflow / "val2017")
        edit(path, lambda c: c["annotations"][0].update(segmentation=[[0, 0, 32, 0, 32, 24, 0, 24]], category_id=1))
    edit(path, lambda c: c["images"][0].update(file_name=name.format(outside=outside)))
    with pytest.raises((DataError, DataNotFoundError)) as error:
        prepare(preparation, roboflow, tmp_path / "deep" / "out")
    str(error.value).encode()  # can be printed
    assert os.stat(outside / "secret.jpg").st_nlink == 1
    assert not list((tmp_path / "deep").rglob("*secret*"))
    assert {path.name for path in tmp_path.iterdir()} <= {"deep", "outside", "pets-3"}


def test_parent_folders_inside_the_source_are_followed(tmp_path, export):
    source = tmp_path / "source"
    export(source / "labels" / "x.json", source / "images", ["a.jpg"], prefix="../images/")
    prepare("coco-json", source, tmp_path / "out")
    assert images(tmp_path / "out") == ["images/a.jpg"]


# ---- random damage

STRANGE = (None, True, -1, 0, 3, 7.5, 10 ** 9, 10 ** 400, 1e308, float("nan"), float("inf"), "", "x", "7", "\ud800",
           "../../x.jpg", "/etc/passwd", [], {}, [[]], [None], [1, 2, 3], {"size": [40, 64], "counts": "04o"},
           {"size": [10 ** 9, 10 ** 9], "counts": [10 ** 18]}, {"size": [40, 64], "counts": [2560]}, [[1, 2] * 500])


def _try_damaged(source, target, kind, seeds):
    """Return the numbers of damaged files that were converted and refused; any other error is a failure."""
    counts = {True: 0, False: 0}
    path = next(source.rglob("*val*.json"))
    sound = json.loads(path.read_text())
    for seed in seeds:
        path.write_bytes(dump(mutate_json(sound, seed, STRANGE)))
        try:
            prepare(kind, source, target / str(seed), workers=1, **({"boxes": "fill"} if kind == "coco-json" else {}))
            counts[True] += 1
        except (DataError, UsageError) as error:
            str(error).encode()
            counts[False] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{path.read_text()[:3000]}") from error
    return counts


@pytest.fixture
def small(tmp_path, export):
    source = tmp_path / "small"
    path = export(source / "annotations" / "instances_val2017.json", source / "val2017", ["a.jpg", "b.jpg"], (40, 64))
    edit(path, lambda c: c["annotations"].extend({  # prepare coco wants more than 1000 pixels
        "id": 9 + i, "image_id": i, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9],
        "segmentation": {"size": [40, 64], "counts": [100, 1300, 1160]}} for i in range(2)))
    return source


@pytest.mark.parametrize("kind, first, count", [
    ("coco-json", 0, 330), ("coco", 5000, 100),
    pytest.param("coco-json", 10000, 9000, marks=pytest.mark.slow),
    pytest.param("coco", 20000, 1500, marks=pytest.mark.slow),
])
def test_damaged_files_raise_our_errors_only(small, tmp_path, kind, first, count):
    counts = _try_damaged(small, tmp_path / "targets", kind, range(first, first + count))
    assert counts[True] > count / 20 and counts[False] > count / 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small", "targets"]  # no other file was written
