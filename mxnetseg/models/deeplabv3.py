"""DeepLabv3: Chen, Papandreou, Schroff & Adam, "Rethinking atrous convolution", 2017 (arXiv 1706.05587).

Parallel convolutions of several dilations (atrous spatial pyramid pooling, ASPP) on a dilated backbone.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..nn.blocks import FCNHead, classifier
from ..nn.context import ASPP
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._gluoncv import gluoncv_name
from ._mmseg import backbone_options, is_mmseg, mean_last, mmseg_name
from .backbones import get_backbone


class DeepLabv3(SegModel):
    """DeepLabv3: ASPP and a classifier on the last tap of any backbone.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: the rates are 6, 12, 18 at every output stride (section 3.3 of the paper doubles them at stride 8),
    an FCN head replaces the last 1x1 convolution, and there is no multi-grid.

    The ``'mmseg'`` variant has an ASPP of twice the width with a 3x3 projection, rates 12, 24, 36, and the 1x1
    convolution.

    Args:
        nclass: number of classes.
        backbone: the ASPP reads its last tap, the auxiliary head the one before.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        rates: dilations of the ASPP's 3x3 convolutions, in pixels of the last tap; None: the variant's.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: an auxiliary head; the weight of its loss is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("DeepLabv3",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}
    foreign_options = {"gluoncv": {"rates": (12, 24, 36)}, "mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # one branch of the ASPP normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 rates: Sequence[int] | None = None, variant: str = "mxnetseg", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("DeepLabv3", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self._align_corners = not mmseg
        self.aligned_stride = 1 if mmseg else self.backbone.grid_stride

        with self.name_scope():
            if mmseg:
                width = c4.channels // 4
                self.aspp = ASPP(width, in_channels=c4.channels, rates=rates or (12, 24, 36), projection_size=3,
                                 drop=0.0, **norm)
                self.head = classifier(nclass, width)
            else:
                self.aspp = ASPP(256, in_channels=c4.channels, rates=rates or (6, 12, 18), **norm)
                self.head = FCNHead(nclass, 256, **norm)
            aux_head = {"channels": c3.channels // 4} if mmseg else {}
            self.aux_head = FCNHead(nclass, c3.channels, **aux_head, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.aspp(c4))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=self._align_corners) for logits in outputs)

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's DeepLabV3."""
        return gluoncv_name(self, name)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {r"^decode_head\.conv_seg\.": "head.1."})

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with the ASPP's branches in our order."""
        return mean_last(tensors) if form == "mmseg" else super().adapt_foreign(form, tensors)
