"""MobileNetV2 (Sandler et al. 2018) and V3-Large (Howard et al. 2019) with four taps."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module

from mxnet.gluon import nn

from ...nn.blocks import ConvModule2d
from ..weights.pytorch import gluon_name
from ._base import Backbone, Tap, check_output_stride, limit_stride


class MobileNet(Backbone):
    """Base class of both: a sequence of layers, GluonCV's ``features``, that is divided into four stages.

    Args:
        layers: layers of the whole network.
        cuts: index of the first layer of each stage, and the end of the last stage.
        groups: number of units in each of timm's groups, from the first unit on.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        gluoncv_name, timm_names: see :class:`~mxnetseg.models.backbones._base.Backbone`.
    """

    def __init__(self, layers: Sequence[nn.HybridBlock], cuts: Sequence[int], groups: Sequence[int], *,
                 output_stride: int, gluoncv_name: str, timm_names: Sequence[str]):
        check_output_stride(output_stride, gluoncv_name)
        stages = []
        for begin, end in zip(cuts, cuts[1:]):
            stage = nn.HybridSequential()
            stage.add(*layers[begin:end])
            stages.append(stage)

        # the first stage includes the stem, and its reduction of 4 is below every output stride
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        channels = [_width(stage) for stage in stages]
        super().__init__(stages, [Tap(c, r) for c, r in zip(channels, reductions)], gluoncv_name=gluoncv_name,
                         timm_names=timm_names)
        self._cuts, self._groups = cuts, groups

        with self.name_scope():
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def from_gluoncv(self, name: str) -> str | None:
        if not name.startswith("features."):
            return None
        _, index, rest = name.split(".", 2)
        stage = sum(int(index) >= begin for begin in self._cuts[1:])
        return f"layer{stage + 1}.{int(index) - self._cuts[stage]}.{rest}" if stage < 4 else None

    def unit(self, group: str, index: str) -> str:
        """Return GluonCV's name of timm's unit ``blocks.GROUP.INDEX``; its first three layers are the stem."""
        return f"features.{3 + sum(self._groups[:int(group)]) + int(index)}"

    def renamed(self, name: str) -> str | None:
        """Return our name of a parameter under GluonCV's name, in which norms have PyTorch's names of parameters."""
        ours = self.from_gluoncv(name)
        return ours and gluon_name(self._collect_params_with_prefix(), ours)


class MobileNetV2(MobileNet):
    """GluonCV's MobileNetV2 without its last 1x1 convolution. Taps with multiplier 1.0: 24, 32, 96 and 320 channels.

    Args:
        multiplier: ``'1.0'``, ``'0.75'``, ``'0.5'`` or ``'0.25'``, the factor of all layers' channels.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, multiplier: str, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        build = import_module("gluoncv.model_zoo.mobilenet").get_mobilenet_v2
        layers = list(build(float(multiplier), norm_layer=norm_layer,
                            norm_kwargs=dict(norm_kwargs or {})).features._children.values())
        # timm rounds the other widths to multiples of 8, GluonCV does not
        timm = ["mobilenetv2_100.ra_in1k"] if multiplier == "1.0" else []
        super().__init__(layers, (0, 6, 9, 16, 20), (1, 2, 3, 4, 3, 3, 1), output_stride=output_stride,
                         gluoncv_name=f"mobilenetv2_{multiplier}", timm_names=timm)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm or torchvision, or None if this backbone does not have it."""
        stem, _, last = name.rpartition(".")
        found = re.match(r"features\.(\d+)\.conv\.([\d.]+)$", stem)
        if found:  # torchvision's name; the first unit has no expansion
            layers = ("0.0", "0.1", "1", "2") if found[1] == "1" else ("0.0", "0.1", "1.0", "1.1", "2", "3")
            stem = f"features.{2 + int(found[1])}.out.{_V2_LAYERS[layers.index(found[2])]}"
        elif stem.startswith("features.18.") or stem == "bn2":
            return None  # the last 1x1 convolution

        found = re.match(r"blocks\.(\d+)\.(\d+)\.(\w+)$", stem)
        if found:  # timm's name
            layers = _DEPTHWISE_UNIT if found[1] == "0" else _INVERTED_UNIT
            stem = f"{self.unit(found[1], found[2])}.out.{_V2_LAYERS[layers.index(found[3])]}"
        stem = {"conv_stem": "features.0", "bn1": "features.1", "features.0.0": "features.0",
                "features.0.1": "features.1"}.get(stem, stem)
        return self.renamed(f"{stem}.{last}")


# the layers of a unit in timm, and their indices in a unit of GluonCV's MobileNetV2
_INVERTED_UNIT = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
_DEPTHWISE_UNIT = ("conv_dw", "bn1", "conv_pw", "bn2")
_V2_LAYERS = (0, 1, 3, 4, 6, 7)

# table 1 of V3's paper: kernel, expanded channels, channels, squeeze-and-excitation, activation, stride
_V3_LARGE = ((3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
             (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
             (3, 240, 80, False, "hard_swish", 2), (3, 200, 80, False, "hard_swish", 1),
             (3, 184, 80, False, "hard_swish", 1), (3, 184, 80, False, "hard_swish", 1),
             (3, 480, 112, True, "hard_swish", 1), (3, 672, 112, True, "hard_swish", 1),
             (5, 672, 160, True, "hard_swish", 2), (5, 960, 160, True, "hard_swish", 1),
             (5, 960, 160, True, "hard_swish", 1))
_V3_LAYERS = {"conv_pw": "expand.conv", "bn1": "expand.bn", "conv_dw": "conv1.conv", "bn2": "conv1.bn",
              "se.conv_reduce": "se.conv1", "se.conv_expand": "se.conv2", "conv_pwl": "conv2.conv",
              "bn3": "conv2.bn"}
_V3_FIRST = {"conv_dw": "conv1.conv", "bn1": "conv1.bn", "conv_pw": "conv2.conv", "bn2": "conv2.bn"}


class MobileNetV3(MobileNet):
    """MobileNetV3-Large with the 1x1 convolution that ends its features. Taps: 24, 40, 112 and 960 channels.

    Parameter names are GluonCV's. Its code is not used, because it applies ``norm_layer`` to the first and last layers
    only.

    Args:
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        layers = _layers_of(ConvModule2d(16, 3, 2, in_channels=3, activation="hard_swish", **norm))
        channels = 16
        for kernel, expanded, out_channels, excite, activation, strides in _V3_LARGE:
            layers.append(InvertedUnit(expanded, out_channels, kernel, strides, in_channels=channels, excite=excite,
                                       activation=activation, **norm))
            channels = out_channels
        layers += _layers_of(ConvModule2d(960, 1, in_channels=channels, activation="hard_swish", **norm))
        super().__init__(layers, (0, 6, 9, 15, 21), (1, 2, 3, 4, 2, 3), output_stride=output_stride,
                         gluoncv_name="mobilenetv3_large", timm_names=["mobilenetv3_large_100.ra_in1k"])

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        stem, _, last = name.rpartition(".")
        found = re.match(r"blocks\.([0-5])\.(\d+)\.(\S+)$", stem)
        if found:
            layers = _V3_FIRST if found[1] == "0" else _V3_LAYERS
            stem = f"{self.unit(found[1], found[2])}.{layers[found[3]]}"
        stem = {"conv_stem": "features.0", "bn1": "features.1", "blocks.6.0.conv": "features.18",
                "blocks.6.0.bn1": "features.19"}.get(stem, stem)
        return self.renamed(f"{stem}.{last}")


