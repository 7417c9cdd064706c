"""LadderDenseNet: Kreso, Segvic & Krapac, ICCV Workshops 2017."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.fusion import LateralFusion
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class LadderDenseNet(SegModel):
    """A DenseNet and a thin ladder back up to stride 4.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As MXNetSeg has it: the third dense block is not split by another pooling, so the backbone ends on
    stride 32 (the paper's: 64), and there is a 3x3 convolution in the head.

    Args:
        nclass: classes.
        backbone: a DenseNet, or any backbone with four taps.
        aux: an auxiliary head where the ladder begins.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("LadderDenseNet",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "densenet121", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=32, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.conv_c4 = ConvModule2d(128, 1, in_channels=c4.channels, **norm)
            self.fusion_c3 = LateralFusion(128, in_channels=c3.channels, **norm)
            self.fusion_c2 = LateralFusion(128, in_channels=c2.channels, **norm)
            self.fusion_c1 = LateralFusion(128, in_channels=c1.channels, **norm)
            self.head = FCNHead(nclass, 128, **norm)
            self.aux_head = FCNHead(nclass, 128, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        c4 = self.conv_c4(c4)
        y = self.fusion_c3(c4, c3)
        y = self.fusion_c2(y, c2)
        y = self.fusion_c1(y, c1)
        outputs = [self.head(y)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c4))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
