"""Panoptic FPN's semantic branch: Kirillov, Girshick, He & Dollar, CVPR 2019."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d
from ..nn.fusion import LateralFusion
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, four_taps, norm_options


class SemanticFPN(SegModel):
    """A feature pyramid (Lin et al., CVPR 2017) and the semantic branch on it (figure 3 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    As MXNetSeg has it: batch instead of group norm, and the pyramid's 3x3 convolutions inside the way
    down. MXNetSeg's upsamples by fixed factors of two, so it fails unless 32 divides the image's
    sides; here every map is resized to the size of the next one.

    Args:
        nclass: classes.
        backbone: any with four taps.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("SemanticFPN",)
    mxnetseg_prefixes = {"head.fpn.lateral16x.": "lateral_c3.", "head.fpn.lateral8x.": "lateral_c2.",
                         "head.fpn.lateral4x.": "lateral_c1.", "head.fpn.conv.": "conv_c4.",
                         "head.semantic.scale_p2.": "branches.0.0.", "head.semantic.scale_p3.": "branches.1.",
                         "head.semantic.scale_p4.": "branches.2.", "head.semantic.scale_p5.": "branches.3.",
                         "head.seg.": "head."}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=32, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.conv_c4 = ConvModule2d(256, 1, in_channels=c4.channels, **norm)
            self.lateral_c3 = LateralFusion(256, in_channels=c3.channels, **norm)
            self.lateral_c2 = LateralFusion(256, in_channels=c2.channels, **norm)
            self.lateral_c1 = LateralFusion(256, in_channels=c1.channels, **norm)
            self.branches = nn.HybridSequential()  # of p2 .. p5: as many convolutions as there are steps to climb
            for convolutions in (1, 1, 2, 3):
                branch = nn.HybridSequential()
                for i in range(convolutions):
                    branch.add(ConvModule2d(128, 3, in_channels=128 if i else 256, **norm))
                self.branches.add(branch)
            self.head = nn.Conv2D(nclass, 1, in_channels=128)

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        p5 = self.conv_c4(c4)
        p4 = self.lateral_c3(p5, c3)
        p3 = self.lateral_c2(p4, c2)
        p2 = self.lateral_c1(p3, c1)

        pyramid = [p2, p3, p4, p5]
        y = self.branches[0][0](p2)
        for level in (1, 2, 3):
            climbing = pyramid[level]
            for step, convolution in enumerate(self.branches[level]):
                finer = pyramid[level - 1 - step]
                climbing = resize(F, convolution(climbing), finer, align_corners=True)
            y = y + climbing
        return (resize(F, self.head(y), x, align_corners=True),)