class InvertedUnit(nn.HybridBlock):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, linear 1x1 projection (section 3 of V3).

    x: (N, in_channels, H, W) -> (N, channels, H / strides, W / strides), sizes rounded up.

    Args:
        expanded: channels of the depthwise convolution; there is no expansion if they equal ``in_channels``.
        channels: output channels; the input is added if it has the shape of the output.
        kernel_size, strides: kernel and stride of the depthwise convolution.
        in_channels: input channels.
        excite: whether there is squeeze-and-excitation.
        activation: see :func:`~mxnetseg.nn.blocks.activation_layer`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, expanded: int, channels: int, kernel_size: int, strides: int, *, in_channels: int, excite: bool,
                 activation: str, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        conv = partial(ConvModule2d, norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        self._shortcut = strides == 1 and in_channels == channels
        with self.name_scope():
            self.expand = None
            if expanded != in_channels:
                self.expand = conv(expanded, 1, in_channels=in_channels, activation=activation)
            self.conv1 = conv(expanded, kernel_size, strides, groups=expanded, in_channels=expanded,
                              activation=activation)
            self.se = SqueezeExcitation(expanded) if excite else None
            self.conv2 = conv(channels, 1, in_channels=expanded, activation=None)

    def hybrid_forward(self, F, x):
        y = x if self.expand is None else self.expand(x)
        y = self.conv1(y)
        if self.se is not None:
            y = self.se(y)
        y = self.conv2(y)
        return x + y if self._shortcut else y


class SqueezeExcitation(nn.HybridBlock):
    """Squeeze-and-excitation: channels scaled by factors computed from their means, with hard sigmoid.

    x: (N, channels, H, W) -> same. The hidden layer has a quarter of the channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = -(-channels // 4 // 8) * 8  # rounded up to a multiple of 8
        with self.name_scope():
            self.conv1 = nn.Conv2D(hidden, 1, in_channels=channels)
            self.conv2 = nn.Conv2D(channels, 1, in_channels=hidden)

    def hybrid_forward(self, F, x):
        gate = F.relu(self.conv1(F.mean(x, axis=(2, 3), keepdims=True)))
        return F.broadcast_mul(x, F.clip(self.conv2(gate) + 3, 0, 6) / 6)


def _layers_of(module: ConvModule2d) -> list[nn.HybridBlock]:
    """Return a module's convolution, norm and activation as three layers."""
    return [module.conv, module.bn, module.act]


def _width(stage: nn.HybridBlock) -> int:
    """Return the output channels of the last convolution of a stage."""
    convolutions = []
    stage.apply(lambda block: convolutions.append(block) if isinstance(block, nn.Conv2D) else None)
    return convolutions[-1]._channels


mobilenet_v2_1_0, mobilenet_v2_0_75, mobilenet_v2_0_5, mobilenet_v2_0_25 = (
    partial(MobileNetV2, multiplier) for multiplier in ("1.0", "0.75", "0.5", "0.25"))
mobilenet_v3_large = MobileNetV3
