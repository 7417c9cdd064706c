"""DeepLabv3+: Chen, Zhu, Papandreou, Schroff & Adam, ECCV 2018.

DeepLabv3 with a light decoder that joins the first tap.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, SeparableConv2d, classifier
from ..nn.context import ASPP
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._gluoncv import gluoncv_name
from ._mmseg import backbone_options, is_mmseg, mean_last, mmseg_name
from .backbones import get_backbone


class DeepLabv3Plus(SegModel):
    """DeepLabv3+: ASPP as encoder, and a light decoder at stride 4 (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: ordinary convolutions instead of the paper's separable ones, a 3x3 convolution that reduces the
    channels of the low-level features (1x1 in the paper), rates 12, 24, 36 at every output stride (6, 12, 18 at stride
    16 in the paper). MXNetSeg has two classes without auxiliary head, DeepLabv3PlusR for ResNets with 2048 channels and
    DeepLabv3PlusX for Xception-65; this network runs on any backbone.

    The ``'mmseg'`` variant has separable convolutions, two of them in the decoder, 512 channels instead of 256, a 3x3
    projection of the ASPP, and 1x1 convolutions on the low-level features and at the end.

    Args:
        nclass: number of classes.
        backbone: the ASPP reads its last tap, the decoder its first.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        rates: dilations of the ASPP's 3x3 convolutions, in pixels of the last tap.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: an auxiliary head on the second-to-last tap; the weight of its loss is ``loss.aux_weight`` of the
            configuration.
        aux_channels: channels inside the auxiliary head, 182 in GluonCV on Xception-65; None: at most 256.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("DeepLabv3PlusR", "DeepLabv3PlusX")
    mxnetseg_prefixes = {"head.aspp.": "aspp.", "head.conv_c1.": "low_level.", "head.conv3x3.": "fuse.",
                         "head.head.": "head."}
    foreign_options = {"gluoncv": {"backbone": "xception65", "aux_channels": 182}, "mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # one branch of the ASPP normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 rates: Sequence[int] = (12, 24, 36), variant: str = "mxnetseg", aux: bool = False,
                 aux_channels: int | None = None, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
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
                width, narrow = c4.channels // 4, c1.channels * 48 // 256  # ResNet-50: 512, 48; ResNet-18: 128, 12
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

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's DeepLabV3Plus."""
        return gluoncv_name(self, name, (
            (r"^head\.c1_block\.0\.", "low_level.conv."), (r"^head\.c1_block\.1\.", "low_level.bn."),
            (r"^head\.block\.0\.", "fuse.conv."), (r"^head\.block\.1\.", "fuse.bn."),
            (r"^head\.block\.4\.", "head.conv1.conv."), (r"^head\.block\.5\.", "head.conv1.bn."),
            (r"^head\.block\.8\.", "head.conv2.")))

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"\.(depth|point)wise_conv\.": r".\1wise.", r"^decode_head\.c1_bottleneck\.": "low_level.",
            r"^decode_head\.sep_bottleneck\.": "fuse.", r"^decode_head\.conv_seg\.": "head.1."})

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with the ASPP's branches and the decoder's inputs in our order.

        GluonCV concatenates the low-level features after the others, and this network before.
        """
        if form == "mmseg":
            return mean_last(tensors)
        fuse = tensors.get("head.block.0.weight")
        if form != "gluoncv" or fuse is None or fuse.ndim != 4:
            return tensors
        return {**tensors, "head.block.0.weight": np.roll(fuse, 48, axis=1)}
