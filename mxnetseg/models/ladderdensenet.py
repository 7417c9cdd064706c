"""LadderDenseNet: Kreso, Segvic & Krapac, ICCV Workshops 2017.

A DenseNet, and a light decoder that adds finer feature maps step by step.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.fusion import LateralFusion
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class LadderDenseNet(SegModel):
    """LadderDenseNet: a DenseNet and a ladder of light lateral fusions up to stride 4.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: the third dense block is not split by another pooling, so the backbone's last stride is 32 (64 in
    the paper), and the head has a 3x3 convolution.

    Args:
        nclass: number of classes.
        backbone: a DenseNet, or any backbone with four taps.
        aux: an auxiliary head on the start of the ladder.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("LadderDenseNet",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "densenet121", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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
