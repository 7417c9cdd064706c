"""Label Studio's export "Brush labels to PNG", with a JSON export that gives the images."""
import json
import logging

import numpy as np
import pytest
from PIL import Image
from prepared import expected_mask, mask_names, read_mask, run_damaged

from mxnetseg.data import get_dataset
from mxnetseg.data.prepare import PREPARATIONS, prepare, recognise
from mxnetseg.errors import DataError, DataNotFoundError, MXNetSegError
from tests.helpers.mutations import mutate_bytes

from .conftest import SIZE

HEIGHT, WIDTH = SIZE
LabelStudioMasks = PREPARATIONS.get("label-studio-masks")


class Studio:
    """Writer of the export, after label-studio-sdk 1.0.5: converter/brush.py and Converter.convert_to_json_min.

    Each region is the alpha channel of its strokes, a grey PNG of the image's size.
    """

    def __init__(self, folder):
        self.folder, self.records, self._numbers = folder, [], {}
        folder.mkdir(parents=True, exist_ok=True)

    def task(self, number, image, *regions, annotation=None, user="anna.b@example.com", tag="tag"):
        """Add a task with brush regions (label or labels, alpha or box)."""
        annotation = annotation or number + 10
        record = {"image": f"/data/upload/1/0a1b2c3d-{image}", "id": number, "annotator": 1,
                  "annotation_id": annotation, "created_at": "2025-10-01T08:00:00Z", "lead_time": 9.1}
        for labels, shape in regions:
            labels = [labels] if isinstance(labels, str) else labels
            record.setdefault(tag, []).append({"format": "rle", "rle": [0], "brushlabels": labels})
            self.region(number, annotation, user, "-".join([tag, *(labels or ["no_label"])]), shape)
        self.records.append(record)
        return self

    def region(self, number, annotation, user, name, shape):
        alpha = shape
        if isinstance(shape, tuple):
            left, top, right, bottom = shape
            alpha = np.zeros(SIZE, np.uint8)
            alpha[top:bottom, left:right] = 255
        key = f"task-{number}-annotation-{annotation}-by-{user}-{name}"
        count = self._numbers[key] = self._numbers.get(key, -1) + 1
        file = f"{key}-{count}.png".replace("/", "-").replace("\\", "-")
        Image.fromarray(alpha).save(self.folder / file)

    def write_json(self, name="project-1.json"):
        (self.folder / name).write_text(json.dumps(self.records))
        return self


@pytest.fixture
def source(tmp_path, write_image):
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / "studio" / "images" / name)
    return tmp_path / "studio"


@pytest.fixture
def studio(source):
    return Studio(source)


@pytest.fixture
def convert(source, tmp_path):
    """``convert()`` prepares the source and returns the mask of the image a.png."""
    def run(**options):
        prepare("label-studio-masks", source, tmp_path / "out", force=True, **options)
        return read_mask(tmp_path / "out" / "masks" / "a.png")
    return run


def test_the_miniature_is_recognised_and_converted(studio, source, tmp_path, rng):
    alpha = np.where(rng.random(SIZE) < 0.3, 255, 0).astype(np.uint8)
    alpha[0, :2] = 127, 128  # edges of strokes are smooth
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)), ("tree", (20, 10, 30, 20)), ("dirt road", (6, 0, 9, 9)))
    studio.task(12, "b.jpg", ("tree", alpha), user="").write_json()
    assert recognise(source) == ("label-studio-masks",
                                 "brush masks of Label Studio (task-N-annotation-N-by-...png), of 2 tasks")
    prepare("auto", source, tmp_path / "out")
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "dirt road", "tree")
    assert mask_names(tmp_path / "out") == ["a.png", "b.png"]
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "a.png"),
                          expected_mask((2, 0, 0, 6, 6), (2, 20, 10, 30, 20), (1, 6, 0, 9, 9)))
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "b.png"), 2 * (alpha >= 128))


def test_a_second_run_converts_what_changed(studio, source, tmp_path):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).task(4, "b.jpg", ("tree", (0, 0, 6, 6))).write_json()
    assert prepare("label-studio-masks", source, tmp_path / "out").made == 4
    Studio(source).task(4, "b.jpg", ("tree", (9, 9, 20, 20)))
    again = prepare("label-studio-masks", source, tmp_path / "out")
    assert again.remade == ("masks/b.png",) and again.kept == 3
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "b.png"), expected_mask((1, 9, 9, 20, 20)))


