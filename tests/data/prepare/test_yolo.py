"""YOLO polygons, as Ultralytics, Roboflow and CVAT lay them out."""
import logging

import numpy as np
import pytest
from PIL import Image
from prepared import expected_mask, mask_names, read_mask, run_damaged

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError, UsageError
from tests.helpers.mutations import mutate_bytes

from .conftest import SIZE

HEIGHT, WIDTH = SIZE
Yolo = PREPARATIONS.get("yolo")


def polygon_line(class_id, *points):
    """Return a line of labels for points in pixels."""
    return f"{class_id} " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)


def square(class_id, left, top, right, bottom):
    return polygon_line(class_id, (left, top), (right, top), (right, bottom), (left, bottom))


@pytest.fixture
def roboflow(tmp_path, write_image, text):
    """Export of Roboflow: train/, valid/ and test/ with images/ and labels/; data.yaml with paths like ../train."""
    source = tmp_path / "pets-3"
    for folder, stems in (("train", ["a.rf.1", "b.rf.1"]), ("valid", ["c.rf.1"]), ("test", ["d.rf.1"])):
        for stem in stems:
            write_image(source / folder / "images" / f"{stem}.jpg")
            text(source / folder / "labels" / f"{stem}.txt", square(1, 8, 8, 12, 12), square(0, 4, 4, 20, 14))
    text(source / "data.yaml", "train: ../train/images", "val: ../valid/images", "test: ../test/images", "",
         "nc: 2", "names: ['cat', 'no']", "", "roboflow:", "  workspace: zoo", "  version: 3")
    return source


@pytest.fixture
def ultralytics(tmp_path, write_image, text):
    """Ultralytics' layout: images/train and labels/train, names by id, ``path`` of another machine."""
    source = tmp_path / "shapes"
    for split, stems in (("train", "ab"), ("val", "c")):
        for stem in stems:
            write_image(source / "images" / split / f"{stem}.png")
            text(source / "labels" / split / f"{stem}.txt", square(0, 4, 4, 20, 14))
    text(source / "data.yaml", "# comment", "path: /content/datasets/shapes", "train: images/train",
         "val: images/val", "test:", "names:", "  0: cat", "  1: dog", "  2: owl")
    return source


def test_roboflow(roboflow, tmp_path):
    target = tmp_path / "out"
    assert prepare("yolo", roboflow, target).audit.passed
    assert mask_names(target) == ["test/d.rf.1.png", "train/a.rf.1.png", "train/b.rf.1.png", "val/c.rf.1.png"]
    assert get_dataset(str(target)).classes == ("background", "cat", "no")
    wanted = expected_mask((1, 4, 4, 20, 14), (2, 8, 8, 12, 12))  # the small region is on top, although it comes first
    assert np.array_equal(read_mask(target / "masks" / "train" / "a.rf.1.png"), wanted)


def test_ultralytics(ultralytics, tmp_path):
    target = tmp_path / "out"
    prepare("yolo", ultralytics, target)
    assert mask_names(target) == ["train/a.png", "train/b.png", "val/c.png"]
    assert get_dataset(str(target)).classes == ("background", "cat", "dog", "owl")
    assert np.array_equal(read_mask(target / "masks" / "val" / "c.png"), expected_mask((1, 4, 4, 20, 14)))


def test_the_file_data_yaml_as_source(ultralytics, tmp_path):
    prepare("yolo", ultralytics / "data.yaml", tmp_path / "out")
    assert mask_names(tmp_path / "out") == ["train/a.png", "train/b.png", "val/c.png"]


def test_a_path_below_the_folder_of_data_yaml(ultralytics, tmp_path, text):
    source = tmp_path / "above"
    source.mkdir()
    ultralytics.rename(source / "shapes")
    (source / "shapes" / "data.yaml").unlink()
    text(source / "data.yaml", "path: shapes", "train: images/train", "val: images/val", "names: [cat, dog, owl]")
    prepare("yolo", source, tmp_path / "out")
    assert mask_names(tmp_path / "out") == [f"{split}/shapes/{n}.png" for split, n in
                                       (("train", "a"), ("train", "b"), ("val", "c"))]


