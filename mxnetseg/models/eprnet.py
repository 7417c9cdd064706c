"""EPRNet: efficient pyramid representation. Tang, Liu, Jiang & Zhang, IEEE T-ITS 2022."""
from __future__ import annotations

import re
from typing import Mapping, Optional

from mxnet.gluon import nn

from ..errors import ConfigError
from ..nn.blocks import FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import BACKBONES, get_backbone


class EPRNet(SegModel):
    """A light backbone of its own at stride 8 and a plain head.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    Args:
        nclass: classes.
        backbone: ``'eprnet'`` or ``'eprnet_light'``; any other with taps would do.
        light: another way to say ``backbone='eprnet_light'``.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: ``light`` with a backbone that has no light form.
    """

    mxnetseg_classes = ("EPRNet",)

    def __init__(self, *, nclass: int, backbone: str = "eprnet", light: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        backbone = BACKBONES.resolve(backbone)
        if light and backbone not in ("eprnet", "eprnet_light"):
            raise ConfigError("only EPRNet's own backbone has a light form", where="model.options.light",
                              received=backbone, fix="leave the backbone or light=True out")
        backbone = "eprnet_light" if light else backbone
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=8, **norm), nclass)
        with self.name_scope():
            self.head = FCNHead(nclass, self.backbone.taps[-1].channels, drop=0.0, activation="prelu", **norm)

    def hybrid_forward(self, F, x):
        return (resize(F, self.head(self.backbone(x)[-1]), x, align_corners=True),)

    def from_mxnetseg(self, name: str) -> str:
        name = name.replace("act.act.", "act.")  # MXNetSeg wraps every activation
        name = name.replace(".skip.", ".skip.conv.").replace(".skip_bn.", ".skip.bn.")
        name = re.sub(r"^(conv|bn|act)\.", r"backbone.stem.\1.", name)
        return super().from_mxnetseg(name)
