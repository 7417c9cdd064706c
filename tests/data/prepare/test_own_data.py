"""Masks of one's own, however they were drawn, become folder data."""
import base64
import json
import unicodedata
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError, DataNotFoundError, UsageError

from .conftest import SIZE

COLOURS = np.array([(16, 32, 48), (0, 255, 0), (0, 0, 255)], np.uint8)
CLASSES = ("ground #102030", "cat #00ff00", "dog #0000ff")


def png(path):
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.array(picture)


def lists(target):
    return {split: [get_dataset(str(target), split=split).pair(i).name
                    for i in range(len(get_dataset(str(target), split=split)))] for split in ("train", "val")}


# ---- colours

@pytest.fixture
def painted(tmp_path, picture, ids, text):
    """Four pictures with masks in the colours of three classes; the last row of each is black."""
    source, masks = tmp_path / "painted", {}
    (source / "masks").mkdir(parents=True)
    for name in "abcd":
        picture(source / "images" / f"{name}.jpg")
        masks[name] = ids(3)
        rgb = COLOURS[masks[name]]
        rgb[-1], masks[name][-1] = 0, IGNORE
        Image.fromarray(rgb).save(source / "masks" / f"{name}.png")
    text(source / "classes.txt", *CLASSES)
    return source, masks


def test_rgb_masks(painted, tmp_path):
    source, masks = painted
    done = prepare("colours", source, tmp_path / "out")
    assert done.audit.passed and done.made == 8
    for name, mask in masks.items():
        assert np.array_equal(png(tmp_path / "out" / "masks" / f"{name}.png"), mask)
    assert get_dataset(str(tmp_path / "out")).classes == ("ground", "cat", "dog")
    assert sorted(sum(lists(tmp_path / "out").values(), [])) == list("abcd")


def test_palette_masks_whose_indices_mean_nothing(painted, tmp_path):
    source, masks = painted
    for path in (source / "masks").iterdir():
        rgb = np.array(Image.open(path))
        Image.fromarray(rgb).quantize(8).save(path)  # Pillow's own order of colours
        assert Image.open(path).mode == "P"
    prepare("colours", source, tmp_path / "out")
    for name, mask in masks.items():
        assert np.array_equal(png(tmp_path / "out" / "masks" / f"{name}.png"), mask)


def test_palette_masks_whose_indices_are_the_ids(painted, tmp_path, text, palette_png):
    source, masks = painted
    text(source / "classes.txt", "ground", "cat", "dog")  # without colours, the values decide
    for name, mask in masks.items():
        palette_png(source / "masks" / f"{name}.png", mask)
    prepare("colours", source, tmp_path / "out")
    assert np.array_equal(png(tmp_path / "out" / "masks" / "c.png"), masks["c"])


def test_masks_of_0_and_255(painted, tmp_path, text):
    """What check-data advises for them."""
    source, _ = painted
    text(source / "classes.txt", "ground #000000", "cat #ffffff")
    for i, path in enumerate(sorted((source / "masks").iterdir())):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, i + 1:] = 255
        image = Image.fromarray(mask)
        (image if i % 2 else image.convert("1")).save(path)  # 8 bits and one bit
    assert prepare("colours", source, tmp_path / "out").audit.passed
    for i, name in enumerate("abcd"):
        mask = png(tmp_path / "out" / "masks" / f"{name}.png")
        assert (mask[:, :i + 1] == 0).all() and (mask[:, i + 1:] == 1).all()


def test_grey_masks_of_ids_stay_so_where_no_class_is_grey(painted, tmp_path):
    source, masks = painted
    Image.fromarray(masks["a"]).save(source / "masks" / "a.png")
    prepare("colours", source, tmp_path / "out")
    assert np.array_equal(png(tmp_path / "out" / "masks" / "a.png"), masks["a"])


def test_an_unknown_colour_is_listed_ready_to_paste(painted, tmp_path, text):
    source, _ = painted
    text(source / "classes.txt", *CLASSES[:2])
    with pytest.raises(DataError, match="belong to no class") as error:
        prepare("colours", source, tmp_path / "out")
    assert "#0000ff" in error.value.received and "class0 #0000ff" in error.value.fix


