"""SeENet: Pang, Li, Shen & Shao, "Towards bridging semantic gap to improve semantic segmentation", ICCV 2019."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import contrib, nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone

WIDTH = 128  # of everything behind the backbone


class LargeKernel(nn.HybridBlock):
    """A k x k convolution as the sum of two pairs of stripes (Peng et al. 2017, "Large kernel matters").

    x: (N, channels, H, W) -> the same shape.

    Args:
        channels: input and output channels.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3):
        super().__init__()

        def stripe(height, width):
            return nn.Conv2D(channels, (height, width), padding=(height // 2, width // 2), in_channels=channels)

        k = kernel_size
        with self.name_scope():
            self.conv_l1, self.conv_l2 = stripe(k, 1), stripe(1, k)
            self.conv_r1, self.conv_r2 = stripe(1, k), stripe(k, 1)

    def hybrid_forward(self, F, x):
        return self.conv_l2(self.conv_l1(x)) + self.conv_r2(self.conv_r1(x))


class SemanticEnhancement(nn.HybridBlock):
    """The paper's SeEM: a stage looked at with four dilation rates.

    Four branches, each a 1x1 convolution, where asked a :class:`LargeKernel`, and a dilated 3x3 one; the
    input and all branches are concatenated and projected.

    x: (N, in_channels, H, W) -> (N, WIDTH, H, W).

    Args:
        in_channels: input channels.
        rates: dilation of each branch.
        large_kernel: whether the branches have one.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, *, in_channels: int, rates: Sequence[int], large_kernel: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.branches = contrib.nn.HybridConcurrent(axis=1)
            self.branches.add(contrib.nn.Identity())
            for rate in rates:
                branch = nn.HybridSequential()
                branch.add(ConvModule2d(WIDTH, 1, in_channels=in_channels, **norm))
                if large_kernel:
                    branch.add(LargeKernel(WIDTH))
                branch.add(ConvModule2d(WIDTH, 3, dilation=rate, in_channels=WIDTH, **norm))
                self.branches.add(branch)
            self.proj = ConvModule2d(WIDTH, 1, in_channels=in_channels + len(rates) * WIDTH, **norm)

    def hybrid_forward(self, F, x):
        return self.proj(self.branches(x))


class BoundaryAttention(nn.HybridBlock):
    """The paper's BAM: fine features where the coarse ones are not sure, hence at boundaries; then the classes.

    high: (N, WIDTH, h, w), low: (N, in_channels, H, W) -> logits (N, nclass, H, W).

    Args:
        nclass: classes.
        in_channels: of ``low``.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, nclass: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv1x1 = ConvModule2d(in_channels, 1, in_channels=WIDTH, activation="sigmoid", **norm)
            self.fconv1x1 = ConvModule2d(WIDTH, 1, in_channels=in_channels, **norm)
            self.fconv3x3 = ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm)
            self.cconv3x3 = ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm)
            self.drop = nn.Dropout(0.1)
            self.cconv1x1 = nn.Conv2D(nclass, 1, in_channels=WIDTH)

    def hybrid_forward(self, F, high, low):
        high = resize(F, high, low, align_corners=True)
        fine = self.fconv3x3(self.fconv1x1(low * (1 - self.conv1x1(high))))
        return self.cconv1x1(self.drop(self.cconv3x3(high + fine)))


class SeENet(SegModel):
    """Three stages enhanced one after the other, the finest joining where the others are not sure.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The backbone runs at output stride 8, which gives its last three taps one size. MXNetSeg's takes
    backbones of 2048 channels only, this one goes by the backbone's taps.

    Args:
        nclass: classes.
        backbone: all four taps are used; the auxiliary head sits on the third.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("SeENet",)
    mxnetseg_prefixes = {"head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=8, **norm), nclass)
        c1, c2, c3, c4 = (tap.channels for tap in self.backbone.taps)
        with self.name_scope():
            self.seemc2 = SemanticEnhancement(in_channels=c2, rates=(1, 2, 4, 8), **norm)
            self.seemc3 = SemanticEnhancement(in_channels=c3 + WIDTH, rates=(3, 6, 9, 12), **norm)
            self.seemc4 = SemanticEnhancement(in_channels=c4 + WIDTH, rates=(7, 13, 19, 25),
                                              large_kernel=True, **norm)
            self.bam = BoundaryAttention(nclass, in_channels=c1, **norm)
            self.aux_head = FCNHead(nclass, c3, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c1, c2, c3, c4 = self.backbone(x)
        enhanced = self.seemc2(c2)
        enhanced = self.seemc3(F.concat(enhanced, c3, dim=1))
        enhanced = self.seemc4(F.concat(enhanced, c4, dim=1))
        outputs = [self.bam(enhanced, c1)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def from_mxnetseg(self, name):
        # theirs are branch1 .. branch4; ours come behind the input, which is branch 0
        return super().from_mxnetseg(name).replace(".branch", ".branches.")
