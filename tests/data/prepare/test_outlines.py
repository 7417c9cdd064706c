"""The formats of outlines together: a run after a change, the command, and which format is recognised."""
import json

import numpy as np
import pytest
from PIL import Image
from prepared import expected_mask

from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.data.prepare.drawing import draw_rings, rotated_box
from mxnetseg.errors import DataError, UsageError
from mxnetseg.tools.main import main

from . import test_cvatxml, test_labelstudio, test_supervisely, test_yolo
from .conftest import SIZE

FORMATS = ("yolo", "cvat-xml", "label-studio", "supervisely")
CORNERS = [(4, 4), (20, 4), (20, 14), (4, 14)]
SQUARE = expected_mask((1, 4, 4, 20, 14))


@pytest.fixture
def export(tmp_path, write_image, text):
    """``export(format, right)`` writes images a and b, each with a square of a cat; that of a ends at ``right``."""
    def write(name, right=20):
        source = tmp_path / "exports" / name
        outlines = {"a.png": [(min(x, right), y) for x, y in CORNERS], "b.png": CORNERS}
        folder = source / "ds0" / "img" if name == "supervisely" else source / "images"
        for image in outlines:
            if not (folder / image).exists():
                write_image(folder / image)

        if name == "yolo":
            text(source / "data.yaml", "train: images", "names: [cat]")
            for image, corners in outlines.items():
                text(source / "labels" / f"{image[0]}.txt", test_yolo.polygon_line(0, *corners))
        elif name == "cvat-xml":
            text(source / "annotations.xml", test_cvatxml.document(
                [(f'name="{image}"', [test_cvatxml.polygon("cat", corners)]) for image, corners in outlines.items()],
                labels=("cat",)))
        elif name == "label-studio":
            text(source / "export.json", [test_labelstudio.task(test_labelstudio.polygon("cat", *corners), image=image)
                                          for image, corners in outlines.items()])
        else:
            text(source / "meta.json", {"classes": [{"title": "cat", "shape": "polygon"}]})
            for image, corners in outlines.items():
                text(source / "ds0" / "ann" / f"{image}.json",
                     test_supervisely.annotation(test_supervisely.polygon("cat", corners)))
        return source
    return write


def mask_of(target):
    (path,) = (target / "masks").rglob("a.png")
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_run_makes_only_what_changed(export, tmp_path, name):
    target = tmp_path / "out"
    source = export(name)
    first = prepare(name, source, target)
    assert (first.made, first.kept) == (4, 0) and np.array_equal(mask_of(target), SQUARE)
    second = prepare(name, source, target)
    assert (second.made, second.kept) == (0, 4)
    third = prepare(name, export(name, right=10), target)
    assert (third.made, third.kept, len(third.remade)) == (1, 3, 1)
    assert np.array_equal(mask_of(target), expected_mask((1, 4, 4, 10, 14)))


@pytest.mark.parametrize("name, file", zip(FORMATS, ("data.yaml", "annotations.xml", "export.json", "meta.json")))
def test_the_file_as_source(export, tmp_path, name, file):
    source = export(name)
    (source / f"other-{file}").write_bytes(b"damaged")
    assert prepare(name, source / file, tmp_path / "out").made == 4
    assert np.array_equal(mask_of(tmp_path / "out"), SQUARE)
    assert PREPARATIONS.get(name).recognises(source / file)


@pytest.mark.parametrize("name", FORMATS)
def test_the_command(export, tmp_path, name, capsys):
    source = export(name)
    assert main(["prepare", name, str(source), str(tmp_path / "out")]) == 0
    assert "4 files made, 0 up to date" in capsys.readouterr().out
    assert main(["prepare", name, str(source), str(source / "out")]) == 2
    assert "the target is inside the source" in capsys.readouterr().err
    with pytest.raises(UsageError, match="boxes must be"):
        prepare(name, source, tmp_path / "out", boxes="draw")


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_image_is_an_error_with_its_name(export, tmp_path, name):
    source = export(name)
    (image,) = source.rglob("a.png")
    image.write_bytes(image.read_bytes()[:20])
    with pytest.raises(DataError, match="header of an image cannot be read") as error:
        prepare(name, source, tmp_path / "out")
    assert error.value.where == image


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_recognised_by_its_own_preparation_only(export, tmp_path, name):
    source = export(name)
    evidence = {other: PREPARATIONS.get(other).recognises(source) for other in FORMATS}
    assert [other for other, line in evidence.items() if line] == [name]
    assert "\n" not in evidence[name]


def test_other_formats_are_not_recognised(tmp_path, text, write_image):
    image = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
    coco = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    labelme = {"version": "5.5.0", "shapes": [], "imagePath": "a.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    write_image(tmp_path / "a.png")
    for content in (coco, labelme, [], [1], {}, [{"data": {"image": "a.png"}}], [{"annotations": []}]):
        for file in ("a.json", "meta.json", "ann/a.png.json"):
            text(tmp_path / file, json.dumps(content))
        text(tmp_path / "notes.txt", "0 1 2 3")
        text(tmp_path / "labels" / "classes.txt", "cat")
        text(tmp_path / "data.yaml", "title: a study", "names: [cat]")
        (tmp_path / "voc.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
        assert [name for name in FORMATS if PREPARATIONS.get(name).recognises(tmp_path)] == []


def test_annotations_of_rotated_boxes_keep_their_area():
    corners = rotated_box(4, 6, 8, 4, 90, (8, 8))
    assert np.allclose(sorted(corners), [[6, 4], [6, 12], [10, 4], [10, 12]])
    assert draw_rings([corners], *SIZE).sum() == 32
