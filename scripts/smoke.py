"""Try the installed package: run a network forward and backward, save it, load it, and compare."""
from __future__ import annotations

import tempfile
from pathlib import Path

from mxnetseg.models import get_model  # isort: skip  (first, because it prepares NumPy for mxnet)

import mxnet as mx
import numpy as np

network = get_model("fcn", backbone="resnet18", nclass=5)
image = mx.nd.random.uniform(shape=(1, 3, 65, 97))
with mx.autograd.record():
    logits = network(image)[0]
logits.backward()
print("fcn:", logits.shape, "NumPy", np.__version__)
if logits.shape != (1, 5, 65, 97):
    raise SystemExit("error: the logits do not have the image's size")

with tempfile.TemporaryDirectory() as folder:
    weights = str(Path(folder) / "fcn.params")
    network.save_parameters(weights)
    copy = get_model("fcn", backbone="resnet18", nclass=5)
    copy.load_parameters(weights)
if not np.allclose(network(image)[0].asnumpy(), copy(image)[0].asnumpy()):
    raise SystemExit("error: the loaded network computes other logits than the saved one")
