"""FlatteNet: a simple and versatile framework for dense pixel prediction. Cai & Pu, IEEE Access 2019.

Recovers resolution without a decoder: the channels of each pixel of a coarse map become a tile of finer pixels.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..errors import UnknownNameError
from ..nn.blocks import ConvModule2d
from ..nn.precision import as_type_of, to_float32
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import BACKBONES, get_backbone
from .weights.pytorch import gluon_name

CONTEXTS = ("ppm", "attention")


class FlatteNet(SegModel):
    """FlatteNet: two heads that rearrange the channels of coarse maps to tiles of finer pixels.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    The head on stage 4 produces tiles of 4x4 pixels and the head on stage 3 tiles of 2x2, so both maps have stride 8.
    The logits are the first map plus a learned multiple of the second, initially 0. The original accepts only sides
    that are multiples of 32; here the second map is resized to the first where their sizes differ.

    Args:
        nclass: number of classes.
        backbone: ``'resnet50'``, ``'resnet101'`` (the original's) or ``'resnet152'``, each as ResNet v1e.
        context: ``'ppm'`` (pyramid pooling) or ``'attention'``.
        aux_bins: sides of the pooling grids of the head on stage 3; (1, 2, 3, 6) for Pascal-Context, (1, 2, 4, 8) for
            VOC.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown context module or backbone.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map
    structures = ({"context": "ppm"}, {"context": "attention"})
    zero_gradient_at_start = ("second_head.*",)  # multiplied by alpha, which starts at 0

    def __init__(self, *, nclass: int, backbone: str = "resnet101", context: str = "ppm",
                 aux_bins: Sequence[int] = (1, 2, 3, 6), norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        if context not in CONTEXTS:
            raise UnknownNameError("context module of FlatteNet", context, CONTEXTS)
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(f"{BACKBONES.resolve(backbone)}_v1e", **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        attend = context == "attention"

        with self.name_scope():
            # groups: numbers of groups of the two convolutions in each layer
            self.head = FlattenHead(nclass, c4.channels, tile=4, expand=2, groups=((64, 64), (64, 64)),
                                    bins=None if attend else (1, 2, 3, 5), **norm)
            self.second_head = FlattenHead(nclass, c3.channels, tile=2, expand=1, groups=((32, 64), (64, 32)),
                                           bins=None if attend else tuple(aux_bins), **norm)
            self.alpha = self.params.get("alpha", shape=(1,), init="zeros")

    def hybrid_forward(self, F, x, alpha):
        c3, c4 = self.backbone(x)[-2:]
        fine = self.head(c4)
        second = resize(F, self.second_head(c3), fine, align_corners=False)
        logits = fine + F.broadcast_mul(second, F.reshape(alpha, (1, 1, 1, 1)))
        return (resize(F, logits, x, align_corners=False),)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the original's checkpoints, or None if this network does not have it.

        Args:
            name: name in the checkpoint, without the prefix ``model.``.
        """
        if name == "head_alpha_nwd":
            return "alpha"

        # backbone
        name = name.replace("base.", "backbone.", 1) if name.startswith("base.") else name
        for theirs, ours in (("conv1.conv1", "conv1.0"), ("conv1.norm1", "conv1.1"), ("conv1.conv2", "conv1.3"),
                             ("conv1.norm2", "conv1.4"), ("conv1.conv3", "conv1.6")):
            name = name.replace(f"backbone.{theirs}.", f"backbone.{ours}.")
        # here the pooling is the first layer of a shortcut
        name = re.sub(r"(\.0\.downsample)\.(conv|norm)", lambda m: f"{m[1]}.{'12'[m[2] == 'norm']}", name)

        # heads
        name = re.sub(r"^aux_head\.", "second_head.", name)
        name = name.replace(".flatten.ctx_module.", ".context.").replace(".flatten.", ".")
        name = re.sub(r"\.conv([12])\.(?=\w+$)", r".conv\1.conv.", name) if ".layers." in name else name
        name = re.sub(r"\.norm([12])\.(?=\w+$)", r".conv\1.bn.", name) if ".layers." in name else name
        name = name.replace(".norm.", ".bn.") if ".context." in name else name
        return gluon_name(self.named_parameters(), name)


class FlattenHead(nn.HybridBlock):
    """Flattening module and classifier: section III of the paper.

    x: (N, channels, h, w) -> logits (N, nclass, tile h, tile w).

    Args:
        nclass: number of classes.
        channels: input channels.
        tile: side of the tile of pixels that each pixel becomes.
        expand: factor of the channels in the second layer.
        groups: numbers of groups of the two convolutions in each layer.
        bins: sides of the grids of pyramid pooling as context; None: self-attention.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, nclass: int, channels: int, *, tile: int, expand: int, groups: Sequence[Sequence[int]],
                 bins: Sequence[int] | None, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._tile = tile
        width = 2 * channels
        with self.name_scope():
            self.context = PyramidPooling(channels, bins, **norm) if bins else SelfAttention(channels, **norm)
            self.layers = nn.HybridSequential()
            for (first, second), factor in zip(groups, (1, expand)):
                self.layers.add(InterleavedGroupConvs(width, factor * width, first, second, **norm))
            self.drop = nn.Dropout(0.1, axes=(2, 3))
            self.pred = nn.Conv2D(nclass, 1, in_channels=expand * width // tile ** 2)

    def hybrid_forward(self, F, x):
        x = self.layers(F.concat(x, self.context(x), dim=1))
        return self.pred(self.drop(F.depth_to_space(x, self._tile)))


class InterleavedGroupConvs(nn.HybridBlock):
    """Two grouped 1x1 convolutions, with the channels shuffled across the groups in between.

    x: (N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        in_channels, channels: input and output channels.
        first, second: number of groups of each convolution.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, in_channels: int, channels: int, first: int, second: int, *, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._groups = first
        with self.name_scope():
            self.conv1 = ConvModule2d(in_channels, 1, groups=first, in_channels=in_channels, activation=None, **norm)
            self.conv2 = ConvModule2d(channels, 1, groups=second, in_channels=in_channels, **norm)

    def hybrid_forward(self, F, x):
        x = F.reshape(self.conv1(x), (0, -4, self._groups, -1, -2))  # (N, groups, C / groups, H, W)
        return self.conv2(F.reshape(F.swapaxes(x, 1, 2), (0, -3, -2)))


class PyramidPooling(nn.HybridBlock):
    """Pyramid pooling without the input in the result: (N, C, H, W) -> (N, C, H, W), an equal part of C per grid."""

    def __init__(self, channels: int, bins: Sequence[int], *, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        self._bins = tuple(bins)
        with self.name_scope():
            self.branches = nn.HybridSequential()
            for _ in bins:
                self.branches.add(ConvModule2d(channels // len(bins), 1, in_channels=channels, norm_layer=norm_layer,
                                               norm_kwargs=norm_kwargs))

    def hybrid_forward(self, F, x):
        return F.concat(*(resize(F, branch(F.contrib.AdaptiveAvgPooling2D(x, output_size=cells)), x,
                                 align_corners=False)
                          for branch, cells in zip(self.branches, self._bins)), dim=1)


class SelfAttention(nn.HybridBlock):
    """Self-attention between pixels, scaled by the root of the keys' channels, without a residual connection.

    x: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, *, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._scale = (channels // 8) ** -0.5
        with self.name_scope():
            self.f_key = ConvModule2d(channels // 8, 1, in_channels=channels, **norm)
            self.f_query = ConvModule2d(channels // 8, 1, in_channels=channels, **norm)
            self.f_value = ConvModule2d(channels // 4, 1, in_channels=channels, **norm)
            self.W = ConvModule2d(channels, 1, in_channels=channels // 4, **norm)

    def hybrid_forward(self, F, x):
        value = self.f_value(x)
        query, key, flat = (F.reshape(to_float32(F, y), (0, 0, -1)) for y in (self.f_query(x), self.f_key(x), value))
        attention = F.softmax(F.batch_dot(query, key, transpose_a=True) * self._scale, axis=-1)  # (N, HW, HW)
        attended = as_type_of(F, F.batch_dot(flat, attention, transpose_b=True), value)
        return self.W(F.reshape_like(attended, value))
