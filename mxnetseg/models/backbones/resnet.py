"""GluonCV's ResNets (He et al. 2016), tapped after each of the four stages.

ResNet-18 and -34 are GluonCV's v1b (stride in the 3x3 convolution); 50, 101 and 152 are v1s, whose
stem is three 3x3 convolutions of 64, 64 and 128 channels. These are MXNetSeg's, and the only ones
that reproduce its published parameter counts.
"""
from __future__ import annotations

from importlib import import_module
from typing import Mapping, Optional

from mxnet.gluon import nn

from .base import Backbone, Tap, check_output_stride, limit_stride

_VARIANTS = {"resnet18": ("resnet18_v1b", 1), "resnet34": ("resnet34_v1b", 1), "resnet50": ("resnet50_v1s", 4),
             "resnet101": ("resnet101_v1s", 4), "resnet152": ("resnet152_v1s", 4)}


class ResNet(Backbone):
    """Taps: (64, 128, 256, 512) channels for ResNet-18 and -34, four times as many from 50 on.

    Parameter names are GluonCV's: ``conv1``, ``bn1``, ``layer1`` .. ``layer4``.

    Args:
        depth_name: ``'resnet18'``, 34, 50, 101 or 152.
        output_stride: 8, 16 or 32.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, depth_name: str, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        check_output_stride(output_stride, depth_name)
        gluoncv_name, expansion = _VARIANTS[depth_name]
        build = getattr(import_module("gluoncv.model_zoo.resnetv1b"), gluoncv_name)
        whole = build(pretrained=False, norm_layer=norm_layer, norm_kwargs=dict(norm_kwargs or {}))
        stages = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        super().__init__(stages, [Tap(64 * 2 ** i * expansion, r) for i, r in enumerate(reductions)],
                         gluoncv_name=gluoncv_name)
        with self.name_scope():
            self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def from_gluoncv(self, name: str):
        return None if name.startswith("fc.") else name


def _variant(depth_name):
    def build(**kwargs) -> ResNet:
        return ResNet(depth_name, **kwargs)
    return build


resnet18, resnet34, resnet50, resnet101, resnet152 = map(_variant, _VARIANTS)