@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_a_path_in_or_out_of_the_source(ultralytics, tmp_path, text, write_image, form):
    lines = "train: images/train", "val: images/val", "names: [cat, dog, owl]"
    inside = str(ultralytics) if form == "absolute" else ".."
    text(ultralytics / "config" / "data.yaml", f"path: {inside}", *lines)
    (ultralytics / "data.yaml").unlink()
    prepare("yolo", ultralytics, tmp_path / "out")
    assert mask_names(tmp_path / "out") == ["train/a.png", "train/b.png", "val/c.png"]

    write_image(tmp_path / "elsewhere" / "images" / "train" / "a.png")
    outside = str(tmp_path / "elsewhere") if form == "absolute" else "../../elsewhere"
    text(ultralytics / "config" / "data.yaml", f"path: {outside}", *lines)
    with pytest.raises(DataError, match="path: expected a folder below"):
        prepare("yolo", ultralytics, tmp_path / "out")


@pytest.mark.parametrize("prefix", ["images/", "./images/", "data/images/"])
def test_list_files(ultralytics, tmp_path, text, prefix):
    text(ultralytics / "train.txt", f"{prefix}train/a.png", "", f"{prefix}train/b.png")
    text(ultralytics / "val.txt", f"{prefix}val/c.png")
    text(ultralytics / "data.yaml", "path: .", "train: train.txt", "val: [val.txt]", "names: {0: cat}")
    prepare("yolo", ultralytics, tmp_path / "out")
    assert mask_names(tmp_path / "out") == ["train/a.png", "train/b.png", "val/c.png"]


def test_a_concave_polygon_is_exact(ultralytics, tmp_path, text):
    text(ultralytics / "labels" / "val" / "c.txt",
         polygon_line(2, (2, 2), (12, 2), (12, 12), (8, 12), (8, 6), (2, 6)))
    prepare("yolo", ultralytics, tmp_path / "out")
    wanted = expected_mask((3, 2, 2, 12, 6), (3, 8, 6, 12, 12))
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "val" / "c.png"), wanted)


def test_an_image_rotated_by_exif_is_annotated_as_it_is_shown(ultralytics, tmp_path, rng):
    image = Image.fromarray(rng.integers(0, 256, (WIDTH, HEIGHT, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (ultralytics / "images" / "val" / "c.png").unlink()
    image.save(ultralytics / "images" / "val" / "c.jpg", exif=exif)
    assert prepare("yolo", ultralytics, tmp_path / "out").audit.passed
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "val" / "c.png"), expected_mask((1, 4, 4, 20, 14)))


def test_empty_and_missing_files_of_labels(ultralytics, tmp_path, text, caplog):
    text(ultralytics / "labels" / "train" / "a.txt")
    (ultralytics / "labels" / "train" / "b.txt").unlink()
    result = prepare("yolo", ultralytics, tmp_path / "out")
    assert mask_names(tmp_path / "out") == ["train/a.png", "val/c.png"]
    assert not read_mask(tmp_path / "out" / "masks" / "train" / "a.png").any()
    assert "left out, images without a file of labels: 1" in result.notes and "images/train/b.png" in caplog.text


def test_a_classes_txt_of_another_tool_is_not_read(ultralytics, tmp_path, text):
    text(ultralytics / "classes.txt", "cat", "dog", "owl")
    prepare("yolo", ultralytics, tmp_path / "out")
    assert get_dataset(str(tmp_path / "out")).classes[0] == "background"
    text(tmp_path / "mine.txt", "owl", "dog", "cat")
    prepare("yolo", ultralytics, tmp_path / "out", classes=tmp_path / "mine.txt")
    wanted = expected_mask((2, 4, 4, 20, 14), uncovered=IGNORE)
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "val" / "c.png"), wanted)


def test_only_train_is_not_kept_as_a_split(ultralytics, tmp_path, text):
    text(ultralytics / "data.yaml", "train: images/train", "names: [cat]")
    prepare("yolo", ultralytics, tmp_path / "out")
    assert mask_names(tmp_path / "out") == ["a.png", "b.png"]


@pytest.mark.parametrize("boxes, inside", [("fill", 1), ("ignore", IGNORE)])
def test_boxes(ultralytics, tmp_path, text, boxes, inside):
    text(ultralytics / "labels" / "val" / "c.txt", f"0 {12 / WIDTH} {9 / HEIGHT} {16 / WIDTH} {10 / HEIGHT}",
         square(1, 8, 8, 12, 12))
    with pytest.raises(DataError, match="1 of 4 objects have a box but no outline") as error:
        prepare("yolo", ultralytics, tmp_path / "out")
    assert error.value.where == ultralytics / "labels" / "val" / "c.txt" and "line 1" in error.value.received
    prepare("yolo", ultralytics, tmp_path / "out", boxes=boxes)
    wanted = expected_mask((inside, 4, 4, 20, 14), (2, 8, 8, 12, 12))
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "val" / "c.png"), wanted)


