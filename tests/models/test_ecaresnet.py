"""ECA-ResNet: its attention against the formula, the sizes of its taps, and GluonCV's weights."""
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from compare import random_image

from mxnetseg.errors import ConfigError
from mxnetseg.models import get_model
from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.backbones.ecaresnet import ECA
from mxnetseg.models.weights.pretrained import load_pretrained_base


def build(name="ecaresnet50", **arguments):
    backbone = get_backbone(name, **arguments)
    backbone.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
    return backbone


def after_stem(n):
    """Return the size after the stem: halved rounding up, then pooled by 3 with padding 1, rounding up."""
    n = -(-n // 2)
    return -(-(n + 2 - 3) // 2) + 1


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_attention(kernel):
    eca = ECA(kernel)
    eca.initialize(mx.init.Normal(1))
    x = np.random.RandomState(0).normal(size=(2, 8, 3, 5)).astype("float32")
    got = eca(mx.nd.array(x)).asnumpy()
    weight = eca.conv.weight.data().asnumpy().reshape(-1)
    for n in range(2):
        means = np.pad(x[n].mean(axis=(1, 2)), kernel // 2)
        for c in range(8):
            factor = 1 / (1 + np.exp(-(means[c:c + kernel] * weight).sum()))
            assert np.abs(got[n, c] - factor * x[n, c]).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_sizes_of_taps(output_stride):
    backbone = build(output_stride=output_stride)
    backbone.hybridize()
    assert [tap.reduction for tap in backbone.taps] == [min(r, output_stride) for r in (4, 8, 16, 32)]
    for size in [(64, 32), (33, 50)]:
        for feature, tap in zip(backbone(random_image(*size)), backbone.taps):
            assert feature.shape == (1, tap.channels, *(-(-after_stem(n) * 4 // tap.reduction) for n in size))
            assert np.isfinite(feature.asnumpy()).all()


def test_a_stage_without_stride_is_dilated_from_the_first_block_on():
    backbone = build(output_stride=8)
    for stage, dilation in zip((backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4), (1, 1, 2, 4)):
        assert {unit.conv2._kwargs["dilate"] for unit in stage} == {(dilation, dilation)}
    assert backbone.layer3[0].downsample[0]._kwargs["stride"] == backbone.layer3[0].conv2._kwargs["stride"] == (1, 1)


def test_kernels():
    backbone = build(options={"kernels": (3, 3, 5, 7)})
    sizes = [stage[1].eca.conv.weight.shape for stage in (backbone.layer1, backbone.layer2, backbone.layer3,
                                                          backbone.layer4)]
    assert sizes == [(1, 1, k) for k in (3, 3, 5, 7)]
    for kernels in ((3, 3, 5), (3, 3, 4, 7), (3, 3, 3, -1)):
        with pytest.raises(ConfigError, match="one odd kernel size"):
            build(options={"kernels": kernels})


def test_kernels_are_refused_for_other_backbones():
    with pytest.raises(ConfigError, match="only an ECA-ResNet"):
        get_model("acfnet", backbone="resnet18", eca_kernels=(3, 3, 5, 7))


@pytest.mark.slow
def test_it_equals_gluoncvs_resnet_apart_from_pooling_and_attention(tmp_path):
    ours = build()
    theirs = import_module("gluoncv.model_zoo.resnetv1b").resnet50_v1s(pretrained=False)
    theirs.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
    x = random_image(65, 49)
    theirs(x)
    ours(x)
    file = tmp_path / "classifier.params"
    theirs.save_parameters(str(file))
    attention = {name: p for name, p in ours._collect_params_with_prefix().items() if name.endswith("eca.conv.weight")}
    before = {name: p.data().asnumpy() for name, p in attention.items()}
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    file.unlink()
    assert len(before) == 16 and all((p.data().asnumpy() == before[name]).all() for name, p in attention.items())
    for p in attention.values():
        p.set_data(mx.nd.zeros(p.shape))  # a factor of 0.5 everywhere

    # with its residual branch doubled, a block equals GluonCV's
    stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    assert np.abs(ours.maxpool(ours.relu(ours.bn1(ours.conv1(x)))).asnumpy() - stem.asnumpy()).max() < 1e-5
    unit, other = ours.layer2[0], theirs.layer2[0]
    y = theirs.layer1(stem)
    unit.bn3.gamma.set_data(2 * unit.bn3.gamma.data())
    unit.bn3.beta.set_data(2 * unit.bn3.beta.data())
    wanted = other(y).asnumpy()
    assert np.abs(unit(y).asnumpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()
