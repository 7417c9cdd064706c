"""DDRNet: deep dual-resolution networks for semantic segmentation of road scenes. Hong, Pan, Sun & Jia, 2021.

Two branches of different resolution exchange their feature maps; pyramid pooling adds context to the coarse branch.
PIDNet is built from the same parts.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..errors import UnknownNameError, canonical
from ..losses import Blend, Term
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones._base import Backbone, Tap
from .weights.pytorch import gluon_name

# variant -> channels C of the stem, channels inside the heads
VARIANTS = {"23-slim": (32, 64), "23": (64, 128)}


# patterns of names and their replacements, applied one after the other
Renames = Sequence[tuple[str, "str | Callable[[re.Match], str]"]]


class BranchedNetwork(SegModel):
    """Base class of DDRNet and PIDNet, which reads mmsegmentation's checkpoints of both.

    Attributes:
        mmseg_branches, mmseg_heads: mmsegmentation's names of the parts in which the two networks differ -> ours.
    """

    mmseg_branches: Renames = ()
    mmseg_heads: Renames = ()

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        for pattern, ours in [*self.mmseg_branches, *_MMSEG_STEM, *_MMSEG_PYRAMID, *self.mmseg_heads, *_MMSEG_BLOCKS]:
            name = re.sub(pattern, ours, name)
        return gluon_name(self.named_parameters(), name)

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with zeros for the biases of the stem's convolutions, which mmsegmentation lacks."""
        return _with_stem_biases(tensors) if form == "mmseg" else tensors


