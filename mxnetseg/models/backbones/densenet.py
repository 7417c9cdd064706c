"""GluonCV's DenseNets (Huang et al. 2017), tapped after each of the four dense blocks."""
from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module

from mxnet.gluon import nn

from ...errors import ConfigError
from ..weights.pytorch import OF_NORMS
from ._base import Backbone, Tap

# Boundaries of the sections of GluonCV's `features`: stem; block 1; transition, block 2; transition, block 3;
# transition, block 4, norm, ReLU. Pooling and flattening, which follow, are left out.
_CUTS = (0, 4, 5, 7, 9, 13)
# torchvision's names of layers -> their indices in GluonCV's sequences
_LAYER = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}
_TRANSITION = {"norm": 0, "conv": 2}


class DenseNet(Backbone):
    """DenseNet. Taps of DenseNet-121: 256, 512, 1024 and 1024 channels at strides 4, 8, 16 and 32.

    As in GluonCV, torchvision and MXNetSeg, the pooling of the transitions rounds down: if a side is not a multiple of
    32, a tap may be one row or column smaller than the same tap of other backbones.

    Args:
        layers: 121, 161, 169 or 201.
        output_stride: 32, because the pooling between dense blocks cannot be replaced by dilation.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: another output stride.
    """

    smallest_side = 29  # with a shorter side the last tap is empty
    grid_stride = 1

    def __init__(self, layers: int, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        if output_stride != 32:
            raise ConfigError(f"densenet{layers} runs at output stride 32 only", where="model.output_stride",
                              received=output_stride, fix="output_stride: 32")

        zoo = import_module("gluoncv.model_zoo.densenet")
        width, growth, blocks = zoo.densenet_spec[layers]
        whole = zoo.DenseNet(width, growth, blocks, norm_layer=norm_layer, norm_kwargs=dict(norm_kwargs or {}))
        features = list(whole.features._children.values())
        sections = []
        for begin, end in zip(_CUTS, _CUTS[1:]):
            section = nn.HybridSequential()
            section.add(*features[begin:end])
            sections.append(section)

        channels = []
        for units in blocks:
            width += units * growth
            channels.append(width)
            width //= 2  # the transition

        super().__init__(sections[1:], [Tap(c, 4 * 2 ** i) for i, c in enumerate(channels)],
                         gluoncv_name=f"densenet{layers}", timm_names=[f"densenet{layers}.tv_in1k"])

        with self.name_scope():
            self.stem, self.layer1, self.layer2, self.layer3, self.layer4 = sections

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.stem(x))

    def from_gluoncv(self, name: str) -> str | None:
        if not name.startswith("features."):
            return None
        _, index, rest = name.split(".", 2)
        section = sum(int(index) >= begin for begin in _CUTS[1:])
        section_name = "stem" if section == 0 else f"layer{section}"
        return f"{section_name}.{int(index) - _CUTS[section]}.{rest}" if section < 5 else None

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm or torchvision, or None if this backbone does not have it."""
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked" or stem == "classifier":
            return None

        # torchvision's older files have an additional dot
        stem = re.sub(r"(norm|conv)\.([12])$", r"\1\2", stem)
        stem = re.sub(r"denseblock(\d)\.denselayer(\d+)\.(\w+)$", lambda m: (
            f"{2 * int(m[1]) + 2}.{int(m[2]) - 1}.1.{_LAYER[m[3]]}"), stem)
        stem = re.sub(r"transition(\d)\.(\w+)$", lambda m: f"{2 * int(m[1]) + 3}.{_TRANSITION[m[2]]}", stem)
        stem = {"features.conv0": "features.0", "features.norm0": "features.1", "features.norm5": "features.11"}.get(
            stem, stem)
        convolution = last == "weight" and re.search(r"(^features\.0|\.1\.[25]|^features\.\d+\.2)$", stem)
        return self.from_gluoncv(f"{stem}.{last if convolution else OF_NORMS.get(last, last)}")


def _builder(layers: int):
    """Return the constructor of a DenseNet with this number of layers."""
    def build(**kwargs) -> DenseNet:
        return DenseNet(layers, **kwargs)
    return build


densenet121, densenet161, densenet169, densenet201 = map(_builder, (121, 161, 169, 201))
