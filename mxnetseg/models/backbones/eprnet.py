"""EPRNet's backbone, tapped after its three stages: Tang, Liu, Jiang & Zhang, IEEE T-ITS 2022.

It consists of pyramid representation modules: parallel depthwise convolutions of several dilations and a 1x1
convolution, merged, then a 3x3 convolution, and a shortcut around all. The activation is PReLU. No weights of it have
been published.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mxnet.gluon import nn

from ...errors import ConfigError
from ...nn.blocks import ConvModule2d, PReLU
from ._base import Backbone, Tap

# for each stage: its channels, and the dilations of each of its modules
_STAGES = ((32, ((1, 2, 4),) * 2),
           (64, ((3, 6, 9),) * 4),
           (128, ((7, 13, 19), (13, 25, 37))))


class Pyramid(nn.HybridBlock):
    """Multi-scale processing unit: parallel depthwise 3x3 convolutions of several dilations.

    x: (N, in_channels, H, W) -> (N, channels, H, W). The branches and a parallel 1x1 convolution are concatenated and
    projected. With ``light`` there is no 1x1 convolution, and the branches are added instead.
    """

    def __init__(self, channels: int, rates: Sequence[int], *, in_channels: int, light: bool, norm: Mapping):
        super().__init__()
        conv = partial(ConvModule2d, channels, activation="prelu", **norm)
        self._light = light
        with self.name_scope():
            self.concurrent = nn.HybridSequential()
            for rate in rates:
                self.concurrent.add(conv(3, dilation=rate, groups=in_channels, in_channels=in_channels))
            self.conv1x1 = None
            if not light:
                self.concurrent.add(conv(1, in_channels=in_channels))
                self.conv1x1 = conv(1, in_channels=channels * len(self.concurrent))

    def hybrid_forward(self, F, x):
        branches = [branch(x) for branch in self.concurrent]
        return F.add_n(*branches) if self._light else self.conv1x1(F.concat(*branches, dim=1))


class PyramidModule(nn.HybridBlock):
    """Pyramid representation module: a :class:`Pyramid`, a 3x3 convolution, and a shortcut.

    x: (N, in_channels, H, W) -> (N, channels, H / strides, W / strides), sizes rounded up.
    """

    def __init__(self, channels: int, rates: Sequence[int], strides: int, *, in_channels: int, light: bool,
                 norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        with self.name_scope():
            self.pyramid = Pyramid(channels, rates, in_channels=in_channels, light=light, norm=norm)
            self.compact = ConvModule2d(channels, 3, strides, in_channels=channels, activation=None, **norm)
            self.skip = None
            if channels != in_channels or strides > 1:
                self.skip = ConvModule2d(channels, 1, strides, in_channels=in_channels, activation=None, **norm)
            self.act = PReLU()

    def hybrid_forward(self, F, x):
        shortcut = x if self.skip is None else self.skip(x)
        return self.act(self.compact(self.pyramid(x)) + shortcut)


class EPRNetBackbone(Backbone):
    """EPRNet's backbone. Taps: 32, 64 and 128 channels at strides 4, 8 and 8.

    Args:
        light: build the smaller variant, see :class:`Pyramid`.
        output_stride: 8.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: another output stride.
    """

    def __init__(self, *, light: bool, output_stride: int = 8, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        if output_stride != 8:
            raise ConfigError("EPRNet's backbone runs at output stride 8 only", where="model.output_stride",
                              received=output_stride, fix="output_stride: 8")

        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        stages, in_channels = [], 16
        for number, (channels, modules) in enumerate(_STAGES):
            stage = nn.HybridSequential()
            for i, rates in enumerate(modules):
                halves = number < 2 and i == len(modules) - 1  # the last module of the first two stages
                stage.add(PyramidModule(channels, rates, 2 if halves else 1, in_channels=in_channels, light=light,
                                        **norm))
                in_channels = channels
            stages.append(stage)

        super().__init__(stages, [Tap(32, 4), Tap(64, 8), Tap(128, 8)])

        with self.name_scope():
            self.stem = ConvModule2d(16, 3, 2, in_channels=3, activation="prelu", **norm)
            self.layer1, self.layer2, self.layer3 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.stem(x))


eprnet, eprnet_light = partial(EPRNetBackbone, light=False), partial(EPRNetBackbone, light=True)
