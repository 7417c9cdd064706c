"""ICNet for real-time semantic segmentation on high-resolution images: Zhao, Qi, Shen, Shi & Jia, ECCV 2018.

The image at three sizes: only the smallest runs through the whole network, and the larger ones refine its result.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..errors import ConfigError
from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._mmseg import mmseg_name
from .backbones import get_backbone
from .backbones.resnet import ResNet


class ICNet(SegModel):
    """ICNet: an image cascade of three sizes with cascade feature fusion (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits of the two fusions,
    the coarser first. H and W are at least 16.

    The branch of the quarter-size image starts from the halved second stage of the half-size branch (section 3.3).
    Halving means averaging 2x2 pixels; the last row or column of an odd size is dropped. As in mmsegmentation, whose
    weights this network reads: the backbone keeps its width (the paper prunes half of it), its pooling rounds up, the
    pyramid pooling concatenates (the paper adds), each input of a fusion has its own ReLU (in the paper their sum has
    one), and each auxiliary head has a 3x3 convolution.

    Args:
        nclass: number of classes.
        backbone: a ResNet.
        aux: heads on the coarse input of both fusions (section 3.4, cascade label guidance); the weight of their losses
            is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a backbone that is not a ResNet. ICNet runs its stages on images of different sizes.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=8, **norm), nclass)
        if not isinstance(self.backbone, ResNet):
            raise ConfigError("ICNet needs a ResNet, whose stages run on images of different sizes",
                              where="model.backbone", received=backbone, fix="resnet18 or resnet50")

        _, c2, _, c4 = self.backbone.taps
        self.backbone.maxpool._kwargs["pooling_convention"] = "full"  # round up

        with self.name_scope():
            self.ppm = PPM(c4.channels, align_corners=False, **norm)
            self.bottleneck = ConvModule2d(512, 3, in_channels=self.ppm.out_channels, **norm)
            self.quarter = ConvModule2d(256, 1, in_channels=512, **norm)
            self.half = ConvModule2d(256, 1, in_channels=c2.channels, **norm)
            self.whole = nn.HybridSequential()
            for channels, in_channels in ((32, 3), (32, 32), (64, 32)):
                self.whole.add(ConvModule2d(channels, 3, 2, in_channels=in_channels, **norm))
            self.fuse_half = CascadeFusion(128, low_channels=256, high_channels=256, **norm)
            self.fuse_whole = CascadeFusion(128, low_channels=128, high_channels=64, **norm)
            self.head = FCNHead(nclass, 128, drop=0.0, **norm)
            self.aux_heads = None
            if aux:
                self.aux_heads = nn.HybridSequential()
                self.aux_heads.add(*(FCNHead(nclass, 128, **norm) for _ in range(2)))

    def hybrid_forward(self, F, x):
        net = self.backbone
        y = net.maxpool(net.relu(net.bn1(net.conv1(mean_pool_2x2(F, x)))))
        half = net.layer2(net.layer1(y))
        quarter = net.layer4(net.layer3(mean_pool_2x2(F, half)))
        quarter = self.quarter(self.bottleneck(self.ppm(quarter)))
        fused, guide_half = self.fuse_half(quarter, self.half(half))
        fused, guide_whole = self.fuse_whole(fused, self.whole(x))

        outputs = [self.head(fused)]
        if self.aux_heads is not None:
            outputs += [head(guide) for head, guide in zip(self.aux_heads, (guide_half, guide_whole))]
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of equation 1: one loss per branch, here with the same weight for both auxiliary ones."""
        count = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss), *(Term(k + 1, aux_weight, pixel_loss) for k in range(count))]

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"^backbone\.psp_bottleneck\.": "bottleneck.", r"^backbone\.conv_sub1\.": "whole.",
            r"^backbone\.conv_sub2\.": "half.", r"^backbone\.conv_sub4\.": "quarter.",
            r"^backbone\.backbone\.": "backbone.",
            r"^neck\.cff_24\.conv_": "fuse_half.", r"^neck\.cff_12\.conv_": "fuse_whole.",
            r"^auxiliary_head\.(\d)\.convs\.0\.": r"aux_heads.\1.conv1.",
            r"^auxiliary_head\.(\d)\.conv_seg\.": r"aux_heads.\1.conv2."})

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with the input of mmsegmentation's pyramid pooling first instead of last."""
        tensors = super().adapt_foreign(form, tensors)
        pooled, both = "backbone.psp_modules.0.1.conv.weight", "backbone.psp_bottleneck.conv.weight"
        if form == "mmseg" and pooled in tensors and both in tensors:
            tensors = {**tensors, both: np.roll(tensors[both], tensors[pooled].shape[1], axis=1)}
        return tensors


class CascadeFusion(nn.HybridBlock):
    """Cascade feature fusion: dilated convolution of the resized coarse map, plus the fine map (section 3.3, figure 3).

    low: (N, low_channels, h, w), high: (N, high_channels, H, W) -> two maps (N, channels, H, W): the sum, and the
    convolved coarse map for the auxiliary head.
    """

    def __init__(self, channels: int, *, low_channels: int, high_channels: int, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.low = ConvModule2d(channels, 3, dilation=2, in_channels=low_channels, **norm)
            self.high = ConvModule2d(channels, 1, in_channels=high_channels, **norm)

    def hybrid_forward(self, F, low, high):
        low = self.low(resize(F, low, high, align_corners=False))
        return low + self.high(high), low


def mean_pool_2x2(F, x):
    """Average 2x2 pixels: (N, C, H, W) -> (N, C, H // 2, W // 2)."""
    return F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg")
