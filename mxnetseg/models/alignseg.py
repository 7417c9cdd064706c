"""AlignSeg: feature-aligned segmentation networks. Huang, Wei, Wang, Shi, Liu & Huang, TPAMI 2021.

A feature pyramid that warps its maps by learned displacements before it adds them.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import resize
from ..nn.warp import warp
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class AlignSeg(SegModel):
    """AlignSeg: feature pyramid whose maps are aligned by learned displacements before they are added.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: the maps are joined from the finest to the coarsest, all at stride 4, and the context module pools
    to one grid of 3x3 cells.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32 (the paper's).
        aux: an auxiliary head on the last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("AlignSeg",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 32, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.align_cm = AlignedContext(256, in_channels=c4.channels, **norm)
            self.align_1 = AlignedStep(256, high_channels=c2.channels, low_channels=c1.channels, **norm)
            self.align_2 = AlignedStep(256, high_channels=c3.channels, low_channels=256, **norm)
            self.align_3 = AlignedStep(256, high_channels=c4.channels, low_channels=256, **norm)
            self.align_4 = AlignedStep(256, high_channels=512, low_channels=256, **norm)
            self.rcb = ResidualConv(256, in_channels=256, **norm)
            self.head = FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c4.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        y = self.align_1(c2, c1)
        y = self.align_2(c3, y)
        y = self.align_3(c4, y)
        y = self.align_4(self.align_cm(c4), y)
        outputs = [self.head(self.rcb(y))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c4))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)


class ResidualConv(nn.HybridBlock):
    """1x1 convolution, followed by a residual block of two 3x3 convolutions.

    x: (N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        channels, in_channels: output and input channels.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        with self.name_scope():
            self.conv1x1 = nn.Conv2D(channels, 1, in_channels=in_channels, use_bias=False)
            self.conv3x3_1 = ConvModule2d(channels // 4, 3, in_channels=channels,
                                          norm_layer=norm_layer, norm_kwargs=norm_kwargs)
            self.conv3x3_2 = nn.Conv2D(channels, 3, padding=1, in_channels=channels // 4, use_bias=False)
            self.bn = norm_layer(in_channels=channels, **(norm_kwargs or {}))

    def hybrid_forward(self, F, x):
        x = self.conv1x1(x)
        return F.relu(self.bn(x + self.conv3x3_2(self.conv3x3_1(x))))


def _flow(flow_channels: int, in_channels: int, norm: Mapping) -> nn.HybridSequential:
    """Build the layers that compute displacements in pixels from two concatenated maps."""
    layers = nn.HybridSequential()
    layers.add(ConvModule2d(256, 1, in_channels=in_channels, **norm),
               nn.Conv2D(flow_channels, 3, padding=1, in_channels=256, use_bias=False))
    return layers


class AlignedStep(nn.HybridBlock):
    """Aligned feature aggregation: warp both maps by learned displacements, and add them.

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
            self.rcb_1 = ResidualConv(channels, in_channels=high_channels, **norm)
            self.rcb_2 = ResidualConv(channels, in_channels=low_channels, **norm)
            self.align = FeatureAlignment(channels, **norm)

    def hybrid_forward(self, F, high, low):
        low = self.rcb_2(low)
        return self.align(resize(F, self.rcb_1(high), low, align_corners=True), low)


class FeatureAlignment(nn.HybridBlock):
    """Two maps, each warped by its own flow, and added.

    high, low: (N, channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        with self.name_scope():
            self.delta = _flow(4, 2 * channels, norm_options(norm_layer, norm_kwargs))

    def hybrid_forward(self, F, high, low):
        low_flow, high_flow = F.split(self.delta(F.concat(high, low, dim=1)), num_outputs=2, axis=1)
        return warp(F, low, low_flow) + warp(F, high, high_flow)


class AlignedContext(nn.HybridBlock):
    """Aligned context modelling: the means of 3x3 cells, resized and warped, concatenated with a 3x3 convolution's map.

    x: (N, in_channels, H, W) -> (N, 2 * channels, H, W).

    Args:
        channels: channels of each half of the output.
        in_channels: input channels.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv1x1 = ConvModule2d(channels, 1, in_channels=in_channels, **norm)
            self.conv3x3 = ConvModule2d(channels, 3, in_channels=in_channels, **norm)
            self.delta = _flow(2, 2 * channels, norm)

    def hybrid_forward(self, F, x):
        context = self.conv1x1(F.contrib.AdaptiveAvgPooling2D(x, output_size=3))
        context = resize(F, context, x, align_corners=True)
        local = self.conv3x3(x)
        flow = self.delta(F.concat(context, local, dim=1))
        return F.concat(warp(F, context, flow), local, dim=1)
