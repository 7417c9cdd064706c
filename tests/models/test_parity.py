"""Our networks against the outputs of MXNetSeg's under the same weights: tests/golden/README.md.

The weights take the way a user's take: a ``.params`` file with MXNetSeg's names, read by ``load_mxnetseg``.
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

# What a class of MXNetSeg does that is not our network's default.
DIFFERENT = {
    "FCNMobileNet": {"output_stride": 32},
    "SETR": {"variant": "port"},  # a ReLU on the logits
}
# An argument of MXNetSeg in our words; one that is not here has the same name and value in both.
TRANSLATED = {
    "dilate": lambda dilate: {"output_stride": 8 if dilate else 32},
    "vit": lambda sizes: {},  # they make `vit_reduced`, which has a name of its own here
}
# Parameters of MXNetSeg that none of its outputs reads, and that we do not have: class -> their names.
UNREAD = {"SETR": "layer_norms.*"}


def arguments(case):
    """What ``build_model`` needs to build the network of a case."""
    known = model_arguments(case["model"])
    ours = {"nclass": case["nclass"], **DIFFERENT.get(case["model"], {})}
    if "backbone" in known:
        ours["backbone"] = case["backbone"]
    if "aux" in known:
        ours["aux"] = case["aux"]
    if case["model"] == "SETR":  # MXNetSeg has the position embedding of its crop
        ours["grid"] = [case["H"] // 16, case["W"] // 16]
    for name, value in case["kwargs"].items():
        ours.update(TRANSLATED[name](value) if name in TRANSLATED else {name: value})
    return ours


def values(name, shape):
    """The golden rule: a parameter's values from its name alone. The order of the tests matters."""
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
    """The network of a case with the golden weights, through a file as MXNetSeg writes it."""
    net = build_model(case["model"], **arguments(case))
    initialize(net, [mx.cpu()])
    file = folder / "reference.params"
    mx.nd.save(str(file), {name: mx.nd.array(values(name, shape))
                           for name, shape in PARAMETERS[case["params_key"]]})
    load_mxnetseg(net, file)
    file.unlink()  # pytest keeps its folders, and these files are large
    return net


def picture(case, dtype="float32"):
    drawn = np.random.RandomState(case["input_seed"]).normal(size=(1, 3, case["H"], case["W"]))
    return mx.nd.array(drawn.astype("float32"), dtype=dtype)


def stored(array, entry):
    """The part of a whole array that a golden file holds."""
    step, offset = entry["step"], entry["offset"]
    return array[:, :, offset::step, offset::step]


def lightest_backbones():
    """Class -> the backbone of its smallest case: what the quick suite runs."""
    smallest = {}
    for case in sorted(CASES, key=lambda case: case["params_total"]):
        smallest.setdefault(case["model"], case["backbone"])
    return smallest


LIGHTEST = lightest_backbones()
LIGHT = 30_000_000  # parameters


def quick(case):
    """Whether the quick suite runs a case: of each class the lightest; of the heavy ones the plainest."""
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
    outputs = net(picture(case))
    golden = np.load(GOLDEN / case["file"])
    assert len(outputs) == len(case["outputs"])
    for output, entry in zip(outputs, case["outputs"]):
        output = output.asnumpy()
        noise = max(entry["noise_f64"] or 0, entry["noise_input_1e6"])
        tolerance = max(1e-4 * entry["max_abs"], 20 * noise)
        assert output.shape == tuple(entry["shape"])
        assert np.abs(stored(output, entry) - golden[entry["key"]]).max() <= tolerance
        # the golden file holds a part; these speak for the whole
        assert abs(np.abs(output).max() - entry["max_abs"]) <= tolerance
        assert abs(output.mean() - entry["mean"]) <= tolerance
        assert abs(output.std() - entry["std"]) <= tolerance


@parametrize([case for case in CASES if case.get("gradient")], lambda case: case["params_total"] < LIGHT)
def test_gradient(case, tmp_path):
    """d mean(out0^2) / d input. In float64: it jumps where a ReLU changes sides, and float32 max-pooling on a
    CPU keeps no indices outside training, so its gradients are wrong there."""
    entry = case["gradient"]
    net = load(case, tmp_path)
    net.cast("float64")
    x = picture(case, "float64")
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
    for name in claimed:  # so that a user of MXNetSeg finds the network under the name known there
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
