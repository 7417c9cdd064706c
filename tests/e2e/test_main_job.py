"""Whole jobs by commands alone: train, stop, resume, evaluate, predict."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import mxnetseg
from mxnetseg.viz.palette import make_palette

ROOT = Path(mxnetseg.__file__).parents[1]
PALETTE = make_palette(3)  # the data set declares no colours


def start(script, *arguments, cwd):
    """Start ``python train.py ...`` in another folder than the checkout."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *map(str, arguments)], cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def read(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


class TestTraining:
    def test_the_output_reports_scores_and_files(self, trained):
        best, = trained.weights.glob("fcn/*_best.params")
        last = best.with_name(best.name.replace("_best", ""))
        assert re.fullmatch(r"fcn_resnet18_tiles_\d{8}_\d{6}\.params", last.name)
        for path in (best, last, last.with_name(last.stem + "_curves.png")):
            assert str(path) in trained.out and path.is_file()
        for word in ("red", "green", "blue", "mIoU"):
            assert word in trained.out
        assert "fcn on resnet18" in trained.err and "6 images, 3 classes" in trained.err
        assert "epoch 2/2" in trained.err
        warning, = (line for line in trained.err.splitlines() if line.startswith("warning"))
        assert "crops of 32 x 32 are too small to train all weights of backbone.layer4.0.conv1.weight" in warning
        assert "crops of about 64 x 64" in warning
        with Image.open(last.with_name(last.stem + "_curves.png")) as image:
            assert image.size[0] > 300

    def test_several_numbers_without_a_gpu_give_the_same_result_as_cpu(self, options, data, tmp_path):
        """The batch is the same, even if it could not be split across that many devices."""
        arrays = []
        for name, ctx in (("numbers", ["0", "1", "2", "3"]), ("cpu", ["cpu"])):
            process = start("train.py", *options, "--data", data, "--batch-size", "2", "--epochs", "2",
                            "--weights", name, "--ctx", *ctx, cwd=tmp_path)
            out, err = process.communicate(timeout=240)
            assert process.returncode == 0, err
            assert err.count("no GPU here") == (name == "numbers") and "batch 2 on cpu(0) in" in err
            last, = (p for p in (tmp_path / name).glob("fcn/*.params") if "_best" not in p.name)
            arrays.append({key: value.asnumpy() for key, value in mx.nd.load(str(last)).items()})
        assert arrays[0].keys() == arrays[1].keys()
        for key, value in arrays[0].items():
            np.testing.assert_array_equal(value, arrays[1][key])

    def test_on_two_contexts_stopped_by_a_signal_and_resumed(self, options, data, tmp_path):
        """Send SIGTERM during training, as a cluster does, then run the same command with --resume auto."""
        arguments = [*options, "--data", data, "--ctx", "cpu", "cpu"]
        process = start("train.py", *arguments, "--epochs", "500", cwd=tmp_path)
        try:
            deadline = time.time() + 120
            while process.poll() is None and time.time() < deadline:
                logs = list(tmp_path.glob("weights/fcn/*.jsonl"))
                if logs and len(rows(logs[0])) > 4:
                    break
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == 128 + signal.SIGTERM, err
        assert "no GPU here" not in err and "cpu(0), cpu(1)" in err
        last, = (p for p in tmp_path.glob("weights/fcn/*.params") if "_best" not in p.name)
        assert f"mxnetseg train --resume {last.relative_to(tmp_path)} --ctx cpu cpu" in out
        progress = json.loads(last.with_suffix(".json").read_text())["progress"]
        before = rows(last.with_suffix(".jsonl"))

        epochs = progress["epoch"] + 1
        process = start("train.py", *arguments, "--epochs", epochs, "--resume", "auto", cwd=tmp_path)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert f"resumed from {last.relative_to(tmp_path)}: epoch {epochs}, batch {progress['batch']}" in err
        after = rows(last.with_suffix(".jsonl"))
        assert after[:len(before)] == before
        assert [row["step"] for row in after if row["kind"] == "step"] == list(range(1, 3 * epochs + 1))
        assert [row["epoch"] for row in after if row["kind"] == "epoch"] == list(range(1, epochs + 1))
        assert len(list(tmp_path.glob("weights/fcn/*.yaml"))) == 1  # a single run


