"""SwiftNet, single scale: Orsic, Kreso, Bevandic & Segvic, CVPR 2019.

A pretrained ResNet, pyramid pooling, and a light decoder that adds finer feature maps step by step.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..errors import ConfigError
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import PPM
from ..nn.fusion import LateralFusion
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone


class SwiftNet(SegModel):
    """SwiftNet: pyramid pooling on the coarsest tap, and a ladder of light lateral fusions up to stride 4 (section 3).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: pooling grids of 1, 2, 3 and 6 cells a side, a ladder of 256 channels, a 3x3 convolution in the
    head, and no boundary-aware loss.

    Args:
        nclass: number of classes.
        backbone: any with four taps; ``'resnet18'`` in the paper.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32 (the paper's).
        decoder_channels: channels of the ladder and of the head, there at most 256: 256 as in MXNetSeg, 128 in the
            paper.
        head_conv: a 3x3 convolution in the head, as in MXNetSeg; False: one convolution of 1x1, as in the paper.
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("SwiftResNet",)
    mxnetseg_prefixes = {"head.ppool.": "ppm.", "head.seg_head.": "head.", "head.": ""}
    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 32,
                 decoder_channels: int = 256, head_conv: bool = True, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if not isinstance(decoder_channels, int) or decoder_channels < 1:
            raise ConfigError("decoder_channels must be an integer >= 1", where="model.options.decoder_channels",
                              received=repr(decoder_channels), fix="256, as in MXNetSeg, or 128, as in the paper")

        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c1, c2, c3, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.ppm = PPM(c4.channels, **norm)
            self.conv_c4 = ConvModule2d(decoder_channels, 1, in_channels=self.ppm.out_channels, **norm)
            self.fusion_c3 = LateralFusion(decoder_channels, in_channels=c3.channels, **norm)
            self.fusion_c2 = LateralFusion(decoder_channels, in_channels=c2.channels, **norm)
            self.fusion_c1 = LateralFusion(decoder_channels, in_channels=c1.channels, **norm)
            self.head = (FCNHead(nclass, decoder_channels, **norm) if head_conv
                         else nn.Conv2D(nclass, 1, in_channels=decoder_channels))
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        y = self.conv_c4(self.ppm(c4))
        y = self.fusion_c3(y, c3)
        y = self.fusion_c2(y, c2)
        y = self.fusion_c1(y, c1)
        outputs = [self.head(y)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
