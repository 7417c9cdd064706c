"""JSON exports of Label Studio."""
import json
import logging

import numpy as np
import pytest
from prepared import expected_mask, read_mask, run_damaged

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.data.prepare.brush import draw_brush, unpack
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError
from tests.helpers.mutations import dump, mutate_bytes, mutate_json

from .conftest import SIZE

HEIGHT, WIDTH = SIZE
LabelStudio = PREPARATIONS.get("label-studio")

# masks as packed by mask2rle of label-studio-sdk 1.0.5
GOLDEN = [
    (["0000000", "0011100", "0010100", "0011100", "0000001"],
     [0, 0, 0, 140, 57, 27, 254, 35, 0, 183, 255, 124, 2, 63, 248, 192, 35, 255, 190, 1, 111, 255, 15, 128, 71, 254]),
    (["110011110", "110100010", "011011001", "010110010", "100100001", "001011101"],
     [0, 0, 0, 216, 57, 27, 252, 255, 243, 128, 95, 255, 140, 2, 127, 248, 192, 35, 255, 182, 1, 31, 252, 224, 19, 255,
      198, 1, 63, 252, 224, 17, 255, 198, 1, 31, 252, 96, 19, 255, 206, 1, 31, 252, 96, 17, 255, 206, 1, 31, 253, 240,
      8, 255, 231, 0, 143, 254, 48, 11, 127, 241, 128, 71, 254]),
]


def pack(alpha, *, lengths=(3, 4, 8, 16), literal=False):
    """Return bytes as thi.ng's rle-pack writes them, as one text of bits: one block a run, or blocks of samples."""
    samples = np.repeat(alpha.ravel(), 4).tolist()
    bits = f"{len(samples):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in lengths)

    def number(value):
        i = next(i for i, length in enumerate(lengths) if value <= 1 << length)
        return f"{i:02b}{value - 1:0{lengths[i]}b}"

    at = 0
    while at < len(samples):
        end = at + 1
        while end < len(samples) and end - at < 1 << lengths[-1] and (literal or samples[end] == samples[at]):
            end += 1
        bits += "0" + number(end - at) + "".join(f"{s:08b}" for s in samples[at:end]) if literal else \
            "1" + number(end - at) + f"{samples[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)]


def result(kind, value, label, **more):
    return {"id": f"r{abs(hash(str(value))) % 10 ** 6}", "from_name": "label", "to_name": "image", "type": kind,
            "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "origin": "manual",
            "value": {**value, kind: [label]}, **more}