def test_classes_may_stand_elsewhere(painted, tmp_path):
    source, masks = painted
    (source / "classes.txt").rename(tmp_path / "names.txt")
    with pytest.raises(DataNotFoundError, match="no names") as error:
        prepare("colours", source, tmp_path / "out")
    assert "--classes" in error.value.fix
    prepare("colours", source, tmp_path / "out", classes=tmp_path / "names.txt")
    assert np.array_equal(png(tmp_path / "out" / "masks" / "b.png"), masks["b"])


def test_other_classes_make_all_masks_again(painted, tmp_path, text):
    source, masks = painted
    prepare("colours", source, tmp_path / "out")
    text(source / "classes.txt", CLASSES[0], CLASSES[2], CLASSES[1])
    done = prepare("colours", source, tmp_path / "out")
    assert done.remade == tuple(f"masks/{name}.png" for name in "abcd") and (done.made, done.kept) == (4, 4)
    assert done.notes == (f"classes changed: {', '.join(CLASSES)} -> {CLASSES[0]}, {CLASSES[2]}, {CLASSES[1]}",)
    swapped = np.array([0, 2, 1, *[0] * 252, IGNORE], np.uint8)[masks["a"]]
    assert np.array_equal(png(tmp_path / "out" / "masks" / "a.png"), swapped)


def test_lists_of_the_source_are_taken_over(painted, tmp_path, text):
    source, _ = painted
    text(source / "train.txt", "b", "d")
    text(source / "val.txt", "a.jpg")
    prepare("colours", source, tmp_path / "out")
    assert lists(tmp_path / "out") == {"train": ["b", "d"], "val": ["a"]}


def test_what_has_no_counterpart_is_told(painted, tmp_path, caplog):
    source, _ = painted
    (source / "images" / "a.jpg").unlink()
    (source / "masks" / "b.png").unlink()
    assert prepare("colours", source, tmp_path / "out").audit.passed
    assert "1 images without a mask are left out: b" in caplog.text
    assert "1 masks without an image are left out: a" in caplog.text


def test_names_that_two_systems_have_written(painted, tmp_path, text):
    source, masks = painted
    for kind, form, end in (("images", "NFC", "jpg"), ("masks", "NFD", "png")):
        (source / kind / f"a.{end}").rename(source / kind / f"{unicodedata.normalize(form, 'café')}.{end}")
    text(source / "train.txt", unicodedata.normalize("NFD", "café"), "b")
    text(source / "val.txt", "c", "d")
    assert prepare("colours", source, tmp_path / "out").audit.passed
    assert lists(tmp_path / "out")["train"] == [unicodedata.normalize("NFC", "café"), "b"]


def test_two_masks_of_one_name(painted, tmp_path):
    source, _ = painted
    Image.open(source / "masks" / "a.png").save(source / "masks" / "a.bmp")
    with pytest.raises(DataError, match="share one name"):
        prepare("colours", source, tmp_path / "out")


def test_the_target_may_not_lie_in_the_source(painted):
    source, _ = painted
    for target in (source, source / "out", source / "images" / ".." / "out"):
        with pytest.raises(UsageError, match="inside the source"):
            prepare("colours", source, target)


def test_masks_without_images(painted, tmp_path):
    source, _ = painted
    for path in (source / "images").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(DataNotFoundError, match="names of the images"):
        prepare("colours", source, tmp_path / "out")


# ---- labelme

def shape(label, kind, *points, **more):
    return {"label": label, "shape_type": kind, "points": [list(p) for p in points], **more}


