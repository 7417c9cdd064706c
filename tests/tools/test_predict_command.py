"""`mxnetseg predict` on a hand-written network: files, tables, resuming, broken inputs, videos, shards."""
import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from exported import CLASSES, RECORD, expected_logits, write_onnx
from PIL import Image

from mxnetseg.tools import _predict_images
from mxnetseg.tools._predict_results import names_digest, read_manifest
from mxnetseg.tools.main import run_command

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("onnxruntime")


def image_of(i, size=(20, 30)):
    small = np.random.default_rng(i).integers(0, 256, (size[0] // 5, size[1] // 5, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a network and five images, two of them broken."""
    monkeypatch.chdir(tmp_path)
    write_onnx(tmp_path / "net.onnx")
    (tmp_path / "photos/deep").mkdir(parents=True)
    for i, name in enumerate(("a", "deep/c", "d")):
        Image.fromarray(image_of(i)).save(tmp_path / f"photos/{name}.png")
    (tmp_path / "photos/b.jpg").write_bytes(b"no image")
    (tmp_path / "photos/e.png").write_bytes(b"")
    return tmp_path


def predict(*arguments, network="net.onnx"):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command("predict", [*map(str, arguments), "--checkpoint", str(network), "--quiet"])
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def merge(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command("merge", list(map(str, arguments)))
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def table(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def class_map(path):
    with Image.open(path) as image:
        return np.array(image)


def expected(i, size=(20, 30)):
    return expected_logits(image_of(i, size)).argmax(0)


class TestImages:
    def test_broken_images_do_not_stop_the_others_and_are_listed(self, place):
        done = predict("photos", "--out", "out")
        assert done.code == 1 and "3 of 5 images predicted" in done.out
        assert "b.jpg" in done.err and "e.png" in done.err and "empty file" in done.err
        assert files(place / "out") == ["a_classes.png", "a_overlay.png", "d_classes.png", "d_overlay.png",
                                        "deep/c_classes.png", "deep/c_overlay.png", "predictions.jsonl", "shares.csv"]
        for i, name in enumerate(("a", "deep/c", "d")):
            np.testing.assert_array_equal(class_map(place / f"out/{name}_classes.png"), expected(i))

    def test_the_table_has_per_cent_of_each_class_in_the_order_of_the_images(self, place):
        predict("photos", "--out", "out", "--no-overlay")
        rows = table(place / "out/shares.csv")
        assert [row["image"] for row in rows] == ["a", "d", "deep/c"]
        counts = np.bincount(expected(2).ravel(), minlength=3) / 600
        assert (rows[1]["width"], rows[1]["height"]) == ("30", "20")
        assert [float(rows[1][name]) for name in CLASSES] == pytest.approx(100 * counts, abs=1e-4)
        assert not list((place / "out").glob("*_overlay.png"))

    def test_json_on_standard_output_is_alone_there(self, place):
        done = predict("photos", "--out", "out", "--json", "-")
        found = json.loads(done.out)
        assert "images predicted" in done.err and found["classes"] == CLASSES and found["backend"] == "onnxruntime"
        assert [result["name"] for result in found["results"]] == ["a", "d", "deep/c"]
        assert sum(found["results"][0]["fractions"].values()) == pytest.approx(1)
        assert [failure["failed"] for failure in found["failures"]] == ["b", "e"]
        assert predict("photos/a.png", "--out", "out", "--json", "all.json").code == 0
        assert json.loads((place / "all.json").read_text())["results"][0]["files"].keys() == {
            "a_classes.png", "a_overlay.png"}

    def test_ids_of_the_data_set(self, place):
        assert "does not record the ids" in predict("photos/a.png", "--out", "out", "--ids").err
        for raw, wanted in (([7, 8, 11], np.array([7, 8, 11])), (None, np.arange(3))):
            record = {**RECORD, "data": {**RECORD["data"], "raw_ids": raw}}
            write_onnx(place / "ids.onnx", record=record)
            assert predict("photos/a.png", "--out", "ids", "--ids", network="ids.onnx").code == 0
            np.testing.assert_array_equal(class_map(place / "ids/a_ids.png"), wanted[expected(0)])

    @pytest.mark.parametrize("dtype, tolerance", [("uint8", 0.5 / 255 + 1e-6), ("float16", 1e-3)])
    @pytest.mark.parametrize("tile", ["none", "64"])
    def test_probabilities(self, place, dtype, tolerance, tile):
        Image.fromarray(image_of(5, (160, 160))).save(place / "large.png")
        assert predict("large.png", "--out", "out", "--save-probabilities", dtype, "--tile", tile).code == 0
        logits = expected_logits(image_of(5, (160, 160)))
        e = np.exp(logits - logits.max(0))
        with np.load(place / "out/large_probabilities.npz") as stored:
            assert stored["classes"].tolist() == CLASSES and stored["probabilities"].dtype == dtype
            found = stored["probabilities"].astype(float) / (255 if dtype == "uint8" else 1)
        np.testing.assert_allclose(found, e / e.sum(0), atol=tolerance)
        np.testing.assert_array_equal(class_map(place / "out/large_classes.png"), logits.argmax(0))

    def test_too_many_probabilities_are_refused_with_their_bytes(self, place, monkeypatch):
        monkeypatch.setattr(_predict_images, "_MOST_PROBABILITIES", 1799)
        done = predict("photos/a.png", "--out", "out", "--save-probabilities", "uint8")
        assert done.code == 1 and "30 x 20 pixels x 3 classes x 1 bytes" in done.err
        monkeypatch.setattr(_predict_images.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
        done = predict("photos/a.png", "photos/d.png", "--out", "out", "--save-probabilities", "float16")
        assert done.code == 2 and "do not fit on the disk" in done.err and "3 classes x 2 bytes" in done.err

    def test_a_size_that_the_network_cannot_read_is_one_image_s_problem(self, place):
        Image.fromarray(image_of(0, (5, 5))[:3]).save(place / "photos/small.png")
        done = predict("photos", "--out", "out", "--batch", "2")
        assert "3 of 6 images predicted" in done.out and "at least 4 pixels" in done.err

    def test_images_are_extended_to_the_remainders_of_the_crops(self, place):
        record = {**RECORD, "config": {"data": {"crop_size": [40, 36]}}}  # remainders 8 and 4
        predict("photos/a.png", "--out", "out", network=write_onnx("extending.onnx", record=record))
        extended = cv2.copyMakeBorder(image_of(0), 0, 40 - 20, 0, 36 - 30, cv2.BORDER_REPLICATE)
        np.testing.assert_array_equal(class_map(place / "out/a_classes.png"),
                                      expected_logits(extended).argmax(0)[:20, :30])

    def test_overlays_of_very_large_images_are_scaled_down(self, place, monkeypatch):
        monkeypatch.setattr(_predict_images, "_LARGEST_OVERLAY", 15)
        predict("photos/a.png", "--out", "out")
        assert class_map(place / "out/a_classes.png").shape == (20, 30)
        assert class_map(place / "out/a_overlay.png").shape[1] >= 15
        assert class_map(place / "out/a_overlay.png").shape[0] < 100

    @pytest.mark.parametrize("options, words", [
        (["--tile", "100"], "multiple of 32"), (["--tile", "many"], "auto, none or a number"),
        (["--overlap", "32"], "--overlap needs --tile"), (["--tile", "64", "--base", "100"], "as well"),
        (["--every", "2"], "for videos"), (["--batch", "2", "--ms"], "several at once"),
        (["--shard", "0/4"], "counted from 1: 1/4 to 4/4 (in a job array that counts from 0"),
        (["--shard", "5/4"], "1/4 to 4/4"), (["--shard", "2"], "must be I/N"), (["--shard", "1/0"], "must be I/N")])
    def test_options_that_cannot_be_followed(self, place, options, words):
        done = predict("photos/a.png", "--out", "out", *options)
        assert done.code == 2 and words in done.err, done.err


class TestResuming:
    def test_a_second_run_computes_only_what_is_missing(self, place):
        predict("photos", "--out", "out")
        first = (place / "out/a_classes.png").stat().st_mtime_ns
        os.remove(place / "out/d_overlay.png")
        Image.fromarray(image_of(7)).save(place / "photos/b.jpg", quality=100)
        done = predict("photos", "--out", "out")
        assert "2 of 5 are complete already" in done.out and "4 of 5 images predicted" in done.out
        assert (place / "out/a_classes.png").stat().st_mtime_ns == first and (place / "out/d_overlay.png").exists()
        assert [row["image"] for row in table(place / "out/shares.csv")] == ["a", "b", "d", "deep/c"]
        done = predict("photos", "--out", "out", "--ids")
        assert "complete already" not in done.out  # there are no ids yet

    def test_without_anything_to_do_no_network_is_loaded(self, place, monkeypatch):
        predict("photos/a.png", "--out", "out")
        monkeypatch.setattr("mxnetseg.engine.predictor.Predictor.__init__", None)
        assert predict("photos/a.png", "--out", "out").code == 0

    @pytest.mark.parametrize("change", ["source", "network", "protocol", "output"])
    def test_what_changed_is_computed_again(self, place, change):
        predict("photos/a.png", "photos/d.png", "--out", "out")
        options = []
        if change == "source":
            Image.fromarray(image_of(9)).save(place / "photos/a.png")
        elif change == "network":
            write_onnx(place / "net.onnx", record={**RECORD, "smallest_side": 5})
        elif change == "protocol":
            options = ["--base", "60"]
        else:
            (place / "out/a_overlay.png").write_bytes(b"cut off")
        done = predict("photos/a.png", "photos/d.png", "--out", "out", *options)
        assert done.code == 0 and ("1 of 2 are complete" in done.out) is (change in ("source", "output"))
        if change == "network":
            assert "computed again" in done.out and "sha256: " in done.out and "net.onnx" in done.out
        if change == "protocol":
            assert "protocol: whole images, original size" in done.out and "long side 60" in done.out
        if change == "source":
            np.testing.assert_array_equal(class_map(place / "out/a_classes.png"), expected(9))

    def test_results_of_images_that_are_not_named_stay_listed(self, place):
        predict("photos/a.png", "--out", "out")
        predict("photos/d.png", "--out", "out")
        assert sorted(row["image"] for row in table(place / "out/shares.csv")) == ["a", "d"]
        done = predict("photos/d.png", "--out", "out", "--base", "60")
        assert "1 results of other images" in done.out
        assert [row["image"] for row in table(place / "out/shares.csv")] == ["d"]

    def test_a_list_that_is_cut_off_is_read_up_to_there_and_damage_is_refused(self, place):
        predict("photos/a.png", "photos/d.png", "--out", "out")
        path = place / "out/predictions.jsonl"
        text = path.read_text()
        path.write_text(text[:-20])
        assert list(read_manifest(path).entries) == ["a"]
        assert "1 of 2 are complete" in predict("photos/a.png", "photos/d.png", "--out", "out").out
        for damaged in (text.replace('"number": 0', '"number": -1'), text.replace('"a_classes.png"', '"../x.png"'),
                        "[]\n" + text, text.replace('"fractions": [', '"fractions": [7, '), "\n", "{}\n",
                        '{"format": 1}\n'):
            path.write_text(damaged)
            done = predict("photos/a.png", "--out", "out")
            assert done.code == 1 and "the list of results is damaged" in done.err and "remove it" in done.err
        path.write_text(text.replace('"format": 1', '"format": 9'))
        assert "newer mxnetseg" in predict("photos/a.png", "--out", "out").err

    def test_one_process_at_a_time_writes_a_folder(self, place):
        predict("photos/a.png", "--out", "out")
        code = ("import time; from pathlib import Path; from mxnetseg.engine.lock import RunLock\n"
                "lock = RunLock(Path('out/predictions.jsonl')); print('held', flush=True); time.sleep(60)")
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:
            assert other.stdout.readline() == "held\n"
            done = predict("photos/a.png", "--out", "out")
            assert done.code == 2 and "another process writes predictions there" in done.err
            assert str(other.pid) in done.err and "--shard 1/2" in done.err
        finally:
            other.kill()
            other.wait()
            other.stdout.close()
        assert predict("photos/a.png", "--out", "out").code == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_a_stopped_run_is_continued(self, place, number):
        (place / "many").mkdir()
        for i in range(40):
            Image.fromarray(image_of(i)).save(place / f"many/{i:02d}.png")
        slow = ("import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # else inherited
                "from mxnetseg.tools import _predict_images as m\n"
                "from mxnetseg.tools.main import main\nread = m.read_image\n"
                "m.read_image = lambda *a, **k: (time.sleep(0.05), read(*a, **k))[1]\n"
                "sys.exit(main(sys.argv[1:]))")
        command = ["predict", "many", "--checkpoint", "net.onnx", "--out", "out", "--quiet"]
        process = subprocess.Popen([sys.executable, "-c", slow, *command], env={**os.environ, "PYTHONPATH": str(ROOT)},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shares = place / "out/shares.csv"
        while not (shares.exists() and len(shares.read_text().splitlines()) > 8):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -number)
        whole = shares.read_text()
        assert whole.endswith("\n") and 8 <= len(table(shares)) < 40
        done = predict("many", "--out", "out")
        assert done.code == 0 and "are complete already" in done.out and "40 of 40 images predicted" in done.out
        assert [row["image"] for row in table(shares)] == [f"{i:02d}" for i in range(40)]
        assert not [name for name in files(place / "out") if name.startswith(".")]
        for i in (0, 20, 39):
            np.testing.assert_array_equal(class_map(place / f"out/{i:02d}_classes.png"), expected(i))


class TestVideos:
    @pytest.fixture
    def film(self, place):
        writer = cv2.VideoWriter(str(place / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (64, 48))
        for i in range(12):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, :4 * (i + 1)] = (40, 40, 200)  # red, in OpenCV's order
            frame[:, 4 * (i + 1):] = (40, 200, 40)
            writer.write(frame)
        writer.release()
        return place / "film.mp4"

    def test_an_overlay_at_the_same_rate_and_a_row_for_each_frame(self, place, film):
        done = predict(film, "photos/a.png", "--out", "out", "--batch", "5")
        assert done.code == 0 and "12 frames in" in done.out and "frames/s" in done.out
        assert "2 of 2 images and videos predicted" in done.out
        capture = cv2.VideoCapture(str(place / "out/film_overlay.mp4"))
        assert capture.get(cv2.CAP_PROP_FPS) == 10 and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
        height = capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        assert height > 60  # a legend
        capture.release()
        rows = table(place / "out/film_shares.csv")
        assert [row["frame"] for row in rows] == list(map(str, range(12))) and rows[5]["seconds"] == "0.500"
        for i, row in enumerate(rows):
            assert float(row["red"]) == pytest.approx(100 * (i + 1) / 16, abs=4)
        mean = table(place / "out/shares.csv")[0]
        assert mean["image"] == "film" and (mean["width"], mean["height"]) == ("64", "48")
        assert float(mean["red"]) == pytest.approx(np.mean([float(row["red"]) for row in rows]), abs=1e-3)

    def test_names_are_drawn_on_frames(self, place):
        writer = cv2.VideoWriter(str(place / "plain.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (300, 200))
        for _ in range(3):
            writer.write(np.full((200, 300, 3), (40, 40, 200), np.uint8))
        writer.release()
        frames = []
        for options in ([], ["--names"]):
            done = predict("plain.mp4", "--out", "out", *options)
            assert done.code == 0 and ("other settings" in done.out) == bool(options)
            capture = cv2.VideoCapture(str(place / "out/plain_overlay.mp4"))
            frames.append(capture.read()[1].astype(int))
            capture.release()
        differs = np.abs(frames[0] - frames[1]).max(axis=2) > 60
        assert 100 < differs.sum() < 5000  # the letters of one name

    def test_every_third_frame(self, place, film):
        assert predict(film, "--out", "out", "--every", "3").code == 0
        capture = cv2.VideoCapture(str(place / "out/film_overlay.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, abs=0.01)
        capture.release()
        rows = table(place / "out/film_shares.csv")
        assert [(row["frame"], row["seconds"]) for row in rows] == [
            ("0", "0.000"), ("3", "0.300"), ("6", "0.600"), ("9", "0.900")]
        assert "complete already" in predict(film, "--out", "out", "--every", "3").out
        assert "complete already" not in predict(film, "--out", "out", "--every", "2").out

    def test_without_overlay_only_the_table_is_written(self, place, film):
        assert predict(film, "--out", "out", "--no-overlay").code == 0
        assert files(place / "out") == ["film_shares.csv", "predictions.jsonl", "shares.csv"]

    def test_a_damaged_end_is_reported_each_time(self, place, film):
        data = bytearray(film.read_bytes())
        start = data.index(b"mdat") + 4
        size = int.from_bytes(data[start - 8:start - 4], "big") - 8
        data[start + size // 2:start + size] = bytes(size - size // 2)
        film.write_bytes(data)
        for _ in range(2):
            done = predict(film, "photos/a.png", "--out", "out")
            assert done.code == 1 and "damaged: the last" in done.err and "of 12 frames could not be read" in done.err
            assert (place / "out/film_overlay.mp4").exists() and "2 of 2" in done.out
        assert "2 of 2 are complete already" in done.out

    def test_no_video_and_options_for_images(self, place, film):
        (place / "none.mp4").write_bytes(b"no video")
        done = predict("none.mp4", "photos/a.png", "--out", "out")
        assert done.code == 1 and "1 of 2 images predicted" in done.out and "cannot be opened" in done.err
        for option in (["--ids"], ["--save-probabilities", "uint8"]):
            done = predict(film, "--out", "out", *option)
            assert done.code == 2 and "for images" in done.err and "ffmpeg" in done.err

    def test_a_killed_run_leaves_no_video_and_its_remains_are_removed(self, place, film):
        slow = ("import os, signal, sys; from mxnetseg.tools import _predict_videos as m\n"
                "from mxnetseg.tools.main import main; draw = m._Drawing.__call__; calls = []\n"
                "def kill(*a):\n    calls.append(1)\n    len(calls) == 6 and os.kill(os.getpid(), signal.SIGKILL)\n"
                "    return draw(*a)\n"
                "m._Drawing.__call__ = kill\nsys.exit(main(sys.argv[1:]))")
        done = subprocess.run([sys.executable, "-c", slow, "predict", film, "--checkpoint", "net.onnx", "--out", "out"],
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        left = files(place / "out")
        assert "film_overlay.mp4" not in left and "film_shares.csv" not in left
        assert any(name.startswith(".") for name in left)
        assert predict(film, "--out", "out").code == 0
        assert files(place / "out") == ["film_overlay.mp4", "film_shares.csv", "predictions.jsonl", "shares.csv"]


class TestShards:
    def test_merged_parts_equal_one_run(self, place):
        for i in (2, 1, 3):
            done = predict("photos", "--out", "out", "--shard", f"{i}/3")
            assert done.code == (1 if i == 2 else 0), done.err
            assert "when all 3 parts are there: mxnetseg merge out" in done.out
        assert {"predictions-2-of-3.jsonl", "shares-2-of-3.csv"} <= set(files(place / "out"))
        assert [row["image"] for row in table(place / "out/shares-1-of-3.csv")] == ["a", "deep/c"]
        done = merge("out")
        assert done.code == 1 and "3 results of 3 parts" in done.out and "b.jpg" in done.err and "e.png" in done.err
        predict("photos", "--out", "whole")
        for name in ("shares.csv", "a_classes.png", "deep/c_overlay.png"):
            assert (place / "out" / name).read_bytes() == (place / "whole" / name).read_bytes()
        joined, whole = (read_manifest(place / folder / "predictions.jsonl") for folder in ("out", "whole"))
        assert joined.entries == whole.entries and joined.header == whole.header
        assert joined.failures.keys() == whole.failures.keys()
        assert "3 of 5 are complete already" in predict("photos", "--out", "out").out

    def test_a_part_skips_what_is_done(self, place):
        predict("photos", "--out", "out", "--shard", "1/3")
        assert "2 of 2 are complete already" in predict("photos", "--out", "out", "--shard", "1/3").out

    def test_parts_that_are_missing_doubled_incomplete_or_foreign_are_refused_by_name(self, place):
        os.remove(place / "photos/b.jpg")
        os.remove(place / "photos/e.png")
        for i in (1, 3):
            assert predict("photos", "--out", "out", "--shard", f"{i}/3").code == 0
        done = merge("out")
        assert done.code == 2 and "parts are missing: 2/3" in done.err and "--shard 2/3" in done.err
        assert predict("photos", "--out", "out", "--shard", "2/3").code == 0
        parts = [place / f"out/predictions-{i}-of-3.jsonl" for i in (1, 2, 3)]
        done = merge(*parts, parts[0])
        assert done.code == 2 and "part 1/3 is there twice" in done.err
        text = parts[1].read_text()
        parts[1].write_text(text.splitlines(keepends=True)[0])
        done = merge("out")
        assert done.code == 2 and "part 2/3 is not complete" in done.err and "0 of 1 inputs" in done.err
        for old, new, words in (('"precision": "float32"', '"precision": "int8"', "precision: float32 -> int8"),
                                ('"count": 3', '"count": 4', "3 images -> 4"),
                                ('"shard": [1, 3]', '"shard": [1, 4]', "number of parts: 3 -> 4")):
            assert old in text
            parts[1].write_text(text.replace(old, new))
            done = merge("out")
            assert done.code == 2 and words in done.err and "predictions-2-of-3.jsonl" in done.err, done.err
        parts[1].write_text(text)
        missing = next((place / "out").glob("*_overlay.png"))
        missing.rename(place / "elsewhere.png")
        assert "a result is missing" in merge("out").err
        shutil.move(place / "elsewhere.png", missing)
        assert merge("out").code == 0

    def test_what_holds_no_part_is_refused(self, place):
        assert "holds no part" in merge("photos").err
        assert merge("none.jsonl").code == 1 and "only parts of evaluations" in merge("photos/a.png").err
        (place / "two").mkdir()
        for i, folder in enumerate(("out", "two"), start=1):
            predict("photos/a.png", "photos/d.png", "--out", folder, "--shard", f"{i}/2")
        done = merge("out/predictions-1-of-2.jsonl", "two/predictions-2-of-2.jsonl")
        assert done.code == 2 and "several folders" in done.err
        assert merge("out", "--out", "x").code == 2

    def test_the_digest_depends_on_order_and_names(self):
        assert len({names_digest(names) for names in (["a", "b"], ["b", "a"], ["a"], ["a\udcff", "b"])}) == 4


def test_names_are_written_on_overlays_and_make_them_again(place):
    Image.new("RGB", (300, 200), (200, 40, 40)).save(place / "plain.png")  # one region, of one class
    overlays = []
    for options in ([], ["--names"], ["--names"], []):
        result = predict("plain.png", *options)
        assert result.code == 0, result.err
        assert ("other settings" in result.out) == (len(overlays) in (1, 3))
        assert ("complete already" in result.out) == (len(overlays) == 2)
        overlays.append(class_map(place / "out/predict/plain_overlay.png"))
    plain, named, again, last = overlays
    assert (plain == last).all() and (named == again).all() and plain.shape == named.shape
    assert 100 < (plain != named).any(axis=2).sum() < 5000  # the letters of one name
