"""SwiftNet with pyramidal fusion: Orsic, Kreso, Bevandic & Segvic, CVPR 2019.

The image runs through the same backbone at full and at half size, and a ladder joins the maps of equal size.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.fusion import LateralFusion
from ..nn.resize import halve, resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class SwiftNetPr(SegModel):
    """SwiftNet with pyramidal fusion: one ladder on the taps of the image at full and at half size.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    Each step of the ladder reads two maps of equal size: tap k of the half-size image and tap k + 1 of the full-size
    image. As in MXNetSeg there are two scales. MXNetSeg's network accepts only even sizes; here half of an odd size is
    rounded up, so that the two maps have equal sizes for any image.

    Args:
        nclass: number of classes.
        backbone: any with four taps; ``'resnet18'`` in the paper.
        aux: an auxiliary head on the second-to-last tap of the full-size image.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("SwiftResNetPr",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.final.": "fusion_4x.", "head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "resnet18", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=32, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.conv1x1 = ConvModule2d(128, 1, in_channels=c4.channels, **norm)
            self.fusion_32x = LateralFusion(128, in_channels=c3.channels + c4.channels, **norm)
            self.fusion_16x = LateralFusion(128, in_channels=c2.channels + c3.channels, **norm)
            self.fusion_8x = LateralFusion(128, in_channels=c1.channels + c2.channels, **norm)
            self.fusion_4x = LateralFusion(128, in_channels=c1.channels, **norm)
            self.head = FCNHead(nclass, 128, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, kernel_size=1, drop=0.0, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        *halves, half4 = self.backbone(halve(F, x, align_corners=True))
        pairs = list(zip(halves, (c2, c3, c4)))
        if self.backbone.grid_stride == 1:  # a DenseNet rounds down, and the maps of a pair may differ by a row
            pairs = [(resize(F, half, tap, align_corners=True), tap) for half, tap in pairs]
        y = self.conv1x1(half4)
        y = self.fusion_32x(y, F.concat(*pairs[2], dim=1))
        y = self.fusion_16x(y, F.concat(*pairs[1], dim=1))
        y = self.fusion_8x(y, F.concat(*pairs[0], dim=1))
        y = self.fusion_4x(y, c1)
        outputs = [self.head(y)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
