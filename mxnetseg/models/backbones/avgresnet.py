"""GluonCV's ResNets v1e: deep stem of 128 channels, and average pooling in the shortcuts."""
from __future__ import annotations

from importlib import import_module
from typing import Mapping, Optional

from mxnet.gluon import nn

from ...errors import UnknownNameError
from .base import Backbone, Tap

_DEPTHS = ("resnet50", "resnet101", "resnet152")


class AvgDownResNet(Backbone):
    """Taps: (256, 512, 1024, 2048) channels at strides 4, 8, 16, 32.

    GluonCV publishes no weights of v1e.

    Args:
        depth_name: ``'resnet50'``, 101 or 152.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: another depth.
    """

    def __init__(self, depth_name: str, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        if depth_name not in _DEPTHS:
            raise UnknownNameError("backbone with pooled shortcuts:", depth_name, _DEPTHS)
        build = getattr(import_module("gluoncv.model_zoo.resnetv1b"), f"{depth_name}_v1e")
        whole = build(pretrained=False, norm_layer=norm_layer, norm_kwargs=dict(norm_kwargs or {}))
        stages = [whole.layer1, whole.layer2, whole.layer3, whole.layer4]
        super().__init__(stages, [Tap(256 * 2 ** i, 4 * 2 ** i) for i in range(4)])
        with self.name_scope():
            self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.relu(self.bn1(self.conv1(x)))))
