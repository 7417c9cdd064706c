"""Fully convolutional network: Long, Shelhamer & Darrell, CVPR 2015.

As everybody builds it since dilated residual networks: no skip fusion, but a dilated backbone and a
3x3 + 1x1 head, resized to the input (FCN-32s of MXNetSeg and GluonCV).
"""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone
from .weights.gluoncv import gluoncv_name
from .weights.mmseg import backbone_options, is_mmseg, mmseg_name


class FCN(SegModel):
    """FCN on any backbone with taps.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    mmsegmentation's form has two 3x3 convolutions in the head, and a third that reads their output and the input.

    Args:
        nclass: classes.
        backbone: the head sits on its last tap, the auxiliary head on the one before.
        output_stride: 8, 16 or 32.
        head_channels: width of the head; by default 256 at most. GluonCV's is 512 on a ResNet-50.
        variant: ``'mxnetseg'``, or ``'mmseg'``: mmsegmentation's form, see above and :mod:`.mmseg`.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: no such variant.
    """

    mxnetseg_classes = ("FCNResNet", "FCNMobileNet")
    foreign_options = {"gluoncv": {"head_channels": 512}, "mmseg": {"variant": "mmseg"}}

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 8,
                 head_channels: Optional[int] = None, variant: str = "mxnetseg", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("FCN", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self._align_corners = not mmseg
        head = {"channels": c4.channels // 4, "convs": 2, "concat_input": True} if mmseg else {}
        if head_channels is not None:
            head["channels"] = head_channels
        aux_head = {"channels": c3.channels // 4} if mmseg else {}
        with self.name_scope():
            self.head = FCNHead(nclass, c4.channels, **head, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **aux_head, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(c4)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=self._align_corners) for logits in outputs)

    def from_gluoncv(self, name: str) -> Optional[str]:
        """Our name of a parameter of GluonCV's FCN."""
        return gluoncv_name(self, name)

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        return mmseg_name(self, name)