def polygon(label, *points, **more):
    return result("polygonlabels", {"points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points], "closed": True},
                  label, **more)


def square(label, left, top, right, bottom, **more):
    return polygon(label, (left, top), (right, top), (right, bottom), (left, bottom), **more)


def brush(label, alpha, **more):
    return result("brushlabels", {"format": "rle", "rle": pack(alpha, **more)}, label)


def task(*results, image="/data/upload/1/0a1b2c3d-a.png", **more):
    return {"id": 1, "annotations": [{"id": 1, "completed_by": 1, "was_cancelled": False, "ground_truth": False,
                                      "result": list(results)}],
            "file_upload": image.rpartition("/")[2], "drafts": [], "predictions": [], "data": {"image": image},
            "meta": {}, **more}


@pytest.fixture
def source(tmp_path, write_image):
    write_image(tmp_path / "studio" / "images" / "a.png")
    return tmp_path / "studio"


@pytest.fixture
def convert(source, tmp_path):
    """``convert(task, ...)`` prepares an export and returns the mask of the image a.png."""
    def run(*tasks, boxes=None):
        (source / "export.json").write_text(json.dumps(list(tasks)))
        prepare("label-studio", source, tmp_path / "out", force=True, boxes=boxes)
        return read_mask(tmp_path / "out" / "masks" / "a.png")
    return run


# ---- brush strokes

@pytest.mark.parametrize("rows, data", GOLDEN)
def test_brush_strokes_as_label_studio_packs_them(rows, data):
    wanted = np.array([[character == "1" for character in row] for row in rows])
    assert np.array_equal(draw_brush(bytes(data), *wanted.shape, ""), wanted)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("lengths", [(3, 4, 8, 16), (1, 2, 3, 5), (16, 16, 16, 16)])
def test_unpacked_samples(rng, lengths, literal):
    alpha = rng.integers(0, 256, (7, 9), dtype=np.uint8)
    alpha[2:5] = 9
    data = bytes(pack(alpha, lengths=lengths, literal=literal))
    assert np.array_equal(unpack(data, alpha.size * 4, ""), np.repeat(alpha.ravel(), 4))


@pytest.mark.parametrize("damage, words", [
    (lambda data: data[:-2], "ends too early"), (lambda data: b"", "ends too early"),
    (lambda data: b"\x00\x00\x00\x04" + data[4:], "is not of an image of this size"),
    (lambda data: data[:4] + bytes([data[4] ^ 0x80]) + data[5:], "samples of an unknown size"),
])
def test_damaged_strokes(damage, words):
    data = bytes(GOLDEN[0][1])
    with pytest.raises(DataError, match=words) as error:
        draw_brush(damage(data), 5, 7, "export.json, [0]")
    assert error.value.where == "export.json, [0]"


def test_brush_and_polygon(convert, rng, tmp_path):
    alpha = np.where(rng.random(SIZE) < 0.3, 255, 0).astype(np.uint8)
    alpha[0, :2] = 127, 128  # edges of strokes are smooth
    mask = convert(task(square("dog", 4, 4, 20, 14), brush("cat", alpha)))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "cat", "dog")
    assert np.array_equal(mask, np.where(alpha >= 128, 1, expected_mask((2, 4, 4, 20, 14))))


# ---- regions

def test_later_regions_are_on_top(convert):
    mask = convert(task(square("cat", 8, 8, 12, 12), square("dog", 4, 4, 20, 14), square("cat", 0, 0, 6, 6)))
    assert np.array_equal(mask, expected_mask((2, 4, 4, 20, 14), (1, 0, 0, 6, 6)))


def test_an_ellipse(convert):
    mask = convert(task(result("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 90},
                               "cat")))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert np.array_equal(mask, ((x - 16) / 3) ** 2 + ((y - 12) / 8) ** 2 <= 1)


@pytest.mark.parametrize("boxes, inside", [("fill", 1), ("ignore", IGNORE)])
def test_boxes(convert, boxes, inside):
    box = result("rectanglelabels", {"x": 12.5, "y": 12.5, "width": 50, "height": 50, "rotation": 0}, "cat")
    with pytest.raises(DataError, match="1 of 2 objects have a box but no outline"):
        convert(task(box, square("dog", 8, 8, 12, 12)))
    mask = convert(task(box, square("dog", 8, 8, 12, 12)), boxes=boxes)
    assert np.array_equal(mask, expected_mask((inside, 4, 3, 20, 15), (2, 8, 8, 12, 12)))


def test_a_box_is_rotated_around_its_first_corner(convert):
    box = result("rectanglelabels", {"x": 50, "y": 25, "width": 25, "height": 25, "rotation": 90}, "cat")
    assert np.array_equal(convert(task(box), boxes="fill"), expected_mask((1, 10, 6, 16, 14)))


def test_a_region_and_its_label_in_two_results(convert):
    """The tags Polygon and Labels together write two results with one id."""
    shape = square("cat", 4, 4, 20, 14)
    value = {key: shape["value"][key] for key in ("points", "closed")}
    mask = convert(task({**shape, "type": "polygon", "value": value},
                        {**shape, "type": "labels", "value": {**value, "labels": ["cat"]}}))
    assert np.array_equal(mask, expected_mask((1, 4, 4, 20, 14)))


def test_two_regions_with_one_id_are_refused(convert):
    with pytest.raises(DataError, match=r"result\[1\].id: expected a different id"):
        convert(task(square("cat", 4, 4, 20, 14, id="x"), square("cat", 4, 4, 20, 15, id="x")))


