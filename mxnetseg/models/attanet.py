"""AttaNet, attention-augmented network: Song, Mei & Huang, AAAI 2021.

Fuses two scales with attention, and attends to the means of columns instead of to every pixel.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.precision import as_type_of, to_float32
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class AttaNet(SegModel):
    """AttaNet: attention fusion of the last two taps, followed by strip attention.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: there is one fusion, and its result keeps the stride of the second-to-last tap.

    Args:
        nclass: number of classes.
        backbone: the paper's is ``'resnet18'``.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32 (the paper's).
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("AttaNet",)
    mxnetseg_prefixes = {"head.seg.": "head.", "head.": ""}
    needs_batch = 2  # the fusion's weights are computed from a normalised 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 32, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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
    """Attention fusion module: weighted mean of two maps, with a weight w in (0, 1) per channel computed from both.

        y = w * high + (1 - w) * low

    high: (N, high_channels, h, w), low: (N, low_channels, H, W) -> (N, channels, H, W).

    Args:
        channels: output channels.
        high_channels, low_channels: channels of the coarse and the fine map.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, high_channels: int, low_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
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
    """Strip attention module: every pixel attends to the means of the columns instead of to every pixel.

    With the W keys k and values v that are means over the height:

        s_jw = softmax_w(q_j . k_w),    y_j = sum_w s_jw v_w + x_j

    So the attention map has H W W entries per image, whereas full self-attention has (H W)^2.
    x: (N, channels, H, W) -> same.

    Args:
        channels: channels of the map; queries and keys have half as many.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.query_conv = ConvModule2d(channels // 2, 1, in_channels=channels, **norm)
            self.key_conv = ConvModule2d(channels // 2, 1, in_channels=channels, **norm)
            self.value_conv = ConvModule2d(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, x):
        query = F.reshape(to_float32(F, self.query_conv(x)), (0, 0, -1))  # (N, C / 2, H W)
        key = F.mean(to_float32(F, self.key_conv(x)), axis=2)  # (N, C / 2, W)
        value = F.mean(to_float32(F, self.value_conv(x)), axis=2)  # (N, C, W)
        attention = F.softmax(F.batch_dot(query, key, transpose_a=True), axis=-1)  # (N, H W, W)
        attended = F.batch_dot(value, attention, transpose_b=True)
        return F.reshape_like(as_type_of(F, attended, x), x) + x
