"""Fusion modules of decoders: coarse and fine maps, two paths, a map and its channel means."""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from .blocks import ConvModule2d
from .resize import resize


class LateralFusion(nn.HybridBlock):
    """One step of a ladder: project the fine map, resize and add the coarse map, apply a 3x3 convolution.

    high: (N, channels, h, w), low: (N, in_channels, H, W) -> (N, channels, H, W).

    It is the upsampling module of SwiftNet (Orsic et al. 2019), the transition-up of LadderDenseNet
    (Kreso et al. 2017) and the lateral connection of FPN (Lin et al. 2017, figure 3).

    Args:
        channels: channels of the coarse map and of the output.
        in_channels: channels of the fine map.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        with self.name_scope():
            self.conv1x1 = ConvModule2d(channels, 1, in_channels=in_channels, **norm)
            self.conv3x3 = ConvModule2d(channels, 3, in_channels=channels, **norm)

    def hybrid_forward(self, F, high, low):
        low = self.conv1x1(low)
        return self.conv3x3(low + resize(F, high, low, align_corners=True))


class AttentionRefinement(nn.HybridBlock):
    """BiSeNet's attention refinement module: Yu et al. 2018, figure 2 (b).

    A 3x3 convolution, whose channels are then weighted by a function of their means.

    x: (N, in_channels, H, W) -> (N, channels, H, W). The norm after the mean sees one value per image
    and channel, so training needs at least two images on a device.

    Args:
        channels, in_channels: output and input channels.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        with self.name_scope():
            self.conv3x3 = ConvModule2d(channels, 3, in_channels=in_channels, **norm)
            self.conv1x1 = ConvModule2d(channels, 1, in_channels=channels, activation="sigmoid", **norm)

    def hybrid_forward(self, F, x):
        x = self.conv3x3(x)
        weight = self.conv1x1(F.contrib.AdaptiveAvgPooling2D(x, output_size=1))
        return F.broadcast_mul(x, weight)


class FeatureFusion(nn.HybridBlock):
    """BiSeNet's feature fusion module: Yu et al. 2018, figure 2 (c).

    Two maps of one size are concatenated and projected to f. The output is f + f * w, where w is computed
    from the channel means of f by two 1x1 convolutions, or by one (mmsegmentation).

    low: (N, C1, H, W), high: (N, C2, H, W) -> (N, channels, H, W). Training needs at least two
    images on a device, as for :class:`AttentionRefinement`.

    Args:
        channels: output channels.
        in_channels: C1 + C2.
        convs: number of convolutions on the means: 2 or 1.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, convs: int = 2, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        with self.name_scope():
            self.proj = ConvModule2d(channels, 1, in_channels=in_channels, **norm)
            self.conv1x1_1 = ConvModule2d(channels, 1, in_channels=channels, **norm)
            self.conv1x1_2 = (nn.Activation("sigmoid") if convs == 1 else
                              ConvModule2d(channels, 1, in_channels=channels, activation="sigmoid", **norm))

    def hybrid_forward(self, F, low, high):
        f = self.proj(F.concat(low, high, dim=1))
        weight = self.conv1x1_2(self.conv1x1_1(F.contrib.AdaptiveAvgPooling2D(f, output_size=1)))
        return F.broadcast_mul(f, 1 + weight)
