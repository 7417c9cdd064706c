"""GluonCV's ResNets (He et al. 2016), tapped after each of the four stages.

Variants (He et al. 2019, "Bag of tricks", section 4.1):

* v1b has the stride in the 3x3 convolution, and a 7x7 stem.
* v1c has a stem of three 3x3 convolutions with 32, 32 and 64 channels.
* v1d is v1c with average pooling in the shortcuts.
* v1s is v1c, and v1e is v1d, with 64, 64 and 128 channels in the stem.

Plain names stand for MXNetSeg's variants: v1b for ResNet-18 and -34, v1s from 50 on. Only these reproduce its published
parameter counts. ResNet-18 and -34 v1c are mmsegmentation's, not GluonCV's, and are dilated as there, see
:class:`ResNet`.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module

from mxnet.gluon import nn

from ._base import Backbone, Tap, check_output_stride, limit_stride

_PLAIN = {"resnet18": "resnet18_v1b", "resnet34": "resnet34_v1b", "resnet50": "resnet50_v1s",
          "resnet101": "resnet101_v1s", "resnet152": "resnet152_v1s"}
_BASIC_V1C = {"resnet18_v1c": (2, 2, 2, 2), "resnet34_v1c": (3, 4, 6, 3)}
_VARIANTS = [*_PLAIN, *_BASIC_V1C, *(f"resnet{depth}_v1{letter}" for letter in "bcde" for depth in (50, 101, 152))]


class Staged(Backbone):
    """Base class of GluonCV's networks with a stem, max-pooling and four stages; parameter names are GluonCV's.

    Args:
        whole: GluonCV's classifier, whose last layers are left out.
        channels: channels of the first stage; each later one has twice as many.
        reductions: reduction of each stage.
        gluoncv_name, timm_names: see :class:`~mxnetseg.models.backbones._base.Backbone`.
    """

    def __init__(self, whole: nn.HybridBlock, channels: int, reductions: Sequence[int], *, gluoncv_name: str | None,
                 timm_names: Sequence[str]):
        stages = stages_of(whole)
        super().__init__(stages, [Tap(channels * 2 ** i, r) for i, r in enumerate(reductions)],
                         gluoncv_name=gluoncv_name, timm_names=timm_names)
        with self.name_scope():
            self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def from_gluoncv(self, name: str) -> str | None:
        return None if name.startswith("fc.") else name


def stages_of(whole: nn.HybridBlock) -> list[nn.HybridBlock]:
    """Return the four stages of a network of GluonCV's."""
    return [whole.layer1, whole.layer2, whole.layer3, whole.layer4]


class ResNet(Staged):
    """ResNet. Taps: (64, 128, 256, 512) channels for ResNet-18 and -34, four times as many from 50 on.

    Parameter names are GluonCV's: ``conv1``, ``bn1``, ``layer1`` .. ``layer4``.

    Args:
        name: ``'resnet18'``, ``'resnet50_v1d'``, ...
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        dilate_first_only: whether only the first convolution of a dilated basic block is dilated, as in mmsegmentation,
            instead of both (:func:`~mxnetseg.models.backbones._base.limit_stride`). None: for v1c only.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, name: str, *, output_stride: int = 32, dilate_first_only: bool | None = None,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, name)
        zoo = import_module("gluoncv.model_zoo.resnetv1b")
        norm = {"norm_layer": norm_layer, "norm_kwargs": dict(norm_kwargs or {})}

        gluoncv_name = None if name in _BASIC_V1C else _PLAIN.get(name, name)
        if gluoncv_name:
            whole = getattr(zoo, gluoncv_name)(pretrained=False, **norm)
        else:
            whole = zoo.ResNetV1b(zoo.BasicBlockV1b, _BASIC_V1C[name], deep_stem=True, stem_width=32, **norm)

        expansion = 1 if is_basic(name) else 4
        super().__init__(whole, 64 * expansion, limit_stride(stages_of(whole), (4, 8, 16, 32), output_stride),
                         gluoncv_name=gluoncv_name, timm_names=timm_names(gluoncv_name) if gluoncv_name else ())
        if is_basic(name) and (name in _BASIC_V1C if dilate_first_only is None else dilate_first_only):
            for stage in stages_of(whole):
                for block in stage:
                    block.conv2._kwargs.update(dilate=(1, 1), pad=(1, 1))


def is_basic(name: str) -> bool:
    """Return whether a ResNet of this name has basic blocks of two 3x3 convolutions: 18 or 34 layers."""
    return name.split("_")[0] in ("resnet18", "resnet34")


def timm_names(gluoncv_name: str) -> Sequence[str]:
    """Return timm's names of weights for this ResNet: GluonCV's, and torchvision's, which fit v1b."""
    depth, variant = gluoncv_name.split("_v1")
    names = {"b": [f"{depth}.gluon_in1k", f"{depth}.tv_in1k"], "e": []}
    return names.get(variant, [f"{depth}{variant}.gluon_in1k"])


def __getattr__(name: str):
    """Return the constructor of a ResNet by its name, for the registry."""
    if name not in _VARIANTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(ResNet, name)
