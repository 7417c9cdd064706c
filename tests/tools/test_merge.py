"""`mxnetseg eval --shard` and `merge`: exactly the scores, tables and details of the whole."""
import contextlib
import io
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from exported import CLASSES, expected_logits, write_onnx
from PIL import Image

from mxnetseg.report.partial import read_partial
from mxnetseg.report.record import read_record
from mxnetseg.tools.main import run_command

pytest.importorskip("onnxruntime")
SIZES = [(20, 30)] * 4 + [(24, 30)] * 2 + [(20, 30)]


def run(command, *arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(command, list(map(str, arguments)))
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network, and seven images whose masks it predicts with some errors."""
    root = tmp_path_factory.mktemp("merge")
    write_onnx(root / "net.onnx")
    for kind in ("images", "masks"):
        (root / "data" / kind / "val").mkdir(parents=True)
    for i, size in enumerate(SIZES):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = expected_logits(image).argmax(0).astype(np.uint8)
        mask[rng.random(size) < 0.1 * i] = 0
        mask[:2] = 255
        Image.fromarray(image).save(root / f"data/images/val/{i}.png")
        Image.fromarray(mask).save(root / f"data/masks/val/{i}.png")
    (root / "data/classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*arguments):
    return run("eval", "--checkpoint", "net.onnx", "--data", "folder:data", "--split", "val", "--quiet", *arguments)


def without_time(path):
    record = json.loads(path.read_text())
    return {key: value for key, value in record.items() if key not in ("written", "speed")}


@pytest.mark.parametrize("count", [2, 3, 9])
@pytest.mark.parametrize("options", [[], ["--absent-as", "zero"]], ids=str)
def test_merged_parts_equal_the_whole(place, count, options):
    """With nine parts of seven images, two parts are empty."""
    whole = evaluate("--out", "whole", *options)
    for i in range(count, 0, -1):
        done = evaluate("--out", "parts", "--shard", f"{i}/{count}", *options)
        assert done.code == 0 and f"when all {count} parts are there: mxnetseg merge" in done.out, done.err
    assert not (place / "parts/net/val/scores.json").exists()
    done = run("merge", "parts/net/val")
    assert done.code == 0, done.err
    table = [line for line in whole.out.splitlines() if "mIoU" in line or line.startswith((*CLASSES, "PA"))]
    assert len(table) >= 5 and all(line in done.out.splitlines() for line in table)

    joined, one = place / "parts/net/val", place / "whole/net/val"
    for name in ("scores.json", "images.csv", "confusion.png"):
        assert (joined / name).read_bytes() == (one / name).read_bytes(), name
    assert json.loads((one / "scores.json").read_text())["control_miou"] > 0
    assert without_time(joined / "details/record.json") == without_time(one / "details/record.json")
    got, wanted = read_record(joined), read_record(one)
    for name in ("regions", "boundaries", "confusion", "trimap", "sizes", "objects", "bin_pixels", "bin_correct",
                 "bin_confidence"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
    images = [sorted(path.name for path in (folder / "details/images").iterdir()) for folder in (joined, one)]
    assert images[0] == images[1] and len(images[0]) == 3 * len(SIZES)
    for name in images[0]:
        assert (joined / "details/images" / name).read_bytes() == (one / "details/images" / name).read_bytes()


def test_the_control_of_parts_adds_up_to_that_of_the_whole(place):
    """Each prediction is scored against a mask half of the split away, which another part has."""
    for i in (1, 2, 3):
        evaluate("--out", "parts", "--scores-only", "--shard", f"{i}/3")
    parts = [read_partial(place / f"parts/net/val/shards/{i}-of-3.npz") for i in (1, 2, 3)]
    evaluate("--out", "one", "--scores-only", "--shard", "1/1")
    control = sum(part.control.counts for part in parts)
    wanted = np.zeros((3, 3), int)
    for i, j in zip(range(7), [3, 4, 5, 6, 0, 1, 2]):
        if SIZES[i] == SIZES[j]:
            image, mask = place / f"data/images/val/{i}.png", place / f"data/masks/val/{j}.png"
            with Image.open(image) as a, Image.open(mask) as b:
                prediction, mask = expected_logits(np.array(a)).argmax(0), np.array(b)
            for t in range(3):
                wanted[t] += np.bincount(prediction[mask == t], minlength=3)
    np.testing.assert_array_equal(control, wanted)


def test_scores_only(place):
    evaluate("--out", "whole", "--scores-only")
    for i in (1, 2):
        evaluate("--out", "parts", "--scores-only", "--shard", f"{i}/2")
    assert run("merge", "parts/net/val/shards").code == 0
    assert (place / "parts/net/val/scores.json").read_bytes() == (place / "whole/net/val/scores.json").read_bytes()
    assert not (place / "parts/net/val/images.csv").exists()


def test_parts_of_several_folders_are_joined_in_another(place):
    """As on machines without a common disk; the small images are copied."""
    evaluate("--out", "whole")
    for i in (1, 2):
        evaluate("--out", f"machine{i}", "--shard", f"{i}/2")
    files = [f"machine{i}/net/val/shards/{i}-of-2.npz" for i in (2, 1)]
    assert run("merge", *files, "--out", "joined").code == 0
    assert (place / "joined/images.csv").read_bytes() == (place / "whole/net/val/images.csv").read_bytes()
    assert len(list((place / "joined/details/images").iterdir())) == 3 * len(SIZES)
    assert run("report", "joined", "--out", "a.html").code == 0
    (place / "alone").mkdir()
    for file in files:
        shutil.copy(file, place / "alone")
    done = run("merge", *(place / "alone").iterdir())
    assert done.code == 0 and "copies of 7 images are not beside their parts" in done.err


def test_a_part_that_is_done_is_skipped_unless_something_changed(place):
    evaluate("--out", "out", "--shard", "1/2")
    path = place / "out/net/val/shards/1-of-2.npz"
    first = path.stat().st_mtime_ns
    assert "already" in evaluate("--out", "out", "--shard", "1/2").out and path.stat().st_mtime_ns == first
    path.write_bytes(path.read_bytes()[:-30])
    assert evaluate("--out", "out", "--shard", "1/2").code == 0 and read_partial(path).names
    assert "already" not in evaluate("--out", "out", "--shard", "1/2", "--base", "40").out


@pytest.mark.parametrize("change, words", [
    ("network", "network: "), ("protocol", "protocol: "), ("data", "names and sizes of the files: "),
    ("images", "images: 7 -> 6"), ("count", "number of parts: 3 -> 2")])
def test_foreign_parts_are_refused_with_both_values(place, change, words):
    options, parts = [], 3
    evaluate("--out", "out", "--shard", "1/3")
    if change == "network":
        from exported import RECORD
        write_onnx(place / "net.onnx", record={**RECORD, "smallest_side": 3})
    elif change == "protocol":
        options = ["--base", "40"]
    elif change == "data":
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(place / "data/images/val/1.png")
    elif change == "images":
        os.remove(place / "data/images/val/6.png")
        os.remove(place / "data/masks/val/6.png")
    else:
        parts = 2
    evaluate("--out", "out", "--shard", f"2/{parts}", *options)
    done = run("merge", "out/net/val")
    assert done.code == 2 and "belongs to something else" in done.err and words in done.err
    assert f"2-of-{parts}.npz" in done.err and "1-of-3.npz" in done.err


def test_missing_doubled_and_damaged_parts_are_refused_by_name(place):
    for i in (1, 4):
        evaluate("--out", "out", "--shard", f"{i}/4")
    done = run("merge", "out/net/val")
    assert done.code == 2 and "parts are missing: 2/4, 3/4" in done.err and "--shard 2/4" in done.err
    file = place / "out/net/val/shards/1-of-4.npz"
    shutil.copy(file, place / "copy.npz")
    assert "part 1/4 is there twice" in run("merge", file, "copy.npz").err
    file.write_bytes(file.read_bytes()[:500])
    done = run("merge", file)
    assert done.code == 1 and "damaged" in done.err and "1-of-4.npz" in done.err
    file.write_bytes(b"")
    assert run("merge", file).code == 1


def test_a_shard_of_something_else_than_scores_is_refused(place):
    done = evaluate("--shard", "1/2", "--mode", "testval")
    assert done.code == 2 and "divides the scoring" in done.err and "predict --shard" in done.err