def test_a_complete_json_export_is_preferred(studio, source):
    """It holds the strokes, the polygons and their order, so the masks are not needed."""
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).write_json()
    assert LabelStudioMasks.recognises(source)
    studio.records = [{"id": 3, "data": {"image": "a.png"}, "annotations": [{"id": 13, "result": []}]}]
    studio.write_json()
    assert LabelStudioMasks.recognises(source) is None and recognise(source).name == "label-studio"


def test_a_complete_json_export_gives_the_images_too(studio, convert):
    studio.task(3, "a.png", ("old-tree", (0, 0, 6, 6)))
    studio.records = [{"id": 3, "data": {"image": "https://example.com/x.png"}, "file_upload": "0a1b2c3d-a.png",
                       "annotations": [{"id": 13, "result": [{"from_name": "tag", "type": "brushlabels"}, 5]}, None]}]
    studio.write_json()
    assert np.array_equal(convert(), expected_mask((1, 0, 0, 6, 6)))


def test_a_short_list_of_the_tasks_is_enough(studio, convert, tmp_path):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)))
    studio.records = [{"id": 3, "image": "a.png"}]
    studio.write_json()
    assert np.array_equal(convert(), expected_mask((1, 0, 0, 6, 6)))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", "tree")


# ---- labels in names

@pytest.mark.parametrize("label, classes", [
    ("old-tree-2", None), ("tree/old", ["background", "tree/old"]), ("Bäume & Büsche", None), ("2", None),
])
@pytest.mark.parametrize("tag", ["tag", "my-tag"])
def test_labels_and_tags_with_hyphens(studio, convert, tmp_path, text, label, classes, tag):
    studio.task(3, "a.png", (label, (0, 0, 6, 6)), tag=tag).write_json()
    file = text(tmp_path / "names.txt", *classes) if classes else None
    assert np.array_equal(convert(classes=file), expected_mask((1, 0, 0, 6, 6)))
    assert get_dataset(str(tmp_path / "out")).classes == ("background", label)


def test_a_name_with_two_readings_is_refused(studio, convert, tmp_path, text):
    studio.task(3, "a.png", ("old-tree", (0, 0, 6, 6)))
    studio.records = [{"id": 3, "image": "a.png"}]  # it does not name the tag
    studio.write_json()
    with pytest.raises(DataError, match="can be read in two ways") as error:
        convert()
    assert error.value.received == "tag 'tag', label 'old-tree'\ntag 'tag-old', label 'tree'"
    assert not (tmp_path / "out").exists()
    classes = text(tmp_path / "names.txt", "background", "old-tree")  # the fix
    assert np.array_equal(convert(classes=classes), expected_mask((1, 0, 0, 6, 6)))


def test_a_region_with_two_labels_is_refused(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)), ("road", (6, 6, 9, 9)), (["tree", "road"], (9, 9, 12, 12)))
    studio.write_json()
    with pytest.raises(DataError, match="can be read in two ways") as error:
        convert()
    assert error.value.received == "one label: tree-road\ntwo labels: tree, road"


def test_a_region_without_a_label_is_refused(studio, convert):
    studio.task(3, "a.png", ([], (0, 0, 6, 6))).write_json()
    with pytest.raises(DataError, match="holds no label") as error:
        convert()
    assert error.value.received == "tag-no_label"


def test_a_label_without_a_class_is_refused(studio, convert, tmp_path, text):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).write_json()
    with pytest.raises(DataError, match="a label has no class"):
        convert(classes=text(tmp_path / "names.txt", "background", "road"))


# ---- pixels

def test_an_overlap_of_two_labels_is_refused(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 8, 8)), ("road", (6, 5, 20, 9)), ("tree", (4, 0, 6, 6))).write_json()
    with pytest.raises(DataError, match="a pixel has two classes") as error:
        convert()
    amount, *readings = error.value.received.splitlines()
    assert amount == "6 pixels, the first at x = 6, y = 5:"
    assert [reading.partition(":")[0] for reading in readings] == ["road", "tree"]
    assert readings[1].endswith("task-3-annotation-13-by-anna.b@example.com-tag-tree-0.png")
    assert "mxnetseg prepare label-studio SRC DST" in error.value.fix


