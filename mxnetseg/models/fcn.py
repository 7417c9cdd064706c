"""FCN, fully convolutional network: Long, Shelhamer & Darrell, CVPR 2015.

In the form that is usual since dilated residual networks (FCN-32s of MXNetSeg and GluonCV): a dilated backbone and a
head of a 3x3 and a 1x1 convolution, whose logits are resized to the input. There are no skip connections.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._gluoncv import gluoncv_name
from ._mmseg import backbone_options, is_mmseg, mmseg_name
from .backbones import get_backbone


class FCN(SegModel):
    """FCN: a head of two convolutions on the last tap of any backbone.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The head of the ``'mmseg'`` variant has two 3x3 convolutions, and a third one that reads their output and the tap.

    Args:
        nclass: number of classes.
        backbone: the head reads its last tap, the auxiliary head the one before.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        head_channels: channels inside the head, 512 in GluonCV on a ResNet-50; None: at most 256.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: an auxiliary head; the weight of its loss is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("FCNResNet", "FCNMobileNet")
    foreign_options = {"gluoncv": {"head_channels": 512}, "mmseg": {"variant": "mmseg"}}

    def __init__(self, *, nclass: int, backbone: str = "resnet18", output_stride: int = 8,
                 head_channels: int | None = None, variant: str = "mxnetseg", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("FCN", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self._align_corners = not mmseg
        self.aligned_stride = 1 if mmseg else self.backbone.grid_stride
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

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's FCN."""
        return gluoncv_name(self, name)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name)