class DDRNet(BranchedNetwork):
    """DDRNet: branches at stride 8 and at strides 16 to 64 that exchange their maps twice (figure 4 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the fine branch after the
    first exchange.

    The original accepts only sizes that are multiples of 8; this network accepts any size, with equal results at those.

    Args:
        nclass: number of classes.
        variant: ``'23-slim'`` or ``'23'``.
        aux: a head on the fine branch (section III-D); the weight of its loss is ``loss.aux_weight`` of the
            configuration, 0.4 in the paper.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    needs_batch = 2  # DAPPM normalises a 1 x 1 map
    structures = tuple({"variant": variant} for variant in VARIANTS)
    mmseg_branches = (
        (r"^backbone\.context_branch_layers\.(\d)\.", lambda m: f"backbone.layer{int(m[1]) + 3}."),
        (r"^backbone\.spatial_branch_layers\.(\d)\.", lambda m: f"backbone.layer{int(m[1]) + 3}_."),
    )
    mmseg_heads = (
        (r"^decode_head\.head\.", "final_layer."), (r"^decode_head\.aux_head\.", "seghead_extra."),
        (r"^decode_head\.(?:conv|cls)_seg\.", "final_layer.conv2."),
        (r"^decode_head\.aux_cls_seg\.", "seghead_extra.conv2."),
        (r"^(final_layer|seghead_extra)\.0\.(?:bn|norm)\.", r"\1.bn1."),
        (r"^(final_layer|seghead_extra)\.0\.conv\.", r"\1.conv1."),
        (r"^(final_layer|seghead_extra)\.1\.", r"\1.bn2."),
    )

    def __init__(self, *, nclass: int, variant: str | int = "23-slim", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        channels, width = VARIANTS[choose_variant("DDRNet", variant, VARIANTS)]
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(DualResolution(channels, **norm), nclass)
        with self.name_scope():
            self.final_layer = PreActivationHead(nclass, 4 * channels, width, **norm)
            self.seghead_extra = PreActivationHead(nclass, 2 * channels, width, **norm) if aux else None

    def hybrid_forward(self, F, x):
        high3, joined = self.backbone(x)
        outputs = [self.final_layer(joined)]
        if self.seghead_extra is not None:
            outputs.append(self.seghead_extra(high3))
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of section III-D: the same loss on both heads, the auxiliary one with ``aux_weight``."""
        terms = [Term(0, 1.0, pixel_loss)]
        if self.seghead_extra is not None:
            terms.append(Term(1, aux_weight, pixel_loss))
        return terms

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the authors' checkpoints, or None if this network does not have it.

        Args:
            name: name in the checkpoint, without the prefix ``model.``.
        """
        if name.startswith(("loss.", "linear.", "last_layer.")):  # the training criterion, the ImageNet classifier
            return None
        is_head = name.startswith(("final_layer.", "seghead_extra."))
        return gluon_name(self.named_parameters(), name if is_head else f"backbone.{name}")


def choose_variant(network: str, variant: str | int, known: Iterable[str]) -> str:
    """Return the variant with this name; case and separators do not matter.

    Args:
        network: name of the network, for the error message.
        variant: the name.
        known: the variants.

    Raises:
        UnknownNameError: unknown variant.
    """
    by_canonical = {canonical(name): name for name in known}
    try:
        return by_canonical[canonical(str(variant))]
    except KeyError:
        raise UnknownNameError(f"variant of {network}:", str(variant), list(known)) from None


class DualResolution(Backbone):
    """Both branches, and pyramid pooling on the coarse branch: table I of the paper.

    x: (N, 3, H, W) -> [high3 (N, 2 C, H / 8, W / 8), joined (N, 4 C, H / 8, W / 8)], sizes rounded up. ``high3`` is the
    fine branch's map after the first exchange, ``joined`` the sum of both branches at the end.

    Args:
        channels: C, the channels of the stem.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, norm_layer: type, norm_kwargs: Mapping | None):
        norm = norm_options(norm_layer, norm_kwargs)
        c = channels
        super().__init__((), [Tap(2 * c, 8), Tap(4 * c, 8)])

        with self.name_scope():
            self.conv1 = stem(c, **norm)
            self.layer1 = stage(c, 2, in_channels=c, **norm)
            self.layer2 = stage(2 * c, 2, 2, in_channels=c, **norm)
            self.layer3 = stage(4 * c, 2, 2, in_channels=2 * c, **norm)
            self.layer3_ = stage(2 * c, 2, in_channels=2 * c, **norm)
            self.compression3 = linear_conv(2 * c, 1, in_channels=4 * c, **norm)
            self.down3 = linear_conv(4 * c, 3, 2, in_channels=2 * c, **norm)
            self.layer4 = stage(8 * c, 2, 2, in_channels=4 * c, **norm)
            self.layer4_ = stage(2 * c, 2, in_channels=2 * c, **norm)
            self.compression4 = linear_conv(2 * c, 1, in_channels=8 * c, **norm)
            self.down4 = linear_conv(4 * c, 3, 2, in_channels=2 * c, **norm)
            self.down4.add(nn.Activation("relu"), *linear_conv(8 * c, 3, 2, in_channels=4 * c, **norm))
            self.layer5 = bottlenecks(8 * c, 1, 2, in_channels=8 * c, **norm)
            self.layer5_ = bottlenecks(2 * c, 1, in_channels=2 * c, **norm)
            self.spp = DAPPM(128, 4 * c, in_channels=16 * c, **norm)

    def hybrid_forward(self, F, x):
        x = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        high3, low3 = self._exchange(F, self.layer3_(x), self.layer3(x), self.compression3, self.down3)
        high4, low4 = self._exchange(F, self.layer4_(F.relu(high3)), self.layer4(F.relu(low3)),
                                     self.compression4, self.down4)
        high5, low5 = self.layer5_(F.relu(high4)), self.layer5(F.relu(low4))
        return [high3, high5 + resize(F, self.spp(low5), high5, align_corners=False)]

    @staticmethod
    def _exchange(F, high, low, compression, down):
        """Return each branch's map plus the other branch's at the same size: figure 3 of the paper."""
        up = resize(F, compression(F.relu(low)), high, align_corners=False)
        return high + up, low + down(F.relu(high))


