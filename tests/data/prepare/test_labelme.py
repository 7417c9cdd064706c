"""JSON files of labelme, AnyLabeling and X-AnyLabeling, valid and damaged."""
import base64
import json
import unicodedata
from io import BytesIO

import numpy as np
import pytest
from mutations import dump, mutate_bytes, mutate_json
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError, MXNetSegError, UsageError
from mxnetseg.tools.main import main

from .conftest import SIZE

NFC, NFD = (unicodedata.normalize(unicode_form, "café") for unicode_form in ("NFC", "NFD"))


def shape(label, shape_type, *points, **more):
    return {"label": label, "shape_type": shape_type, "points": [list(p) for p in points], "flags": {}, **more}


def image_text(array, format="PNG"):
    stream = BytesIO()
    Image.fromarray(array).save(stream, format=format)
    return base64.b64encode(stream.getvalue()).decode()


def content(*shapes, image="a.png", **more):
    return {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None,
            "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}


@pytest.fixture
def source(tmp_path, write_image):
    write_image(tmp_path / "labelled" / "a.png")
    return tmp_path / "labelled"


@pytest.fixture
def convert(source, tmp_path):
    """``convert(content)`` prepares one file and returns its mask."""
    def run(data, name="a"):
        (source / f"{name}.json").write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        prepare("labelme", source, tmp_path / "out", force=True)
        return np.array(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
    return run


def box(left, top, right, bottom, value=1):
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = value
    return mask


# ---- shapes

@pytest.mark.parametrize("points", [
    ((2, 3), (12, 9)), ((12, 9), (2, 3)), ((12, 3), (2, 9)),  # labelme: two opposite corners
    ((2, 3), (12, 3), (12, 9), (2, 9)),  # X-AnyLabeling since 2.2.0
    ((2, 3), (12, 3), (2, 9), (12, 9)),  # converters that write the corners row by row
])
def test_rectangles(convert, points):
    assert np.array_equal(convert(content(shape("cat", "rectangle", *points))), box(2, 3, 12, 9))


def test_a_rotated_box_of_type_rectangle_is_refused(convert):
    with pytest.raises(DataError, match="not the corners of an upright box") as error:
        convert(content(shape("cat", "rectangle", (10, 2), (18, 10), (10, 18), (2, 10))))
    assert "shapes[0].points[0]" in error.value.where
    assert "'rotation'" in error.value.fix and "(2, 2) to (18, 18)" in error.value.fix


@pytest.mark.parametrize("shape_type", ["rotation", "oriented_rectangle", "quadrilateral"])
def test_rotated_boxes(convert, shape_type):
    mask = convert(content(shape("cat", shape_type, (10, 2), (18, 10), (10, 18), (2, 10), direction=0.785)))
    assert mask[10, 10] == 1 and mask[3, 3] == 0 and mask.sum() == 128  # half of its upright box


def test_a_mask_that_extends_beyond_the_upper_left_corner(convert):
    part = np.zeros((6, 6), np.uint8)
    part[3:5, 4] = 255
    mask = convert(content(shape("cat", "mask", (-2, -3), (3, 2), mask=image_text(part))))
    assert np.array_equal(mask, box(2, 0, 3, 2))


@pytest.mark.parametrize("stray, details", [
    (shape("cat", "polygon", (1, 1), (2, 2)), "1 polygon of 2 points"),
    (shape("cat", "polygon"), "1 polygon of 0 points"),
    (shape("cat", "point", (1, 1)), "1 point"),
    (shape("cat", "points", (1, 1), (3, 3)), "1 points"),
    (shape("cat", "line", (1, 1), (3, 3)), "1 line"),
    (shape("cat", "linestrip", (1, 1), (3, 3), (9, 9)), "1 linestrip"),
    (shape("cat", "rectangle", (1, 1)), "1 rectangle of 1 points"),
    (shape("cat", "rectangle", (1, 1), (2, 2), (3, 3)), "1 rectangle of 3 points"),
    (shape("cat", "circle", (1, 1)), "1 circle of 1 points"),
    (shape("cat", "rotation", (1, 1), (2, 2)), "1 rotation of 2 points"),
    (shape("cat", "cuboid", *[(1, 1)] * 8), "1 cuboid"),
    ({"label": None, "shape_type": "3d", "points": {"x": 1}}, "1 3d"),
])
def test_a_stray_shape_is_left_out_with_its_name(convert, stray, details, source, tmp_path, caplog, capsys):
    mask = convert(content(shape("dog", "rectangle", (2, 3), (12, 9)), stray))
    assert np.array_equal(mask, box(2, 3, 12, 9))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "dog")  # only labels in the masks are classes
    assert f"({details}): {stray['label']!r} (a.json, shapes[1])" in caplog.text
    main(["prepare", "labelme", str(source), str(tmp_path / "out")])
    assert f"left out, shapes without an area or of an unknown type: 1 ({details})\n" in capsys.readouterr().out


def test_files_with_stray_shapes_only_are_refused(convert):
    with pytest.raises(DataError, match="no shape with an area") as error:
        convert(content(shape("lane", "linestrip", (1, 1), (3, 3)), shape("lane", "line", (1, 1), (3, 3))))
    assert error.value.received == "1 linestrip, 1 line"


def test_files_that_are_left_out_are_reported(convert, source, write_image, tmp_path, caplog):
    write_image(source / "unused.png")
    (source / "settings.json").write_text("[]")
    convert(content(shape("dog", "rectangle", (2, 3), (12, 9))))
    assert "left out, images without a JSON file: 1: unused.png" in caplog.text
    assert "left out, JSON files of other programs: 1: settings.json" in caplog.text


# ---- labels

@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\x1b[31m", "cat #00ff00", "#", "a\u2028b", "\ud800", 5, None, [],
                                   True])