@pytest.fixture
def labelled(tmp_path, picture, text):
    """Two pictures drawn on in a subfolder, as labelme saves them."""
    source = tmp_path / "labelled"
    for name, shapes in {
        "a": [shape("dog", "rectangle", (2, 1), (20, 11)),
              shape("cat", "polygon", (10, 5), (30, 5), (30, 20), (10, 20)),  # over the dog
              shape("__ignore__", "rectangle", (0, 23), (32, 24))],
        "b": [shape("cat", "circle", (10, 10), (10, 16)), shape("dog", "point", (3, 3)),
              shape("_background_", "rectangle", (9, 9), (11, 11))],
    }.items():
        picture(source / "home" / f"{name}.jpg")
        text(source / "home" / f"{name}.json", {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None,
                                                "imagePath": f"{name}.jpg", "imageHeight": 24, "imageWidth": 32})
    text(source / "settings.json", {"theme": "dark"})  # not labelme's
    return source


def test_labelme(labelled, tmp_path, caplog):
    target = tmp_path / "out"
    assert prepare("labelme", labelled, target).audit.passed
    dataset = get_dataset(str(target))
    assert dataset.classes == ("background", "cat", "dog")
    wanted = np.zeros(SIZE, np.uint8)
    wanted[1:11, 2:20] = 2
    wanted[5:20, 10:30] = 1
    wanted[23] = IGNORE
    assert np.array_equal(png(target / "masks" / "home" / "a.png"), wanted)
    other = png(target / "masks" / "home" / "b.png")
    assert other[5, 10] == 1 and (other[9:11, 9:11] == 0).all() and other[3, 3] == 0 and other[17, 10] == 0
    assert (target / "images" / "home" / "a.jpg").read_bytes() == (labelled / "home" / "a.jpg").read_bytes()
    assert "an unknown kind: 1 (1 point): 'dog' (b.json, shapes[1])" in caplog.text


def test_labelme_with_classes_of_one_s_own(labelled, tmp_path, text):
    text(labelled / "classes.txt", "dog", "cat #00ff00")
    prepare("labelme", labelled, tmp_path / "out")
    mask = png(tmp_path / "out" / "masks" / "home" / "a.png")
    assert mask[2, 3] == 0 and mask[12, 15] == 1 and mask[0, 0] == IGNORE  # no background: it does not count
    assert (tmp_path / "out" / "classes.txt").read_text() == "dog\ncat #00ff00\n"
    text(labelled / "classes.txt", "dog", "bird")
    with pytest.raises(DataError, match="1 labels are no classes") as error:
        prepare("labelme", labelled, tmp_path / "other")
    assert error.value.received == "cat"


def test_labelme_with_the_picture_inside(labelled, tmp_path):
    path, image = labelled / "home" / "a.json", labelled / "home" / "a.jpg"
    content = json.loads(path.read_text())
    pixels = np.array(Image.open(image))
    content["imageData"] = base64.b64encode(image.read_bytes()).decode()
    image.unlink()
    path.write_text(json.dumps(content))
    prepare("labelme", labelled, tmp_path / "out")
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "images" / "home" / "a.jpg")), pixels)
    content["imageData"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="neither in the source nor inside") as error:
        prepare("labelme", labelled, tmp_path / "other")
    assert error.value.where == path


def test_labelme_s_painted_shapes(labelled, tmp_path):
    path = labelled / "home" / "a.json"
    content = json.loads(path.read_text())
    part, stream = np.eye(5, 6, dtype=np.uint8) * 255, BytesIO()
    Image.fromarray(part).save(stream, format="PNG")
    content["shapes"] = [shape("cat", "mask", (29, 3), (34, 7), mask=base64.b64encode(stream.getvalue()).decode())]
    path.write_text(json.dumps(content))
    prepare("labelme", labelled, tmp_path / "out")
    mask = png(tmp_path / "out" / "masks" / "home" / "a.png")
    wanted = np.zeros(SIZE, np.uint8)
    wanted[[3, 4, 5], [29, 30, 31]] = 1  # the rest is beyond the edge
    assert np.array_equal(mask, wanted)


@pytest.mark.parametrize("change, words", [
    ({"imageHeight": None}, "imageHeight: expected a whole number"),
    ({"shapes": [{"label": "cat"}]}, r"shapes\[0\].points: expected a list"),
    ({"shapes": "none"}, "shapes: expected a list"),
])
def test_broken_files_of_labelme(labelled, tmp_path, change, words):
    path = labelled / "home" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=words) as error:
        prepare("labelme", labelled, tmp_path / "out")
    assert error.value.where == path