class DAPPM(nn.HybridBlock):
    """Deep aggregation pyramid pooling module: figure 5 and equation 1 of the paper.

    x: (N, in_channels, H, W) -> (N, channels, H, W).

    Args:
        branch_channels: channels of each of the five scales.
        channels, in_channels: output and input channels.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, branch_channels: int, channels: int, *, in_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.scale0 = pre_activation(branch_channels, in_channels=in_channels, **norm)
            for i in (1, 2, 3):  # windows of 5, 9 and 17 pixels; the padding's zeros count in the mean
                pool = nn.AvgPool2D(2 ** (i + 1) + 1, 2 ** i, 2 ** i)
                setattr(self, f"scale{i}", pre_activation(branch_channels, before=pool, in_channels=in_channels,
                                                          **norm))
            self.scale4 = pre_activation(branch_channels, before=nn.GlobalAvgPool2D(), in_channels=in_channels, **norm)
            self._add_processes(branch_channels, norm)
            self.compression = pre_activation(channels, in_channels=5 * branch_channels, **norm)
            self.shortcut = pre_activation(channels, in_channels=in_channels, **norm)

    def _add_processes(self, branch_channels: int, norm: Mapping) -> None:
        for i in range(1, 5):
            setattr(self, f"process{i}", pre_activation(branch_channels, 3, in_channels=branch_channels, **norm))

    def _upsampled(self, F, x):
        """Return the four coarser scales, resized to the size of ``x``."""
        return [resize(F, scale(x), x, align_corners=False)
                for scale in (self.scale1, self.scale2, self.scale3, self.scale4)]

    def hybrid_forward(self, F, x):
        scales = [self.scale0(x)]
        for coarse, process in zip(self._upsampled(F, x),
                                   (self.process1, self.process2, self.process3, self.process4)):
            scales.append(process(coarse + scales[-1]))
        return self.compression(F.concat(*scales, dim=1)) + self.shortcut(x)


class PreActivationHead(nn.HybridBlock):
    """Head with norms before the convolutions: norm, ReLU, 3x3 convolution, norm, ReLU, 1x1 convolution with bias.

    x: (N, in_channels, H, W) -> (N, outputs, H, W).
    """

    def __init__(self, outputs: int, in_channels: int, channels: int, *, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        with self.name_scope():
            self.bn1 = norm_layer(in_channels=in_channels, **(norm_kwargs or {}))
            self.conv1 = nn.Conv2D(channels, 3, padding=1, in_channels=in_channels, use_bias=False)
            self.bn2 = norm_layer(in_channels=channels, **(norm_kwargs or {}))
            self.conv2 = nn.Conv2D(outputs, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        return self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class ResidualBlock(nn.HybridBlock):
    """Basic block (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 with twice the channels): He et al. 2016, figure 5.

    x: (N, in_channels, H, W) -> (N, channels or 2 channels, H / strides, W / strides), sizes rounded up.

    Args:
        channels: channels of the convolutions; the last convolution of a bottleneck has twice as many.
        strides: stride of the first 3x3 convolution.
        in_channels: input channels.
        bottleneck: build a bottleneck instead of a basic block.
        activation: apply ReLU after the sum.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, strides: int = 1, *, in_channels: int, bottleneck: bool = False,
                 activation: bool = True, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        self._activation = activation
        if bottleneck:  # (channels, kernel, strides) of each convolution
            plan = [(channels, 1, 1), (channels, 3, strides), (2 * channels, 1, 1)]
        else:
            plan = [(channels, 3, strides), (channels, 3, 1)]
        self._depth, before = len(plan), in_channels

        with self.name_scope():
            for i, (width, kernel, step) in enumerate(plan, 1):
                setattr(self, f"conv{i}", nn.Conv2D(width, kernel, step, kernel // 2, in_channels=before,
                                                    use_bias=False))
                setattr(self, f"bn{i}", norm_layer(in_channels=width, **(norm_kwargs or {})))
                before = width
            self.downsample = None
            if strides != 1 or in_channels != before:
                self.downsample = linear_conv(before, 1, strides, in_channels=in_channels, norm_layer=norm_layer,
                                              norm_kwargs=norm_kwargs)

    def hybrid_forward(self, F, x):
        y = x
        for i in range(1, self._depth + 1):
            y = self._children[f"bn{i}"](self._children[f"conv{i}"](F.relu(y) if i > 1 else y))
        y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y) if self._activation else y


