"""Pyramid scene parsing network: Zhao et al., CVPR 2017."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone
from .weights.gluoncv import gluoncv_name
from .weights.mmseg import backbone_options, is_mmseg, mmseg_name


class PSPNet(SegModel):
    """PSPNet on any backbone with taps: the paper's figure 3, with the head on stage 4.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The classifier is 256 wide as in MXNetSeg; the paper's is 512, and so is mmsegmentation's. MXNetSeg's takes
    backbones of 2048 channels only, this one goes by the backbone's taps.

    Args:
        nclass: classes.
        backbone: the head sits on its last tap, the auxiliary head on the one before.
        output_stride: 8 (the paper's), 16 or 32.
        head_channels: width of the classifier; by default 256. The paper's and GluonCV's is 512.
        variant: ``'mxnetseg'``, or ``'mmseg'``: mmsegmentation's form, see above and :mod:`.mmseg`.
        aux: an auxiliary head; its loss is weighted by the configuration's ``loss.aux_weight``
            (the paper: 0.4).
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: no such variant.
    """

    mxnetseg_classes = ("PSPNet",)
    mxnetseg_prefixes = {"head.pool.": "ppm.", "head.seg_head.": "head."}
    foreign_options = {"gluoncv": {"head_channels": 512}, "mmseg": {"variant": "mmseg"}}
    needs_batch = 2  # one cell of the pyramid is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 head_channels: Optional[int] = None, variant: str = "mxnetseg", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("PSPNet", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self._align_corners = not mmseg
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

    def from_gluoncv(self, name: str) -> Optional[str]:
        """Our name of a parameter of GluonCV's PSPNet."""
        return gluoncv_name(self, name)

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        return mmseg_name(self, name, {r"^decode_head\.bottleneck\.": "head.conv1."})