@pytest.mark.parametrize("line, words", [
    ("3 0.1 0.1 0.2 0.1 0.2 0.2", "line 1: expected a class id from 0 to 2"),
    ("-1 0.1 0.1 0.2 0.1 0.2 0.2", "class id"), ("0.5 0.1 0.1 0.2 0.1 0.2 0.2", "class id"),
    ("cat 0.1 0.1 0.2 0.1 0.2 0.2", "class id"), ("1e400 0.1 0.1 0.2 0.1 0.2 0.2", "class id"),
    ("0 0.1 0.1 0.2 0.1 0.2", "even number"), ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.9", "even number"), ("0", "even number"),
    ("0 0.1 0.1 0.2 0.1 0.2 x", "number 7: expected a number"), ("0 0.1 0.1 0.2 0.1 0.2 nan", "number 7"),
    ("0 4 4 20 4 20 14", "fractions of the image's size"),
])
def test_wrong_lines(ultralytics, tmp_path, text, line, words):
    text(ultralytics / "labels" / "val" / "c.txt", line)
    with pytest.raises(DataError, match=words) as error:
        prepare("yolo", ultralytics, tmp_path / "out")
    assert error.value.where == ultralytics / "labels" / "val" / "c.txt" and error.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lines, words", [
    (["names: [a, a]", "train: images/train"], "names: expected different names"),
    (["names: {0: a, 2: b}", "train: images/train"], "without a gap"),
    (["names: []", "train: images/train"], "names: expected the names"),
    (["names: [a, '#b']", "train: images/train"], r"names\[1\]"),
    (["nc: 3", "names: [a]", "train: images/train"], "nc: expected 1"),
    (["names: [a]", "train: images/train", "train: images/val"], "valid YAML"),
    (["names: &x [a]", "train: *x"], "valid YAML"), (["names: [a", "train: b"], "valid YAML"),
    (["names: [a]", "train: nowhere"], "train: expected a folder"),
    (["names: [a]", "train: ../../elsewhere"], "train: expected a path below the source"),
    (["names: [a]", "train: /etc"], "train: expected a path relative"),
    (["names: [a]", "train: [[a]]"], r"train\[0\]: expected a text"),
    (["names: [a]", "train: images/train", "kpt_shape: [17, 3]"], "kpt_shape"),
    (["names: [cat]", "train: images/train", "val: images/train"], "annotated twice"),
])
def test_wrong_data_yaml(ultralytics, tmp_path, text, lines, words):
    text(ultralytics / "data.yaml", *lines, "")
    with pytest.raises(DataError, match=words):
        prepare("yolo", ultralytics, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_parts(ultralytics, tmp_path, text):
    (ultralytics / "data.yaml").rename(tmp_path / "data.yaml")
    with pytest.raises(DataNotFoundError, match="data.yaml"):
        prepare("yolo", ultralytics, tmp_path / "out")
    for name in "xy":
        (ultralytics / f"{name}.yaml").write_bytes((tmp_path / "data.yaml").read_bytes())
    with pytest.raises(DataError, match="several files describe"):
        prepare("yolo", ultralytics, tmp_path / "out")
    with pytest.raises(UsageError, match="inside the source"):
        prepare("yolo", ultralytics / "x.yaml", ultralytics / "out")


def test_it_recognises_its_format_only(roboflow, ultralytics, tmp_path, text):
    assert "data.yaml with 2 names" in Yolo.recognises(roboflow)
    assert "data.yaml with 3 names" in Yolo.recognises(ultralytics / "data.yaml")
    text(ultralytics / "labels" / "train" / "a.txt", "a note")
    assert Yolo.recognises(ultralytics) is None
    assert Yolo.recognises(tmp_path / "nowhere") is None
    text(tmp_path / "other" / "data.yaml", "names: [a]", "train: x")
    assert Yolo.recognises(tmp_path / "other") is None


@pytest.mark.parametrize("file", ["data.yaml", "labels/val/c.txt"])
def test_mutated_files(ultralytics, tmp_path, text, file, caplog):
    caplog.set_level(logging.CRITICAL)
    original = (ultralytics / file).read_bytes()

    def run(seed):
        (ultralytics / file).write_bytes(mutate_bytes(original, seed))
        Yolo.recognises(ultralytics)
        prepare("yolo", ultralytics, tmp_path / "out", force=True, workers=1)
    run_damaged(run, 120, MXNetSegError, least=5)
    assert {path.name for path in tmp_path.iterdir()} <= {"shapes", "out"}
