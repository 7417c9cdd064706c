"""SFNet's ResNets: deep stem of 128 channels, output stride 32, and dilation in addition to the strides.

From 50 layers on they are GluonCV's v1s (see :mod:`.resnet`) with dilation, which has no parameters, so they read
GluonCV's ImageNet weights. ResNet-18 and -34 with this stem exist only in the authors' code.
"""
from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from mxnet.gluon import nn

from ...errors import UnknownNameError
from .resnet import Staged, stages_of, timm_names

_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3),
           "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}


class DeepStemResNet(Staged):
    """ResNet with a deep stem.

    Taps: (64, 128, 256, 512) channels at strides 4, 8, 16, 32; four times as many channels from ResNet-50 on.

    Stages 3 and 4 have dilations 2 and 4 *and* their stride of 2. In a bottleneck the 3x3 convolution has both; in a
    basic block the first convolution has the stride, and the second the dilation.

    Args:
        depth_name: ``'resnet18'``, ``'resnet34'``, ``'resnet50'``, ``'resnet101'`` or ``'resnet152'``.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: another depth.
    """

    def __init__(self, depth_name: str, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if depth_name not in _DEPTHS:
            raise UnknownNameError("backbone with a deep stem:", depth_name, _DEPTHS)

        zoo = import_module("gluoncv.model_zoo.resnetv1b")
        basic = depth_name in ("resnet18", "resnet34")
        block = zoo.BasicBlockV1b if basic else zoo.BottleneckV1b
        whole = zoo.ResNetV1b(block, _DEPTHS[depth_name], deep_stem=True, stem_width=64, norm_layer=norm_layer,
                              norm_kwargs=dict(norm_kwargs or {}))
        for stage, dilation in zip(stages_of(whole)[2:], (2, 4)):
            for unit in stage:
                unit.conv2._kwargs.update(dilate=(dilation, dilation), pad=(dilation, dilation))

        super().__init__(whole, 64 * block.expansion, (4, 8, 16, 32),
                         gluoncv_name=None if basic else f"{depth_name}_v1s",
                         timm_names=() if basic else timm_names(f"{depth_name}_v1s"))
