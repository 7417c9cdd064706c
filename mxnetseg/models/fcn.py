"""Fully convolutional network: Long, Shelhamer & Darrell, CVPR 2015.

As everybody builds it since dilated residual networks: no skip fusion, but a dilated backbone and a
3x3 + 1x1 head, resized to the input (FCN-32s of MXNetSeg and GluonCV).
"""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


class FCN(SegModel):
    """FCN on any backbone with taps.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    Args:
        nclass: classes.
        backbone: the head sits on its last tap, the auxiliary head on the one before.
        output_stride: 8, 16 or 32.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    mxnetseg_classes = ("FCNResNet", "FCNMobileNet")

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 8, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.head = FCNHead(nclass, c4.channels, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(c4)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
