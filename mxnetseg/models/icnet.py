"""ICNet for real-time semantic segmentation on high-resolution images: Zhao, Qi, Shen, Shi & Jia, ECCV 2018."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

import numpy as np
from mxnet.gluon import nn

from ..errors import ConfigError
from ..losses import Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone
from .backbones.resnet import ResNet
from .weights.mmseg import mmseg_name


class ICNet(SegModel):
    """The image at three sizes: the smallest goes all the way, the larger ones refine it (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits of the two fusions,
    the coarser first. H and W are at least 16.

    A quarter of the image is not computed anew: it is half of the half image's second stage (section 3.3). Halving is
    the mean of two by two places; the last row of an odd number has no partner and is left out. As in mmsegmentation,
    whose weights it reads: the backbone keeps its width (the paper prunes half of it), its pooling rounds up, the
    pyramid is concatenated (the paper adds), each part of a fusion is rectified (the paper: their sum), and the
    auxiliary heads have a convolution each.

    Args:
        nclass: classes.
        backbone: a ResNet.
        aux: heads on the coarse input of both fusions (section 3.4, cascade label guidance); their losses are weighted
            by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: a backbone of another kind, which cannot be entered in the middle.
    """

    needs_batch = 2  # one cell of the pyramid pooling is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet50", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=8, **norm), nclass)
        if not isinstance(self.backbone, ResNet):
            raise ConfigError("ICNet needs a ResNet, whose stages run on images of different sizes",
                              where="model.backbone", received=backbone, fix="take resnet18 or resnet50")
        _, c2, _, c4 = self.backbone.taps
        self.backbone.maxpool._kwargs["pooling_convention"] = "full"
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
        y = net.maxpool(net.relu(net.bn1(net.conv1(halve(F, x)))))
        half = net.layer2(net.layer1(y))
        quarter = net.layer4(net.layer3(halve(F, half)))
        quarter = self.quarter(self.bottleneck(self.ppm(quarter)))
        fused, guide_half = self.fuse_half(quarter, self.half(half))
        fused, guide_whole = self.fuse_whole(fused, self.whole(x))
        outputs = [self.head(fused)]
        if self.aux_heads is not None:
            outputs += [head(guide) for head, guide in zip(self.aux_heads, (guide_half, guide_whole))]
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def terms(self, pixel_loss, aux_weight) -> Sequence[Term]:
        """Equation 1 of the paper: a loss for every branch, here with one weight for the two auxiliary ones."""
        count = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss), *(Term(k + 1, aux_weight, pixel_loss) for k in range(count))]

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        return mmseg_name(self, name, {
            r"^backbone\.psp_bottleneck\.": "bottleneck.", r"^backbone\.conv_sub1\.": "whole.",
            r"^backbone\.conv_sub2\.": "half.", r"^backbone\.conv_sub4\.": "quarter.",
            r"^backbone\.backbone\.": "backbone.",
            r"^neck\.cff_24\.conv_": "fuse_half.", r"^neck\.cff_12\.conv_": "fuse_whole.",
            r"^auxiliary_head\.(\d)\.convs\.0\.": r"aux_heads.\1.conv1.",
            r"^auxiliary_head\.(\d)\.conv_seg\.": r"aux_heads.\1.conv2."})

    def adapt_foreign(self, form, tensors):
        tensors = super().adapt_foreign(form, tensors)
        pooled, both = "backbone.psp_modules.0.1.conv.weight", "backbone.psp_bottleneck.conv.weight"
        if form == "mmseg" and pooled in tensors and both in tensors:
            # what the pyramid was made of comes first here, and last in mmsegmentation
            tensors = {**tensors, both: np.roll(tensors[both], tensors[pooled].shape[1], axis=1)}
        return tensors


class CascadeFusion(nn.HybridBlock):
    """Cascade feature fusion: section 3.3, figure 3: a dilated convolution on the resized coarse map, and the fine map.

    low: (N, low_channels, h, w), high: (N, high_channels, H, W) -> (N, channels, H, W) twice: the sum, and the coarse
    map that the auxiliary head looks at.
    """

    def __init__(self, channels: int, *, low_channels: int, high_channels: int, norm_layer: type,
                 norm_kwargs: Optional[Mapping]):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.low = ConvModule2d(channels, 3, dilation=2, in_channels=low_channels, **norm)
            self.high = ConvModule2d(channels, 1, in_channels=high_channels, **norm)

    def hybrid_forward(self, F, low, high):
        low = self.low(resize(F, low, high, align_corners=False))
        return low + self.high(high), low


def halve(F, x):
    """The mean of two by two places: (N, C, H, W) -> (N, C, H // 2, W // 2)."""
    return F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg")
