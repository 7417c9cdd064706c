"""Parameter counts against published tables: every parameter, running statistics included, no auxiliary head."""
import pytest

from mxnetseg.models import build_model
from mxnetseg.models.weights import count_parameters

# MXNetSeg's table for Cityscapes, 19 classes, in millions
PUBLISHED = [
    ("bisenet", "resnet18", None, 13.2),
    ("fcn", "resnet18", 8, 12.4),
    ("fcn", "resnet18", 32, 12.4),
    ("fcn", "resnet101", 8, 47.5),
    ("pspnet", "resnet101", 8, 56.4),
    ("deeplabv3", "resnet101", 8, 58.9),
    ("denseaspp", "resnet101", 8, 69.4),
    ("danet", "resnet101", 8, 66.7),
]


@pytest.mark.parametrize("name, backbone, output_stride, millions", PUBLISHED)
def test_published(name, backbone, output_stride, millions):
    net = build_model(name, nclass=19, backbone=backbone, output_stride=output_stride)
    assert round(count_parameters(net) / 1e6, 1) == millions
