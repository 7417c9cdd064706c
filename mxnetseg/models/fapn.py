"""FaPN: feature-aligned pyramid network. Huang, Lu, Cheng & He, ICCV 2021.

A feature pyramid that aligns its coarse maps by deformable convolution before it adds them.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import resize
from ..nn.warp import DeformableConv3x3
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class FaPN(SegModel):
    """FaPN: feature pyramid with channel selection on the fine map and deformable alignment of the coarse map.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: a ReLU follows the selection; norm and ReLU follow the convolution that prepares the offsets; and
    the deformable convolution reads this map together with the coarse map (in the authors' code only the offsets are
    computed from it). Unlike MXNetSeg's, this network can be trained on a CPU.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32 (the paper's).
        operator: use MXNet's operator for deformable convolution, which needs less memory, but does not train on a CPU.
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("FaPN",)
    mxnetseg_prefixes = {**{f"head.align_c{i}.fsm.conv2.conv.": f"align_c{i}.fsm.conv2." for i in (1, 2, 3)},
                         "head.conv.": "conv_c4.", "head.seg.": "head.", "head.": ""}
    needs_batch = 2  # the selection normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 32, operator: bool = False,
                 aux: bool = False, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.conv_c4 = ConvModule2d(256, 1, in_channels=c4.channels, **norm)
            self.align_c3 = FeatureAlignment(256, in_channels=c3.channels, operator=operator, **norm)
            self.align_c2 = FeatureAlignment(256, in_channels=c2.channels, operator=operator, **norm)
            self.align_c1 = FeatureAlignment(256, in_channels=c1.channels, operator=operator, **norm)
            self.head = FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, channels=256, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        y = self.conv_c4(c4)
        y = self.align_c3(y, c3)
        y = self.align_c2(y, c2)
        y = self.align_c1(y, c1)
        outputs = [self.head(y)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)


class FeatureSelection(nn.HybridBlock):
    """Feature selection module: channels weighted by a function of their means, then a projection.

    x: (N, in_channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvModule2d(in_channels, 1, in_channels=in_channels, activation="sigmoid",
                                      norm_layer=norm_layer, norm_kwargs=norm_kwargs)
            self.conv2 = nn.Conv2D(channels, 1, in_channels=in_channels, use_bias=False, activation="relu")

    def hybrid_forward(self, F, x):
        weight = self.conv1(F.contrib.AdaptiveAvgPooling2D(x, output_size=1))
        return self.conv2(F.broadcast_mul(x, weight) + x)


class FeatureAlignment(nn.HybridBlock):
    """Feature alignment module: the coarse map, resampled at offsets computed from both maps, plus the fine map.

    high: (N, channels, h, w), low: (N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        channels: channels of the coarse map and of the output.
        in_channels: channels of the fine map.
        operator: see :class:`FaPN`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, operator: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.fsm = FeatureSelection(channels, in_channels=in_channels, **norm)
            self.offset = ConvModule2d(channels, 1, in_channels=2 * channels, **norm)
            self.align = DeformableConv3x3(channels, in_channels=2 * channels, groups=8, operator=operator)

    def hybrid_forward(self, F, high, low):
        low = self.fsm(low)
        high = resize(F, high, low, align_corners=True)
        offset = self.offset(F.concat(low, high, dim=1))
        return F.relu(self.align(F.concat(high, offset, dim=1))) + low
