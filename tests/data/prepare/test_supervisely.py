"""Supervisely projects."""
import base64
import json
import logging
import struct
import zlib

import numpy as np
import pytest
from prepared import expected_mask, mask_names, read_mask, run_damaged

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.data.prepare.supervisely import draw_bitmap
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError
from tests.helpers.mutations import dump, mutate_bytes, mutate_json

from .conftest import SIZE

HEIGHT, WIDTH = SIZE
Supervisely = PREPARATIONS.get("supervisely")
META = {"classes": [{"title": "cat", "shape": "polygon", "color": "#FF0000", "geometry_config": {}, "id": 1},
                    {"title": "dog", "shape": "bitmap", "color": "#00FF00", "id": 2}],
        "tags": [{"name": "train", "value_type": "none"}], "projectType": "images"}
# the example in the documentation of supervisely.Bitmap.base64_2_data: a ring of 3 x 3 pixels
RING = ("eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44sKHhISMDuxpTYrr0"
        "3F6gDIOnq5/LOqeEJgDM5ht6")


def png(pixels, kind):
    """Return a PNG written by hand: 'grey' of 8 bits, 'palette' whose first colour is transparent, or 'rgba'."""
    h, w = pixels.shape
    if kind == "rgba":
        rows = [b"\0" + b"".join(b"\xff\xff\xff\xff" if p else b"\xff\xff\xff\0" for p in row) for row in pixels]
    else:
        rows = [b"\0" + bytes(row.astype(np.uint8).tolist()) for row in pixels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, {"grey": 0, "palette": 3, "rgba": 6}[kind], 0, 0, 0))]
    if kind == "palette":
        chunks += [(b"PLTE", b"\xff\xff\xff\0\0\0"), (b"tRNS", b"\0")]
    chunks += [(b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(
        ">I", zlib.crc32(name + data)) for name, data in chunks)


def polygon(title, points, *holes, **more):
    return {"id": 5, "classTitle": title, "geometryType": "polygon", "tags": [], "labelerLogin": "me",
            "points": {"exterior": [list(p) for p in points], "interior": [[list(p) for p in hole] for hole in holes]},
            **more}


def corners(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def bitmap(title, pixels, left, top, kind="palette"):
    data = base64.b64encode(zlib.compress(png(pixels, kind))).decode()
    return {"id": 6, "classTitle": title, "geometryType": "bitmap", "tags": [], "bitmap": {"data": data,
            "origin": [left, top]}}


def rectangle(title, left, top, right, bottom):
    return polygon(title, [(left, top), (right, bottom)], geometryType="rectangle")


def annotation(*objects, **more):
    return {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": list(objects), **more}


@pytest.fixture
def source(tmp_path, write_image, text):
    write_image(tmp_path / "zoo" / "ds0" / "img" / "a.png")
    text(tmp_path / "zoo" / "meta.json", META)
    return tmp_path / "zoo"


@pytest.fixture
def convert(source, tmp_path):
    """``convert(object, ...)`` prepares one image and returns its mask."""
    def run(*objects, boxes=None, **more):
        path = source / "ds0" / "ann" / "a.png.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(annotation(*objects, **more)))
        prepare("supervisely", source, tmp_path / "out", force=True, boxes=boxes)
        return read_mask(tmp_path / "out" / "masks" / "ds0" / "a.png")
    return run


def test_polygons_with_holes_and_later_objects_on_top(convert, tmp_path):
    mask = convert(polygon("dog", corners(2, 2, 12, 12), corners(4, 4, 6, 6), corners(8, 8, 10, 10)),
                   polygon("cat", corners(10, 2, 20, 5)))
    wanted = expected_mask((2, 2, 2, 12, 12), (0, 4, 4, 6, 6), (0, 8, 8, 10, 10), (1, 10, 2, 20, 5))
    assert np.array_equal(mask, wanted)
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "cat", "dog")


def test_the_bitmap_of_the_documentation():
    wanted = np.zeros((6, 7), bool)
    wanted[2:5, 1:4] = True
    wanted[3, 2] = False
    assert np.array_equal(draw_bitmap([1, 2, RING], 6, 7, ""), wanted)


@pytest.mark.parametrize("kind", ["grey", "palette", "rgba"])
def test_bitmaps(convert, rng, kind):
    pixels = rng.random((6, 13)) < 0.5
    mask = convert(polygon("cat", corners(0, 0, 20, 20)), bitmap("dog", pixels, 7, 5, kind))
    wanted = expected_mask((1, 0, 0, 20, 20))
    wanted[5:11, 7:20][pixels] = 2
    assert np.array_equal(mask, wanted)


def test_the_first_exports(source, tmp_path, text):
    """They write NAME.json for NAME.png, and no geometryType."""
    shape = polygon("cat", corners(2, 2, 12, 12))
    del shape["geometryType"]
    text(source / "ds0" / "ann" / "a.json", annotation(shape))
    prepare("supervisely", source, tmp_path / "out")
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "ds0" / "a.png"), expected_mask((1, 2, 2, 12, 12)))