def test_results_without_area(convert, caplog):
    mask = convert(task(
        square("cat", 4, 4, 20, 14), {"type": "choices", "value": {"choices": ["sunny"]}, "from_name": "weather"},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        result("keypointlabels", {"x": 1, "y": 1, "width": 1}, "dog"),
        {**square("dog", 0, 0, 4, 4), "value": {"points": [[0, 0], [9, 0]], "closed": False,
                                                "polygonlabels": ["dog"]}}))
    assert np.array_equal(mask, expected_mask((1, 4, 4, 20, 14)))
    assert "key points and vectors, which have no area: 1: export.json, [0].annotations[0].result[3]" in caplog.text
    assert "polygons that are not closed: 1" in caplog.text


# ---- tasks

def test_tasks_without_and_with_several_annotations(convert, source, write_image, caplog):
    write_image(source / "images" / "b.png")
    first, second = task(square("cat", 4, 4, 20, 14)), task(square("dog", 0, 0, 9, 9))
    empty = task(image="b.png", annotations=[], predictions=[{"result": [square("cat", 0, 0, 9, 9)]}])
    both = {**first, "annotations": first["annotations"] + second["annotations"]}
    with pytest.raises(DataError, match=r"\[0\].annotations: expected one annotation") as error:
        convert(both, empty)
    assert "ground truth" in error.value.fix
    both["annotations"][1]["ground_truth"] = True
    assert np.array_equal(convert(both, empty), expected_mask((1, 0, 0, 9, 9)))
    assert "left out, tasks without an annotation: 1: export.json, [1]" in caplog.text
    del both["annotations"][1]["ground_truth"]
    both["annotations"][1]["was_cancelled"] = True
    assert np.array_equal(convert(both), expected_mask((1, 4, 4, 20, 14)))


@pytest.mark.parametrize("image", [
    "/data/upload/7/0a1b2c3d-a.png", "/data/local-files/?d=photos/images/a.png", "s3://bucket/photos/a.png",
    "https://example.com/x/a.png?token=1", "/home/me/photos/images/a.png", "C:\\photos\\a.png", "a.png",
    "/data/local-files/?d=images%2Fa.png",
])
def test_the_image_is_found(convert, image):
    assert np.array_equal(convert(task(square("cat", 4, 4, 20, 14), image=image, file_upload=None)),
                          expected_mask((1, 4, 4, 20, 14)))


def test_splits_and_older_exports(tmp_path, write_image, text):
    source, target = tmp_path / "studio", tmp_path / "out"
    for split in ("train", "val"):
        write_image(source / "images" / f"{split}-1.png")
        old = task(square("cat", 4, 4, 20, 14), image=f"{split}-1.png")
        text(source / f"{split}.json", [{**{k: v for k, v in old.items() if k != "annotations"},
                                         "completions": old["annotations"]}])
    prepare("label-studio", source, target)
    assert np.array_equal(read_mask(target / "masks" / "val" / "val-1.png"), expected_mask((1, 4, 4, 20, 14)))
    assert (target / "masks" / "train" / "train-1.png").is_file()