def test_labels_that_do_not_fit_into_classes_txt(convert, label):
    with pytest.raises(DataError, match=r"shapes\[1\].label: expected") as error:
        convert(content(shape("ok", "rectangle", (0, 0), (1, 1)), shape(label, "rectangle", (2, 3), (12, 9))))
    assert error.value.where.name == "a.json" and "\x1b" not in str(error.value) and str(error.value).encode()


def test_labels_in_two_unicode_forms_are_one_class(convert, tmp_path):
    mask = convert(content(shape(NFC, "rectangle", (0, 0), (9, 9)), shape(f" {NFD}", "rectangle", (9, 0), (18, 9))))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", NFC)
    assert np.array_equal(mask, box(0, 0, 18, 9))


def test_given_classes_in_another_unicode_form(convert, source):
    (source / "classes.txt").write_text(f"dog\n{NFD}\n", encoding="utf-8")
    mask = convert(content(shape(NFC, "rectangle", (0, 0), (9, 9))))
    assert mask[0, 0] == 1 and mask[20, 20] == IGNORE


def test_too_many_labels(convert):
    shapes = [shape(f"l{i}", "rectangle", (0, 0), (1, 1)) for i in range(255)]
    with pytest.raises(DataError, match="too many labels") as error:
        convert(content(*shapes))
    assert error.value.received.startswith("256 classes")
    assert convert(content(*shapes[:254]))[0, 0] == 1 + sorted(s["label"] for s in shapes[:254]).index("l253")


# ---- encodings

@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(source, tmp_path, encoding):
    text = json.dumps(content(shape(NFC, "rectangle", (0, 0), (9, 9))), ensure_ascii=False)
    (source / "a.json").write_bytes(text.encode(encoding))
    prepare("labelme", source, tmp_path / "out")
    assert get_dataset(str(tmp_path / "out")).classes == ("background", NFC)


def test_another_encoding_is_refused(source, tmp_path):
    text = json.dumps(content(shape("狗", "rectangle", (0, 0), (9, 9))), ensure_ascii=False)
    (source / "a.json").write_bytes(text.encode("gb18030"))
    with pytest.raises(DataError, match="damaged or not JSON"):
        prepare("labelme", source, tmp_path / "out")


# ---- finding the image

CAT = shape("cat", "rectangle", (2, 3), (12, 9))


@pytest.mark.parametrize("json_at, image_at, path", [
    ("a.json", "a.png", "a.png"),
    ("a.json", "a.png", "./a.png"),
    ("json/a.json", "images/a.png", "../images/a.png"),
    ("json/a.json", "images/a.png", "..\\images\\a.png"),  # labelme on Windows
    ("json/a.json", "json/a.png", "C:\\Users\\me\\photos\\a.png"),  # image and JSON were moved together
    ("json/a.json", "json/a.png", "/home/me/photos/a.png"),
    ("json/a.json", "json/a.png", "../../../photos/a.png"),
    ("json/a.json", "images/deep/a.png", "a.png"),  # X-AnyLabeling's output folder
    ("a.json", f"{NFD}.png", f"{NFC}.png"), ("a.json", f"{NFC}.png", f"{NFD}.png"),
    (f"{NFC}/a.json", f"{NFD}/a.png", f"../{NFC}/a.png"),
])
def test_the_image_is_found(tmp_path, write_image, text, json_at, image_at, path):
    source = tmp_path / "labelled"
    image = write_image(source / image_at)
    text(source / json_at, content(CAT, image=path))
    prepare("labelme", source, tmp_path / "out")
    copy = (tmp_path / "out" / "images" / json_at).with_suffix(".png")  # names of the result are NFC
    assert copy.read_bytes() == image.read_bytes()


