"""SFNet: semantic flow for fast and accurate scene parsing. Li, You, Zhu, Zhao, Yang, Yang, Tan & Tong, ECCV 2020.

A feature pyramid that aligns its coarse maps by a learned flow before it adds them.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d
from ..nn.precision import to_float32
from ..nn.resize import length, resize
from ..nn.warp import sample
from ._base import SegModel, norm_options
from .backbones.deepresnet import DeepStemResNet
from .weights.pytorch import gluon_name


class SFNet(SegModel):
    """SFNet: feature pyramid whose coarse maps are warped by a learned flow before they are added to fine ones.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the pyramid's
    steps at stride 16, 8 and 4.

    The network reads the weights of the authors' code and of xiaojianzhong's port to mmsegmentation, which is the same
    network under other names. In the port the unit of the flow is a pixel of twice the coarse map's size, so the sides
    must be multiples of 32; here, as in the authors' code, it is a pixel of the fine map, and any size is possible.

    Args:
        nclass: number of classes.
        backbone: ``'resnet18'``, 34, 50, 101 or 152, each with a deep stem (see
            :class:`~mxnetseg.models.backbones.deepresnet.DeepStemResNet`).
        warp_align_corners: whether -1 and 1 in the sampling grid are the centres of the coarse map's outer pixels, so
            that a zero flow only resizes. False: they are the edges of these pixels, as in the port on PyTorch 1.3 and
            later.
        aux: three auxiliary heads, called ``dsn`` in the original.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: another backbone.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet18", warp_align_corners: bool = True, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(DeepStemResNet(backbone, **norm), nclass)
        taps = self.backbone.taps
        width = 128 if taps[-1].channels == 512 else 256

        with self.name_scope():
            self.ppm = FlatPPM(width, in_channels=taps[-1].channels, **norm)
            self.fams, self.convs = nn.HybridSequential(), nn.HybridSequential()
            for tap in taps[:3]:
                self.fams.add(FlowAlignment(width, low_channels=tap.channels, align_corners=warp_align_corners, **norm))
                self.convs.add(ConvModule2d(width, 3, in_channels=width, **norm))
            self.head = Head(nclass, width, in_channels=4 * width, **norm)
            self.aux_heads = None
            if aux:
                self.aux_heads = nn.HybridSequential()
                for _ in range(3):
                    self.aux_heads.add(Head(nclass, width, in_channels=width, **norm))

    def hybrid_forward(self, F, x):
        *taps, c4 = self.backbone(x)
        high = self.ppm(c4)
        maps, aligned = [high], []  # coarse to fine
        for fam, conv, low in reversed(list(zip(self.fams, self.convs, taps))):
            high = fam(low, high)
            aligned.append(high)
            maps.append(conv(high))

        finest = maps[-1]
        fused = F.concat(finest, *(resize(F, y, finest, align_corners=True) for y in maps[-2::-1]), dim=1)
        outputs = [self.head(fused)]
        if self.aux_heads is not None:
            outputs += [head(y) for head, y in zip(self.aux_heads, aligned)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        heads = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss), *(Term(i + 1, aux_weight, pixel_loss) for i in range(heads))]

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in SFNet's checkpoints, or None if this network does not have it.

        The checkpoints are the authors' (SFSegNets) or the port's.
        """
        for theirs, ours in _NAMES:
            name = re.sub(theirs, ours, name)
        return gluon_name(self.named_parameters(), name)

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors without the biases before a norm in the authors' auxiliary heads.

        Subtracting such a bias from the norm's mean is equivalent.
        """
        if form != "pytorch":
            return tensors
        biases = [name for name in tensors if re.fullmatch(r"head\.dsn\.\d\.0\.bias", name)]
        adapted = {name: value for name, value in tensors.items() if name not in biases}
        for name in biases:
            mean = name.replace(".0.bias", ".1.running_mean")
            if mean in adapted:
                adapted[mean] = adapted[mean] - tensors[name]
        return adapted


# beginning of a parameter's name -> its beginning in this network; first the port's names, then the authors'
_NAMES = (
    (r"^backbone\.stem\.7\.", "backbone.bn1."), (r"^backbone\.stem\.", "backbone.conv1."),
    (r"^neck\.ppm\.(\d)\.1\.", r"ppm.branches.\1."), (r"^neck\.bottleneck\.", "ppm.bottleneck."),
    (r"^neck\.fams\.(\d)\.low_conv\.conv\.", r"fams.\1.low_conv.0."),
    (r"^neck\.fams\.(\d)\.low_conv\.bn\.", r"fams.\1.low_conv.1."), (r"^neck\.(fams|convs)\.", r"\1."),
    (r"^decode_head\.", "head."), (r"^auxiliary_head\.", "aux_heads."),
    (r"^(head|aux_heads\.\d)\.convs\.0\.", r"\1.conv1."), (r"^(head|aux_heads\.\d)\.conv_seg\.", r"\1.conv2."),

    (r"^layer0\.0\.", "backbone.conv1."), (r"^layer0\.1\.", "backbone.bn1."), (r"^layer(\d)\.", r"backbone.layer\1."),
    (r"^head\.ppm\.stages\.(\d)\.1\.", r"ppm.branches.\1.conv."),
    (r"^head\.ppm\.stages\.(\d)\.2\.", r"ppm.branches.\1.bn."),
    (r"^head\.ppm\.bottleneck\.0\.", "ppm.bottleneck.conv."), (r"^head\.ppm\.bottleneck\.1\.", "ppm.bottleneck.bn."),
    (r"^head\.fpn_in\.(\d)\.", r"fams.\1.low_conv."),
    (r"^head\.fpn_out_align\.(\d)\.down_l\.", r"fams.\1.low_down_conv."),
    (r"^head\.fpn_out_align\.(\d)\.down_h\.", r"fams.\1.high_down_conv."),
    (r"^head\.fpn_out_align\.(\d)\.flow_make\.", r"fams.\1.flow_conv."),
    (r"^head\.fpn_out\.(\d)\.0\.0\.", r"convs.\1.conv."), (r"^head\.fpn_out\.(\d)\.0\.1\.", r"convs.\1.bn."),
    (r"^head\.conv_last\.0\.0\.", "head.conv1.conv."), (r"^head\.conv_last\.0\.1\.", "head.conv1.bn."),
    (r"^head\.conv_last\.1\.", "head.conv2."),
    # the authors count the heads from stride 4 to 16, this network from 16 to 4
    (r"^head\.dsn\.([012])\.", lambda found: f"aux_heads.{2 - int(found[1])}."),
    (r"^(aux_heads\.\d)\.0\.", r"\1.conv1.conv."), (r"^(aux_heads\.\d)\.1\.", r"\1.conv1.bn."),
    (r"^(aux_heads\.\d)\.4\.", r"\1.conv2."),
)


