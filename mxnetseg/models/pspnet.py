"""PSPNet, pyramid scene parsing network: Zhao, Shi, Qi, Wang & Jia, CVPR 2017.

Means over grids of several sizes add context to the features of a dilated backbone.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._gluoncv import gluoncv_name
from ._mmseg import backbone_options, is_mmseg, mmseg_name
from .backbones import get_backbone


class PSPNet(SegModel):
    """PSPNet: pyramid pooling and a head on the last tap of any backbone (figure 3 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The head has 256 channels as in MXNetSeg; in the paper and in mmsegmentation it has 512. MXNetSeg's network accepts
    only backbones with 2048 channels; this one runs on any backbone.

    Args:
        nclass: number of classes.
        backbone: the head reads its last tap, the auxiliary head the one before.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        head_channels: channels inside the head, 512 in the paper and in GluonCV; None: 256.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: an auxiliary head; the weight of its loss is ``loss.aux_weight`` of the configuration, 0.4 in the paper.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("PSPNet",)
    mxnetseg_prefixes = {"head.pool.": "ppm.", "head.seg_head.": "head."}
    foreign_options = {"gluoncv": {"head_channels": 512}, "mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 head_channels: int | None = None, variant: str = "mxnetseg", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("PSPNet", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self._align_corners = not mmseg
        self.aligned_stride = 1 if mmseg else self.backbone.grid_stride
        head, aux_head = ({"channels": tap.channels // 4} if mmseg else {} for tap in (c4, c3))
        if head_channels is not None:
            head["channels"] = head_channels

        with self.name_scope():
            self.ppm = PPM(c4.channels, align_corners=self._align_corners, **norm)
            self.head = FCNHead(nclass, self.ppm.out_channels, **head, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **aux_head, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.ppm(c4))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=self._align_corners) for logits in outputs)

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's PSPNet."""
        return gluoncv_name(self, name)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {r"^decode_head\.bottleneck\.": "head.conv1."})