def test_an_absolute_path_into_the_source(tmp_path, write_image, text):
    image = write_image(tmp_path / "labelled" / "images" / "b.png")
    text(tmp_path / "labelled" / "json" / "a.json", content(CAT, image=str(image)))
    prepare("labelme", tmp_path / "labelled", tmp_path / "out")
    assert (tmp_path / "out" / "images" / "json" / "a.png").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("path", ["../../precious.png", "../../labelled/../precious.png", "x/../../../precious.png",
                                  "..\\..\\precious.png", "ABSOLUTE"])
def test_an_image_outside_the_source_is_refused(tmp_path, write_image, text, path, capsys):
    precious = write_image(tmp_path / "precious.png")
    path = str(precious) if path == "ABSOLUTE" else path
    arguments = ["prepare", "labelme", str(tmp_path / "labelled" / "json"), str(tmp_path / "out")]
    text(tmp_path / "labelled" / "json" / "a.json", content(CAT, image=path))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "outside the source" in err and str(precious) in err
    assert f"SRC that holds the images as well as the JSON files: {tmp_path}\n" in err
    assert not (tmp_path / "out").exists() and precious.stat().st_nlink == 1
    if path != str(precious):  # the advice of the message
        out = tmp_path.parent / f"{tmp_path.name}-out"
        prepare("labelme", tmp_path, out)
        assert (out / "images" / "labelled" / "json" / "a.png").read_bytes() == precious.read_bytes()


def test_an_image_outside_does_not_matter_if_the_json_holds_the_image(tmp_path, write_image, text):
    precious = write_image(tmp_path / "precious.png")
    inside = np.full((*SIZE, 3), 9, np.uint8)
    text(tmp_path / "labelled" / "a.json", content(CAT, image="../precious.png", imageData=image_text(inside)))
    prepare("labelme", tmp_path / "labelled", tmp_path / "out")
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "images" / "a.png")), inside)
    assert precious.stat().st_nlink == 1


def test_a_name_that_several_images_have(tmp_path, write_image, text):
    for folder in "xy":
        write_image(tmp_path / "labelled" / folder / "a.png")
    text(tmp_path / "labelled" / "a.json", content(CAT))
    with pytest.raises(DataError, match="several images") as error:
        prepare("labelme", tmp_path / "labelled", tmp_path / "out")
    assert "x/a.png" in error.value.received and "y/a.png" in error.value.received


@pytest.mark.parametrize("path", ["b" * 5000 + ".png", "a\0.png", "\ud800.png", "", None, ".", "..", "/", "a.gif"])
def test_odd_paths(source, tmp_path, path):
    (source / "a.json").write_text(json.dumps(content(CAT, image=path)))
    with pytest.raises((DataError, UsageError)) as error:
        prepare("labelme", source, tmp_path / "out")
    assert len(str(error.value).encode()) < 2000 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("data, words", [
    ("AAAA", "imageData: expected an image"), ("%%%", "imageData: expected an image"), ("A", "base64"),
    (5, "imageData: expected a text"), (["x"], "imageData: expected a text"),
    (image_text(np.zeros(SIZE, np.uint16), "TIFF"), "8 bits"),  # conversion to RGB would make it black or white
])
def test_damaged_images_inside(source, tmp_path, data, words):
    (source / "a.json").write_text(json.dumps(content(CAT, image="b.png", imageData=data)))
    with pytest.raises(DataError, match=words):
        prepare("labelme", source, tmp_path / "out")


def test_an_image_inside_in_another_format(source, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (source / "a.json").write_text(json.dumps(content(CAT, image="b.bmp", imageData=image_text(pixels, "BMP"))))
    prepare("labelme", source, tmp_path / "out")
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "images" / "a.png")), pixels)


# ---- damaged structure

