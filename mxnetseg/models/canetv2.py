"""CANetv2 of MXNetSeg, a variant of CANet (Tang et al., Image and Vision Computing 2021).

Parallel encoder-decoders of three depths, mixed by learned weights.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import GlobalFlow
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class CANetv2(SegModel):
    """CANetv2: encoder-decoders of three depths on the last tap, mixed with the tap before by learned weights.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    MXNetSeg's network runs at output stride 8 only, where both taps have the same size; here the coarser maps are
    resized to the finer tap.

    Args:
        nclass: number of classes.
        backbone: any with two taps.
        output_stride: ratio of the input's size to the last tap's: 8 (MXNetSeg's), 16 or 32.
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("CANetv2",)
    mxnetseg_prefixes = {"head.seg.": "head.", "head.gap.": "global_flow.", "head.conv1.": "gate1.",
                         "head.conv2.": "gate2.", "head.": ""}
    needs_batch = 2  # the global flow normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]

        with self.name_scope():
            self.comp_c4 = ConvModule2d(512, 1, in_channels=c4.channels, **norm)
            self.comp_c3 = ConvModule2d(512, 1, in_channels=c3.channels, **norm)
            self.global_flow = GlobalFlow(48, in_channels=c4.channels, **norm)
            self.ed1 = EncoderDecoder(1, channels=512, **norm)
            self.ed2 = EncoderDecoder(2, channels=512, **norm)
            self.ed3 = EncoderDecoder(3, channels=512, **norm)
            self.gate1 = ConvModule2d(512, 1, in_channels=4 * 512, **norm)
            self.gate2 = ConvModule2d(4, 1, in_channels=512, activation=None, **norm)
            self.head = FCNHead(nclass, 512 + 48, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        fine, coarse = self.comp_c3(c3), self.comp_c4(c4)
        candidates = [resize(F, ed(coarse), fine, align_corners=True) for ed in (self.ed1, self.ed2, self.ed3)]
        candidates.append(fine)

        # (N, 4, H, W); at each pixel the four weights add up to 1
        weights = F.softmax(self.gate2(self.gate1(F.concat(*candidates, dim=1))), axis=1)
        weights = F.split(weights, num_outputs=4, axis=1)
        mixed = F.add_n(*[F.broadcast_mul(c, w) for c, w in zip(candidates, weights)])

        context = resize(F, self.global_flow(c4), fine, align_corners=True)
        outputs = [self.head(F.concat(mixed, context, dim=1))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)


class EncoderDecoder(nn.HybridBlock):
    """``depth`` strided bottlenecks, a 3x3 convolution, upsampling to the input's size, and a 1x1 convolution.

    x: (N, channels, H, W) -> same.

    Args:
        depth: number of bottlenecks; each halves the size.
        channels: input and output channels.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, depth: int, *, channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.encoder = nn.HybridSequential()
            for _ in range(depth):
                self.encoder.add(Bottleneck(channels, **norm))
            self.conv3x3 = ConvModule2d(channels, 3, in_channels=channels, **norm)
            self.conv1x1 = ConvModule2d(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, x):
        y = self.conv3x3(self.encoder(x))
        return self.conv1x1(resize(F, y, x, align_corners=True))


class Bottleneck(nn.HybridBlock):
    """Bottleneck with stride 2 and without activation after the sum.

    x: (N, channels, H, W) -> (N, channels, H / 2, W / 2), sizes rounded up.
    """

    def __init__(self, channels: int, *, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv1 = ConvModule2d(128, 1, in_channels=channels, **norm)
            self.conv2 = ConvModule2d(128, 3, 2, in_channels=128, **norm)
            self.conv3 = ConvModule2d(channels, 1, in_channels=128, **norm)
            self.conv4 = ConvModule2d(channels, 1, 2, in_channels=channels, activation=None, **norm)

    def hybrid_forward(self, F, x):
        return self.conv3(self.conv2(self.conv1(x))) + self.conv4(x)
