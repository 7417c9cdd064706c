"""Built-in data set: the painted scenes, and how they are written to the disk."""
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mxnetseg
from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.data.sample import dataset as sample
from mxnetseg.data.sample import street
from mxnetseg.errors import EnvironmentProblem, UsageError

FEW = {"train": 2, "val": 1, "test": 1}
SOURCES = str(Path(mxnetseg.__file__).parents[1])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and counts for a sample of four images."""
    monkeypatch.setenv(sample.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr(sample, "COUNTS", FEW)
    return tmp_path / "home"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- the painter

@pytest.fixture(scope="module")
def scenes():
    """Two scenes of each weather."""
    return [street.paint(0, i) for i in range(2 * len(street.WEATHERS))]


def test_sizes_and_types(scenes):
    for image, mask in scenes:
        assert image.shape == (192, 288, 3) and mask.shape == (192, 288)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {*range(9), IGNORE}


def test_every_class_is_frequent(scenes):
    masks = np.stack([mask for _, mask in scenes])
    for label, name in enumerate(street.CLASSES):
        assert (masks == label).mean() > 0.01, name
        assert (masks == label).any(axis=(1, 2)).mean() > 0.8, name
    assert 0.03 < (masks == IGNORE).mean() < 0.25


def test_colors_alone_do_not_identify_the_classes(scenes):
    # the best guess from the colour, in cells of 16 levels a channel, learnt and scored on the same images
    colors = np.concatenate([image.reshape(-1, 3) for image, _ in scenes]) // 16
    cells = colors.astype(np.int64) @ (256, 16, 1)
    labels = np.concatenate([mask.ravel() for _, mask in scenes])
    valid = labels != IGNORE
    table = np.bincount(cells[valid] * 9 + labels[valid], minlength=4096 * 9).reshape(4096, 9)
    guess = table.argmax(1)[cells[valid]]
    confusion = np.bincount(labels[valid].astype(np.int64) * 9 + guess, minlength=81).reshape(9, 9)
    iou = np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))
    assert iou.mean() < 0.45


def test_a_scene_depends_on_seed_and_index_only(scenes):
    np.random.seed(99)
    image, mask = street.paint(0, 3)
    assert np.array_equal(image, scenes[3][0]) and np.array_equal(mask, scenes[3][1])
    for other in (street.paint(0, 4), street.paint(1, 3)):
        assert not np.array_equal(other[1], mask)


@pytest.mark.parametrize("weather", street.WEATHERS)
def test_weather_can_be_chosen(weather):
    image, _ = street.paint(5, 0, weather=weather, width=96, height=64)
    assert image.shape == (64, 96, 3) and image.std() > 5


def test_night_is_dark_and_snow_is_bright(scenes):
    brightness = {weather: scenes[i][0].mean() for i, weather in enumerate(street.WEATHERS)}
    assert brightness["night"] == min(brightness.values()) < 70
    assert brightness["snow"] > brightness["rain"]


# ---- the data set

def test_painted_on_first_use_only(home, monkeypatch):
    first = get_dataset("sample")
    assert first.root == home / f"sample-{sample.VERSION}" and len(first) == 2
    monkeypatch.setattr(sample, "paint", lambda *_: pytest.fail("painted twice"))
    assert [len(get_dataset("sample", split=s)) for s in ("train", "val", "test")] == [2, 1, 1]


def test_the_painted_scene_is_read_back(home):
    dataset = get_dataset("sample")
    image, mask = street.paint(sample._SEED, 1)
    assert np.array_equal(dataset[1].image, image) and np.array_equal(dataset[1].mask, mask)
    assert dataset[1].name == "train/001" and dataset.name == "sample" and dataset.nclass == 9


def test_splits_share_no_scene(home):
    masks = [get_dataset("sample", split=s)[0].mask for s in ("train", "val", "test")]
    assert not np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[1], masks[2])


def test_it_is_folder_data_too(home):
    root = get_dataset("sample").root
    dataset = get_dataset(f"folder:{root}", split="val")
    assert dataset.classes == street.CLASSES and np.array_equal(dataset.palette, street.PALETTE)
    assert np.array_equal(dataset[0].mask, get_dataset("sample", split="val")[0].mask)


def test_painting_twice_gives_the_same_files(tmp_path):
    folders = [sample.make_sample(tmp_path / name, counts=FEW) for name in "ab"]
    assert content(folders[0]) == content(folders[1])
    assert len(content(folders[0])) == 2 * 4 + 2


def test_default_counts():
    assert sample.COUNTS == {"train": 160, "val": 40, "test": 20}


# ---- on the disk

@pytest.mark.parametrize("spoil", [
    lambda root: (root / "masks" / "val" / "000.png").unlink(),
    lambda root: (root / "sample.json").unlink(),
    lambda root: (root / "sample.json").write_text("{half"),
    lambda root: (root / "sample.json").write_text(json.dumps({"version": 0, "counts": {}})),
    lambda root: (root / "sample.json").write_text("[]"),
], ids=["a file gone", "no marker", "half a marker", "another version", "an invalid marker"])
def test_an_incomplete_sample_is_painted_again(home, spoil):
    root = get_dataset("sample").root
    whole = content(root)
    spoil(root)
    get_dataset("sample")
    assert content(root) == whole
    assert [p.name for p in home.iterdir()] == [root.name]  # and nothing else is left


def test_a_broken_attempt_leaves_nothing(home, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sample, "paint", full)
    with pytest.raises(EnvironmentProblem, match="cannot be written") as error:
        get_dataset("sample")
    assert sample.HOME_VARIABLE in error.value.fix and list(home.iterdir()) == []


def test_an_interrupted_attempt_leaves_nothing(home, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "paint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get_dataset("sample")
    assert list(home.iterdir()) == []


def test_home_that_is_a_file(home):
    home.write_text("")
    with pytest.raises(EnvironmentProblem):
        get_dataset("sample")


def test_a_folder_with_other_files_is_not_changed(home, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="other files"):
        get_dataset("sample", root=tmp_path / "photos")
    assert content(tmp_path / "photos") == {"me.jpg": b"precious"}


def test_a_given_root_is_used(home, tmp_path):
    (tmp_path / "empty").mkdir()
    assert get_dataset("sample", root=tmp_path / "empty").root == tmp_path / "empty"
    assert len(get_dataset("sample", root=tmp_path / "empty", split="val")) == 1 and not home.exists()


def test_the_result_of_a_faster_process_is_kept(home, monkeypatch, tmp_path):
    target = home / "sample"
    real = sample._put_in_place

    def too_late(made, folder):
        monkeypatch.setattr(sample, "_put_in_place", real)
        sample.make_sample(folder, counts={"train": 1})  # the faster process
        real(made, folder)

    monkeypatch.setattr(sample, "_put_in_place", too_late)
    sample.make_sample(target, counts={"train": 2})
    assert json.loads((target / "sample.json").read_text())["counts"] == {"train": 1}
    assert [p.name for p in home.iterdir()] == ["sample"]


def test_two_processes_at_once(tmp_path):
    code = ("from mxnetseg.data import get_dataset; from mxnetseg.data.sample import dataset as sample; "
            "sample.COUNTS = {'train': 3}; print(len(get_dataset('sample')))")
    environment = {**os.environ, "MXNETSEG_HOME": str(tmp_path), "PYTHONPATH": SOURCES}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
            for _ in range(2)]
    assert [p.communicate()[0].strip() for p in both] == [b"3", b"3"]
    assert [p.name for p in tmp_path.iterdir()] == [f"sample-{sample.VERSION}"]


def test_data_does_not_import_mxnet():
    code = "import sys, mxnetseg.data.loader, mxnetseg.data.sample; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": SOURCES}).returncode == 0
