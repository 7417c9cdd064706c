"""MobileNetV3-Large against GluonCV's with the same weights, and its norm layers."""
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np

from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.weights.pretrained import load_pretrained_base
from mxnetseg.nn.norm import GroupNorm32


def test_v3_equals_gluoncvs_with_its_weights(tmp_path):
    mx.random.seed(0)
    theirs = import_module("gluoncv.model_zoo.mobilenetv3").mobilenet_v3_large()
    theirs.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
    x = mx.nd.array(np.random.RandomState(0).normal(size=(1, 3, 49, 65)))
    theirs(x)
    file = tmp_path / "classifier.params"
    theirs.save_parameters(str(file))
    ours = get_backbone("mobilenet_v3_large")
    ours.initialize()
    ours(x)
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    wanted, features = x, []
    for number, layer in enumerate(list(theirs.features._children.values())[:21], start=1):
        wanted = layer(wanted)
        if number in (6, 9, 15, 21):
            features.append(wanted.asnumpy())
    for got, wanted in zip(ours(x), features):
        assert got.shape == wanted.shape
        assert np.abs(got.asnumpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_v3_uses_norm_layer_in_all_layers():
    backbone = get_backbone("mobilenet_v3_large", norm_layer=GroupNorm32)
    classes = []
    backbone.apply(lambda block: classes.append(type(block)))
    assert classes.count(GroupNorm32) == 46 and mx.gluon.nn.BatchNorm not in classes
