"""SFNet: semantic flow for fast and accurate scene parsing. Li, You, Zhu, Zhao, Yang, Yang, Tan & Tong, ECCV 2020."""
from __future__ import annotations

import re
from typing import Mapping, Optional

from mxnet.gluon import nn

from ..losses import Term
from ..nn.blocks import ConvModule2d
from ..nn.precision import wide
from ..nn.resize import length, resize
from ..nn.warp import sample
from ._base import SegModel, norm_options
from .backbones.deepresnet import DeepStemResNet
from .weights.pytorch import gluon_name


class SFNet(SegModel):
    """A feature pyramid whose coarse maps are warped by a learned flow before they are added to fine ones.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the pyramid's
    steps at stride 16, 8 and 4.

    As in xiaojianzhong's port to mmsegmentation; the authors' network is the same under other names. It reads the
    weights of both. The port fixes the flow's unit to twice the coarse map's size, which asks for sides that
    32 divides; here, as in the authors' code, it is the fine map's, and any size will do.

    Args:
        nclass: classes.
        backbone: ``'resnet18'``, 34, 50, 101 or 152, in the form with a deep stem (see
            :class:`~mxnetseg.models.backbones.deepresnet.DeepStemResNet`).
        warp_align_corners: whether -1 and 1 in the flow's grid are the centres of the outer pixels of the map that is
            read, so that no flow means no change; False: their edges, which is what the port computes on
            PyTorch 1.3 and later.
        aux: the three auxiliary heads, the original's ``dsn``.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: a backbone of another kind.
    """

    needs_batch = 2  # one cell of the pyramid pooling is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet18", warp_align_corners: bool = True, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
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

    def terms(self, pixel_loss, aux_weight):
        heads = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss), *(Term(i + 1, aux_weight, pixel_loss) for i in range(heads))]

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter in the port's checkpoints or in the authors' (SFSegNets); None for one we have
        not."""
        for theirs, ours in _NAMES:
            name = re.sub(theirs, ours, name)
        return gluon_name(self.named_parameters(), name)

    def adapt_foreign(self, form, tensors):
        """The authors' auxiliary heads have a bias in front of a norm: subtracted from the norm's mean, it says the
        same."""
        if form != "pytorch":
            return tensors
        biases = [name for name in tensors if re.fullmatch(r"head\.dsn\.\d\.0\.bias", name)]
        adapted = {name: value for name, value in tensors.items() if name not in biases}
        for name in biases:
            mean = name.replace(".0.bias", ".1.running_mean")
            if mean in adapted:
                adapted[mean] = adapted[mean] - tensors[name]
        return adapted


# What a name of the port, then of the authors begins with -> in our network.
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
    # theirs go from stride 4 to 16, ours the other way
    (r"^head\.dsn\.([012])\.", lambda found: f"aux_heads.{2 - int(found[1])}."),
    (r"^(aux_heads\.\d)\.0\.", r"\1.conv1.conv."), (r"^(aux_heads\.\d)\.1\.", r"\1.conv1.bn."),
    (r"^(aux_heads\.\d)\.4\.", r"\1.conv2."),
)


class Head(nn.HybridBlock):
    """3x3 convolution with norm and ReLU, dropout of whole channels, 1x1 convolution with bias.

    x: (N, in_channels, H, W) -> logits (N, nclass, H, W).
    """

    def __init__(self, nclass: int, channels: int, *, in_channels: int, norm_layer: type,
                 norm_kwargs: Optional[Mapping]):
        super().__init__()
        with self.name_scope():
            self.conv1 = ConvModule2d(channels, 3, in_channels=in_channels, norm_layer=norm_layer,
                                      norm_kwargs=norm_kwargs)
            self.drop = nn.Dropout(0.1, axes=(2, 3))
            self.conv2 = nn.Conv2D(nclass, 1, in_channels=channels)

    def hybrid_forward(self, F, x):
        return self.conv2(self.drop(self.conv1(x)))


class FlatPPM(nn.HybridBlock):
    """Pyramid pooling (Zhao et al., CVPR 2017) with linear branches, the input behind them, and a projection.

    x: (N, in_channels, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, in_channels: int, norm_layer: type, norm_kwargs: Optional[Mapping]):
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

    low: (N, low_channels, H, W), the fine map; high: (N, channels, h, w) -> (N, channels, H, W): low, projected,
    plus high, read at places that both maps decide.

    Args:
        channels: of high and of the output.
        low_channels: of low.
        align_corners: see :class:`SFNet`.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, low_channels: int, align_corners: bool, norm_layer: type,
                 norm_kwargs: Optional[Mapping]):
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
        right, down = F.split(wide(F, self.flow_conv(both)), num_outputs=2, axis=1)
        columns = self._places(F, right, high, 3, (1, 1, 1, -1))
        rows = self._places(F, down, high, 2, (1, 1, -1, 1))
        return low + sample(F, high, columns, rows)

    def _places(self, F, flow, high, axis, shape):
        """Along one axis, the pixels of ``high`` that the pixels of the output read."""
        index = F.contrib.arange_like(F.BlockGrad(flow), axis=axis)
        n, n_high = length(F, F.BlockGrad(flow), axis), length(F, wide(F, F.BlockGrad(high)), axis)
        own = F.broadcast_div(index, F.broadcast_maximum(n - 1, F.ones_like(n)))  # 0 .. 1
        # the flow has the unit of half an output pixel: of the grid's 2, each has 2 / n
        place = F.broadcast_add(F.broadcast_div(flow, F.reshape(2 * n, (1, 1, 1, 1))), F.reshape(own, shape))
        if self._align_corners:
            return F.broadcast_mul(place, F.reshape(n_high - 1, (1, 1, 1, 1)))
        return F.broadcast_mul(place, F.reshape(n_high, (1, 1, 1, 1))) - 0.5
