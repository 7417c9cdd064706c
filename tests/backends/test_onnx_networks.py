"""Networks of the library and exported files in ONNX Runtime, against MXNet."""
import importlib.util
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from mxnetseg import to_onnx  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZES = (128, 160), (97, 145), (65, 257)
QUICK = ("bisenet", "fcn", "fastscnn", "segformer", "semanticfpn", "swiftnet")


def networks():
    """Return the small networks of tests/models/test_life.py."""
    spec = importlib.util.spec_from_file_location("life", ROOT / "tests/models/test_life.py")
    life = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(life)
    return life


LIFE = networks()
SUBJECTS = [subject for subject in LIFE.subjects()
            if subject[0] != "fcn" or subject[1]["backbone"] in ("resnet18", "resnest14", "densenet121", "vit_reduced")]


def parameters(names):
    for name, arguments in SUBJECTS:
        quick = name in names and not {"variant", "form"} & set(arguments) and (
            name != "fcn" or arguments["backbone"] == "resnet18")
        yield pytest.param((name, arguments), id="-".join([name, *map(str, arguments.values())]),
                           marks=() if quick else pytest.mark.slow)


def session(model):
    """Return a session of ONNX Runtime on one thread, which does not report what it fuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("subject", parameters(QUICK))
def test_one_model_equals_mxnet_at_any_size(subject):
    mx.random.seed(0)
    net = LIFE.build(subject)
    run = session(to_onnx(net, outputs="all"))
    for size in SIZES:
        x = LIFE.image(*size)
        wanted, got = net(x), run.run(None, {"data": x.asnumpy()})
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted):
            other = other.asnumpy()
            assert one.shape == other.shape
            assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()
