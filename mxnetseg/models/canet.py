"""CANet: attention-guided chained context aggregation.

A chain of context modules at five scales, each of which reads the result of the one before.

Source: Tang, Liu, Zhang, Jiang & Zhang, Image and Vision Computing 2021.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import GlobalFlow
from ..nn.pool import pool_by
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class CANet(SegModel):
    """CANet: context at five scales, each computed from the one before, and the decoder of DeepLabv3+.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As MXNetSeg's CANetv1, without the attention in the paper's feature selection. CANetv1 accepts only backbones with
    2048 channels and images whose sides are multiples of 8 and at least 128 pixels; this network accepts any backbone
    with four taps and any size. A side of n pixels is pooled to n // 2, n // 4, n // 8 and n // 16 pixels, at least 1.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("CANetv1",)
    mxnetseg_prefixes = {"head.seg_head.": "head.", "head.gp.": "global_flow.",
                         **{f"head.cp{i + 1}.": f"flows.{i}." for i in range(4)}, "head.": ""}
    needs_batch = 2  # the global flow normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c1, _, c3, c4 = four_taps(self.backbone, backbone)

        with self.name_scope():
            self.global_flow = GlobalFlow(512, in_channels=c4.channels, **norm)
            self.flows = nn.HybridSequential()
            for factor in (2, 4, 8, 16):
                self.flows.add(ContextFlow(512, factor, in_channels=c4.channels, **norm))
            self.proj = ConvModule2d(256, 3, in_channels=512, **norm)
            self.drop = nn.Dropout(0.1)
            self.decoder = ConvModule2d(48, 3, in_channels=c1.channels, **norm)
            self.conv3x3 = ConvModule2d(256, 3, in_channels=256 + 48, **norm)
            self.head = FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, _, c3, c4 = self.backbone(x)
        contexts = [self.global_flow(c4)]
        for flow in self.flows:
            contexts.append(flow(c4, contexts[-1]))

        y = self.drop(self.proj(F.add_n(*contexts)))
        low = self.decoder(c1)
        y = self.conv3x3(F.concat(resize(F, y, low, align_corners=True), low, dim=1))
        outputs = [self.head(y)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)


class SeparableConv(nn.HybridBlock):
    """Depthwise 3x3 convolution and 1x1 convolution, each with norm and ReLU.

    x: (N, in_channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.depthwise = ConvModule2d(in_channels, 3, groups=in_channels, in_channels=in_channels, **norm)
            self.pointwise = ConvModule2d(channels, 1, in_channels=in_channels, **norm)

    def hybrid_forward(self, F, x):
        return self.pointwise(self.depthwise(x))


class ContextFlow(nn.HybridBlock):
    """Context flow: the features and the previous context, pooled, convolved and resized back.

    x: (N, in_channels, H, W), context: (N, channels, H, W) -> (N, channels, H, W).

    Args:
        channels: channels of the context.
        factor: ratio of the features' size to the pooled map's.
        in_channels: channels of the features.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, factor: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._factor = factor
        with self.name_scope():
            self.conv1 = SeparableConv(channels, in_channels=in_channels + channels, **norm)
            self.conv2 = SeparableConv(channels, in_channels=channels, **norm)

    def hybrid_forward(self, F, x, context):
        y = pool_by(F, F.concat(x, context, dim=1), self._factor)
        return resize(F, self.conv2(self.conv1(y)), x, align_corners=True)
