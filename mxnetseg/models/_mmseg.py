"""Variants and parameter names of the networks that mmsegmentation and MXNetSeg share.

The default variant of these networks is MXNetSeg's; ``variant='mmseg'`` builds what mmsegmentation 1.x trains with its
standard settings. Each network's docstring lists the differences. Common to all: bilinear resizing aligns the edges of
the grids, not the corner samples, and heads have a quarter of the channels of their input (512 on a ResNet-50, and 256
for the auxiliary head). mmsegmentation's ResNets are GluonCV's v1c (``backbone='resnet50_v1c'``; ``'resnet18_v1c'``
for ``r18-d8``), or plain ones (``'resnet50_v1b'``, ``'resnet18'`` for ``r18b-d8``).
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnknownNameError
from .backbones import BACKBONES
from .backbones.resnet import is_basic
from .weights.pytorch import gluon_name

if TYPE_CHECKING:
    from ._base import SegModel

# shared by several of its networks: ResNets with a deep stem, FCN heads, context modules
_COMMON = {
    r"^(?:decode_head|backbone)\.psp_modules\.(\d)\.1\.": lambda found: f"ppm.conv{int(found[1]) + 1}.",
    r"^decode_head\.aspp_modules\.": "aspp.branches.", r"^decode_head\.image_pool\.1\.": "aspp.branches.4.conv1x1.",
    r"^decode_head\.bottleneck\.": "aspp.projection.",
    r"^backbone\.stem\.7\.": "backbone.bn1.", r"^backbone\.stem\.": "backbone.conv1.",
    r"^decode_head\.": "head.", r"^auxiliary_head\.": "aux_head.",
    r"head\.convs\.0\.": "head.conv1.", r"head\.convs\.1\.": "head.more.0.", r"head\.conv_cat\.": "head.join.",
    r"head\.conv_seg\.": "head.conv2.",
}


def is_mmseg(network: str, variant: str, *, other: str = "mxnetseg") -> bool:
    """Return True for the variant ``'mmseg'``, False for the ``other`` one.

    Raises:
        UnknownNameError: it is neither; the message names ``network``.
    """
    if variant not in (other, "mmseg"):
        raise UnknownNameError(f"variant of {network}:", variant, [other, "mmseg"])
    return variant == "mmseg"


def backbone_options(backbone: str, mmseg: bool) -> dict[str, bool]:
    """Return the options with which a backbone is dilated as in mmsegmentation."""
    return {"dilate_first_only": True} if mmseg and is_basic(BACKBONES.resolve(backbone)) else {}


def mmseg_name(net: SegModel, name: str, own: Mapping[str, str] | None = None) -> str | None:
    """Return the name here of a tensor in mmsegmentation's checkpoints; None for one that is not used.

    Args:
        net: the network.
        name: mmsegmentation's name.
        own: regular expression -> replacement of this network, applied in order before the common ones.
    """
    for pattern, replacement in [*(own or {}).items(), *_COMMON.items()]:
        name = re.sub(pattern, replacement, name)
    return gluon_name(net.named_parameters(), name)


def mean_last(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Move the input channels of ASPP's image pooling from the first place, as in mmsegmentation, to the last."""
    tensors = dict(tensors)
    projection = tensors.get("decode_head.bottleneck.conv.weight")
    if projection is not None and "decode_head.image_pool.1.conv.weight" in tensors:
        channels = tensors["decode_head.image_pool.1.conv.weight"].shape[0]
        tensors["decode_head.bottleneck.conv.weight"] = np.roll(projection, -channels, axis=1)
    return tensors
