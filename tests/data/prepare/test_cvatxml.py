"""XML files of CVAT, "CVAT for images 1.1"."""
import itertools
import logging

import numpy as np
import pytest
from prepared import expected_mask, mask_names, read_mask, run_damaged

from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError
from tests.helpers.mutations import mutate_bytes

from .conftest import SIZE

HEIGHT, WIDTH = SIZE
CVATXml = PREPARATIONS.get("cvat-xml")


def polygon(label, points, z=0):
    return (f'<polygon label="{label}" source="manual" occluded="0" points="'
            + ";".join(f"{x:.2f},{y:.2f}" for x, y in points) + f'" z_order="{z}">\n    </polygon>')


def square(label, left, top, right, bottom, z=0):
    return polygon(label, [(left, top), (right, top), (right, bottom), (left, bottom)], z)


def mask_element(label, pixels, z=0):
    """Write a mask: runs of the rows of its bounding box, beginning with a run outside."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    part = pixels[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    runs = [0] * bool(part[0, 0]) + [len(list(group)) for _, group in itertools.groupby(part.ravel().tolist())]
    return (f'<mask label="{label}" source="semi-auto" occluded="0" rle="{", ".join(map(str, runs))}" '
            f'left="{columns[0]}" top="{rows[0]}" width="{part.shape[1]}" height="{part.shape[0]}" z_order="{z}">\n'
            "    </mask>")


def document(images, labels=("cat", "dog"), kind="task"):
    """``images``: (attributes, elements) for each image."""
    declared = "".join(f"<label><name>{name}</name><color>#fafa37</color><type>any</type><attributes></attributes>"
                       "</label>" for name in labels)
    body = "".join(f'  <image id="{i}" {attributes} width="{WIDTH}" height="{HEIGHT}">\n    ' + "\n    ".join(elements)
                   + "\n  </image>\n" for i, (attributes, elements) in enumerate(images))
    return (f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><{kind}>'
            f"<id>3</id><name>pets</name><labels>{declared}</labels></{kind}><dumped>2026-01-01</dumped></meta>\n{body}"
            "</annotations>\n")


@pytest.fixture
def source(tmp_path, write_image):
    write_image(tmp_path / "cvat" / "images" / "a.png")
    return tmp_path / "cvat"


@pytest.fixture
def convert(source, tmp_path):
    """``convert(element, ...)`` prepares one image and returns its mask."""
    def run(*elements, boxes=None, **more):
        (source / "annotations.xml").write_text(document([('name="a.png"', elements)], **more), encoding="utf-8")
        prepare("cvat-xml", source, tmp_path / "out", force=True, boxes=boxes)
        return read_mask(tmp_path / "out" / "masks" / "a.png")
    return run


def test_polygons(convert, tmp_path):
    mask = convert(polygon("dog", [(2, 2), (12, 2), (12, 12), (8, 12), (8, 6), (2, 6)]))
    assert np.array_equal(mask, expected_mask((2, 2, 2, 12, 6), (2, 8, 6, 12, 12)))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "cat", "dog")


def test_a_higher_z_order_is_on_top_and_later_regions_among_equals(convert):
    mask = convert(square("dog", 4, 4, 12, 12, z=1), square("cat", 8, 8, 20, 20), square("dog", 16, 16, 24, 22),
                   square("cat", 2, 2, 6, 6, z=-1))
    wanted = expected_mask((1, 2, 2, 6, 6), (1, 8, 8, 20, 20), (2, 16, 16, 24, 22), (2, 4, 4, 12, 12))
    assert np.array_equal(mask, wanted)


@pytest.mark.parametrize("first", [True, False])
def test_masks(convert, rng, first):
    pixels = np.zeros(SIZE, bool)
    pixels[5:11, 7:20] = rng.random((6, 13)) < 0.5
    pixels[5, 7] = first
    pixels[5, 8] = pixels[10, 7] = pixels[7, 19] = True
    mask = convert(square("cat", 0, 0, 10, 10), mask_element("dog", pixels))
    assert np.array_equal(mask, np.where(pixels, 2, expected_mask((1, 0, 0, 10, 10))))


def test_a_run_continues_in_the_next_row(convert):
    mask = convert('<mask label="cat" rle="3, 4, 3" left="1" top="2" width="5" height="2" z_order="0"></mask>')
    wanted = expected_mask((1, 4, 2, 6, 3), (1, 1, 3, 3, 4))
    assert np.array_equal(mask, wanted)


def test_an_ellipse(convert):
    mask = convert('<ellipse label="cat" cx="12" cy="10" rx="8" ry="3" rotation="90.0" z_order="0"></ellipse>')
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert np.array_equal(mask, ((x - 12) / 3) ** 2 + ((y - 10) / 8) ** 2 <= 1)


@pytest.mark.parametrize("boxes, inside", [("fill", 1), ("ignore", IGNORE)])
def test_boxes(convert, boxes, inside):
    box = '<box label="cat" xtl="4.00" ytl="4.00" xbr="20.00" ybr="14.00" z_order="3"></box>'
    with pytest.raises(DataError, match="1 of 2 objects have a box but no outline") as error:
        convert(square("dog", 8, 8, 12, 12, z=4), box)
    assert error.value.received == "line 8, <box>: a box of 'cat'" and "--boxes fill" in error.value.fix
    mask = convert(square("dog", 8, 8, 12, 12, z=4), box, boxes=boxes)
    assert np.array_equal(mask, expected_mask((inside, 4, 4, 20, 14), (2, 8, 8, 12, 12)))


def test_a_rotated_box(convert):
    mask = convert('<box label="cat" xtl="4" ytl="8" xbr="20" ybr="12" rotation="90" z_order="0"></box>', boxes="fill")
    assert np.array_equal(mask, expected_mask((1, 10, 2, 14, 18)))
    mask = convert('<box label="cat" xtl="8" ytl="8" xbr="16" ybr="9" rotation="45" z_order="0"></box>', boxes="fill")
    assert mask[10, 14] == 1 and mask[6, 9] == 1 and mask[6, 14] == 0  # clockwise: the right end goes down


def test_elements_without_area_are_left_out(convert, caplog):
    mask = convert('<polyline label="cat" points="1,1;5,5" z_order="0"></polyline>', square("dog", 2, 2, 8, 8),
                   '<points label="cat" points="1,1" z_order="0"></points>', '<tag label="cat" source="manual"></tag>')
    assert np.array_equal(mask, expected_mask((2, 2, 2, 8, 8)))
    assert "left out, elements <polyline> without an area: 1: annotations.xml, line 6" in caplog.text
    assert "elements <tag>" in caplog.text


@pytest.mark.parametrize("subsets, folders", [(("Train", "Validation"), ("train", "val")),
                                              (("day", "night"), ("day", "night"))])
def test_a_project_with_subsets_that_mean_splits_or_not(tmp_path, write_image, subsets, folders):
    source, target = tmp_path / "project", tmp_path / "out"
    for subset in subsets:
        write_image(source / "images" / subset / "frame_0.png")
    (source / "annotations.xml").write_text(document(
        [(f'name="frame_0.png" subset="{subset}" task_id="{i}"', [square(label, 2, 2, 8, 8)])
         for i, (subset, label) in enumerate(zip(subsets, ("cat", "dog")))], kind="project"))
    prepare("cvat-xml", source, target)
    assert mask_names(target) == [f"{folder}/frame_0.png" for folder in folders]
    assert np.array_equal(read_mask(target / "masks" / folders[1] / "frame_0.png"), expected_mask((2, 2, 2, 8, 8)))


def test_one_file_for_each_split(tmp_path, write_image):
    source, target = tmp_path / "tasks", tmp_path / "out"
    for split in ("train", "val"):
        write_image(source / split / "images" / "frame_0.png")
        (source / split / "annotations.xml").write_text(document([('name="frame_0.png"', [square("cat", 2, 2, 8, 8)])]))
    prepare("cvat-xml", source, target)
    assert mask_names(target) == ["train/frame_0.png", "val/frame_0.png"]


def test_an_image_without_regions_is_background_and_given_classes_count(convert, source, text):
    assert not convert().any()
    text(source / "classes.txt", "dog", "cat")
    assert np.array_equal(convert(square("cat", 2, 2, 8, 8)), expected_mask((1, 2, 2, 8, 8), uncovered=IGNORE))


@pytest.mark.parametrize("element, words", [
    ('<polygon label="cat" points="1,1;2,2" z_order="0"/>', "line 6, <polygon> points: expected at least 3 points"),
    ('<polygon label="cat" points="1,1;2;3,3" z_order="0"/>', r"points\[1\]: expected x,y"),
    ('<polygon label="cat" points="1,1;2,inf;3,3"/>', r"points\[1\]: expected a number"),
    ('<polygon label="cat" points="1,1;2,x;3,3"/>', r"points\[1\]: expected a number"),
    ('<polygon label="cat"/>', "points: expected a text"),
    ('<polygon points="1,1;2,2;3,3"/>', "label: expected a class"),
    ('<polygon label="bird" points="1,1;2,2;3,3"/>', "a label that <labels> of the file declares"),
    ('<polygon label="cat" points="1,1;2,2;3,3" z_order="up"/>', "z_order"),
    ('<mask label="cat" rle="3, 4" left="1" top="2" width="5" height="2"/>', "rle: expected runs of 5 x 2 pixels"),
    ('<mask label="cat" rle="3, -4, 11" left="1" top="2" width="5" height="2"/>', r"rle\[1\]: expected a whole"),
    ('<mask label="cat" rle="10" left="1" top="2" width="5" height="0"/>', "height: expected a whole number"),
    ('<mask label="cat" rle="0, 10" left="30" top="2" width="5" height="2"/>', "extends beyond its image"),
    ('<mask label="cat" rle="0, 10" left="-1" top="2" width="5" height="2"/>', "extends beyond its image"),
    ('<box label="cat" xtl="4" ytl="4" xbr="x" ybr="14"/>', "xbr: expected a number"),
    ('<heart label="cat"/>', "expected a polygon, box, ellipse or mask"),
])
def test_the_message_names_the_element(convert, element, words):
    with pytest.raises(DataError, match=words) as error:
        convert(element)
    assert "annotations.xml" in str(error.value.where) and error.value.fix


@pytest.mark.parametrize("attributes, words", [
    ('name="../../precious.png"', "leads out of the source"), ('name="/etc/a.png"', "leads out of the source"),
    ('name="C:\\a.png"', "leads out of the source"), ('name="b.png"', "1 of 1 images are missing"),
    ("", "name: expected a text"), ('name="a.png" subset="train_val"', "several splits"),
])
def test_wrong_images(source, tmp_path, attributes, words):
    (source / "annotations.xml").write_text(document([(attributes, [])]))
    with pytest.raises(DataError, match=words):
        prepare("cvat-xml", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_size_is_refused(source, tmp_path):
    (source / "annotations.xml").write_text(document([('name="a.png"', [])]).replace('width="32"', 'width="64"'))
    with pytest.raises(DataError, match="the size of an image differs") as error:
        prepare("cvat-xml", source, tmp_path / "out")
    assert error.value.received.startswith("32 x 24;") and error.value.received.endswith("64 x 24")


@pytest.mark.parametrize("content, words", [
    ('<annotations><track id="0" label="cat"></track></annotations>', "CVAT for video 1.1"),
    ("<annotations><image>", "damaged or not XML"),
    ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>', "a document type"),
    ("<annotations>" + "<a>" * 50 + "</a>" * 50 + "</annotations>", "nested elements"),
])
def test_wrong_documents(source, tmp_path, content, words):
    (source / "annotations.xml").write_text(content)
    with pytest.raises(DataError) as error:
        prepare("cvat-xml", source, tmp_path / "out")
    assert words in str(error.value)
    assert CVATXml.recognises(source) is None


def test_xml_of_other_programs(source, tmp_path, convert, caplog):
    (source / "voc.xml").write_text("<annotation><object/></annotation>")
    assert CVATXml.recognises(source) is None
    with pytest.raises(DataNotFoundError, match="XML file of CVAT"):
        prepare("cvat-xml", source, tmp_path / "out")
    convert(square("cat", 2, 2, 8, 8))
    assert "left out, XML files of other programs: 1: voc.xml" in caplog.text
    assert "annotations.xml with <annotations> and 1 <image>" in CVATXml.recognises(source)


def test_mutated_files(source, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    pixels = np.zeros(SIZE, bool)
    pixels[5:11, 7:20] = True
    original = document([('name="a.png"', [
        square("cat", 4, 4, 12, 12), mask_element("dog", pixels, z=2), '<polyline label="cat" points="1,1;2,2"/>',
        '<ellipse label="cat" cx="12" cy="10" rx="8" ry="3" rotation="9" z_order="0"></ellipse>'])]).encode()

    def run(seed):
        (source / "annotations.xml").write_bytes(mutate_bytes(original, seed))
        CVATXml.recognises(source)
        prepare("cvat-xml", source, tmp_path / "out", force=True, workers=1)
    run_damaged(run, 300, MXNetSegError, least=5)
    assert {path.name for path in tmp_path.iterdir()} <= {"cvat", "out"}


@pytest.mark.parametrize("damage", ["9" * 30, "-5", "nan", "", "1e9", "0x10", "é", "1_0", "1" * 4000])
@pytest.mark.parametrize("attribute", ["width", "height", "left", "top", "z_order", "rle", "points", "cx", "rotation"])
def test_odd_attributes(source, tmp_path, attribute, damage, caplog):
    caplog.set_level(logging.CRITICAL)
    content = document([('name="a.png"', [
        square("cat", 4, 4, 12, 12),
        '<mask label="cat" rle="0, 10" left="1" top="2" width="5" height="2" z_order="0"/>',
        '<ellipse label="cat" cx="12" cy="10" rx="8" ry="3" rotation="9" z_order="0"></ellipse>'])])
    before, _, after = content.rpartition(f' {attribute}="')
    (source / "annotations.xml").write_text(f'{before} {attribute}="{damage}"{after.partition(chr(34))[2]}', "utf-8")
    try:
        prepare("cvat-xml", source, tmp_path / "out", force=True, workers=1)
    except MXNetSegError as error:
        assert len(str(error)) < 2000