class TestEvaluation:
    def test_ms_alone_uses_the_newest_run_and_reports_its_choices(self, trained, data, command, tmp_path):
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--ms", "--weights", trained.weights, "--save-dir", tmp_path)
        assert result.code == 0, result.err
        for words in (str(best), "fcn on resnet18", "tiles, val: 3 images", "whole images, original size",
                      "scales 0.5, 1, 1.5, with flip", "cpu(0)", "mIoU", "chance level"):
            assert words in result.out, words
        folder = tmp_path / best.stem / "val"
        report = json.loads((folder / "scores.json").read_text())
        assert report["checkpoint"] == str(best) and report["images"] == 3 and report["pixels"] == 3 * 48 * 64
        assert [c["name"] for c in report["classes"]] == ["red", "green", "blue"]
        assert 0 <= report["miou"] <= 1 and str(folder / "scores.json") in result.out
        assert read(folder / "confusion.png")[1].shape[0] > 100

    def test_a_report_on_an_evaluation(self, trained, command, tmp_path):
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--weights", trained.weights, "--save-dir", tmp_path)
        folder = tmp_path / best.stem / "val"
        assert result.code == 0 and f"mxnetseg report {folder}" in result.out, result.err
        record = json.loads((folder / "details/record.json").read_text())
        assert record["names"] == ["val0", "val1", "val2"] and record["calibrated_images"] == 3
        assert record["parameters"] > 1e6 and record["speed"]["milliseconds"] > 0
        assert {"train_loss", "val_miou", "val_iou/red"} <= record["epochs"][-1].keys()
        scores = json.loads((folder / "scores.json").read_text())
        table = (folder / "images.csv").read_text().splitlines()
        assert len(table) == 4 and table[0].endswith("iou red,iou green,iou blue")

        page = tmp_path / "report.html"
        result = command("report", best, folder, "--evaluated", tmp_path, "--out", page)
        assert result.code == 0 and str(page) in result.out, result.err
        assert f"{100 * scores['miou']:.2f}" in page.read_text(encoding="utf-8")

        result = command("eval", "--weights", trained.weights, "--save-dir", tmp_path, "--scores-only")
        assert result.code == 0 and "mxnetseg report" not in result.out
        result = command("report", best, "--evaluated", tmp_path, "--out", page)
        assert result.code == 2 and "was not evaluated yet" in result.err

    # Training validates a fused copy. Another graph, as on another device or at the first image of a size, may give a
    # pixel on the border between two classes to the other class.
    @pytest.mark.parametrize("precision", ["plain", "float32"])
    def test_one_scale_reproduces_the_score_of_the_training(self, trained, command, tmp_path, precision):
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--weights", trained.weights, "--save-dir", tmp_path, "--ctx", "cpu", "cpu",
                         "--precision", precision)
        assert result.code == 0 and "cpu(0), cpu(1)" in result.out
        report = json.loads((tmp_path / best.stem / "val" / "scores.json").read_text())
        sidecar = json.loads(best.with_suffix(".json").read_text())
        assert report["precision"] == precision
        assert report["miou"] == pytest.approx(sidecar["metrics"]["miou"], abs=1e-3)

    def test_every_option_at_once(self, trained, data, command, tmp_path):
        best, = trained.weights.glob("fcn/*_best.params")
        result = command("eval", "--model", "FCN", "--backbone", "ResNet-18", "--checkpoint", best.name, "--ctx", "0",
                         "--data", f"folder:{data}", "--crop", "32", "--base", "64", "--mode", "val", "--ms",
                         "--weights", trained.weights, "--save-dir", tmp_path)
        assert result.code == 0, result.err
        assert "windows of 32 x 32, step 0.67, long side 64, scales 0.5" in result.out

    def test_moved_data_is_found_with_root(self, own_weights, own_data, command, tmp_path, monkeypatch):
        """Follow the fix in the message, in another working directory than the training's."""
        elsewhere = own_data.rename(tmp_path / "moved")
        sidecar = json.loads(own_weights.best.with_suffix(".json").read_text())
        sidecar["config"]["data"]["name"] = "folder:data/tiles"
        del sidecar["sha256"]
        path = own_weights.best.with_suffix(".json")
        path.unlink()  # it is a hard link
        path.write_text(json.dumps(sidecar))
        monkeypatch.chdir(tmp_path)
        options = ("--weights", own_weights.weights, "--save-dir", tmp_path / "out", "--checkpoint", own_weights.best)
        result = command("eval", *options)
        assert result.code == 2 and "--root PATH" in result.err
        result = command("eval", *options, "--root", "moved")
        assert result.code == 0 and "moved, val: 3 images" in result.out, result.err
        assert "holds other images" not in result.err
        (elsewhere / "val.txt").write_text("val0\nval1\ntrain0\n")
        result = command("eval", *options, "--root", "moved")
        assert result.code == 0 and "holds other images than when" in result.err and "3 then, 3 now" in result.err

    @pytest.mark.parametrize("mode, split", [("testval", "val"), ("test", "test")])
    def test_predictions_as_images(self, trained, data, command, tmp_path, mode, split):
        result = command("eval", "--mode", mode, "--weights", trained.weights, "--save-dir", tmp_path)
        assert result.code == 0 and f"tiles, {split}: 3 images" in result.out, result.err
        folder = next(tmp_path.iterdir()) / mode
        assert str(folder / "color").replace("/color", "") in result.out
        for kind in ("color", "id"):
            assert sorted(p.name for p in (folder / kind).iterdir()) == [f"{split}{i}.png" for i in range(3)]
        pixels, color = read(folder / "color" / f"{split}1.png")
        assert pixels == "P" and color.shape == (48, 64)
        assert read(folder / "id" / f"{split}1.png")[0] == "L"
        np.testing.assert_array_equal(read(folder / "id" / f"{split}1.png")[1], color)
        if mode == "testval":
            sheets = sorted(p.name for p in (folder / "sheet").iterdir())
            assert sheets == [f"{split}{i}.png" for i in range(3)]
            assert read(folder / "sheet" / f"{split}1.png")[1].shape[1] > 4 * 64
        assert (folder / "sheet").exists() == (mode == "testval")
        with Image.open(folder / "color" / f"{split}1.png") as image:
            np.testing.assert_array_equal(np.array(image.convert("RGB")), PALETTE[color])


