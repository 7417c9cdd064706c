"""Attentional class feature network: Zhang, Chen, Li, Hong, Liu, Ma, Han & Ding, ICCV 2019."""
from __future__ import annotations

from typing import Mapping, Optional, Sequence

from mxnet.gluon import nn

from ..errors import UnknownNameError
from ..losses import Term
from ..nn.attention import unlikeness
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import ASPP
from ..nn.resize import resize
from .backbones import get_backbone
from .base import SegModel, norm_options


def paper_mixture(F, features, logits):
    """features (N, C, HW), logits (N, nclass, HW) -> (N, C, HW): see :class:`ClassFeatures`."""
    # P_cj / sum_j P_cj; as a softmax it is defined for a class that is nowhere, too
    weights = F.softmax(F.log_softmax(logits, axis=1), axis=2)
    centres = F.batch_dot(features, weights, transpose_b=True)  # (N, C, nclass)
    return F.batch_dot(centres, F.softmax(logits, axis=1))


def port_mixture(F, features, logits):
    """features (N, C, HW), logits (N, nclass, HW) -> (N, C, HW): see :class:`ClassFeatures`."""
    weights = unlikeness(F, F.batch_dot(logits, features, transpose_b=True))  # (N, nclass, C)
    return F.batch_dot(weights, logits, transpose_a=True)


MIXTURES = {"port": port_mixture, "paper": paper_mixture}


class ClassFeatures(nn.HybridBlock):
    """Gives every pixel the features of the classes that a coarse segmentation sees in it.

    x: (N, in_channels, H, W), coarse logits: (N, nclass, H, W) -> (N, channels, H, W).

    With F' the narrowed features, j over the places and c over the classes:

    * ``'paper'``: P = softmax_c(logits). Class centres F_c = sum_j P_cj F'_j / sum_j P_cj (class
      centre block), and from them each place's mixture sum_c P_cj F_c (class attention block).
    * ``'port'``, what MXNetSeg and its PyTorch model compute: P = logits; E = P F'^T; each class's weights
      over the *channels* are softmax(max(E) - E); a place gets their sum weighted by its logits. It is
      DANet's channel attention between classes and channels rather than a class centre.

    Both end in a 1x1 convolution and have the same parameters.

    Args:
        channels, in_channels: output and input channels.
        variant: ``'port'`` or ``'paper'``.
        norm_layer, norm_kwargs: GluonCV's idiom.
    """

    def __init__(self, channels: int, *, in_channels: int, variant: str, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._mixture = MIXTURES[variant]
        with self.name_scope():
            self.conv_1 = ConvModule2d(channels, 1, in_channels=in_channels, **norm)
            self.conv_2 = ConvModule2d(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, x, logits):
        x = self.conv_1(x)
        mixture = self._mixture(F, F.reshape(x, (0, 0, -1)), F.reshape(logits, (0, 0, -1)))
        return self.conv_2(F.reshape_like(mixture, x))


class ACFNet(SegModel):
    """ACFNet: a coarse segmentation tells each pixel about its classes, a second head decides.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the coarse logits and the
    auxiliary ones. The paper weighs their losses 0.7, 0.6 and 0.4.

    As MXNetSeg has it: the base features come from an ASPP of 512 channels without image pooling, and
    the heads are FCN heads.

    Args:
        nclass: classes.
        backbone: the base features sit on its last tap, the auxiliary head on the one before.
        output_stride: 8 (the paper's), 16 or 32.
        variant: ``'port'`` (MXNetSeg's formula, which its weights need) or ``'paper'``; see
            :class:`ClassFeatures`.
        aux: supervise the coarse segmentation, and an auxiliary head whose loss is weighted by the
            configuration's ``loss.aux_weight``. Without it nothing tells the coarse head that it is one.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: no such variant.
    """

    mxnetseg_classes = ("ACFNet",)
    mxnetseg_prefixes = {"head.head.": "head.", "head.": ""}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 variant: str = "port", aux: bool = False, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        if variant not in MIXTURES:
            raise UnknownNameError("variant of ACFNet", variant, MIXTURES)
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        with self.name_scope():
            self.aspp = ASPP(512, in_channels=c4.channels, rates=(12, 24, 36), image_pool=False, **norm)
            self.coarse_head = FCNHead(nclass, 512, **norm)
            self.acf = ClassFeatures(512, in_channels=512, variant=variant, **norm)
            self.head = FCNHead(nclass, 512 + 512, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        base = self.aspp(c4)
        coarse = self.coarse_head(base)
        outputs = [self.head(F.concat(base, self.acf(base, coarse), dim=1))]
        if self.aux_head is not None:
            outputs += [coarse, self.aux_head(c3)]
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def terms(self, pixel_loss, aux_weight) -> Sequence[Term]:
        if self.aux_head is None:
            return [Term(0, 1.0, pixel_loss)]
        return [Term(0, 0.7, pixel_loss), Term(1, 0.6, pixel_loss), Term(2, aux_weight, pixel_loss)]