@pytest.mark.parametrize("change, words", [
    ({"image": "../../precious.png", "file_upload": None}, "leads out of the source"),
    ({"image": "b.png"}, "1 of 1 images are missing"), ({"data": {"text": "hello"}, "file_upload": None}, "one image"),
    ({"data": {"a": "a.png", "b": "b.png"}, "file_upload": None}, "one image"), ({"data": 5}, r"\[0\].data"),
    ({"annotations": None}, r"\[0\].annotations: expected a list"),
    ({"annotations": [{"result": None}]}, r"annotations\[0\].result: expected a list"),
    ({"annotations": [5]}, r"annotations\[0\]: expected an object"),
])
def test_wrong_tasks(source, tmp_path, text, change, words):
    good = task(square("cat", 4, 4, 20, 14), image="a.png")
    text(source / "export.json", [good, {**task(square("cat", 4, 4, 20, 14)), **change}] if "data" in change
         else [task(square("cat", 4, 4, 20, 14), **change)])
    with pytest.raises(DataError, match=words.replace(r"\[0\].data", r"\[1\].data")):
        prepare("label-studio", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, words", [
    ({"value": {"points": [[1, 1], [2, 2]], "polygonlabels": ["cat"]}}, r"value.points: expected at least 3 points"),
    ({"value": {"points": [[1, 1], [2, 2], [3, "4"]], "polygonlabels": ["cat"]}}, r"points\[2\]: expected a number"),
    ({"value": {"points": [[1, 1], [2, 2], [3]], "polygonlabels": ["cat"]}}, r"points\[2\]: expected two numbers"),
    ({"value": {"points": [[1, 1], [2, 2], [3, 4]], "polygonlabels": ["cat", "dog"]}}, "one label"),
    ({"value": {"points": [[1, 1], [2, 2], [3, 4]], "polygonlabels": []}}, "one label"),
    ({"value": {"points": [[1, 1], [2, 2], [3, 4]]}}, "a region with a label"),
    ({"value": {"rle": [1, 256], "brushlabels": ["cat"]}}, r"value.rle\[1\]: expected a byte"),
    ({"value": {"rle": [1], "format": "png", "brushlabels": ["cat"]}}, "value.format"),
    ({"value": {"x": 1, "y": 1, "width": "2", "height": 1, "rectanglelabels": ["cat"]}}, "width: expected a number"),
    ({"original_width": None}, r"result\[0\].original_width"), ({"original_height": 0}, "original_height"),
    ({"image_rotation": 90}, "image_rotation: expected 0"),
])
def test_wrong_results(convert, change, words):
    with pytest.raises(DataError, match=words) as error:
        convert(task({**square("cat", 4, 4, 20, 14), **change}))
    assert error.value.where.name == "export.json" and "[0].annotations[0].result[0]" in error.value.what


def test_another_size_is_refused(convert):
    with pytest.raises(DataError, match="the size of an image differs"):
        convert(task(square("cat", 4, 4, 20, 14, original_width=64)))
    with pytest.raises(DataError, match="the size of the other results, 32 x 24"):
        convert(task(square("cat", 4, 4, 20, 14), square("dog", 4, 4, 20, 15, original_width=64)))


def test_other_formats(source, tmp_path, text):
    text(source / "min.json", [{"id": 1, "image": "a.png", "label": [], "annotation_id": 3, "annotator": 1}])
    assert LabelStudio.recognises(source) is None
    with pytest.raises(DataError, match="JSON-MIN"):
        prepare("label-studio", source, tmp_path / "out")
    text(source / "min.json", {"images": [], "annotations": [], "categories": []})
    assert LabelStudio.recognises(source) is None
    with pytest.raises(DataNotFoundError, match="JSON export of Label Studio"):
        prepare("label-studio", source, tmp_path / "out")
    text(source / "export.json", [task(square("cat", 4, 4, 20, 14))])
    assert LabelStudio.recognises(source) == "export.json with 1 tasks of Label Studio (data, annotations)"


def test_mutated_files(source, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    alpha = np.zeros(SIZE, np.uint8)
    alpha[3:9, 5:20] = 255
    original = [task(square("dog", 4, 4, 20, 14), brush("cat", alpha), result(
        "ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 9}, "cat"))]

    def run(seed):
        content = mutate_bytes(dump(original), seed) if seed % 5 == 0 else dump(mutate_json(original, seed))
        (source / "export.json").write_bytes(content)
        LabelStudio.recognises(source)
        prepare("label-studio", source, tmp_path / "out", force=True, workers=1)
    run_damaged(run, 300, MXNetSegError, least=20)
    assert {path.name for path in tmp_path.iterdir()} <= {"studio", "out"}


def test_mutated_strokes():
    data = bytes(GOLDEN[1][1])
    run_damaged(lambda seed: draw_brush(mutate_bytes(data, seed), 6, 9, ""), 400, DataError, least=20)
