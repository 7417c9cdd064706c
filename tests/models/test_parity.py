"""Networks against the outputs of MXNetSeg's with the same weights, see tests/golden/README.md.

The weights are loaded as a user loads them: ``load_mxnetseg`` reads a ``.params`` file with MXNetSeg's names.
"""
import fnmatch
import gzip
import hashlib
import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import CheckpointError
from mxnetseg.models import MODELS, build_model, get_model, model_arguments
from mxnetseg.models.weights.loading import initialize, load_mxnetseg

GOLDEN = Path(__file__).parent.parent / "golden" / "mxnetseg"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]
PARAMETERS = json.loads(gzip.decompress((GOLDEN / "params.json.gz").read_bytes()))

# class of MXNetSeg -> the arguments of our network that differ from its defaults
DIFFERENT = {
    "FCNMobileNet": {"output_stride": 32},
    "SETR": {"variant": "port"},  # a ReLU on the logits
}
# argument of MXNetSeg -> our arguments; the others have the same name and value in both
TRANSLATED = {
    "dilate": lambda dilate: {"output_stride": 8 if dilate else 32},
    "vit": lambda sizes: {},  # these sizes are those of `vit_reduced`
}
# class of MXNetSeg -> names of parameters that none of its outputs depends on, and that our network does not have
UNREAD = {"SETR": "layer_norms.*"}


