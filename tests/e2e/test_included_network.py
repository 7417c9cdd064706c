"""The network that comes with the package, in an empty folder, and on real streets where CamVid is there."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mxnetseg import Predictor
from mxnetseg.data import get_dataset
from mxnetseg.engine.included import FOLDER, included_sidecar

ROOT = Path(__file__).resolve().parents[2]
DATA = os.environ.get("MXNETSEG_DATA")  # tests run without it, so that they do not depend on the machine


@pytest.mark.parametrize("backend", ["mxnet", "onnxruntime"])
def test_predicts_in_an_empty_folder(tmp_path, backend):
    if backend != "mxnet":
        pytest.importorskip(backend)
    command = ["predict", ROOT / "demo/street.png", "--quiet", "--backend", backend, "--ctx", "cpu"]
    done = subprocess.run([sys.executable, "-m", "mxnetseg", *command], cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "included with mxnetseg: swiftnet on efficientnet_lite0, trained on CamVid (11 classes" in done.stdout
    assert "research use" in done.stdout
    with Image.open(tmp_path / "out/predict/street_classes.png") as image:
        class_map = np.asarray(image)
    assert class_map.shape == (192, 288) and class_map.max() < 11


def test_the_sidecar_says_what_it_was_trained_on():
    sidecar = included_sidecar()
    assert sidecar["contents"]["train"] | {"names": None} == {"split": "trainval", "images": 468, "names": None}
    assert sidecar["config"]["eval"]["base_size"] == 480
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "research use (CamVid)" in text and "Known failures" in text


@pytest.mark.slow
def test_both_forms_know_streets():
    """On CamVid's validation images, which it was trained on, both forms reach a mIoU of 80 %."""
    root = next((path for name in ("camvid", "CamVid") if (path := Path(DATA or "", name)).is_dir()), None)
    if root is None:
        pytest.skip("CamVid is not below $MXNETSEG_DATA")
    dataset = get_dataset("camvid", split="val", root=root)
    predictors = [Predictor("included", backend=name) for name in ("mxnet", "onnxruntime")]
    counts, same = np.zeros((11, 11), np.int64), 0.0
    samples = [dataset[i] for i in range(0, len(dataset), 10)]
    for sample in samples:
        first, second = (predictor(sample.image).class_map for predictor in predictors)
        same += np.mean(first == second) / len(samples)
        valid = sample.mask != 255
        np.add.at(counts, (sample.mask[valid], first[valid]), 1)
    iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    assert iou.mean() > 0.8 and same > 0.99, json.dumps(dict(zip(dataset.classes, iou.round(3))))
