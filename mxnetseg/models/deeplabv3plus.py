"""DeepLabv3+: Chen, Zhu, Papandreou, Schroff & Adam, ECCV 2018."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

import numpy as np
from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, SeparableConv2d, classifier
from ..nn.context import ASPP
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone
from .weights.gluoncv import gluoncv_name
from .weights.mmseg import backbone_options, is_mmseg, mean_last, mmseg_name


class DeepLabv3Plus(SegModel):
    """DeepLabv3's pyramid as encoder and a light decoder at stride 4 (the paper's figure 2).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As MXNetSeg has it: ordinary convolutions where the paper's are separable, a 3x3 one to narrow the
    low-level features (the paper: 1x1), rates 12, 24, 36 at every output stride (the paper: 6, 12, 18
    at stride 16). MXNetSeg has two classes, DeepLabv3PlusR for ResNets of 2048 channels and
    DeepLabv3PlusX for Xception-65, and no auxiliary head; this one goes by the backbone's taps.

    mmsegmentation's form has the separable convolutions, two in the decoder, 512 channels instead of 256, a 3x3
    projection of the pyramid and the 1x1 convolutions on the low-level features and in the end.

    Args:
        nclass: classes.
        backbone: the pyramid sits on its last tap, the decoder joins its first.
        output_stride: 8, 16 or 32.
        rates: dilations of the pyramid's 3x3 convolutions, in places of the last tap.
        variant: ``'mxnetseg'``, or ``'mmseg'``: mmsegmentation's form, see above and :mod:`.mmseg`.
        aux: an auxiliary head on the tap before the last; its loss is weighted by the configuration's
            ``loss.aux_weight``.
        aux_channels: width of the auxiliary head; by default 256 at most. GluonCV's is 182 on Xception-65.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: no such variant.
    """

    mxnetseg_classes = ("DeepLabv3PlusR", "DeepLabv3PlusX")
    mxnetseg_prefixes = {"head.aspp.": "aspp.", "head.conv_c1.": "low_level.", "head.conv3x3.": "fuse.",
                         "head.head.": "head."}
    foreign_options = {"gluoncv": {"backbone": "xception65", "aux_channels": 182}, "mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # a branch of the pyramid is the whole image's mean

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 rates: Sequence[int] = (12, 24, 36), variant: str = "mxnetseg", aux: bool = False,
                 aux_channels: Optional[int] = None, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = is_mmseg("DeepLabv3+", variant)
        self._align_corners = not self._mmseg
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, self._mmseg), **norm), nclass)
        c1, c3, c4 = self.backbone.taps[0], *self.backbone.taps[-2:]
        if self._mmseg and aux_channels is None:
            aux_channels = c3.channels // 4
        with self.name_scope():
            if self._mmseg:
                width, narrow = c4.channels // 4, c1.channels * 48 // 256  # 512 and 48 on a ResNet-50, 128 and 12 on 18
                self.aspp = ASPP(width, in_channels=c4.channels, rates=rates, separable=True, projection_size=3,
                                 drop=0.0, **norm)
                self.low_level = ConvModule2d(narrow, 1, in_channels=c1.channels, **norm)
                self.fuse = nn.HybridSequential()
                self.fuse.add(SeparableConv2d(width, in_channels=width + narrow, **norm),
                              SeparableConv2d(width, in_channels=width, **norm))
                self.drop, self.head = None, classifier(nclass, width)
            else:
                self.aspp = ASPP(256, in_channels=c4.channels, rates=rates, **norm)
                # 48 channels: the paper's table 1
                self.low_level = ConvModule2d(48, 3, in_channels=c1.channels, **norm)
                self.fuse = ConvModule2d(256, 3, in_channels=256 + 48, **norm)
                self.drop, self.head = nn.Dropout(0.5), FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, channels=aux_channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        features = self.backbone(x)
        c1, c3, c4 = features[0], features[-2], features[-1]
        joined = [self.low_level(c1), resize(F, self.aspp(c4), c1, align_corners=self._align_corners)]
        decoded = self.fuse(F.concat(*(joined[::-1] if self._mmseg else joined), dim=1))
        outputs = [self.head(decoded if self.drop is None else self.drop(decoded))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=self._align_corners) for logits in outputs)

    def from_gluoncv(self, name: str) -> Optional[str]:
        """Our name of a parameter of GluonCV's DeepLabV3Plus."""
        return gluoncv_name(self, name, (
            (r"^head\.c1_block\.0\.", "low_level.conv."), (r"^head\.c1_block\.1\.", "low_level.bn."),
            (r"^head\.block\.0\.", "fuse.conv."), (r"^head\.block\.1\.", "fuse.bn."),
            (r"^head\.block\.4\.", "head.conv1.conv."), (r"^head\.block\.5\.", "head.conv1.bn."),
            (r"^head\.block\.8\.", "head.conv2.")))

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        return mmseg_name(self, name, {
            r"\.(depth|point)wise_conv\.": r".\1wise.", r"^decode_head\.c1_bottleneck\.": "low_level.",
            r"^decode_head\.sep_bottleneck\.": "fuse.", r"^decode_head\.conv_seg\.": "head.1."})

    def adapt_foreign(self, form, tensors):
        """GluonCV puts the low-level features behind the others."""
        if form == "mmseg":
            return mean_last(tensors)
        fuse = tensors.get("head.block.0.weight")
        if form != "gluoncv" or fuse is None or fuse.ndim != 4:
            return tensors
        return {**tensors, "head.block.0.weight": np.roll(fuse, 48, axis=1)}
