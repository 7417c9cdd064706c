"""Competitors of ours in the benchmark of training run, in every backend."""
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
