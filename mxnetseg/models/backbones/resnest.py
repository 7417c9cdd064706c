"""GluonCV's ResNeSts (Zhang et al. 2020, split-attention networks), tapped after each of the four stages."""
from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module

from mxnet.gluon import nn

from ._base import check_output_stride
from .resnet import Staged

# layers -> units in each stage, and channels of the first two convolutions of the stem
_DEPTHS = {14: ((1, 1, 1, 1), 32), 26: ((2, 2, 2, 2), 32), 50: ((3, 4, 6, 3), 32), 101: ((3, 4, 23, 3), 64),
           200: ((3, 24, 36, 3), 64), 269: ((3, 30, 48, 8), 64)}
# layers -> timm's name of GluonCV's weights
_TIMM = {14: "resnest14d.gluon_in1k", 26: "resnest26d.gluon_in1k", 50: "resnest50d.in1k", 101: "resnest101e.in1k",
         200: "resnest200e.in1k", 269: "resnest269e.in1k"}


class ResNeSt(Staged):
    """ResNeSt. Taps: (256, 512, 1024, 2048) channels.

    Blocks, parameter names and dilation are GluonCV's: a stage without its stride keeps its 3x3 average pooling.
    DropBlock, which GluonCV uses from 101 layers on, is left out, because its masks fit only crops of 224 pixels.

    Args:
        layers: number of layers: 14, 26, 50, 101, 200 or 269.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    needs_batch = 2  # the attention normalises a 1 x 1 map

    def __init__(self, layers: int, *, output_stride: int = 32, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        check_output_stride(output_stride, f"resnest{layers}")
        zoo = import_module("gluoncv.model_zoo.resnest")
        units, stem_width = _DEPTHS[layers]
        whole = zoo.ResNeSt(zoo.Bottleneck, units, deep_stem=True, stem_width=stem_width, avg_down=True, avd=True,
                            use_splat=True, dilation={32: 1, 16: 2, 8: 4}[output_stride], norm_layer=norm_layer,
                            norm_kwargs=dict(norm_kwargs or {}))
        super().__init__(whole, 256, [min(r, output_stride) for r in (4, 8, 16, 32)],
                         gluoncv_name=f"resnest{layers}", timm_names=[_TIMM[layers]])

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter of timm's classifier, or None if this backbone does not have it."""
        return super().from_pytorch(name.replace(".conv2.bn0.", ".conv2.bn."))


resnest14, resnest26, resnest50, resnest101, resnest200, resnest269 = (
    partial(ResNeSt, layers) for layers in _DEPTHS)
