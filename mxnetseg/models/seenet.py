"""SeENet: Pang, Li, Shen & Shao, "Towards bridging semantic gap to improve semantic segmentation", ICCV 2019.

Semantic enhancement of three stages, and attention that adds fine features at boundaries.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import contrib, nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone

WIDTH = 128  # channels of all layers after the backbone


class LargeKernel(nn.HybridBlock):
    """Approximate k x k convolution: the sum of a k x 1, 1 x k pair and a 1 x k, k x 1 pair of convolutions.

    x: (N, channels, H, W) -> the same shape.

    Args:
        channels: input and output channels.
        kernel_size: k, odd.

    Source: Peng et al. 2017, "Large kernel matters".
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
    """Semantic enhancement module (SeEM): convolutions of four dilations on a stage.

    Each of the four branches is a 1x1 convolution, optionally a :class:`LargeKernel`, and a dilated 3x3 convolution.
    The input and all branches are concatenated and projected.

    x: (N, in_channels, H, W) -> (N, WIDTH, H, W).

    Args:
        in_channels: input channels.
        rates: dilation of each branch.
        large_kernel: whether the branches have a :class:`LargeKernel`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, in_channels: int, rates: Sequence[int], large_kernel: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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
    """Boundary attention module (BAM): fine features where the coarse ones are uncertain, and the classifier.

    The coarse features are uncertain at boundaries.

    high: (N, WIDTH, h, w), low: (N, in_channels, H, W) -> logits (N, nclass, H, W).

    Args:
        nclass: number of classes.
        in_channels: channels of ``low``.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, nclass: int, *, in_channels: int, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
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
    """SeENet: semantic enhancement of stages 2 to 4, one after the other, and boundary attention with stage 1.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The backbone runs at output stride 8, so its last three taps have the same size. MXNetSeg's network accepts only
    backbones with 2048 channels; this one runs on any backbone with four taps.

    Args:
        nclass: number of classes.
        backbone: any with four taps; the auxiliary head reads the third.
        aux: an auxiliary head; the weight of its loss is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("SeENet",)
    mxnetseg_prefixes = {"head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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

    def from_mxnetseg(self, name: str) -> str | None:
        # MXNetSeg's branches are branch1 to branch4; here branch 0 is the input
        return super().from_mxnetseg(name).replace(".branch", ".branches.")
