"""The checkpoints of our recipes: each loads in both forms, is small, and is what its recipe says."""
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mxnetseg import Predictor
from mxnetseg.config import Config, load_config
from mxnetseg.data import get_dataset

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/README.md"))
DATA = os.environ.get("MXNETSEG_DATA")


def test_there_are_checkpoints():
    assert {"camvid-fast", "camvid-scratch-fine"} <= {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_small_and_trained_by_its_recipe(folder):
    params = folder / f"{folder.name}.params"
    assert params.stat().st_size < 12e6
    sidecar, recipe = json.loads(params.with_suffix(".json").read_text()), load_config(folder.name).to_dict()
    trained = Config.from_dict(sidecar["config"]).to_dict()  # keys that are younger have their defaults
    for section in ("loss", "optimizer", "schedule", "eval"):
        assert trained[section] == recipe[section]
    for key in ("name", "backbone", "options"):
        assert trained["model"][key] == recipe["model"][key]
    assert "Known failures" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_both_forms_see_the_same(folder):
    pytest.importorskip("onnxruntime")
    image = np.random.RandomState(0).randint(0, 256, (12, 16, 3)).astype("uint8").repeat(10, 0).repeat(10, 1)
    one, other = (Predictor(folder / f"{folder.name}{ending}")(image).class_map for ending in (".params", ".onnx"))
    assert (one == other).mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_knows_streets(folder):
    """On CamVid's validation images, which it was trained on."""
    root = next((path for name in ("camvid", "CamVid") if (path := Path(DATA or "", name)).is_dir()), None)
    if root is None:
        pytest.skip("CamVid is not below $MXNETSEG_DATA")
    dataset, predict = get_dataset("camvid", split="val", root=root), Predictor(folder / f"{folder.name}.params")
    right = valid = 0
    for i in range(0, len(dataset), 10):
        sample = dataset[i]
        known = sample.mask != 255
        right += int((predict(sample.image).class_map == sample.mask)[known].sum())
        valid += int(known.sum())
    assert right / valid > 0.9
