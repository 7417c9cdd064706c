"""DANet, dual attention network: Fu, Liu, Tian, Li, Bao, Fang & Lu, CVPR 2019.

Attention between pixels and attention between channels, side by side.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mxnet.gluon import nn

from ..losses import Blend, Term
from ..nn.attention import ChannelAttention, PositionAttention
from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._gluoncv import gluoncv_name
from ._mmseg import backbone_options, is_mmseg, mmseg_name
from .backbones import get_backbone


class DANet(SegModel):
    """DANet: the sum of a position attention branch and a channel attention branch (figure 2 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the position
    branch and of the channel branch alone.

    The paper also puts a loss on each branch; all losses have weight 1 (``loss.aux_weight``). As in MXNetSeg there is
    no multi-grid. Both attentions start as the identity, because their gates start at 0.

    The ``'mmseg'`` variant also has an FCN head on the second-to-last tap; with ``aux`` its logits are the last output.
    The weight of its loss is ``aux_weight``, and the weights of the branches' losses are 1.

    Args:
        nclass: number of classes.
        backbone: both branches read its last tap, and have a quarter of its channels.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        variant: ``'mxnetseg'``, or ``'mmseg'`` as in mmsegmentation: see above and
            :mod:`mxnetseg.models._mmseg`.
        aux: a classifier on each branch.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("DANet",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}
    foreign_options = {"mmseg": {"variant": "mmseg"}}
    zero_gradient_at_start = ("pam.*_conv.*",)  # multiplied by a gate that starts at 0

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 variant: str = "mxnetseg", aux: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("DANet", variant)
        super().__init__(get_backbone(backbone, output_stride=output_stride,
                                      options=backbone_options(backbone, mmseg), **norm), nclass)
        c3_channels, channels = (tap.channels for tap in self.backbone.taps[-2:])
        width = channels // 4
        self._align_corners = not mmseg
        self.aligned_stride = 1 if mmseg else self.backbone.grid_stride

        with self.name_scope():
            self.compress_pam = ConvModule2d(width, 3, in_channels=channels, **norm)
            self.pam = PositionAttention(width)
            self.proj_pam = ConvModule2d(width, 3, in_channels=width, **norm)
            self.compress_cam = ConvModule2d(width, 3, in_channels=channels, **norm)
            self.cam = ChannelAttention()
            self.proj_cam = ConvModule2d(width, 3, in_channels=width, **norm)
            self.head = classifier(nclass, width)
            self.aux_head = nn.HybridSequential() if aux else None
            if aux:
                self.aux_head.add(classifier(nclass, width), classifier(nclass, width))
            self.fcn_head = None
            if aux and mmseg:
                self.fcn_head = FCNHead(nclass, c3_channels, channels=c3_channels // 4, **norm)

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        position = self.proj_pam(self.pam(self.compress_pam(c4)))
        channel = self.proj_cam(self.cam(self.compress_cam(c4)))
        outputs = [self.head(position + channel)]
        if self.aux_head is not None:
            outputs += [self.aux_head[0](position), self.aux_head[1](channel)]
        if self.fcn_head is not None:
            outputs.append(self.fcn_head(c3))
        return tuple(resize(F, logits, x, align_corners=self._align_corners) for logits in outputs)

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's DANet, which always has the classifiers of ``aux``."""
        return gluoncv_name(self, name, (
            (r"^head\.conv5a\.0\.", "compress_pam.conv."), (r"^head\.conv5a\.1\.", "compress_pam.bn."),
            (r"^head\.conv5c\.0\.", "compress_cam.conv."), (r"^head\.conv5c\.1\.", "compress_cam.bn."),
            (r"^head\.conv51\.0\.", "proj_pam.conv."), (r"^head\.conv51\.1\.", "proj_pam.bn."),
            (r"^head\.conv52\.0\.", "proj_cam.conv."), (r"^head\.conv52\.1\.", "proj_cam.bn."),
            (r"^head\.sa\.", "pam."), (r"^head\.sc\.", "cam."), (r"^head\.conv6\.0\.", "aux_head.0.1."),
            (r"^head\.conv7\.0\.", "aux_head.1.1."), (r"^head\.conv8\.0\.", "head.1.")))

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        terms = [Term(0, 1.0, pixel_loss)]
        if self.aux_head is not None:
            branch_weight = aux_weight if self.fcn_head is None else 1.0
            terms += [Term(1, branch_weight, pixel_loss), Term(2, branch_weight, pixel_loss)]
        if self.fcn_head is not None:
            terms.append(Term(3, aux_weight, pixel_loss))
        return terms

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"^decode_head\.([pc]am)_in_conv\.": r"compress_\1.", r"^decode_head\.([pc]am)_out_conv\.": r"proj_\1.",
            r"^decode_head\.pam\.(key|query|value)_project\.": r"pam.\1_conv.",
            r"^decode_head\.([pc]am)\.gamma\.scale$": r"\1.gamma",
            r"^decode_head\.conv_seg\.": "head.1.", r"^decode_head\.pam_conv_seg\.": "aux_head.0.1.",
            r"^decode_head\.cam_conv_seg\.": "aux_head.1.1.", r"^auxiliary_head\.": "fcn_head."})

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with mmsegmentation's gates, which are scalars, as vectors of length 1."""
        tensors = super().adapt_foreign(form, tensors)
        if form == "mmseg":
            tensors = {name: value.reshape(-1) if name.endswith(".gamma.scale") else value
                       for name, value in tensors.items()}
        return tensors