def test_data_sets_are_splits(tmp_path, write_image, text):
    source, target = tmp_path / "download" / "zoo", tmp_path / "out"
    text(source / "meta.json", META)
    for split in ("train", "val"):
        write_image(source / split / "img" / "a.jpg")
        text(source / split / "ann" / "a.jpg.json", annotation(polygon("dog", corners(2, 2, 12, 12))))
    prepare("supervisely", source.parent, target)
    assert mask_names(target) == ["train/zoo/a.png", "val/zoo/a.png"]
    assert np.array_equal(read_mask(target / "masks" / "val" / "zoo" / "a.png"), expected_mask((2, 2, 2, 12, 12)))
    prepare("supervisely", source, target, force=True)
    assert mask_names(target) == ["train/a.png", "val/a.png"]


@pytest.mark.parametrize("boxes, inside", [("fill", 1), ("ignore", IGNORE)])
def test_boxes(convert, boxes, inside):
    objects = rectangle("cat", 4, 4, 20, 14), polygon("dog", corners(8, 8, 12, 12))
    with pytest.raises(DataError, match="1 of 2 objects have a box but no outline") as error:
        convert(*objects)
    assert error.value.received == "objects[0]: a box of 'cat'"
    assert np.array_equal(convert(*objects, boxes=boxes), expected_mask((inside, 4, 4, 20, 14), (2, 8, 8, 12, 12)))


def test_objects_without_area_and_images_without_annotations(convert, source, write_image, caplog):
    write_image(source / "ds0" / "img" / "b.png")
    mask = convert(polygon("cat", [(1, 1), (5, 5)], geometryType="line"), polygon("cat", corners(2, 2, 12, 12)))
    assert np.array_equal(mask, expected_mask((1, 2, 2, 12, 12)))
    assert "left out, objects of the type line, which has no area: 1: ds0/ann/a.png.json, objects[0]" in caplog.text
    assert "left out, images without annotations: 1: ds0/img/b.png" in caplog.text


CAT = polygon("cat", corners(2, 2, 12, 12))


@pytest.mark.parametrize("shape, words", [
    ({**CAT, "classTitle": "bird"}, r"objects\[0\].classTitle: expected a class of meta.json"),
    ({**CAT, "classTitle": None}, "classTitle: expected a class name"), (5, r"objects\[0\]: expected an object"),
    ({**CAT, "geometryType": "mask_3d"}, "geometryType: expected polygon"),
    ({**CAT, "points": {"exterior": [[1, 1], [2, 2]]}}, "exterior: expected at least 3 points"),
    ({**CAT, "points": {"exterior": [[1, 1], [2, 2], [3, None]]}}, r"exterior\[2\]: expected a number"),
    ({**CAT, "points": {"exterior": [[1, 1], [2, 2], [3, 3]], "interior": [[[1, 1]]]}}, r"interior\[0\]: expected"),
    ({**CAT, "points": {"exterior": [[1, 1], [2, 2], [3, 3]], "interior": None}}, "interior: expected a list"),
    ({**CAT, "points": None}, "points: expected an object"), ({**CAT, "geometryType": "bitmap"}, "bitmap: expected"),
    ({**CAT, "geometryType": "rectangle"}, "two opposite corners"),
    ({**bitmap("dog", np.ones((2, 2)), 1, 1), "bitmap": {"data": "A", "origin": [1, 1]}}, "expected a PNG image"),
    ({**bitmap("dog", np.ones((2, 2)), 1, 1), "bitmap": {"data": RING, "origin": [1]}}, "origin: expected"),
    ({**bitmap("dog", np.ones((2, 2)), 1, 1), "bitmap": {"data": RING, "origin": [1, 22]}}, "extends beyond its image"),
    ({**bitmap("dog", np.ones((2, 2)), 1, 1), "bitmap": {"data": RING, "origin": [-1, 2]}}, "extends beyond its image"),
])
def test_the_message_names_the_element(convert, shape, words):
    with pytest.raises(DataError, match=words) as error:
        convert(shape)
    assert "a.png.json" in str(error.value.where) and error.value.fix