class Head(nn.HybridBlock):
    """Head of a 3x3 convolution with norm and ReLU, dropout of whole channels, and a 1x1 convolution with bias.

    x: (N, in_channels, H, W) -> logits (N, nclass, H, W).
    """

    def __init__(self, nclass: int, channels: int, *, in_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvModule2d(channels, 3, in_channels=in_channels, norm_layer=norm_layer,
                                      norm_kwargs=norm_kwargs)
            self.drop = nn.Dropout(0.1, axes=(2, 3))
            self.conv2 = nn.Conv2D(nclass, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        return self.conv2(self.drop(self.conv1(x)))


class FlatPPM(nn.HybridBlock):
    """Pyramid pooling (Zhao et al., CVPR 2017) without activation in the branches, followed by a projection.

    The branches come before the input in the concatenation.

    x: (N, in_channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._bins = (1, 2, 3, 6)
        with self.name_scope():
            self.branches = nn.HybridSequential()
            for _ in self._bins:
                self.branches.add(ConvModule2d(channels, 1, in_channels=in_channels, activation=None, **norm))
            self.bottleneck = ConvModule2d(channels, 1, in_channels=in_channels + len(self._bins) * channels, **norm)

    def hybrid_forward(self, F, x):
        context = [resize(F, branch(F.contrib.AdaptiveAvgPooling2D(x, output_size=cells)), x, align_corners=True)
                   for branch, cells in zip(self.branches, self._bins)]
        return self.bottleneck(F.concat(*context, x, dim=1))


class FlowAlignment(nn.HybridBlock):
    """Flow alignment module: section 3.2 of the paper, equations 3 and 4.

    low: (N, low_channels, H, W), the fine map; high: (N, channels, h, w), the coarse map -> (N, channels, H, W), the
    projected fine map plus the coarse map, sampled at positions computed from both.

    Args:
        channels: channels of the coarse map and of the output.
        low_channels: channels of the fine map.
        align_corners: see :class:`SFNet`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, low_channels: int, align_corners: bool, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        self._align_corners = align_corners
        with self.name_scope():
            self.low_conv = nn.HybridSequential()
            self.low_conv.add(nn.Conv2D(channels, 1, in_channels=low_channels),
                              norm_layer(in_channels=channels, **(norm_kwargs or {})), nn.Activation("relu"))
            self.low_down_conv = nn.Conv2D(channels // 2, 1, in_channels=channels, use_bias=False)
            self.high_down_conv = nn.Conv2D(channels // 2, 1, in_channels=channels, use_bias=False)
            self.flow_conv = nn.Conv2D(2, 3, padding=1, in_channels=channels, use_bias=False)

    def hybrid_forward(self, F, low, high):
        low = self.low_conv(low)
        both = F.concat(resize(F, self.high_down_conv(high), low, align_corners=True), self.low_down_conv(low), dim=1)
        right, down = F.split(to_float32(F, self.flow_conv(both)), num_outputs=2, axis=1)
        columns = self._positions(F, right, high, 3, (1, 1, 1, -1))
        rows = self._positions(F, down, high, 2, (1, 1, -1, 1))
        return low + sample(F, high, columns, rows)

    def _positions(self, F, flow, high, axis, shape):
        """Return the positions in ``high``, in pixels along one axis, at which the output's pixels sample it."""
        index = F.contrib.arange_like(F.BlockGrad(flow), axis=axis)
        n, n_high = length(F, F.BlockGrad(flow), axis), length(F, to_float32(F, F.BlockGrad(high)), axis)
        pixel = F.broadcast_div(index, F.broadcast_maximum(n - 1, F.ones_like(n)))  # 0 .. 1
        # the unit of the flow is half an output pixel
        position = F.broadcast_add(F.broadcast_div(flow, F.reshape(2 * n, (1, 1, 1, 1))), F.reshape(pixel, shape))
        if self._align_corners:
            return F.broadcast_mul(position, F.reshape(n_high - 1, (1, 1, 1, 1)))
        return F.broadcast_mul(position, F.reshape(n_high, (1, 1, 1, 1))) - 0.5