class TestPrediction:
    def test_an_image_and_a_folder(self, trained, data, command, tmp_path):
        image = data / "images" / "val0.png"
        one = command("predict", image, "--weights", trained.weights, "--out", tmp_path / "one")
        assert one.code == 0 and str(image) in one.out, one.err
        assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
            "predictions.jsonl", "shares.csv", "val0_classes.png", "val0_overlay.png"]
        many = command("predict", data / "images", "--weights", trained.weights, "--out", tmp_path / "many",
                       "--ctx", "0")
        assert many.code == 0 and len(list((tmp_path / "many").glob("*.png"))) == 24
        np.testing.assert_array_equal(read(tmp_path / "one" / "val0_classes.png")[1],
                                      read(tmp_path / "many" / "val0_classes.png")[1])
        assert read(tmp_path / "one" / "val0_overlay.png")[1].shape[0] > 48  # with a legend


def test_fine_tuning_on_other_classes_lists_the_skipped_tensors(own_data, trained, options, command, tmp_path):
    (own_data / "classes.txt").write_text("red\ngreen\nblue\nblack\n")
    best, = trained.weights.glob("fcn/*_best.params")
    result = command("train", *options, "--data", own_data, "--epochs", "1", "--weights", tmp_path / "w",
                     "--set", f"train.init_from={best}", "--no-val")
    assert result.code == 0, result.err
    assert "4 skipped" in result.err and "head.conv2.weight: shape (3, 256, 1, 1) in the file, (4, 256" in result.err
