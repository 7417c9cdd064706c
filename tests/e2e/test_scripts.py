"""The scripts for docs/results.md, on a CamVid of coloured blocks."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("CamVid"), np.random.RandomState(0)
    colours = random.randint(0, 256, (11, 3))
    for split, count in (("train", 16), ("val", 3)):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir()
        for i in range(count):
            mask = random.randint(0, 11, (6, 8)).repeat(60, 0).repeat(60, 1).astype("uint8")
            cv2.imwrite(str(root / split / f"{i}.png"), colours[mask].astype("uint8"))
            cv2.imwrite(str(root / f"{split}annot" / f"{i}.png"), mask)
    return root


def run(script, *arguments):
    return subprocess.run([sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)], check=True, text=True,
                          capture_output=True).stdout


def test_training_curves_begin_alike_in_both_backends(camvid, tmp_path):
    pytest.importorskip("torch")
    run("training_curves.py", "--root", camvid, "--epochs", 2, "--out", tmp_path)
    runs = json.loads((tmp_path / "curves.json").read_text())
    assert all(len(values["loss"]) == 4 and len(values["miou"]) == 2 for values in runs.values())
    ours = [values["loss"][0] for name, values in runs.items() if name.startswith("mxnetseg")]
    assert ours[0] == pytest.approx(ours[1], rel=0.05) and len(runs) == 3  # dropout differs
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"


def test_networks_are_compared_once(camvid, tmp_path):
    pytest.importorskip("torch")
    arguments = "fcn", "--data", "camvid", "--root", camvid, "--minutes", 0.01, "--out", tmp_path
    assert run("compare_networks.py", *arguments).startswith("| fcn | resnet18 |")
    assert run("compare_networks.py", *arguments) == ""
    row, = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["steps"] >= 1 and 0 <= row["miou"] <= 1 and row["size"] == [360, 480]
    assert "| fcn |" in (tmp_path / "table.md").read_text() and (tmp_path / "comparison.png").exists()
