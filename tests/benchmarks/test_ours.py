"""Competitors of ours in the benchmark of training run, in every backend."""
import json
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from benchmarks.ours import _training
from mxnetseg.models import get_model


@pytest.mark.parametrize("backend", ["mxnet", "torch"])
def test_a_training_step_runs(backend):
    pytest.importorskip(backend)
    net = get_model("fastscnn", nclass=19)
    step = _training(net, {"batch": 2, "size": [64, 64], "form": "float32", "backend": backend})
    step()
    step()
    mx.nd.waitall()
    assert all(np.isfinite(p.data().asnumpy()).all() for p in net.collect_params().values())


@pytest.mark.parametrize("do", ["infer", "train"])
def test_mxnetseg_s_way_runs_in_its_own_process(do):
    task = {"network": "fcn", "backbone": "resnet18", "size": [64, 64], "batch": 1, "do": do, "form": "mxnetseg",
            "output_stride": 32, "warm_up": 1}
    done = subprocess.run([sys.executable, "-m", "benchmarks.ours", json.dumps(task)], input="\n", text=True,
                          capture_output=True, cwd=Path(__file__).parents[2])
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 3 and answers[1]["seconds"] > 0, done.stderr
