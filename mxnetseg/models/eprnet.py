"""EPRNet: efficient pyramid representation network. Tang, Liu, Jiang & Zhang, IEEE T-ITS 2022.

A light backbone of modules with several dilations side by side, and an FCN head.
"""
from __future__ import annotations

import re
from collections.abc import Mapping

from mxnet.gluon import nn

from ..errors import ConfigError
from ..nn.blocks import FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import BACKBONES, get_backbone


class EPRNet(SegModel):
    """EPRNet: an FCN head on a light backbone at stride 8.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    Args:
        nclass: number of classes.
        backbone: ``'eprnet'`` or ``'eprnet_light'``; any other is possible.
        light: the same as ``backbone='eprnet_light'``.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: ``light`` with a backbone that has no light variant.
    """

    mxnetseg_classes = ("EPRNet",)

    def __init__(self, *, nclass: int, backbone: str = "eprnet", light: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        backbone = BACKBONES.resolve(backbone)
        if light and backbone not in ("eprnet", "eprnet_light"):
            raise ConfigError("only EPRNet's own backbone has a light form", where="model.options.light",
                              received=backbone, fix="remove either the backbone or light=True")

        backbone = "eprnet_light" if light else backbone
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=8, **norm), nclass)
        self.aligned_stride = self.backbone.grid_stride
        with self.name_scope():
            self.head = FCNHead(nclass, self.backbone.taps[-1].channels, drop=0.0, activation="prelu", **norm)

    def hybrid_forward(self, F, x):
        return (resize(F, self.head(self.backbone(x)[-1]), x, align_corners=True),)

    def from_mxnetseg(self, name: str) -> str | None:
        name = name.replace("act.act.", "act.")  # MXNetSeg wraps every activation
        name = name.replace(".skip.", ".skip.conv.").replace(".skip_bn.", ".skip.bn.")
        name = re.sub(r"^(conv|bn|act)\.", r"backbone.stem.\1.", name)
        return super().from_mxnetseg(name)
