"""Xception39, the light backbone of BiSeNet (Yu et al. 2018, section 4.1), tapped after its three stages.

It is a small Xception (Chollet 2017): a 3x3 convolution and max-pooling to stride 4, then stages of 4, 8 and 4 residual
units of three separable convolutions each, with 64, 128 and 256 channels. No weights of it have been published.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ...nn.blocks import ConvModule2d
from ._base import Backbone, Tap, check_output_stride, limit_stride

_UNITS = (4, 8, 4)
_WIDTHS = (16, 32, 64)
_EXPANSION = 4


class SeparableConv(nn.HybridBlock):
    """Depthwise 3x3 convolution, then a 1x1 convolution with norm and activation.

    x: (N, in_channels, H, W) -> (N, channels, H / strides, W / strides), sizes rounded up.
    """

    def __init__(self, channels: int, strides: int = 1, *, in_channels: int, activation: str | None = "relu",
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        with self.name_scope():
            self.depthwise = nn.Conv2D(in_channels, 3, strides, 1, groups=in_channels, in_channels=in_channels,
                                       use_bias=False)
            self.pointwise = ConvModule2d(channels, 1, in_channels=in_channels, activation=activation,
                                          norm_layer=norm_layer, norm_kwargs=norm_kwargs)

    def hybrid_forward(self, F, x):
        return self.pointwise(self.depthwise(x))


class Unit(nn.HybridBlock):
    """Three separable convolutions with a shortcut; the first one has the stride.

    x: (N, in_channels, H, W) -> (N, 4 * width, H / strides, W / strides), sizes rounded up.
    """

    def __init__(self, width: int, strides: int, *, in_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        channels = width * _EXPANSION

        with self.name_scope():
            self.down = None
            if strides > 1:
                self.down = ConvModule2d(channels, 1, strides, in_channels=in_channels, activation=None, **norm)
            self.residual = nn.HybridSequential()
            self.residual.add(SeparableConv(width, strides, in_channels=in_channels, **norm),
                              SeparableConv(width, in_channels=width, **norm),
                              SeparableConv(channels, in_channels=width, activation=None, **norm))

    def hybrid_forward(self, F, x):
        shortcut = x if self.down is None else self.down(x)
        return F.relu(shortcut + self.residual(x))


class Xception39(Backbone):
    """Xception39. Taps: 64, 128 and 256 channels at strides 8, 16 and 32.

    Args:
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, "xception39")
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        stages, in_channels = [], 8
        for units, width in zip(_UNITS, _WIDTHS):
            stage = nn.HybridSequential()
            for i in range(units):
                stage.add(Unit(width, 2 if i == 0 else 1, in_channels=in_channels, **norm))
                in_channels = width * _EXPANSION
            stages.append(stage)

        reductions = limit_stride(stages, (8, 16, 32), output_stride)
        super().__init__(stages, [Tap(w * _EXPANSION, r) for w, r in zip(_WIDTHS, reductions)])

        with self.name_scope():
            self.conv = ConvModule2d(8, 3, 2, in_channels=3, **norm)
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            self.layer1, self.layer2, self.layer3 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.conv(x)))


xception39 = Xception39
