"""Golden data of networks that were published in PyTorch: tests/golden/README.md."""
import gzip
import hashlib
import json
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnetseg.models import get_model
from mxnetseg.models.weights.loading import assign

GOLDEN = Path(__file__).parent.parent / "golden" / "pytorch"


def read(name):
    """Return a case by name: a dictionary."""
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


def weights(case):
    """Return name in the original -> values, which the golden rule draws from the name."""
    low, high = case["norm_weight_range"]
    drawn = {}
    for key, shape in case["keys"]:
        last = key.rsplit(".", 1)[-1]
        if last == "num_batches_tracked" or key in case["skipped"]:
            continue
        random = np.random.RandomState(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little"))
        if last == "running_mean" or last.endswith("bias"):
            value = random.normal(0, 0.1, size=shape)
        elif last == "running_var":
            value = random.uniform(0.5, 1.5, size=shape)
        elif key in case["gates"]:
            value = random.uniform(0.2, 0.8, size=shape)
        elif key in case["tokens"]:  # class token, position embedding
            value = random.normal(0, 0.02, size=shape)
        elif len(shape) == 1:  # of a norm
            value = random.uniform(low, high, size=shape)
        else:
            value = random.normal(0, np.sqrt(2.0 / np.prod(shape[1:])), size=shape)
        drawn[key] = np.asarray(value, np.float32) * np.float32(case["gain"].get(key, 1))
    return drawn


def build(case, model, **arguments):
    """Return the network with the golden weights, which are renamed by its ``from_pytorch``."""
    net = get_model(model, nclass=case["classes"], **arguments)
    tensors = {net.from_pytorch(key): mx.nd.array(value) for key, value in weights(case).items()}
    assert all(net.from_pytorch(key) is None for key, _ in case["keys"] if key.endswith("num_batches_tracked"))
    assert all(net.from_pytorch(key) is None for key in case["skipped"])
    assert assign(net, tensors, where=case["name"]) == []
    trainable = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert sum(int(np.prod(p.shape)) for p in trainable) == case["params"]
    return net


def input_image(case):
    """Return the input."""
    drawn = np.random.RandomState(7).normal(size=(case["N"], 3, case["H"], case["W"]))
    return mx.nd.array(drawn.astype("float32"))


def assert_golden(name, case, got):
    """Compare outputs with a golden file.

    Args:
        name: of the file.
        case: of the outputs.
        got: name of an output -> the whole array, before the last resize.
    """
    golden = np.load(GOLDEN / f"{name}.npz")
    for key, array in got.items():
        entry = case["outputs"][key]
        tolerance = max(1e-4 * entry["max_abs"], 20 * (entry["float64_max_diff"] or 0))
        array = array.asnumpy()
        assert array.shape == tuple(entry["shape"])
        part = array[_stored(entry["stored"])]
        error = np.abs(part - golden[key]).max()
        print(f"{name} {key}: {error:.2e} (allowed {tolerance:.2e})")
        assert error <= tolerance
        # the golden file holds a part; these statistics cover the whole
        assert abs(np.abs(array).max() - entry["max_abs"]) <= tolerance
        assert abs(array.mean() - entry["mean"]) <= tolerance
        assert abs(array.std() - entry["std"]) <= tolerance


def _stored(parts):
    """Return the index of the part of an output that its golden file holds."""
    cuts = {axis: slice(offset, None, step) for axis, (offset, step) in parts.items()}
    if "channel" in cuts:
        return (slice(None), cuts["channel"], cuts["y"], cuts["x"])
    return (slice(None), cuts["axis1"]) if "axis1" in cuts else (..., cuts["axis_last"])
