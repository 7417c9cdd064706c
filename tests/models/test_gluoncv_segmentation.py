"""Compare our networks with GluonCV's segmentation networks under the same weights, file by file.

GluonCV resizes to a size that is fixed when a network is built; the comparison is at that size.
"""
from importlib import import_module

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.models import MODELS, build_model, get_model
from mxnetseg.models._foreign import load_foreign, recognise
from mxnetseg.models.weights.tensors import read_tensors
from mxnetseg.nn.resize import resize

HEIGHT, WIDTH = 32, 48

# ours -> (GluonCV's module and class, backbones, the quick one first)
NETWORKS = {
    "fcn": ("fcn", "FCN", ["resnet50", "resnet101", "resnest50"]),
    "pspnet": ("pspnet", "PSPNet", ["resnet50"]),
    "deeplabv3": ("deeplabv3", "DeepLabV3", ["resnet50"]),
    "deeplabv3plus": ("deeplabv3_plus", "DeepLabV3Plus", ["xception65"]),
    "danet": ("danet", "DANet", ["resnet50"]),
}


def build(name, backbone, aux):
    """GluonCV's network."""
    module, kind, _ = NETWORKS[name]
    known = {} if backbone == "xception65" else {"backbone": backbone}
    return getattr(import_module(f"gluoncv.model_zoo.{module}"), kind)(
        7, aux=aux, pretrained_base=False, height=HEIGHT, width=WIDTH, **known)


def theirs(name, backbone, aux):
    """GluonCV's network with random weights."""
    return randomise(build(name, backbone, aux))


def randomise(net):
    """Random weights for a network of GluonCV, running statistics and gates included."""
    net.initialize(mx.init.Zero(), force_reinit=True)
    net(mx.nd.zeros((1, 3, HEIGHT, WIDTH)))  # settles shapes
    random = np.random.default_rng(0)
    for key, parameter in net._collect_params_with_prefix().items():
        last, shape = key.rsplit(".", 1)[-1], parameter.shape
        if len(shape) >= 2:
            value = random.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
        elif last in ("gamma", "running_var"):
            value = random.uniform(0.5, 1.0, shape)
        else:
            value = random.normal(0, 0.1, shape)
        parameter.set_data(mx.nd.array(value))
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_has_its_place(name):
    reference = build(name, NETWORKS[name][2][0], aux=True)
    ours = build_model(name, nclass=7, aux=True, **{
        "backbone": NETWORKS[name][2][0], **MODELS.get(name).foreign_options.get("gluoncv", {})})
    names = [ours.from_gluoncv(key) for key in reference._collect_params_with_prefix()]
    assert sorted(names) == sorted(ours.named_parameters())


@pytest.mark.parametrize("name, backbone, aux", [
    pytest.param(name, backbone, aux, marks=() if (name, aux) == ("pspnet", True) else pytest.mark.slow)
    for name, (_, _, backbones) in NETWORKS.items() for backbone in backbones for aux in (False, True)])
def test_the_outputs_are_gluoncvs(name, backbone, aux, tmp_path):
    reference = theirs(name, backbone, aux)
    file = tmp_path / "gluoncv.params"
    reference.save_parameters(str(file))
    guess = recognise(read_tensors(file), name)
    assert guess.form == "gluoncv" and guess.nclass == 7 and guess.problems == []
    assert guess.arguments["backbone"] == backbone
    assert guess.arguments.get("aux", False) is (aux or name == "danet")  # GluonCV's DANet always has the three

    net = get_model(name, nclass=guess.nclass, **guess.arguments)
    assert load_foreign(net, file) == "gluoncv"
    x = mx.nd.random.normal(shape=(1, 3, HEIGHT, WIDTH))
    ours, expected = net(x), reference(x)
    assert len(ours) == len(expected)
    for got, want in zip(ours, expected):
        got, want = got.asnumpy(), want.asnumpy()
        assert want.std() > 0.01
        error = np.abs(got - want).max() / np.abs(want).max()
        print(f"{name} {backbone} aux={aux}: {error:.1e}")
        assert error <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("size", ["w48", "w18_small_v2"])
def test_hrnet(size, tmp_path):
    """GluonCV's gives logits at stride 4; ours are resized as its scripts do."""
    reference = randomise(getattr(import_module("gluoncv.model_zoo.hrnet"), f"hrnet_{size}_s")(pretrained=False))
    file = tmp_path / "gluoncv.params"
    reference.save_parameters(str(file))
    guess = recognise(read_tensors(file), "hrnet")
    assert (guess.form, guess.nclass, guess.problems) == ("gluoncv", 19, [])
    net = get_model("hrnet", nclass=guess.nclass, **guess.arguments)
    assert load_foreign(net, file) == "gluoncv"
    x = mx.nd.random.normal(shape=(1, 3, HEIGHT, WIDTH))
    want = resize(mx.nd, reference(x), x, align_corners=False).asnumpy()
    error = np.abs(net(x)[0].asnumpy() - want).max() / np.abs(want).max()
    print(f"hrnet {size}: {error:.1e}")
    assert want.std() > 0.01 and error <= 1e-4


def test_hrnets_names():
    from gluoncv.model_zoo.hrnet import get_hrnet
    theirs = get_hrnet("w18", purpose="seg", stage_interp_type="bilinear_like", num_classes=7)
    ours = build_model("hrnet", nclass=7, width=18)
    names = [ours.from_gluoncv(name) for name in theirs._collect_params_with_prefix()]
    assert sorted(names) == sorted(ours.named_parameters())


def test_all_that_read_gluoncvs_files_are_here():
    reading = {name for name in MODELS.names() if hasattr(MODELS.get(name), "from_gluoncv")}
    assert reading == {*NETWORKS, "hrnet"}
