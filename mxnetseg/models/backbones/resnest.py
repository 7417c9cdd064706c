"""GluonCV's ResNeSts (Zhang et al. 2020, split-attention networks), tapped after each of the four stages."""
from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Mapping, Optional

from mxnet.gluon import nn

from ._base import check_output_stride
from .resnet import Staged

# layers -> units in each stage, and width of the three-layer stem's first two convolutions
_DEPTHS = {14: ((1, 1, 1, 1), 32), 26: ((2, 2, 2, 2), 32), 50: ((3, 4, 6, 3), 32), 101: ((3, 4, 23, 3), 64),
           200: ((3, 24, 36, 3), 64), 269: ((3, 30, 48, 8), 64)}
# timm's names of GluonCV's weights, where it has them
_TIMM = {14: "resnest14d.gluon_in1k", 26: "resnest26d.gluon_in1k", 50: "resnest50d.in1k", 101: "resnest101e.in1k",
         200: "resnest200e.in1k", 269: "resnest269e.in1k"}


class ResNeSt(Staged):
    """Taps: (256, 512, 1024, 2048) channels.

    GluonCV's blocks and names, with its dilation for output stride 8: a stage that lost its stride keeps its 3x3
    mean pooling. Without DropBlock, which GluonCV has from 101 layers on: its masks are made for crops of 224 pixels
    and fit no other.

    Args:
        layers: 14, 26, 50, 101, 200 or 269.
        output_stride: 8, 16 or 32.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    needs_batch = 2  # the attention normalises a map of one place

    def __init__(self, layers: int, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        check_output_stride(output_stride, f"resnest{layers}")
        zoo = import_module("gluoncv.model_zoo.resnest")
        units, stem_width = _DEPTHS[layers]
        whole = zoo.ResNeSt(zoo.Bottleneck, units, deep_stem=True, stem_width=stem_width, avg_down=True, avd=True,
                            use_splat=True, dilation={32: 1, 16: 2, 8: 4}[output_stride], norm_layer=norm_layer,
                            norm_kwargs=dict(norm_kwargs or {}))
        super().__init__(whole, 256, [min(r, output_stride) for r in (4, 8, 16, 32)],
                         gluoncv_name=f"resnest{layers}", timm_names=[_TIMM[layers]])

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter of timm's classifier; None for one we have not."""
        return super().from_pytorch(name.replace(".conv2.bn0.", ".conv2.bn."))


resnest14, resnest26, resnest50, resnest101, resnest200, resnest269 = (
    partial(ResNeSt, layers) for layers in _DEPTHS)
