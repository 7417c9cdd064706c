"""Attention to scale: Chen, Yang, Wang, Xu & Yuille, CVPR 2016."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ..losses import Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import halve, resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class AttentionToScale(SegModel):
    """The picture at full and at half size through one network; each pixel decides whom to believe.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the full and of
    the half size alone.

    As MXNetSeg has it: two scales, their weights w and 1 - w by a sigmoid (for two, the paper's softmax),
    and a classifier of its own for each scale's extra supervision (the paper supervises the shared
    one). The paper gives all three losses weight 1 (``loss.aux_weight``).

    Args:
        nclass: classes.
        backbone: the heads sit on its last tap.
        output_stride: 8, 16 or 32.
        aux: a classifier on each scale's features.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("AttentionToScale",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.conv": "attention.conv"}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        channels = self.backbone.taps[-1].channels
        with self.name_scope():
            self.head = FCNHead(nclass, channels, **norm)
            self.attention = ScaleAttention(in_channels=2 * channels, **norm)
            self.aux_head = nn.HybridSequential() if aux else None
            if aux:
                self.aux_head.add(*(FCNHead(nclass, channels, kernel_size=1, drop=0.0, **norm)
                                    for _ in ("full", "half")))

    def hybrid_forward(self, F, x):
        full = self.backbone(x)[-1]
        half = self.backbone(halve(F, x, align_corners=True))[-1]
        half_resized = resize(F, half, full, align_corners=True)

        weight = self.attention(F.concat(full, half_resized, dim=1))
        logits_full, logits_half = self.head(full), self.head(half_resized)
        outputs = [F.broadcast_mul(logits_full, weight) + F.broadcast_mul(logits_half, 1 - weight)]
        if self.aux_head is not None:
            outputs += [self.aux_head[0](full), self.aux_head[1](half)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss, aux_weight) -> Sequence[Term]:
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            terms += [Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]
        return terms


class ScaleAttention(nn.HybridBlock):
    """How much the full size is to be believed.

    x: (N, in_channels, H, W) -> (N, 1, H, W), in (0, 1).

    Args:
        in_channels: of both scales' features together.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        with self.name_scope():
            self.conv3x3 = ConvModule2d(512, 3, in_channels=in_channels,
                                        norm_layer=norm_layer, norm_kwargs=norm_kwargs)
            self.conv1x1 = nn.Conv2D(1, 1, in_channels=512)

    def hybrid_forward(self, F, x):
        return F.sigmoid(self.conv1x1(self.conv3x3(x)))
