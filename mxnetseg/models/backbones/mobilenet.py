"""GluonCV's MobileNetV2 (Sandler et al. 2018) without its last 1x1 convolution, tapped at four places."""
from __future__ import annotations

from importlib import import_module
from typing import Mapping, Optional

from mxnet.gluon import nn

from .base import Backbone, Tap, check_output_stride, limit_stride

# MXNetSeg's cut of GluonCV's `features`: where each stage begins, and where the last one ends
_CUTS = (0, 6, 9, 16, 20)


class MobileNetV2(Backbone):
    """Taps at multiplier 1.0: 24, 32, 96 and 320 channels.

    Args:
        multiplier: ``'1.0'``, ``'0.75'``, ``'0.5'`` or ``'0.25'``, the width of all layers.
        output_stride: 8, 16 or 32.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, multiplier: str, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        gluoncv_name = f"mobilenetv2_{multiplier}"
        check_output_stride(output_stride, gluoncv_name)
        build = import_module("gluoncv.model_zoo.mobilenet").get_mobilenet_v2
        layers = list(build(float(multiplier), norm_layer=norm_layer,
                            norm_kwargs=dict(norm_kwargs or {})).features._children.values())
        stages = []
        for begin, end in zip(_CUTS, _CUTS[1:]):
            stage = nn.HybridSequential()
            stage.add(*layers[begin:end])
            stages.append(stage)
        # the stem's stride is in the first stage, so that one can never trade it for dilation
        reductions = limit_stride(stages, (4, 8, 16, 32), output_stride)
        channels = [_width(stage) for stage in stages]
        super().__init__(stages, [Tap(c, r) for c, r in zip(channels, reductions)], gluoncv_name=gluoncv_name)
        with self.name_scope():
            self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def from_gluoncv(self, name: str):
        if not name.startswith("features."):
            return None
        _, index, rest = name.split(".", 2)
        stage = sum(int(index) >= begin for begin in _CUTS[1:])
        return f"layer{stage + 1}.{int(index) - _CUTS[stage]}.{rest}" if stage < 4 else None


def _width(stage):
    """Output channels of the last convolution of a stage."""
    convolutions = []
    stage.apply(lambda block: convolutions.append(block) if isinstance(block, nn.Conv2D) else None)
    return convolutions[-1]._channels


def _variant(multiplier):
    def build(**kwargs) -> MobileNetV2:
        return MobileNetV2(multiplier, **kwargs)
    return build


mobilenet_v2_1_0, mobilenet_v2_0_75, mobilenet_v2_0_5, mobilenet_v2_0_25 = map(
    _variant, ("1.0", "0.75", "0.5", "0.25"))
