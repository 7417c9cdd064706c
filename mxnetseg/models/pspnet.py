"""Pyramid scene parsing network: Zhao et al., CVPR 2017."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


class PSPNet(SegModel):
    """PSPNet on any backbone with taps: the paper's figure 3, with the head on stage 4.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The classifier is 256 wide as in MXNetSeg; the paper's is 512. MXNetSeg's takes backbones of 2048
    channels only, this one goes by the backbone's taps.

    Args:
        nclass: classes.
        backbone: the head sits on its last tap, the auxiliary head on the one before.
        output_stride: 8 (the paper's), 16 or 32.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``
            (the paper: 0.4).
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("PSPNet",)
    mxnetseg_prefixes = {"head.pool.": "ppm.", "head.seg_head.": "head."}
    needs_batch = 2  # one cell of the pyramid is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.ppm = PPM(c4.channels, **norm)
            self.head = FCNHead(nclass, self.ppm.out_channels, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.ppm(c4))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
