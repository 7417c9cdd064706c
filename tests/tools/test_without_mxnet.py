"""Without MXNet and GluonCV, exported networks are predicted and evaluated, and help is shown."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import CLASSES, expected_logits, write_onnx
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from mxnetseg.tools.main import main
code = main(sys.argv[1:])
assert not set({blocked}) & set(sys.modules)
sys.exit(code)
"""


def command(*arguments, cwd, blocked=("mxnet", "gluoncv")):
    return subprocess.run([sys.executable, "-c", BLOCK.format(blocked=blocked), *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture
def network(tmp_path):
    pytest.importorskip("onnxruntime")
    return write_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["", "predict", "eval", "doctor", "train", "summary"])
def test_help(tmp_path, name):
    done = command(*[name] * bool(name), "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


def test_predict(tmp_path, network):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    done = command("predict", "image.png", "--checkpoint", network, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "backend     onnxruntime (an .onnx file)\nprecision   float32" in done.stdout
    with Image.open(tmp_path / "out/image_classes.png") as found:
        np.testing.assert_array_equal(np.array(found), expected_logits(image).argmax(0))


def test_eval(tmp_path, network):
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind / "val").mkdir(parents=True)
    for name in "ab":
        image = np.random.default_rng(ord(name)).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "data/images/val" / f"{name}.png")
        Image.fromarray(expected_logits(image).argmax(0).astype(np.uint8)).save(
            tmp_path / "data/masks/val" / f"{name}.png")
    (tmp_path / "data/classes.txt").write_text("\n".join(CLASSES))
    options = ("--checkpoint", network, "--data", "folder:data", "--split", "val", "--quiet")
    done = command("eval", *options, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "out/net/val/scores.json").read_text())
    assert scores["miou"] == 1 and scores["backend"] == "onnxruntime" and scores["precision"] == "float32"
    done = command("eval", *options, "--ms", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0 and "with flip" in done.stdout, done.stderr


@pytest.mark.parametrize("arguments, words", [
    (("predict", "image.png", "--checkpoint", "net.params"), "a checkpoint needs MXNet"),
    (("predict", "image.png", "--checkpoint", "none.onnx"), "is not there"),
    (("predict", "image.png", "--checkpoint", "net.onnx", "--backend", "mxnet"), "mxnet does not read an .onnx file"),
    (("predict", "image.png", "--checkpoint", "net.onnx", "--precision", "int8"), "does not compute"),
    (("summary", "fcn"), "needs mxnet"), (("train", "--model", "fcn"), "needs mxnet")])
def test_what_needs_mxnet_is_refused_by_name(tmp_path, network, arguments, words):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "image.png")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "fix:" in done.stderr


def test_without_any_backend(tmp_path, network):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "image.png")
    done = command("predict", "image.png", "--checkpoint", network, cwd=tmp_path,
                   blocked=("mxnet", "gluoncv", "onnxruntime", "openvino"))
    assert done.returncode == 1 and "pip install 'mxnetseg[onnx]'" in done.stderr
