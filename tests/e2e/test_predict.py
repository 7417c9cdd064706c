"""`mxnetseg predict` and `eval` on a trained network: results, failures, output folders."""
import json
import shutil

import pytest

from mxnetseg.data.folder import FolderDataset


@pytest.fixture
def best(trained):
    return next(trained.weights.glob("fcn/*_best.params"))


def test_damaged_images_are_listed_after_all_others_are_predicted(command, best, data, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    (images / "deep").mkdir(parents=True)
    first, second, *_ = sorted((data / "images").glob("*.png"))
    shutil.copy(first, images / "a.png")
    (images / "b.png").write_bytes(first.read_bytes()[:60])
    shutil.copy(second, images / "deep" / "c.png")
    (images / "deep" / "._c.png").write_bytes(b"Mac OS X")
    done = command("predict", images, "--checkpoint", best, "--out", out, "--ctx", "cpu",
                   "--precision", "float32")
    assert done.code == 1 and "2 of 3 images predicted" in done.out
    assert "b.png: not predicted" in done.out and "b.png" in done.err  # when it is read, and in the list at the end
    assert "._c" not in done.out
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        "a_classes.png", "a_overlay.png", "deep/c_classes.png", "deep/c_overlay.png"]
    lines = [line for line in done.out.splitlines() if line.endswith("_overlay.png")]
    assert len(lines) == 2 and all("%" in line for line in lines)  # one line per image


def test_a_folder_that_cannot_be_written_is_reported_before_any_computation(command, best, data, tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (["predict", data / "images"], ["eval", "--data", f"folder:{data}"]):
        done = command(*arguments, "--checkpoint", best, "--out", tmp_path / "file" / "here")
        assert done.code == 2 and "no file can be written there" in done.err and "precision" not in done.out


def test_numbers_outside_the_range_of_their_key_are_refused(command, best, data):
    for option, key in (("--base", "eval.base_size"), ("--crop", "eval.crop_size"), ("--workers", "data.workers")):
        for value in ("-3", "0"):
            done = command("eval", "--checkpoint", best, option, value)
            assert done.code == 2 and key in done.err and f"{option} {value}" in done.err, (option, value, done.err)
    done = command("eval", "--checkpoint", best, "--set", "eval.stride=2")
    assert done.code == 2 and "eval.stride" in done.err


def test_one_validation_image_has_no_chance_level(command, best, own_data, tmp_path):
    (own_data / "val.txt").write_text("val0\n")
    assert len(FolderDataset(split="val", root=own_data)) == 1
    done = command("eval", "--checkpoint", best, "--data", f"folder:{own_data}", "--save-dir", tmp_path / "out",
                   "--ctx", "cpu")
    assert done.code == 0 and "nan" not in done.out and "chance level not computed" in done.out
    scores = json.loads(next((tmp_path / "out").rglob("scores.json")).read_text())
    assert scores["control_miou"] is None and scores["unit"] == "fractions of 1"