def arguments(case):
    """Return the arguments of ``build_model`` for the network of a case."""
    known = model_arguments(case["model"])
    ours = {"nclass": case["nclass"], **DIFFERENT.get(case["model"], {})}
    if "backbone" in known:
        ours["backbone"] = case["backbone"]
    if "aux" in known:
        ours["aux"] = case["aux"]
    if case["model"] == "SETR":  # MXNetSeg's position embedding has the grid of its crop
        ours["grid"] = [case["H"] // 16, case["W"] // 16]
    for name, value in case["kwargs"].items():
        ours.update(TRANSLATED[name](value) if name in TRANSLATED else {name: value})
    return ours


def values(name, shape):
    """Return a parameter's golden values, which depend on its name and shape only. The order of the cases matters."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    random, last = np.random.RandomState(seed), name.rsplit(".", 1)[-1]
    if last.endswith(("beta", "bias", "running_mean")):
        drawn = random.normal(0.0, 0.1, size=shape)
    elif last.endswith("running_var"):
        drawn = random.uniform(0.5, 1.5, size=shape)
    elif last.endswith("weight") and len(shape) >= 2:  # convolution, dense
        drawn = random.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), size=shape)
    elif tuple(shape) == (1,):  # a gate, a PReLU's slope
        drawn = random.uniform(0.2, 0.8, size=shape)
    elif last.endswith("gamma"):
        drawn = random.uniform(0.4, 0.9, size=shape)
    else:  # a position embedding
        drawn = random.normal(0.0, 0.02, size=shape)
    return drawn.astype("float32")


def load(case, folder):
    """Return the network of a case with the golden weights, loaded from a file as MXNetSeg writes it."""
    net = build_model(case["model"], **arguments(case))
    initialize(net, [mx.cpu()])
    file = folder / "reference.params"
    mx.nd.save(str(file), {name: mx.nd.array(values(name, shape))
                           for name, shape in PARAMETERS[case["params_key"]]})
    load_mxnetseg(net, file)
    file.unlink()  # pytest keeps temporary folders, and these files are large
    return net


def image(case, dtype="float32"):
    drawn = np.random.RandomState(case["input_seed"]).normal(size=(1, 3, case["H"], case["W"]))
    return mx.nd.array(drawn.astype("float32"), dtype=dtype)


def stored(array, entry):
    """Return the part of an array that a golden file holds."""
    step, offset = entry["step"], entry["offset"]
    return array[:, :, offset::step, offset::step]


def lightest_backbones():
    """Return class -> the backbone of its smallest case, which the quick suite runs."""
    smallest = {}
    for case in sorted(CASES, key=lambda case: case["params_total"]):
        smallest.setdefault(case["model"], case["backbone"])
    return smallest


LIGHTEST = lightest_backbones()
LIGHT = 30_000_000  # parameters


def quick(case):
    """Return whether the quick suite runs a case: the lightest of each class; without options if it is heavy."""
    light = case["params_total"] < LIGHT
    return LIGHTEST[case["model"]] == case["backbone"] and (light or not (case["aux"] or "dilate" in case["kwargs"]))


def parametrize(cases, quick):
    return pytest.mark.parametrize("case", [
        pytest.param(case, id=case["id"], marks=() if quick(case) else pytest.mark.slow) for case in cases])


@parametrize(CASES, quick)
def test_outputs_and_sizes(case, tmp_path):
    net = load(case, tmp_path)
    parameters = net.named_parameters().values()
    dropped = {name: shape for name, shape in PARAMETERS[case["params_key"]] if net.from_mxnetseg(name) is None}
    assert all(fnmatch.fnmatch(name, UNREAD.get(case["model"], "")) for name in dropped)
    unread = sum(int(np.prod(shape)) for shape in dropped.values())
    assert unread + sum(int(np.prod(p.shape)) for p in parameters) == case["params_total"]
    assert unread + sum(int(np.prod(p.shape)) for p in parameters if p.grad_req != "null") == case["params_trainable"]

    net.hybridize()
    outputs = net(image(case))
    golden = np.load(GOLDEN / case["file"])
    assert len(outputs) == len(case["outputs"])
    for output, entry in zip(outputs, case["outputs"]):
        output = output.asnumpy()
        noise = max(entry["noise_f64"] or 0, entry["noise_input_1e6"])
        tolerance = max(1e-4 * entry["max_abs"], 20 * noise)
        assert output.shape == tuple(entry["shape"])
        assert np.abs(stored(output, entry) - golden[entry["key"]]).max() <= tolerance
        # the golden file holds a part; the statistics cover the whole
        assert abs(np.abs(output).max() - entry["max_abs"]) <= tolerance
        assert abs(output.mean() - entry["mean"]) <= tolerance
        assert abs(output.std() - entry["std"]) <= tolerance


@parametrize([case for case in CASES if case.get("gradient")], lambda case: case["params_total"] < LIGHT)
def test_gradient(case, tmp_path):
    """Compare d mean(out0^2) / d input in float64.

    In float32 the gradient jumps where the sign before a ReLU changes by rounding, and max-pooling on a CPU keeps no
    indices outside training, so that its gradients are wrong.
    """
    entry = case["gradient"]
    net = load(case, tmp_path)
    net.cast("float64")
    x = image(case, "float64")
    x.attach_grad()
    with mx.autograd.record(train_mode=False):
        value = mx.nd.mean(mx.nd.square(net(x)[0]))
    value.backward(train_mode=False)
    assert value.asscalar() == pytest.approx(entry["value"], rel=1e-6)
    gradient = x.grad.asnumpy()
    assert gradient.shape == tuple(entry["shape"])
    assert np.abs(stored(gradient, entry) - np.load(GOLDEN / case["file"])[entry["key"]]).max() \
        <= 1e-5 * entry["max_abs"]
    assert abs(np.abs(gradient).max() - entry["max_abs"]) <= 1e-5 * entry["max_abs"]


def test_every_case_belongs_to_a_registered_class():
    claimed = {name for model in MODELS.names() for name in MODELS.get(model).mxnetseg_classes}
    assert {case["model"] for case in CASES} == claimed, "run tests/golden/make_goldens.py"
    assert sorted(file.name for file in GOLDEN.glob("*.npz")) == sorted(case["file"] for case in CASES)
    for name in claimed:  # so that users of MXNetSeg find the network under its name there
        assert MODELS.resolve(name)


def test_a_file_of_another_network_is_refused(tmp_path):
    case = next(case for case in CASES if case["id"] == "fcnresnet-resnet18-aux")
    file = tmp_path / "aux.params"
    mx.nd.save(str(file), {name: mx.nd.zeros(shape) for name, shape in PARAMETERS[case["params_key"]]})
    net = get_model("fcn", backbone="resnet18", nclass=19)
    before = net.head.conv2.bias.data().asnumpy()
    with pytest.raises(CheckpointError, match="aux_head.conv1.conv.weight: not in this network") as caught:
        load_mxnetseg(net, file)
    assert str(file) in str(caught.value)
    np.testing.assert_array_equal(net.head.conv2.bias.data().asnumpy(), before)  # nothing was set
