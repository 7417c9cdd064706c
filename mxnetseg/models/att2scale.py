"""Attention to scale: Chen, Yang, Wang, Xu & Yuille, CVPR 2016.

The image runs through the network at full and at half size; attention weighs both predictions at each pixel.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import halve, resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class AttentionToScale(SegModel):
    """Attention to scale: logits of the full and the half-size image, averaged with a learned weight per pixel.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the full and of
    the half-size image alone.

    As in MXNetSeg: two scales, whose weights w and 1 - w come from a sigmoid (equal to the paper's softmax for two
    scales), and a separate classifier for the extra supervision of each scale (the paper supervises the shared
    classifier). All three losses have weight 1 in the paper (``loss.aux_weight``).

    Args:
        nclass: number of classes.
        backbone: the heads read its last tap.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        aux: a classifier on each scale's features.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("AttentionToScale",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.conv": "attention.conv"}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            terms += [Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]
        return terms


class ScaleAttention(nn.HybridBlock):
    """Weight of the full-size image's logits at each pixel.

    x: (N, in_channels, H, W) -> (N, 1, H, W), in (0, 1).

    Args:
        in_channels: channels of both scales' features together.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        with self.name_scope():
            self.conv3x3 = ConvModule2d(512, 3, in_channels=in_channels,
                                        norm_layer=norm_layer, norm_kwargs=norm_kwargs)
            self.conv1x1 = nn.Conv2D(1, 1, in_channels=512)

    def hybrid_forward(self, F, x):
        return F.sigmoid(self.conv1x1(self.conv3x3(x)))
