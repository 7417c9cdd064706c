"""BiSeNet, bilateral segmentation network: Yu, Wang, Peng, Gao, Yu & Sang, ECCV 2018.

A shallow spatial path keeps detail, a backbone gives context, and a fusion module joins both.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import GlobalFlow
from ..nn.fusion import AttentionRefinement, FeatureFusion
from ..nn.resize import nearest, resize
from ._base import SegModel, norm_options
from ._mmseg import is_mmseg, mmseg_name
from .backbones import get_backbone


class SpatialPath(nn.HybridBlock):
    """Spatial path: four convolutions at a high resolution. Section 3.1 of the paper.

    x: (N, 3, H, W) -> (N, 128, H / 8, W / 8), sizes rounded up.

    Args:
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, *, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.conv7x7 = ConvModule2d(64, 7, 2, in_channels=3, **norm)
            self.conv3x3_1 = ConvModule2d(64, 3, 2, in_channels=64, **norm)
            self.conv3x3_2 = ConvModule2d(64, 3, 2, in_channels=64, **norm)
            self.conv1x1 = ConvModule2d(128, 1, in_channels=64, **norm)

    def hybrid_forward(self, F, x):
        return self.conv1x1(self.conv3x3_2(self.conv3x3_1(self.conv7x7(x))))


class ContextPath(nn.HybridBlock):
    """Context path: the global mean and the last two taps, upsampled and added step by step. Figure 2 (a) of the paper.

    spatial: (N, C, H, W), c3: (N, in_channels[0], h, w), c4: (N, in_channels[1], h', w') -> (N, channels, H, W) and
    (N, channels, h, w). A convolution follows each nearest-neighbour upsampling.

    Args:
        channels: channels of both outputs.
        in_channels: channels of the two taps.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: Sequence[int], norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        with self.name_scope():
            self.global_flow = GlobalFlow(channels, in_channels=in_channels[1], **norm)
            self.refine_c4 = AttentionRefinement(channels, in_channels=in_channels[1], **norm)
            self.refine_c3 = AttentionRefinement(channels, in_channels=in_channels[0], **norm)
            self.proj_c4 = ConvModule2d(channels, 3, in_channels=channels, **norm)
            self.proj_c3 = ConvModule2d(channels, 3, in_channels=channels, **norm)

    def hybrid_forward(self, F, spatial, c3, c4):
        coarse = self.proj_c4(nearest(F, self.refine_c4(c4) + self.global_flow(c4), c3))
        fine = self.proj_c3(nearest(F, self.refine_c3(c3) + coarse, spatial))
        return [fine, coarse]


class BiSeNet(SegModel):
    """BiSeNet on a backbone's last two taps (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the last tap
    and of the one before.

    The context path is MXNetSeg's: the global mean and both refined taps are resized to stride 8, summed, and convolved
    once. In the paper they are added and convolved one after the other.

    The ``'mmseg'`` variant has :class:`ContextPath`, and the auxiliary heads read its outputs: with ``aux`` the logits
    of its map at stride 8 follow, then the logits of its map at stride 16.

    Args:
        nclass: number of classes.
        backbone: the context path; ``'xception39'`` or ``'resnet18'`` in the paper.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32 (the paper's).
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: classifiers on both taps (section 3.3 of the paper).
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("BiSeNetR", "BiSeNetX")
    mxnetseg_prefixes = {"head.seg.": "head.", "head.": ""}
    foreign_options = {"mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # the attention modules and the global mean normalise a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 32,
                 variant: str = "mxnetseg", aux: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = is_mmseg("BiSeNet", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]

        with self.name_scope():
            self.spatial_path = SpatialPath(**norm)
            if self._mmseg:
                self.context_path = ContextPath(128, in_channels=(c3.channels, c4.channels), **norm)
            else:
                self.global_flow = GlobalFlow(128, in_channels=c4.channels, **norm)
                self.refine_c4 = AttentionRefinement(128, in_channels=c4.channels, **norm)
                self.refine_c3 = AttentionRefinement(128, in_channels=c3.channels, **norm)
                self.proj = ConvModule2d(128, 3, in_channels=128, **norm)
            self.fusion = FeatureFusion(256, in_channels=256, convs=1 if self._mmseg else 2, **norm)
            self.head = FCNHead(nclass, 256, drop=0.1 if self._mmseg else 0.0, **norm)
            self.aux_head = nn.HybridSequential() if aux else None
            if aux:
                widths = [(128, 64)] * 2 if self._mmseg else [(c4.channels, 256), (c3.channels, 256)]
                self.aux_head.add(*(FCNHead(nclass, read, channels=width, **norm) for read, width in widths))

    def hybrid_forward(self, F, x):
        spatial = self.spatial_path(x)
        c3, c4 = self.backbone(x)[-2:]
        if self._mmseg:
            guides = self.context_path(spatial, c3, c4)
            context = guides[0]
        else:
            guides = [c4, c3]
            # the first two have the same size, so their sum can be resized at once
            context = [self.global_flow(c4) + self.refine_c4(c4), self.refine_c3(c3)]
            context = self.proj(F.add_n(*[resize(F, c, spatial, align_corners=True) for c in context]))

        outputs = [self.head(self.fusion(spatial, context))]
        if self.aux_head is not None:
            outputs += [head(guide) for head, guide in zip(self.aux_head, guides)]
        return tuple(resize(F, logits, x, align_corners=not self._mmseg) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of section 3.3: both auxiliary losses have the weight ``aux_weight``, 1 in the paper."""
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            terms += [Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]
        return terms

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"^backbone\.spatial_path\.layer1\.": "spatial_path.conv7x7.",
            r"^backbone\.spatial_path\.layer([23])\.": lambda found: f"spatial_path.conv3x3_{int(found[1]) - 1}.",
            r"^backbone\.spatial_path\.layer4\.": "spatial_path.conv1x1.",
            r"^backbone\.ffm\.conv1\.": "fusion.proj.", r"^backbone\.ffm\.conv_atten\.0\.": "fusion.conv1x1_1.",
            r"^backbone\.context_path\.backbone\.": "backbone.", r"^backbone\.context_path\.": "context_path.",
            r"\.gap_conv\.1\.": ".global_flow.conv1x1.", r"\.arm32\.": ".refine_c4.", r"\.arm16\.": ".refine_c3.",
            r"\.conv_layer\.": ".conv3x3.", r"\.atten_conv_layer\.1\.": ".conv1x1.",
            r"\.conv_head32\.": ".proj_c4.", r"\.conv_head16\.": ".proj_c3.",
            r"^auxiliary_head\.(\d)\.convs\.0\.": r"aux_head.\1.conv1.",
            r"^auxiliary_head\.(\d)\.conv_seg\.": r"aux_head.\1.conv2."})
