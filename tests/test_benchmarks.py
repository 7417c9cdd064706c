"""The benchmarks run; what they measure is not for a test to judge."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_loader_benchmark(tmp_path):
    done = subprocess.run([sys.executable, "benchmarks/loader.py", "--images", "4", "--rounds", "1", "--kinds", "jpg",
                           "--json", str(tmp_path / "x.json")], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "torchvision is left out" in done.stderr and "| jpg | gluoncv |" in done.stdout
    times = json.loads((tmp_path / "x.json").read_text())["results"]["jpg"]
    assert set(times) == {"mxnetseg", "mxnetseg, float", "gluoncv"}
    assert all(entry["wall"] > 0 and entry["cpu"] > 0 and len(entry["rounds"]) == 1 for entry in times.values())
