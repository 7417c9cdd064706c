"""Fast-SCNN: fast semantic segmentation network. Poudel, Liwicki & Cipolla, BMVC 2019.

A deep branch at a low resolution and a shortcut, both after the same few strided convolutions.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d, FCNHead, SeparableConv2d, classifier
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._mmseg import mmseg_name
from .backbones._base import Backbone, Tap


class FastSCNN(SegModel):
    """Fast-SCNN: a deep branch and a shortcut on shared strided convolutions, joined at stride 8 (table 1, figure 1).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits of the deep branch
    and of the shared convolutions.

    As in mmsegmentation, whose weights it reads, a 3x3 convolution follows the pyramid pooling.

    Args:
        nclass: number of classes.
        aux: auxiliary heads on the outputs of the global feature extractor and of the shared convolutions; the weight
            of their losses is ``loss.aux_weight`` of the configuration (0.4 in section 4.2).
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, aux: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(Encoder(**norm), nclass)
        high, low = self.backbone.taps

        with self.name_scope():
            self.fusion = Fusion(128, high_channels=high.channels, low_channels=low.channels, **norm)
            self.convs = nn.HybridSequential()
            self.convs.add(*(SeparableConv2d(128, in_channels=128, depthwise_activation=None, **norm)
                             for _ in range(2)))
            self.head = classifier(nclass, 128)
            self.aux_heads = None
            if aux:
                self.aux_heads = nn.HybridSequential()
                self.aux_heads.add(*(FCNHead(nclass, tap.channels, channels=32, **norm) for tap in (low, high)))

    def hybrid_forward(self, F, x):
        high, low = self.backbone(x)
        outputs = [self.head(self.convs(self.fusion(high, low)))]
        if self.aux_heads is not None:
            outputs += [self.aux_heads[0](low), self.aux_heads[1](high)]
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of section 4.2: both auxiliary losses have the same weight."""
        count = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss), *(Term(k + 1, aux_weight, pixel_loss) for k in range(count))]

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"^backbone\.learning_to_downsample\.(?:ds)?conv(\d?)\.":
                lambda found: f"backbone.downsample.{found[1] or 0}.",
            r"\.(depth|point)wise_conv\.": r".\1wise.",
            r"^backbone\.global_feature_extractor\.bottleneck(\d)\.(\d)\.conv\.(\d)\.":
                lambda found: (f"backbone.bottlenecks.{3 * (int(found[1]) - 1) + int(found[2])}."
                               + ("expand.", "depthwise.", "project.")[int(found[3])]),
            r"^backbone\.global_feature_extractor\.ppm\.": "backbone.psp_modules.",
            r"^backbone\.psp_modules\.(\d)\.1\.": lambda found: f"backbone.ppm.conv{int(found[1]) + 1}.",
            r"^backbone\.global_feature_extractor\.out\.": "backbone.out.",
            r"^backbone\.feature_fusion\.dwconv\.": "fusion.depthwise.",
            r"^backbone\.feature_fusion\.conv_(low|high)er_res\.": r"fusion.\1.",
            r"^decode_head\.convs\.": "convs.", r"^decode_head\.conv_seg\.": "head.1.",
            r"^auxiliary_head\.(\d)\.convs\.0\.": r"aux_heads.\1.conv1.",
            r"^auxiliary_head\.(\d)\.conv_seg\.": r"aux_heads.\1.conv2."})


class Encoder(Backbone):
    """The paper's "learning to downsample" and "global feature extractor": sections 3.2.1 and 3.2.2, table 1.

    Taps: 64 channels at stride 8, 128 at stride 32.

    Args:
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, norm_layer: type, norm_kwargs: Mapping | None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__((), [Tap(64, 8), Tap(128, 32)])

        with self.name_scope():
            self.downsample = nn.HybridSequential()
            self.downsample.add(ConvModule2d(32, 3, 2, in_channels=3, **norm))
            for channels, in_channels in ((48, 32), (64, 48)):
                self.downsample.add(SeparableConv2d(channels, 3, 2, in_channels=in_channels,
                                                    depthwise_activation=None, **norm))
            self.bottlenecks = nn.HybridSequential()
            in_channels = 64
            for channels, strides in ((64, 2), (96, 2), (128, 1)):
                for i in range(3):
                    self.bottlenecks.add(Bottleneck(channels, 1 if i else strides, in_channels=in_channels, **norm))
                    in_channels = channels
            self.ppm = PPM(128, align_corners=False, **norm)
            self.out = ConvModule2d(128, 3, in_channels=self.ppm.out_channels, **norm)

    def hybrid_forward(self, F, x):
        high = self.downsample(x)
        return [high, self.out(self.ppm(self.bottlenecks(high)))]


class Bottleneck(nn.HybridBlock):
    """MobileNetV2's inverted residual with an expansion of 6: table 2 of the paper.

    x: (N, in_channels, H, W) -> (N, channels, H / strides, W / strides), sizes rounded up.
    """

    def __init__(self, channels: int, strides: int, *, in_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        expanded = 6 * in_channels
        self._shortcut = strides == 1 and channels == in_channels
        with self.name_scope():
            self.expand = ConvModule2d(expanded, 1, in_channels=in_channels, **norm)
            self.depthwise = ConvModule2d(expanded, 3, strides, groups=expanded, in_channels=expanded, **norm)
            self.project = ConvModule2d(channels, 1, in_channels=expanded, activation=None, **norm)

    def hybrid_forward(self, F, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self._shortcut else y


class Fusion(nn.HybridBlock):
    """Feature fusion module: the coarse map, resized and convolved, plus the fine map. Section 3.2.3, table 3.

    high: (N, high_channels, H, W), low: (N, low_channels, h, w) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, high_channels: int, low_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.depthwise = ConvModule2d(low_channels, 3, groups=low_channels, in_channels=low_channels, **norm)
            self.low = ConvModule2d(channels, 1, in_channels=low_channels, activation=None, **norm)
            self.high = ConvModule2d(channels, 1, in_channels=high_channels, activation=None, **norm)

    def hybrid_forward(self, F, high, low):
        low = self.low(self.depthwise(resize(F, low, high, align_corners=False)))
        return F.relu(self.high(high) + low)
