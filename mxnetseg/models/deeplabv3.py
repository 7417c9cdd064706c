"""DeepLabv3: Chen, Papandreou, Schroff & Adam, "Rethinking atrous convolution", 2017 (arXiv 1706.05587)."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.context import ASPP
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


class DeepLabv3(SegModel):
    """DeepLabv3 on any backbone with taps.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As MXNetSeg has it: the rates stay 6, 12, 18 at every output stride (the paper's section 3.3
    doubles them at stride 8), an FCN head in place of the last 1x1 convolution, no multi-grid.

    Args:
        nclass: classes.
        backbone: the pyramid sits on its last tap, the auxiliary head on the one before.
        output_stride: 8, 16 or 32.
        rates: dilations of the pyramid's 3x3 convolutions, in places of the last tap.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("DeepLabv3",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}
    needs_batch = 2  # a branch of the pyramid is the whole image's mean

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 rates: Sequence[int] = (6, 12, 18), aux: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.aspp = ASPP(256, in_channels=c4.channels, rates=rates, **norm)
            self.head = FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.aspp(c4))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
