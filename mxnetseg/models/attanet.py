"""AttaNet: Song, Mei & Huang, AAAI 2021."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.precision import as_type_of, wide
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class AttaNet(SegModel):
    """Attention fusion of the last two taps, then attention over strips.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As MXNetSeg has it: the fusion happens once, and its result stays at the stride of the last tap but
    one.

    Args:
        nclass: classes.
        backbone: the paper's is ``'resnet18'``.
        output_stride: of the backbone; the paper's is 32.
        aux: an auxiliary head on the last tap but one.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("AttaNet",)
    mxnetseg_prefixes = {"head.seg.": "head.", "head.": ""}
    needs_batch = 2  # the fusion's weights come through the norm of a map of one place

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 32, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.afm = AttentionFusion(128, high_channels=c4.channels, low_channels=c3.channels, **norm)
            self.conv3x3 = ConvModule2d(128, 3, in_channels=128, **norm)
            self.sam = StripAttention(128, **norm)
            self.head = FCNHead(nclass, 128, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.sam(self.conv3x3(self.afm(c4, c3))))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)


class AttentionFusion(nn.HybridBlock):
    """Attention fusion module: a weight w in (0, 1) a channel, learned from both maps, balances them.

        y = w * high + (1 - w) * low

    high: (N, high_channels, h, w), low: (N, low_channels, H, W) -> (N, channels, H, W).

    Args:
        channels: of the output.
        high_channels, low_channels: of the coarse and the fine map.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, high_channels: int, low_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv3x3_high = ConvModule2d(channels, 3, in_channels=high_channels, **norm)
            self.conv3x3_low = ConvModule2d(channels, 3, in_channels=low_channels, **norm)
            self.conv1x1_1 = ConvModule2d(channels, 1, in_channels=high_channels + channels, **norm)
            self.conv1x1_2 = ConvModule2d(channels, 1, in_channels=channels, activation="sigmoid", **norm)

    def hybrid_forward(self, F, high, low):
        low = self.conv3x3_low(low)
        both = F.concat(resize(F, high, low, align_corners=True), low, dim=1)
        weight = self.conv1x1_2(F.contrib.AdaptiveAvgPooling2D(self.conv1x1_1(both), output_size=1))
        high = F.broadcast_mul(self.conv3x3_high(high), weight)
        return resize(F, high, low, align_corners=True) + F.broadcast_mul(low, 1 - weight)


class StripAttention(nn.HybridBlock):
    """Strip attention module: every place looks at the means of the columns, not at every other place.

    With keys k and values v averaged over the height, W of each:

        s_jw = softmax_w(q_j . k_w),    y_j = sum_w s_jw v_w + x_j

    so the attention map has H W W entries an image where full self-attention has (H W)^2.
    x: (N, channels, H, W) -> same.

    Args:
        channels: of the map; queries and keys have half as many.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.query_conv = ConvModule2d(channels // 2, 1, in_channels=channels, **norm)
            self.key_conv = ConvModule2d(channels // 2, 1, in_channels=channels, **norm)
            self.value_conv = ConvModule2d(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, x):
        query = F.reshape(wide(F, self.query_conv(x)), (0, 0, -1))  # (N, C / 2, H W)
        key = F.mean(wide(F, self.key_conv(x)), axis=2)  # (N, C / 2, W)
        value = F.mean(wide(F, self.value_conv(x)), axis=2)  # (N, C, W)
        attention = F.softmax(F.batch_dot(query, key, transpose_a=True), axis=-1)  # (N, H W, W)
        attended = F.batch_dot(value, attention, transpose_b=True)
        return F.reshape_like(as_type_of(F, attended, x), x) + x