def stem(channels: int, *, norm_layer: type, norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build two strided 3x3 convolutions with bias, norm and ReLU: (N, 3, H, W) -> (N, channels, H / 4, W / 4)."""
    layers = nn.HybridSequential()
    for in_channels in (3, channels):
        layers.add(nn.Conv2D(channels, 3, 2, 1, in_channels=in_channels),
                   norm_layer(in_channels=channels, **(norm_kwargs or {})), nn.Activation("relu"))
    return layers


def stage(channels: int, blocks: int, strides: int = 1, *, in_channels: int, **norm) -> nn.HybridSequential:
    """Build a row of basic blocks, the last one without ReLU, which the caller applies."""
    layers = nn.HybridSequential()
    for i in range(blocks):
        layers.add(ResidualBlock(channels, 1 if i else strides, in_channels=channels if i else in_channels,
                                 activation=i < blocks - 1, **norm))
    return layers


def bottlenecks(channels: int, blocks: int, strides: int = 1, *, in_channels: int, **norm) -> nn.HybridSequential:
    """Build a row of bottlenecks without ReLU after the sum: (N, in_channels, H, W) -> (N, 2 channels, H, W)."""
    layers = nn.HybridSequential()
    for i in range(blocks):
        layers.add(ResidualBlock(channels, 1 if i else strides, in_channels=2 * channels if i else in_channels,
                                 bottleneck=True, activation=False, **norm))
    return layers


def linear_conv(channels: int, kernel_size: int, strides: int = 1, *, in_channels: int, norm_layer: type,
                norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build a convolution without bias, and a norm."""
    layers = nn.HybridSequential()
    layers.add(nn.Conv2D(channels, kernel_size, strides, kernel_size // 2, in_channels=in_channels, use_bias=False),
               norm_layer(in_channels=channels, **(norm_kwargs or {})))
    return layers


def pre_activation(channels: int, kernel_size: int = 1, *, in_channels: int, groups: int = 1,
                   before: nn.HybridSequential | None = None, norm_layer: type,
                   norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build norm, ReLU and a convolution without bias, after the layer ``before`` if given."""
    layers = nn.HybridSequential()
    if before is not None:
        layers.add(before)
    layers.add(norm_layer(in_channels=in_channels, **(norm_kwargs or {})), nn.Activation("relu"),
               nn.Conv2D(channels, kernel_size, padding=kernel_size // 2, groups=groups, in_channels=in_channels,
                         use_bias=False))
    return layers


# ---- names in mmsegmentation's checkpoints, shared with PIDNet -> our names

_MMSEG_STEM: Renames = [
    (r"^backbone\.stem\.([01])\.conv\.", lambda m: f"backbone.conv1.{3 * int(m[1])}."),
    (r"^backbone\.stem\.([01])\.bn\.", lambda m: f"backbone.conv1.{3 * int(m[1]) + 1}."),
    (r"^backbone\.stem\.([24])\.", lambda m: f"backbone.layer{int(m[1]) // 2}."),
]
_PYRAMID = r"^backbone\.spp\.(?:scales\.(\d)(?:\.1)?|process(?:es)?\.?(\d?)|(compression|shortcut))\.(bn|conv)\."


def _pyramid_name(match: re.Match) -> str:
    """Return our name of a layer of the pyramid pooling, where a pooled scale begins with its pooling layer."""
    scale, process, other, layer = match.groups()
    first = 1 if scale and scale != "0" else 0
    stem = f"scale{scale}" if scale else other or (f"process{int(process) + 1}" if process else "scale_process")
    return f"backbone.spp.{stem}.{first + (0 if layer == 'bn' else 2)}."


_MMSEG_PYRAMID: Renames = [(_PYRAMID, _pyramid_name)]
_MMSEG_BLOCKS: Renames = [
    (r"^backbone\.(compression|down)_(\d)\.", lambda m: f"backbone.{m[1]}{int(m[2]) + 2}."),
    (r"\.down4\.([01])\.conv\.", lambda m: f".down4.{3 * int(m[1])}."),
    (r"\.down4\.([01])\.bn\.", lambda m: f".down4.{3 * int(m[1]) + 1}."),
    (r"\.conv(\d)\.conv\.", r".conv\1."), (r"\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.(compression\d|down\d|downsample|diff\d)\.conv\.", r".\1.0."),
    (r"\.(compression\d|down\d|downsample|diff\d)\.bn\.", r".\1.1."),
]


def _with_stem_biases(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return mmsegmentation's tensors with zeros for the biases of the stem's convolutions."""
    zeros = {key.replace(".weight", ".bias"): np.zeros(value.shape[0], np.float32)
             for key, value in tensors.items() if re.fullmatch(r"backbone\.stem\.[01]\.conv\.weight", key)}
    return {**zeros, **tensors}