def test_regions_of_one_label_may_overlap(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 8, 8)), ("tree", (4, 4, 12, 12)), ("road", (20, 0, 30, 9))).write_json()
    assert np.array_equal(convert(), expected_mask((2, 0, 0, 8, 8), (2, 4, 4, 12, 12), (1, 20, 0, 30, 9)))


def test_a_mask_of_another_size_is_refused(studio, convert):
    studio.task(3, "a.png", ("tree", np.full((WIDTH, HEIGHT), 255, np.uint8))).write_json()
    with pytest.raises(DataError, match="another size") as error:
        convert()
    assert "mask 24 x 32, image 32 x 24" in error.value.received


def test_a_mask_of_other_values_is_refused(studio, convert):
    studio.task(3, "a.png", ("tree", np.eye(HEIGHT, WIDTH, dtype=np.uint8))).write_json()
    with pytest.raises(DataError, match="half opaque") as error:
        convert()
    assert error.value.received == "values up to 1"


# ---- tasks and images

def test_without_a_json_file_the_images_are_unknown(studio, convert, source):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)))
    assert recognise(source).name == "label-studio-masks"
    with pytest.raises(DataNotFoundError, match="the image of a mask is unknown") as error:
        convert()
    assert "JSON-MIN" in error.value.fix


def test_a_task_that_no_json_file_has(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).write_json().task(4, "b.jpg", ("tree", (0, 0, 6, 6)))
    with pytest.raises(DataError, match="1 of 2 tasks with masks are in no JSON file") as error:
        convert()
    assert error.value.received == "task 4"


def test_a_missing_image_is_named(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).task(4, "c.jpg", ("tree", (0, 0, 6, 6))).write_json()
    with pytest.raises(DataError, match="1 of 2 images are missing") as error:
        convert()
    assert error.value.received == "data/upload/1/0a1b2c3d-c.jpg"


def test_masks_of_two_annotations_are_refused(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).task(3, "a.png", ("tree", (0, 0, 9, 9)), annotation=99)
    studio.write_json()
    with pytest.raises(DataError, match="several annotations") as error:
        convert()
    assert error.value.received == "task 3: annotations 13 and 99"


def test_two_json_files_that_differ(studio, convert):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).write_json()
    studio.records = [{"id": 3, "image": "b.jpg"}]
    studio.write_json("other.json")
    with pytest.raises(DataError, match="a task has two images"):
        convert()


def test_what_is_left_out_is_named(studio, convert, source, caplog):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6))).task(4, "b.jpg").write_json()
    (source / "other.json").write_text('{"a": 1}')
    convert()
    assert "left out, tasks without a mask: 1: project-1.json, [1]" in caplog.text
    assert "left out, JSON files of other programs: 1: other.json" in caplog.text
    assert "left out, images without annotations: 1: images/b.jpg" in caplog.text


@pytest.mark.parametrize("records, words", [
    ([{"id": "x", "image": "a.png"}], r"\[0\].id: expected a whole number"),
    ([{"id": 3}], r"\[0\]: expected the path of one image"),
    ([{"id": 3, "image": "a.png", "other": "b.png"}], "expected the path of one image"),
    ([{"id": 3, "image": "../../a.png"}], "leads out of the source"),
])
def test_wrong_json_files(studio, convert, records, words):
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)))
    studio.records = records
    studio.write_json()
    with pytest.raises(DataError, match=words):
        convert()


def test_damaged_files(studio, source, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    studio.task(3, "a.png", ("tree", (0, 0, 6, 6)), ("road", (9, 9, 20, 20))).write_json()
    files = [*source.glob("task-*.png"), source / "project-1.json"]
    contents = [file.read_bytes() for file in files]

    def run(seed):
        for i, (file, content) in enumerate(zip(files, contents)):
            file.write_bytes(mutate_bytes(content, seed) if seed % len(files) == i else content)
        LabelStudioMasks.recognises(source)
        prepare("label-studio-masks", source, tmp_path / "out", force=True, workers=1)
    run_damaged(run, 60, MXNetSegError, least=1)
