"""Parameter counts against published tables: every parameter, running statistics included, no auxiliary head."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.models import build_model

# MXNetSeg's table for Cityscapes, 19 classes, in millions
PUBLISHED = [
    ("fcn", "resnet18", 8, 12.4),
    ("fcn", "resnet18", 32, 12.4),
    ("fcn", "resnet101", 8, 47.5),
    ("pspnet", "resnet101", 8, 56.4),
    ("deeplabv3", "resnet101", 8, 58.9),
    ("denseaspp", "resnet101", 8, 69.4),
    ("danet", "resnet101", 8, 66.7),
]


def count(net):
    """Parameters of a network that has no values yet: shapes follow from those of the input."""
    outputs = mx.sym.Group(list(net(mx.sym.var("data"))))
    arguments, _, auxiliaries = outputs.infer_shape(data=(1, 3, 64, 64))
    named = dict(zip(outputs.list_arguments(), arguments))
    del named["data"]
    return sum(int(np.prod(shape)) for shape in [*named.values(), *auxiliaries])


@pytest.mark.parametrize("name, backbone, output_stride, millions", PUBLISHED)
def test_published(name, backbone, output_stride, millions):
    net = build_model(name, nclass=19, backbone=backbone, output_stride=output_stride)
    assert round(count(net) / 1e6, 1) == millions
