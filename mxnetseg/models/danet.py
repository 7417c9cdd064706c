"""Dual attention network: Fu, Liu, Tian, Li, Bao, Fang & Lu, CVPR 2019."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ..losses import Term
from ..nn.attention import ChannelAttention, PositionAttention
from ..nn.blocks import ConvModule2d
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


class DANet(SegModel):
    """Position and channel attention side by side, added (the paper's figure 2).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the position
    branch and of the channel branch alone.

    The paper puts a loss on each branch too, all of weight 1 (``loss.aux_weight``). No multi-grid, as
    in MXNetSeg. At first both attentions are the identity: their gates start at 0.

    Args:
        nclass: classes.
        backbone: both branches sit on its last tap and are a quarter as wide.
        output_stride: 8 (the paper's), 16 or 32.
        aux: a classifier on each branch.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("DANet",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}
    zero_gradient_at_start = ("pam.*_conv.*",)  # behind the gate that starts at 0

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        channels = self.backbone.taps[-1].channels
        width = channels // 4
        with self.name_scope():
            self.compress_pam = ConvModule2d(width, 3, in_channels=channels, **norm)
            self.pam = PositionAttention(width)
            self.proj_pam = ConvModule2d(width, 3, in_channels=width, **norm)
            self.compress_cam = ConvModule2d(width, 3, in_channels=channels, **norm)
            self.cam = ChannelAttention()
            self.proj_cam = ConvModule2d(width, 3, in_channels=width, **norm)
            self.head = _classifier(nclass, width)
            self.aux_head = nn.HybridSequential() if aux else None
            if aux:
                self.aux_head.add(_classifier(nclass, width), _classifier(nclass, width))

    def hybrid_forward(self, F, x):
        c4 = self.backbone(x)[-1]
        position = self.proj_pam(self.pam(self.compress_pam(c4)))
        channel = self.proj_cam(self.cam(self.compress_cam(c4)))
        outputs = [self.head(position + channel)]
        if self.aux_head is not None:
            outputs += [self.aux_head[0](position), self.aux_head[1](channel)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss, aux_weight) -> Sequence[Term]:
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            terms += [Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]
        return terms


def _classifier(nclass, in_channels):
    head = nn.HybridSequential()
    head.add(nn.Dropout(0.1), nn.Conv2D(nclass, 1, in_channels=in_channels))
    return head
