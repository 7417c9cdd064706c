"""Semantic FPN, the semantic branch of Panoptic FPN: Kirillov, Girshick, He & Dollar, CVPR 2019.

A feature pyramid whose levels are upsampled step by step, and added.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, classifier
from ..nn.fusion import LateralFusion
from ..nn.resize import enlarge, nearest, resize
from ._base import SegModel, four_taps, norm_options
from ._mmseg import is_mmseg, mmseg_name
from .backbones import get_backbone


class SemanticFPN(SegModel):
    """Semantic FPN: a feature pyramid (Lin et al., CVPR 2017) and the semantic branch on it (figure 3 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    As in MXNetSeg: batch norm instead of group norm, and the 3x3 convolutions of the pyramid lie on its top-down path.
    MXNetSeg's network upsamples by fixed factors of two, so it accepts only sides that are multiples of 32; here every
    map is resized to the size of the next finer one.

    The ``'mmseg'`` variant has the pyramid of Lin et al. (:class:`FeaturePyramid`), upsamples by factors of two and
    resizes the last map, and has dropout before the classifier.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("SemanticFPN",)
    mxnetseg_prefixes = {"head.fpn.lateral16x.": "lateral_c3.", "head.fpn.lateral8x.": "lateral_c2.",
                         "head.fpn.lateral4x.": "lateral_c1.", "head.fpn.conv.": "conv_c4.",
                         "head.semantic.scale_p2.": "branches.0.0.", "head.semantic.scale_p3.": "branches.1.",
                         "head.semantic.scale_p4.": "branches.2.", "head.semantic.scale_p5.": "branches.3.",
                         "head.seg.": "head."}
    foreign_options = {"mmseg": {"variant": "mmseg"}}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", variant: str = "mxnetseg",
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = is_mmseg("SemanticFPN", variant)
        super().__init__(get_backbone(backbone, output_stride=32, **norm), nclass)
        c1, c2, c3, c4 = taps = four_taps(self.backbone, backbone)

        with self.name_scope():
            if self._mmseg:
                self.pyramid = FeaturePyramid(256, in_channels=[tap.channels for tap in taps])
            else:
                self.conv_c4 = ConvModule2d(256, 1, in_channels=c4.channels, **norm)
                self.lateral_c3 = LateralFusion(256, in_channels=c3.channels, **norm)
                self.lateral_c2 = LateralFusion(256, in_channels=c2.channels, **norm)
                self.lateral_c1 = LateralFusion(256, in_channels=c1.channels, **norm)
            self.branches = nn.HybridSequential()  # for p2 to p5: one convolution per upsampling step, at least one
            for convolutions in (1, 1, 2, 3):
                branch = nn.HybridSequential()
                for i in range(convolutions):
                    branch.add(ConvModule2d(128, 3, in_channels=128 if i else 256, **norm))
                self.branches.add(branch)
            self.head = classifier(nclass, 128) if self._mmseg else nn.Conv2D(nclass, 1, in_channels=128)

    def hybrid_forward(self, F, x):
        taps = self.backbone(x)
        if self._mmseg:
            return (resize(F, self.head(self.by_twos(F, self.pyramid(*taps))), x, align_corners=False),)
        c1, c2, c3, c4 = taps
        p5 = self.conv_c4(c4)
        p4 = self.lateral_c3(p5, c3)
        p3 = self.lateral_c2(p4, c2)
        p2 = self.lateral_c1(p3, c1)

        pyramid = [p2, p3, p4, p5]
        y = self.branches[0][0](p2)
        for level in (1, 2, 3):
            upsampled = pyramid[level]
            for step, convolution in enumerate(self.branches[level]):
                finer = pyramid[level - 1 - step]
                upsampled = resize(F, convolution(upsampled), finer, align_corners=True)
            y = y + upsampled
        return (resize(F, self.head(y), x, align_corners=True),)

    def by_twos(self, F, pyramid):
        """Return the sum of the branches, upsampled by factors of two as in mmsegmentation."""
        finest, *others = self.branches
        y = finest(pyramid[0])
        for branch, upsampled in zip(others, pyramid[1:]):
            *convolutions, last = branch
            for convolution in convolutions:
                upsampled = enlarge(F, convolution(upsampled), 2, align_corners=False)
            y = y + enlarge(F, last(upsampled), 2, align_corners=False, then=y)
        return y

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        # every second layer is an upsampling
        name = re.sub(r"^(decode_head\.scale_heads\.\d)\.(\d)\.",
                      lambda found: f"{found[1]}.{int(found[2]) // 2}.", name)
        return mmseg_name(self, name, {
            r"^neck\.(lateral|fpn)_convs\.(\d)\.conv\.": r"pyramid.\1s.\2.",
            r"^decode_head\.scale_heads\.": "branches.", r"^decode_head\.conv_seg\.": "head.1."})


class FeaturePyramid(nn.HybridBlock):
    """Feature pyramid network (FPN): Lin et al., CVPR 2017, section 3.

    1x1 projections, a top-down path of nearest-neighbour upsampling, and a 3x3 convolution per level, without norms and
    activations. Maps (N, in_channels[i], H_i, W_i), fine to coarse -> a list of maps (N, channels, H_i, W_i).

    Args:
        channels: channels of every output.
        in_channels: channels of each input map.
    """

    def __init__(self, channels: int, *, in_channels: Sequence[int]):
        super().__init__()
        with self.name_scope():
            self.laterals, self.fpns = nn.HybridSequential(), nn.HybridSequential()
            for count in in_channels:
                self.laterals.add(nn.Conv2D(channels, 1, in_channels=count))
                self.fpns.add(nn.Conv2D(channels, 3, padding=1, in_channels=channels))

    def hybrid_forward(self, F, *maps):
        maps = [lateral(y) for lateral, y in zip(self.laterals, maps)]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + nearest(F, maps[i], maps[i - 1])
        return [conv(y) for conv, y in zip(self.fpns, maps)]
