"""ResNeSt against GluonCV's classifiers with the same weights."""
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from compare import random_image

from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.weights.pretrained import load_pretrained_base


@pytest.mark.parametrize("layers, stride, published", [
    (14, 32, 10.61), (14, 16, None), (14, 8, None),
    # parameters in millions, in the paper's tables from 50 layers on
    *(pytest.param(*row, marks=pytest.mark.slow) for row in (
        (26, 32, 17.07), (26, 8, None), (50, 32, 27.5), (101, 32, 48.3), (200, 32, 70.2), (269, 32, 110.9)))])
def test_it_equals_gluoncvs_with_its_weights(layers, stride, published, tmp_path):
    zoo = import_module("gluoncv.model_zoo.resnest")
    dilation = {32: 1, 16: 2, 8: 4}[stride]
    theirs = getattr(zoo, f"resnest{layers}")(pretrained=False, dilation=dilation)
    theirs.initialize(mx.init.MSRAPrelu(factor_type="out", slope=0.0))
    x = random_image(64, 96)
    theirs(x)
    if published:
        trainable = sum(np.prod(p.shape) for p in theirs.collect_params().values() if p.grad_req != "null")
        assert abs(trainable / 1e6 - published) < 0.06
    file = tmp_path / "classifier.params"
    theirs.save_parameters(str(file))
    ours = get_backbone(f"resnest{layers}", output_stride=stride)
    ours.initialize()
    ours(x)
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    file.unlink()
    assert ours.gluoncv_name == f"resnest{layers}"
    wanted = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for stage, got in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), ours(x)):
        wanted = stage(wanted)
        assert got.shape == wanted.shape
        assert np.abs((got - wanted).asnumpy()).max() <= 1e-5 * np.abs(wanted.asnumpy()).max()


def test_timms_names():
    """In timm the norms of the attention are numbered from 0."""
    backbone = get_backbone("resnest14")
    parameters = backbone._collect_params_with_prefix()
    for theirs, ours in (("conv1.0.weight", "conv1.0.weight"), ("bn1.weight", "bn1.gamma"),
                         ("layer2.0.conv2.conv.weight", "layer2.0.conv2.conv.weight"),
                         ("layer2.0.conv2.bn0.running_var", "layer2.0.conv2.bn.running_var"),
                         ("layer2.0.conv2.bn1.bias", "layer2.0.conv2.bn1.beta"),
                         ("layer2.0.conv2.fc2.bias", "layer2.0.conv2.fc2.bias"),
                         ("layer2.0.downsample.1.weight", "layer2.0.downsample.1.weight"),
                         ("layer2.0.downsample.2.weight", "layer2.0.downsample.2.gamma")):
        assert backbone.from_pytorch(theirs) == ours and ours in parameters
    assert backbone.from_pytorch("fc.weight") is None


def test_training_works_at_any_size_and_needs_two_images():
    """Unlike in GluonCV, whose DropBlock fits only crops of 224 pixels."""
    backbone = get_backbone("resnest14")
    assert backbone.needs_batch == 2
    backbone.initialize()
    x = mx.nd.concat(random_image(33, 50), random_image(33, 50), dim=0)
    with mx.autograd.record():
        total = sum(y.sum() for y in backbone(x))
    total.backward()
    assert np.isfinite(total.asscalar())
