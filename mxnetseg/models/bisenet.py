"""Bilateral segmentation network: Yu et al., ECCV 2018."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ..losses import Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import GlobalFlow
from ..nn.fusion import AttentionRefinement, FeatureFusion
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


class SpatialPath(nn.HybridBlock):
    """Four convolutions that keep detail: section 3.1 of the paper.

    x: (N, 3, H, W) -> (N, 128, H / 8, W / 8), sizes rounded up.

    Args:
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv7x7 = ConvModule2d(64, 7, 2, in_channels=3, **norm)
            self.conv3x3_1 = ConvModule2d(64, 3, 2, in_channels=64, **norm)
            self.conv3x3_2 = ConvModule2d(64, 3, 2, in_channels=64, **norm)
            self.conv1x1 = ConvModule2d(128, 1, in_channels=64, **norm)

    def hybrid_forward(self, F, x):
        return self.conv1x1(self.conv3x3_2(self.conv3x3_1(self.conv7x7(x))))


class BiSeNet(SegModel):
    """BiSeNet on a backbone's last two taps (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the last tap
    and of the one before.

    The context path is MXNetSeg's: the global mean and both refined taps are resized to stride 8,
    summed and convolved once, where the paper adds and convolves them one after the other.

    Args:
        nclass: classes.
        backbone: the context path; ``'xception39'`` or ``'resnet18'`` in the paper.
        output_stride: of the backbone; the paper's is 32.
        aux: classifiers on both taps (section 3.3 of the paper).
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("BiSeNetR", "BiSeNetX")
    mxnetseg_prefixes = {"head.seg.": "head.", "head.": ""}
    needs_batch = 2  # the attention modules and the global mean normalise a map of one place

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 32, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.spatial_path = SpatialPath(**norm)
            self.global_flow = GlobalFlow(128, in_channels=c4.channels, **norm)
            self.refine_c4 = AttentionRefinement(128, in_channels=c4.channels, **norm)
            self.refine_c3 = AttentionRefinement(128, in_channels=c3.channels, **norm)
            self.proj = ConvModule2d(128, 3, in_channels=128, **norm)
            self.fusion = FeatureFusion(256, in_channels=256, **norm)
            self.head = FCNHead(nclass, 256, drop=0.0, **norm)
            self.aux_head = nn.HybridSequential() if aux else None
            if aux:
                self.aux_head.add(*(FCNHead(nclass, c.channels, channels=256, **norm) for c in (c4, c3)))

    def hybrid_forward(self, F, x):
        spatial = self.spatial_path(x)
        c3, c4 = self.backbone(x)[-2:]
        context = [self.global_flow(c4), self.refine_c4(c4), self.refine_c3(c3)]
        context = self.proj(F.add_n(*[resize(F, c, spatial, align_corners=True) for c in context]))
        outputs = [self.head(self.fusion(spatial, context))]
        if self.aux_head is not None:
            outputs += [self.aux_head[0](c4), self.aux_head[1](c3)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss, aux_weight) -> Sequence[Term]:
        """Section 3.3 of the paper: both taps' losses weigh ``aux_weight``, its alpha (1 there)."""
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            terms += [Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]
        return terms
