"""How preparations are run: whole files only, nothing twice, going on after an interruption, audited in the end."""
import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import DATASETS, get_dataset_class
from mxnetseg.data.prepare import PREPARATIONS, prepare
from mxnetseg.data.prepare import base as running
from mxnetseg.data.prepare import stamp as stamps
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError, UsageError


def snapshot(folder):
    """Path -> contents and time of writing, of all files."""
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
            for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "dataset" / "VOCdevkit" / "VOCAug"


def test_the_second_run_does_nothing(voc_and_sbd, target):
    source, _ = voc_and_sbd
    first = prepare("pascalvocaug", source, target)
    assert (first.made, first.kept, first.left_out) == (12, 0, 0) and first.audit.passed
    before = snapshot(target)
    second = prepare("pascalvocaug", source, target)
    assert (second.made, second.kept) == (0, 12) and second.audit.passed
    assert snapshot(target) == before


def test_the_source_is_not_changed(voc_and_sbd, target):
    source, _ = voc_and_sbd
    before = snapshot(source)
    prepare("pascalvocaug", source, target)
    assert snapshot(source) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.EIO, "disk")])
def test_an_interrupted_run_goes_on_where_it_was(voc_and_sbd, target, tmp_path, monkeypatch, stop):
    source, _ = voc_and_sbd
    whole = tmp_path / "whole"
    prepare("pascalvocaug", source, whole)
    calls, honest = [], running.cv2.imencode

    def encode(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise stop
        return honest(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(running.cv2, "imencode", encode)
        with pytest.raises((KeyboardInterrupt, DataError)):
            prepare("pascalvocaug", source, target, workers=1)
    left = snapshot(target)
    assert left.pop(stamps.STAMP) and left.pop(stamps.JOURNAL)
    assert 4 <= len(left) < 15 and not (target / "train_aug.txt").exists()
    assert all(left[name][0] == (whole / name).read_bytes() for name in left)  # no file is half written
    rest = prepare("pascalvocaug", source, target)
    assert rest.made + rest.kept == 12 and rest.kept == len(left) and rest.audit.passed
    assert {n: c for n, (c, _) in snapshot(target).items() if n != stamps.STAMP} == \
        {n: c for n, (c, _) in snapshot(whole).items() if n != stamps.STAMP}


def test_a_damaged_file_of_the_source_is_named(voc_and_sbd, target):
    source, _ = voc_and_sbd
    broken = source / "benchmark_RELEASE" / "dataset" / "cls" / "s2.mat"
    data = broken.read_bytes()
    broken.write_bytes(data[:150])
    with pytest.raises(DataError) as error:
        prepare("pascalvocaug", source, target)
    assert error.value.where == broken and error.value.fix
    broken.write_bytes(data)
    assert prepare("pascalvocaug", source, target).audit.passed


def test_a_missing_picture_is_named(voc_and_sbd, target):
    source, _ = voc_and_sbd
    (source / "VOCdevkit" / "VOC2012" / "JPEGImages" / "v2.jpg").unlink()
    with pytest.raises(DataNotFoundError) as error:
        prepare("pascalvocaug", source, target)
    assert "v2.jpg" in str(error.value.where)


def test_what_a_library_throws_becomes_an_error_with_the_file_s_name(voc_and_sbd, target, monkeypatch):
    def break_down(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(running.cv2, "imencode", break_down)
    with pytest.raises(DataError) as error:
        prepare("pascalvocaug", voc_and_sbd[0], target)
    assert "RuntimeError: out of luck" in error.value.received and error.value.where.suffix == ".png"


@pytest.mark.parametrize("part", ["VOCdevkit", "benchmark_RELEASE"])
def test_a_source_that_lacks_something(voc_and_sbd, target, part):
    source, _ = voc_and_sbd
    (source / part).rename(source.parent / part)
    with pytest.raises(DataNotFoundError, match="the source lacks") as error:
        prepare("pascalvocaug", source, target)
    assert "benchmark_RELEASE/dataset" in error.value.fix and not target.exists()


def test_force_makes_all_again(voc_and_sbd, target):
    source, _ = voc_and_sbd
    prepare("pascalvocaug", source, target)
    (target / "cls_aug" / "v1.png").write_bytes(b"damaged")
    assert not prepare("pascalvocaug", source, target).audit.passed  # kept, and found by the audit
    again = prepare("pascalvocaug", source, target, force=True)
    assert again.made == 12 and again.audit.passed


def test_one_target_is_for_one_preparation(voc_and_sbd, target, tmp_path, text, picture):
    prepare("pascalvocaug", voc_and_sbd[0], target)
    picture(tmp_path / "own" / "a.png")
    text(tmp_path / "own" / "a.json", {"shapes": [{"label": "cat", "points": [[1, 1], [9, 1], [1, 9]]}],
                                             "imageHeight": 24, "imageWidth": 32, "imagePath": "a.png"})
    with pytest.raises(UsageError, match="another preparation") as error:
        prepare("labelme", tmp_path / "own", target)
    assert "'pascalvocaug'" in error.value.received and "--force" in error.value.fix


def test_pictures_are_links_or_copies(voc_and_sbd, tmp_path, monkeypatch):
    source, _ = voc_and_sbd
    original = source / "VOCdevkit" / "VOC2012" / "JPEGImages" / "v1.jpg"
    prepare("pascalvocaug", source, tmp_path / "linked")
    assert os.path.samefile(original, tmp_path / "linked" / "img_aug" / "v1.jpg")

    def refuse(*_):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    prepare("pascalvocaug", source, tmp_path / "copied")
    copy = tmp_path / "copied" / "img_aug" / "v1.jpg"
    assert not os.path.samefile(original, copy) and copy.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("arguments, error, words", [
    (dict(name="nyu2"), UnknownNameError, "nyuv2"),
    (dict(name="nyuv2", source="/nowhere"), DataNotFoundError, "splits.mat"),
    (dict(name="nyuv2", classes="classes.txt"), UsageError, "--classes"),
])
def test_wrong_use(tmp_path, arguments, error, words):
    with pytest.raises(error) as raised:
        prepare(**{"source": tmp_path, "target": tmp_path / "out", **arguments})
    assert words in str(raised.value)


@pytest.mark.parametrize("name", PREPARATIONS.names())
def test_every_preparation_is_declared(name):
    kind = PREPARATIONS.get(name)
    assert kind.needs and kind.makes and kind.dataset in DATASETS.names() and kind.__doc__


def test_every_data_set_that_is_to_be_prepared_can_be():
    """The message of a missing data set names the command by the data set's name."""
    asked = {name for name in DATASETS.names() if get_dataset_class(name).prepared_by}
    assert asked and all(PREPARATIONS.get(name).dataset in (name, "pascalcontext60") for name in asked)


def test_the_stamp_is_no_data(voc_and_sbd, target):
    prepare("pascalvocaug", voc_and_sbd[0], target)
    stamp = json.loads((target / running.STAMP).read_text())
    assert stamp["preparation"] == "pascalvocaug"


def test_writing_a_picture_and_a_mask(tmp_path, rng):
    for shape in ((5, 7), (5, 7, 3)):
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        running.write_png(array, tmp_path / "new" / "a.png")
        assert (np.array(Image.open(tmp_path / "new" / "a.png")) == array).all()


def test_paths_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("~/nowhere", "~nobody-of-this-name/x"):
        with pytest.raises(DataNotFoundError):
            prepare("labelme", source, "~/out")
