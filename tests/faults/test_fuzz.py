"""Damaged files of every format: an MXNetSegError or a result, in bounded memory and time."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
TARGETS = ["sidecar", "config", "params", "pth", "images", "coco", "labelme"]


def fuzz(target, folder, first, count, timeout):
    work = folder / "work"  # a file beside it was written outside the given folder
    work.mkdir()
    done = subprocess.run([sys.executable, str(HELPERS / "fuzz.py"), target, str(first), str(count), str(work)],
                          capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])})
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files(target, tmp_path):
    outcomes = fuzz(target, tmp_path, 0, 300, 120)
    assert sum(outcomes.values()) == 300 and outcomes["refused"] > 30, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_damaged_files(target, tmp_path):
    fuzz(target, tmp_path, 1000, 10_000, 3000)