@pytest.mark.parametrize("data", [
    b"", b"PNG", zlib.compress(b"PNG"), zlib.compress(png(np.ones((3, 3)), "grey"))[:-6],
    zlib.compress(png(np.ones((3, 3)), "grey")[:40]), zlib.compress(b"\0" * (1 << 27)),
])
def test_damaged_bitmaps(data):
    with pytest.raises(DataError, match="expected a PNG image, compressed by zlib") as error:
        draw_bitmap([0, 0, base64.b64encode(data).decode()], 5, 5, "a.json, objects[3]")
    assert error.value.where == "a.json, objects[3]"


def test_a_wrong_project(source, tmp_path, convert, text):
    convert(CAT)
    with pytest.raises(DataError, match="the size of an image differs"):
        convert(CAT, size={"height": HEIGHT, "width": WIDTH + 1})
    with pytest.raises(DataError, match="size.width: expected a whole number"):
        convert(CAT, size={"height": HEIGHT, "width": "w"})
    convert(CAT)
    text(source / "ds0" / "ann" / "b.png.json", annotation(CAT))
    with pytest.raises(DataError, match="1 of 2 annotation files have no image"):
        prepare("supervisely", source, tmp_path / "out2")
    text(source / "ds0" / "meta.json", META)
    with pytest.raises(DataError, match="several projects"):
        prepare("supervisely", source, tmp_path / "out2")
    (source / "ds0" / "meta.json").unlink()
    text(source / "meta.json", {**META, "classes": [META["classes"][0]] * 2})
    with pytest.raises(DataError, match="classes with different titles"):
        prepare("supervisely", source, tmp_path / "out2")
    (source / "meta.json").unlink()
    with pytest.raises(DataNotFoundError, match="meta.json of a Supervisely project"):
        prepare("supervisely", source, tmp_path / "out2")


def test_it_recognises_its_format_only(source, convert, text):
    assert Supervisely.recognises(source) is None  # no annotations yet
    convert(CAT)
    assert Supervisely.recognises(source) == "meta.json with 2 classes, and ann/NAME.json with objects"
    assert Supervisely.recognises(source.parent) is not None
    text(source / "meta.json", {"classes": ["cat"]})
    assert Supervisely.recognises(source) is None
    assert Supervisely.recognises(source / "ds0" / "img" / "a.png") is None


def test_mutated_files(source, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    file = source / "ds0" / "ann" / "a.png.json"
    file.parent.mkdir()
    original = annotation(polygon("dog", corners(2, 2, 12, 12), corners(4, 4, 6, 6)),
                          bitmap("cat", np.ones((3, 4)), 2, 3), polygon("cat", [(1, 1), (5, 5)], geometryType="line"))

    def run(seed):
        file.write_bytes(mutate_bytes(dump(original), seed) if seed % 5 == 0 else dump(mutate_json(original, seed)))
        (source / "meta.json").write_bytes(dump(mutate_json(META, seed) if seed % 3 == 0 else META))
        Supervisely.recognises(source)
        prepare("supervisely", source, tmp_path / "out", force=True, workers=1)
    run_damaged(run, 300, MXNetSegError, least=20)
    assert {path.name for path in tmp_path.iterdir()} <= {"zoo", "out"}


def test_mutated_bitmaps():
    data = png(np.ones((5, 5)), "palette")

    def run(seed):
        mutated = mutate_bytes(zlib.compress(data), seed) if seed % 2 else zlib.compress(mutate_bytes(data, seed))
        assert draw_bitmap([0, 0, base64.b64encode(mutated).decode()], 5, 5, "").shape == (5, 5)
    run_damaged(run, 300, DataError, least=5)
