"""Context modules, which give each position information from far away in the image."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import contrib, nn

from .blocks import ConvModule2d, SeparableConv2d
from .resize import resize


class GlobalFlow(nn.HybridBlock):
    """Image-level context: global pooling, 1x1 convolution, norm, ReLU, and the result copied to every position.

    x: (N, in_channels, H, W) -> (N, channels, H, W), constant over H and W.

    The norm sees a single value per image and channel. In training, MXNet's batch norm therefore gives zeros for a
    batch of one.

    Args:
        channels, in_channels: output and input channels.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        with self.name_scope():
            self.conv1x1 = ConvModule2d(channels, 1, in_channels=in_channels,
                                        norm_layer=norm_layer, norm_kwargs=norm_kwargs)

    def hybrid_forward(self, F, x):
        mean = self.conv1x1(F.contrib.AdaptiveAvgPooling2D(x, output_size=1))
        return resize(F, mean, x, align_corners=True)


class PPM(nn.HybridBlock):
    """Pyramid pooling module: Zhao et al., CVPR 2017, section 3.2.

    The input is averaged over grids of several sizes. Each grid is projected by a 1x1 convolution with norm
    and ReLU, resized to the input's size and concatenated with the input.

    x: (N, in_channels, H, W) -> (N, in_channels + len(bins) * channels, H, W), the input first. A grid
    of one cell needs a batch of at least two in training, like :class:`GlobalFlow`.

    Args:
        in_channels: input channels.
        channels: channels of each branch; by default ``in_channels // len(bins)``, so that the branches together
            have as many channels as the input.
        bins: cells on each side of each grid.
        align_corners: how branches are resized; see :func:`~mxnetseg.nn.resize.resize`.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, in_channels: int, *, channels: int | None = None,
                 bins: Sequence[int] = (1, 2, 3, 6), align_corners: bool = True, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        super().__init__()
        channels = channels or in_channels // len(bins)
        self.out_channels = in_channels + len(bins) * channels
        self._bins = tuple(bins)
        self._align_corners = align_corners
        with self.name_scope():
            for i in range(len(bins)):
                setattr(self, f"conv{i + 1}", ConvModule2d(channels, 1, in_channels=in_channels,
                                                           norm_layer=norm_layer, norm_kwargs=norm_kwargs))

    def hybrid_forward(self, F, x):
        features = [x]
        for i, cells in enumerate(self._bins):
            pooled = F.contrib.AdaptiveAvgPooling2D(x, output_size=cells)
            branch = getattr(self, f"conv{i + 1}")
            features.append(resize(F, branch(pooled), x, align_corners=self._align_corners))
        return F.concat(*features, dim=1)


class ASPP(nn.HybridBlock):
    """Atrous spatial pyramid pooling: Chen et al. 2017 (DeepLabv3), section 3.3.

    Parallel branches: a 1x1 convolution, a 3x3 convolution for each dilation rate, and the mean of the map, all with
    norm and ReLU. They are concatenated and projected by a 1x1 convolution.

    x: (N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        channels: channels of each branch and of the output.
        in_channels: input channels.
        rates: dilation of each 3x3 convolution.
        image_pool: add a branch with the mean of the map (see :class:`GlobalFlow`).
        separable: make the 3x3 convolutions separable (Chen et al. 2018, DeepLabv3+, section 3.1).
        projection_size: kernel size of the projection; 0: no projection, so that the output has all
            branches' channels.
        drop: dropout probability after the projection.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, rates: Sequence[int], image_pool: bool = True,
                 separable: bool = False, projection_size: int = 1, drop: float = 0.5,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        convolution = SeparableConv2d if separable else ConvModule2d
        with self.name_scope():
            self.branches = contrib.nn.HybridConcurrent(axis=1)
            self.branches.add(ConvModule2d(channels, 1, in_channels=in_channels, **norm))
            for rate in rates:
                self.branches.add(convolution(channels, 3, dilation=rate, in_channels=in_channels, **norm))
            if image_pool:
                self.branches.add(GlobalFlow(channels, in_channels=in_channels, **norm))
            self.projection = None
            if projection_size:
                self.projection = ConvModule2d(channels, projection_size, in_channels=len(self.branches) * channels,
                                               **norm)
            self.drop = nn.Dropout(drop) if drop else None

    def hybrid_forward(self, F, x):
        x = self.branches(x)
        if self.projection is not None:
            x = self.projection(x)
        return self.drop(x) if self.drop is not None else x