@pytest.mark.parametrize("change, place", [
    ({"shapes": None}, "shapes"), ({"shapes": {}}, "shapes"), ({"shapes": [[]]}, r"shapes\[0\]"),
    ({"imageHeight": 0}, "imageHeight"), ({"imageHeight": 24.5}, "imageHeight"), ({"imageHeight": True}, "imageHeight"),
    ({"imageWidth": "32"}, "imageWidth"), ({"imageWidth": float("nan")}, "imageWidth"),
    ({"imageWidth": float("inf")}, "imageWidth"), ({"imageWidth": 10 ** 300}, "imageWidth"),
    ({"imageWidth": -1}, "imageWidth"), ({"imageHeight": 10 ** 5, "imageWidth": 10 ** 5}, "imageHeight, imageWidth"),
    ({"imagePath": 5}, "imagePath"),
    *[({"shapes": [CAT, CAT, CAT, {**CAT, "points": [[2, 3], bad]}]}, r"shapes\[3\].points\[1\]: expected two numbers")
      for bad in (None, 5, [], [1], [1, 2, 3], ["1", 2], [True, 2], [float("nan"), 1], [1, float("-inf")], [1e7, 1],
                  [10 ** 400, 1], [[1], 2], {"x": 1, "y": 2}, "12")],
    ({"shapes": [{**CAT, "points": "[[1, 2]]"}]}, r"shapes\[0\].points: expected a list"),
    ({"shapes": [{**CAT, "shape_type": 5}]}, r"shapes\[0\].shape_type"),
    ({"shapes": [shape("cat", "mask", (1, 1), (2, 2))]}, r"shapes\[0\].mask"),
    *[({"shapes": [shape("cat", "mask", (1, 1), (2, 2), mask=mask)]}, r"shapes\[0\].mask")
      for mask in (5, "A", "AAAA", "é", image_text(np.zeros((3, 3), np.uint8))[:40],
                   image_text(np.zeros((3, 3), np.uint8), "BMP"))],
])
def test_the_message_names_the_element(source, tmp_path, change, place):
    (source / "a.json").write_text(json.dumps(content(CAT, **{"shapes": [CAT], **change})
                                              if "shapes" not in change else {**content(), **change}))
    with pytest.raises(DataError, match=f"^{place}") as error:
        prepare("labelme", source, tmp_path / "out")
    assert error.value.where == source / "a.json" and error.value.fix


# ---- mutations

ODD = [None, True, False, 0, -1, 5, 1e308, float("nan"), float("inf"), 10 ** 30, -10 ** 300, 2 ** 31, "", "x", "\ud800",
       "\0", "../../../etc/passwd", "/etc/passwd", "é" * 300, [], {}, [[]], [None], [[1, 2]], {"a": 1}, [[[1]]],
       {"points": []}, ["x"] * 50, "mask", "circle", "rectangle", "polygon", "rotation"]


def mutated(original, seed):
    """Return the bytes of a damaged JSON file; in every seventh, bytes are damaged too."""
    data = dump(mutate_json(original, seed, ODD))
    return data if seed % 7 else mutate_bytes(data, seed)


def check_mutations(tmp_path, write_image, seeds):
    """Prepare mutated files: each is converted or refused with an MXNetSegError, and no file outside is written."""
    source = tmp_path / "yard" / "labelled"
    write_image(source / "a.png")
    part = image_text(np.eye(5, dtype=np.uint8) * 255)
    original = content(
        CAT, shape("dog", "polygon", (1, 1), (9, 2), (4, 8)), shape("dog", "circle", (9, 9), (9, 12)),
        shape("cat", "rectangle", (2, 3), (12, 3), (12, 9), (2, 9)), shape("cat", "point", (2, 3)),
        shape("dog", "rotation", (10, 2), (18, 10), (10, 18), (2, 10), direction=0.7),
        shape("cat", "mask", (3, 3), (7, 7), mask=part), imageData=image_text(np.zeros((*SIZE, 3), np.uint8)))
    outcomes = {True: 0, False: 0}
    for seed in seeds:
        (source / "a.json").write_bytes(mutated(original, seed))
        try:
            prepare("labelme", source, tmp_path / "yard" / "out", force=True, workers=1)
            outcomes[True] += 1
        except MXNetSegError as error:
            str(error).encode()
            outcomes[False] += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}") from error
    assert {p.name for p in tmp_path.iterdir()} == {"yard"}
    assert {p.name for p in (tmp_path / "yard").iterdir()} <= {"labelled", "out"}
    return outcomes


def test_mutated_files(tmp_path, write_image):
    outcomes = check_mutations(tmp_path, write_image, range(400))
    assert min(outcomes.values()) > 40, outcomes  # both happen


@pytest.mark.slow
def test_many_mutated_files(tmp_path, write_image):
    check_mutations(tmp_path, write_image, range(1000, 11000))