def test_a_folder_without_labelme_s_files(tmp_path, picture):
    picture(tmp_path / "source" / "a.jpg")
    with pytest.raises(DataNotFoundError, match="a JSON file of labelme"):
        prepare("labelme", tmp_path / "source", tmp_path / "out")


# ---- COCO's JSON

@pytest.fixture
def annotated(tmp_path, picture, text):
    """Two pictures to train on, one to validate on; a small cat on a large dog."""
    source = tmp_path / "annotated"
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        for name in names:
            picture(source / "pictures" / f"{name}.jpg")
        text(source / "annotations" / f"instances_{split}.json", {
            "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
            "images": [{"id": i, "file_name": f"{n}.jpg", "height": 24, "width": 32} for i, n in enumerate(names)],
            "annotations": [
                {"image_id": 0, "category_id": 4, "segmentation": [[12, 12, 15, 12, 15, 15, 12, 15]]},
                {"image_id": 0, "category_id": 9, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]]}]})
    return source


def test_coco_json(annotated, tmp_path):
    target = tmp_path / "out"
    done = prepare("coco-json", annotated, target)
    assert done.audit.passed and lists(target) == {"train": ["train/a", "train/b"], "val": ["val/c"]}
    assert get_dataset(str(target)).classes == ("background", "cat", "dog")  # by the ids of the categories
    wanted = np.zeros(SIZE, np.uint8)
    wanted[10:20, 10:30] = 2
    wanted[12:15, 12:15] = 1
    assert np.array_equal(png(target / "masks" / "train" / "a.png"), wanted)
    assert not png(target / "masks" / "train" / "b.png").any()  # nothing is in it


def test_one_coco_json_is_cut_into_two_splits(annotated, tmp_path):
    file = annotated / "annotations" / "instances_train.json"
    for name in "ab":
        (annotated / "pictures" / f"{name}.jpg").rename(annotated / "annotations" / f"{name}.jpg")
    prepare("coco-json", file, tmp_path / "out")
    assert sorted(sum(lists(tmp_path / "out").values(), [])) == ["a", "b"]


def test_coco_json_with_classes_of_one_s_own(annotated, tmp_path, text):
    names = text(tmp_path / "names.txt", "dog", "cat")
    prepare("coco-json", annotated, tmp_path / "out", classes=names)
    mask = png(tmp_path / "out" / "masks" / "train" / "a.png")
    assert mask[13, 13] == 1 and mask[11, 11] == 0 and mask[0, 0] == IGNORE
    text(tmp_path / "names.txt", "dog", "bird")
    with pytest.raises(DataError, match="no class") as error:
        prepare("coco-json", annotated, tmp_path / "other", classes=names)
    assert error.value.received == "cat"


def test_coco_json_whose_files_disagree(annotated, tmp_path):
    path = annotated / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"cat"', '"Cat"'))
    with pytest.raises(DataError, match="different names") as error:
        prepare("coco-json", annotated, tmp_path / "out")
    assert "4: 'cat' and 'Cat'" in error.value.received


@pytest.mark.parametrize("damage, words", [
    (lambda s: (s / "pictures" / "a.jpg").unlink(), "not there"),
    (lambda s: [(s / d).mkdir() or (s / d / "a.jpg").write_bytes(b"") for d in ("x", "y")] and
     (s / "pictures" / "a.jpg").unlink(), "several images"),
    (lambda s: (s / "annotations" / "instances_val.json").write_text(
        '{"images": [{}], "annotations": [], "categories": []}'), "not in COCO's form"),
])
def test_broken_coco_json(annotated, tmp_path, damage, words):
    damage(annotated)
    with pytest.raises(DataError, match=words):
        prepare("coco-json", annotated, tmp_path / "out")


def test_no_coco_json(tmp_path, text):
    text(tmp_path / "source" / "package.json", {"name": "x"})
    with pytest.raises(DataNotFoundError, match="images, annotations and categories"):
        prepare("coco-json", tmp_path / "source", tmp_path / "out")
