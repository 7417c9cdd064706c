"""Audit: every problem of a data set is found, counted and reported with file, value and fix."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from mxnetseg.data.audit import audit
from mxnetseg.data.base import IGNORE, voc_palette
from mxnetseg.data.findings import KINDS, SHOWN, SplitStats, enet, median_frequency
from mxnetseg.data.labels import count_ids
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError, UsageError

from .conftest import SIZE


@pytest.fixture
def pets(folder):
    """Folder data with lists: a0 .. a6 for training, a7 .. a9 for validation."""
    (folder / "train.txt").write_text("\n".join(f"a{i}" for i in range(7)))
    (folder / "val.txt").write_text("\n".join(f"a{i}" for i in range(7, 10)))
    return folder


def kinds(result):
    return {kind: n for kind, n in result.counts.items() if n}


def test_data_without_problems_passes(pets):
    result = audit(str(pets))
    assert result.passed and not result.findings
    assert {s: stats.images for s, stats in result.splits.items()} == {"train": 7, "val": 3}
    assert result.absent == {"test": "the split 'test' has no list, though other splits have one"}
    train = result.splits["train"]
    assert train.pixels.sum() + train.ignored == 7 * SIZE[0] * SIZE[1]
    assert train.present_in.tolist() == [7, 7, 7]
    assert train.sizes == {(32, 24): 7} and train.modes == {"image JPEG RGB": 7, "mask PNG L": 7}
    assert np.isclose(train.frequency.sum(), 1)
    assert json.loads(json.dumps(result.to_dict()))["passed"] is True


def test_pixels_are_counted_like_numpy_does(pets):
    counted = audit(str(pets)).splits["val"].pixels
    masks = [np.array(Image.open(pets / "masks" / f"a{i}.png")) for i in (7, 8, 9)]
    assert counted.tolist() == np.bincount(np.concatenate(masks).ravel(), minlength=3).tolist()


# ---- kinds of damage: (function that damages the folder, kind of finding, words of the message)

def jpeg_mask(root):
    Image.open(root / "masks" / "a0.png").save(root / "masks" / "a0.png", format="JPEG")


def exif(root, mask_too=False):
    """Store an image rotated, with the EXIF orientation that rotates it back, so that the mask fits the shown image."""
    path = root / "images" / "a0.jpg"
    image = Image.open(path)
    tags = image.getexif()
    tags[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=tags)
    if mask_too:
        mask = root / "masks" / "a0.png"
        Image.open(mask).transpose(Image.Transpose.ROTATE_90).save(mask)


def edit_mask(value, name="a0"):
    def change(root):
        mask = np.array(Image.open(root / "masks" / f"{name}.png"))
        mask[0, :3] = value
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return change


def copy(source, target):
    def change(root):
        (root / target).write_bytes((root / source).read_bytes())
    return change


def truncate(name):
    def change(root):
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[:len(data) // 2])
    return change


def resave(name, mode):
    def change(root):
        image = Image.open(root / name).convert("L") if mode == "I;16" else Image.open(root / name)
        if mode == "I;16":
            Image.fromarray(np.array(image).astype(np.uint16) * 257).save(root / name, format="PNG")
        else:
            image.convert(mode).save(root / name, format="JPEG" if mode == "CMYK" else "PNG")
    return change


def colour_mask(root):
    mask = np.array(Image.open(root / "masks" / "a0.png"))
    Image.fromarray(voc_palette(3)[mask]).save(root / "masks" / "a0.png")


def narrow(root):
    mask = Image.open(root / "masks" / "a0.png")
    mask.crop((0, 0, 31, 24)).save(root / "masks" / "a0.png")


def fill(value, name="a0"):
    return lambda root: Image.fromarray(np.full(SIZE, value, np.uint8)).save(root / "masks" / f"{name}.png")


DAMAGE = {
    "missing mask": (lambda root: (root / "masks" / "a0.png").unlink(), "missing", "a0.png"),
    "missing image": (lambda root: (root / "images" / "a0.jpg").unlink(), "list", "a0"),
    "truncated image": (truncate("images/a0.jpg"), "image", "a0.jpg"),
    "truncated mask": (truncate("masks/a0.png"), "mask", "a0.png"),
    "empty image": (lambda root: (root / "images" / "a0.jpg").write_bytes(b""), "image", "0 bytes"),
    "text instead of a mask": (lambda root: (root / "masks" / "a0.png").write_text("moved"), "mask", "a0.png"),
    "JPEG mask": (jpeg_mask, "mask", "JPEG"),
    "colour mask": (colour_mask, "mask", "#800000"),
    "16-bit mask": (resave("masks/a0.png", "I;16"), "mask", "more than 8 bits"),
    "label 3": (edit_mask(3), "label", "3 (3 pixels); known ids are 0..2"),
    "sizes": (narrow, "size", "mask 31 x 24"),
    "rotated mask": (lambda root: exif(root, mask_too=True), "size", "rotated by 90 degrees"),
    "leak": (copy("images/a0.jpg", "images/a9.jpg"), "leak", "a9.jpg"),
    "unknown name in a list": (lambda root: (root / "val.txt").write_text("a7\nb9\n"), "list", "b9"),
    "repeated name in a list": (lambda root: (root / "val.txt").write_text("a7\na7.jpg\n"), "list", "a7"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_nothing_else_is_reported(pets, name):
    damage, kind, word = DAMAGE[name]
    damage(pets)
    result = audit(str(pets))
    assert not result.passed and result.failures == 1
    finding = next(f for f in result.findings if f.kind == kind)
    assert word in str(finding.error) and finding.error.fix
    assert set(kinds(result)) - {kind} <= {"odd", "orphan"}
    # all other pairs were counted
    assert sum(int(s.pixels.sum()) + s.ignored for s in result.splits.values()) >= 7 * SIZE[0] * SIZE[1]


@pytest.mark.parametrize("damage, kind, word", [
    (copy("images/a0.jpg", "images/a1.jpg"), "duplicate", "a1.jpg"),
    (fill(IGNORE), "unlabelled", "a0.png"),
    (fill(1), "flat", "cat only"),
    (exif, "odd", "EXIF rotation"),
    (resave("images/a0.jpg", "CMYK"), "odd", "CMYK"),
    (resave("images/a0.jpg", "RGBA"), "odd", "alpha channel"),
    (resave("images/a0.jpg", "L"), "odd", "grey"),
    (copy("masks/a0.png", "masks/b0.png"), "orphan", "b0.png"),
    (lambda root: (root / "classes.txt").write_text("ground\ncat\nbig dog\nbird\n"), "absent", "bird"),
], ids=["duplicate", "unlabelled", "flat", "exif", "cmyk", "alpha", "grey", "orphan", "absent"])
def test_unusual_data_is_reported_but_passes(pets, damage, kind, word):
    damage(pets)
    result = audit(str(pets))
    assert result.passed and kinds(result) == {kind: 1}
    assert word in str(result.findings[0].error) and result.findings[0].error.fix


def test_several_problems_are_found_in_one_audit(pets):
    (pets / "masks" / "a0.png").unlink()
    truncate("images/a1.jpg")(pets)
    edit_mask(3, "a1")(pets)  # both files of one pair
    edit_mask(7, "a2")(pets)
    copy("images/a3.jpg", "images/a8.jpg")(pets)
    (pets / "val.txt").write_text("a7\na8\nb9\n")
    assert kinds(audit(str(pets))) == {"missing": 1, "image": 1, "label": 2, "leak": 1, "list": 1}


def test_masks_of_0_and_255_are_recognised(pets):
    (pets / "classes.txt").write_text("ground\ncat\n")
    for path in (pets / "masks").iterdir():
        mask = np.zeros(SIZE, np.uint8)
        mask[:5] = 255
        Image.fromarray(mask).save(path)
    result = audit(str(pets))
    assert not result.passed and result.counts["binary"] == 1
    error = next(f.error for f in result.findings if f.kind == "binary")
    assert "5120" not in str(error.received) and "1600 of 255" in error.received and "cat" in error.fix


def test_a_kind_of_finding_can_be_allowed(pets):
    copy("images/a0.jpg", "images/a9.jpg")(pets)
    result = audit(str(pets), allow=["leak"])
    assert result.passed and result.counts["leak"] == 1
    with pytest.raises(UsageError, match="no such kind") as error:
        audit(str(pets), allow=["leaks"])
    assert "did you mean 'leak'" in error.value.fix


def test_all_findings_are_counted_and_a_few_are_kept(tmp_path, write):
    for i in range(SHOWN + 5):
        write(tmp_path / "images" / "train" / f"{i:02}.png")
        write(tmp_path / "masks" / "train" / f"{i:02}.png", 9)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    result = audit(str(tmp_path), splits=["train"])
    assert result.counts["label"] == SHOWN + 5 and len(result.findings) == SHOWN


def test_the_number_of_threads_changes_nothing(pets):
    edit_mask(3, "a5")(pets)
    copy("images/a0.jpg", "images/a9.jpg")(pets)
    assert audit(str(pets), workers=1).to_dict() == audit(str(pets), workers=5).to_dict()


# ---- splits

def test_a_requested_split_must_exist(pets):
    result = audit(str(pets), splits=["train", "test"])
    assert not result.passed and list(result.splits) == ["train"] and kinds(result) == {"list": 1}


def test_an_empty_split_is_a_problem_unless_it_is_test(camvid):
    result = audit("camvid", root=camvid)
    assert result.absent == {"test": "the split 'test' is empty"}
    for path in (camvid / "val").iterdir():
        path.unlink()
    (camvid / "val.txt").unlink()
    assert audit("camvid", root=camvid).counts["list"] == 1


def test_every_repetition_in_a_list_is_reported(camvid):
    lines = (camvid / "train.txt").read_text()
    (camvid / "train.txt").write_text(lines + lines)
    result = audit("camvid", root=camvid)
    assert kinds(result)["list"] == 2 and result.splits["train"].images == 4


def test_a_number_of_images_that_differs_from_the_published_one(camvid, caplog):
    result = audit("camvid", root=camvid)
    assert result.passed and result.counts["count"] == 2
    assert "train: 2, published 367" in str(result.findings[0].error) and not caplog.text


def test_combined_splits_are_not_a_leak(camvid):
    assert set(audit("camvid", root=camvid).splits) == {"train", "val"}


@pytest.mark.parametrize("arguments, error", [
    (dict(name="camvit"), UnknownNameError),
    (dict(name="camvid", root="/nowhere"), DataNotFoundError),
    (dict(name="folder:/nowhere"), DataNotFoundError),
    (dict(name="camvid", splits=["trian"]), UnknownNameError),
])
def test_data_that_cannot_be_audited(arguments, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        audit(**arguments)


def test_broken_classes(pets):
    (pets / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match="given twice"):
        audit(str(pets))


# ---- class weights

def stats_of(masks, n):
    stats = SplitStats.empty(len(masks), n)
    for mask in masks:
        stats.count(count_ids(np.asarray(mask, np.uint8)))
    return stats


def test_median_frequency_by_hand():
    # class 0: 6 of 8 + 8; class 1: 2 of 8; class 2 (beside 4 ignored pixels): 4 of 8; class 3: never
    stats = stats_of([[[0] * 6 + [1] * 2], [[2] * 4 + [IGNORE] * 4], [[0] * 8]], 4)
    frequencies = [14 / 16, 2 / 8, 4 / 8]
    assert np.allclose(median_frequency(stats), [0.5 / f for f in frequencies] + [1])
    assert np.allclose(enet(stats), [1 / np.log(1.02 + p) for p in (14 / 20, 2 / 20, 4 / 20, 0)])


def test_weights_without_labels():
    stats = stats_of([], 3)
    assert median_frequency(stats).tolist() == [1, 1, 1] and np.allclose(enet(stats), 1 / np.log(1.02))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_histogram_equals_that_of_numpy(mask):
    assert count_ids(mask).tolist() == np.bincount(mask.ravel(), minlength=256).tolist()


def test_histogram_of_a_huge_mask_is_exact(monkeypatch):
    monkeypatch.setattr("mxnetseg.data.labels._MAX_BINS", 64)
    mask = np.random.default_rng(0).integers(0, 4, (37, 19), dtype=np.uint8)
    assert count_ids(mask).tolist() == np.bincount(mask.ravel(), minlength=256).tolist()


@given(st.lists(arrays.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, IGNORE])), min_size=1, max_size=5))
def test_weights_do_not_depend_on_the_order_and_favour_rare_classes(masks):
    stats, reversed_ = stats_of(masks, 3), stats_of(masks[::-1], 3)
    assert np.array_equal(median_frequency(stats), median_frequency(reversed_))
    order = np.argsort(stats.pixels, kind="stable")
    assert (np.diff(enet(stats)[order]) <= 1e-12).all()


def test_every_kind_of_finding_has_a_test():
    source = Path(__file__).read_text()
    assert all(f'"{kind}"' in source for kind in KINDS)


def test_opencv_is_left_with_one_thread(pets):
    cv2.setNumThreads(2)
    audit(str(pets))
    assert cv2.getNumThreads() == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["images/a0.jpg", "masks/a0.png", "images/a7.jpg", "masks/a8.png"]),
                          st.integers(0, 2000), st.binary(max_size=40)), min_size=1, max_size=4))
def test_no_damage_stops_the_audit(pets, damages):
    """Bytes are overwritten or cut off anywhere: all other pairs are counted, and every finding names a file."""
    whole = {name: (pets / name).read_bytes() for name, _, _ in damages}
    try:
        for name, at, data in damages:
            before = (pets / name).read_bytes()
            (pets / name).write_bytes(before[:at] + data + (before[at + len(data):] if data else b""))
        result = audit(str(pets))
    finally:
        for name, content in whole.items():
            (pets / name).write_bytes(content)
    assert set(kinds(result)) <= {"image", "mask", "label", "size", "flat", "odd"}
    assert sum(int(s.present_in.max()) for s in result.splits.values()) >= 10 - 3
    assert all(finding.error.where and finding.error.fix for finding in result.findings)
