"""mmsegmentation's forms of networks that MXNetSeg has too, and the names in its checkpoints.

MXNetSeg's forms are the defaults here; ``variant='mmseg'`` builds what mmsegmentation 1.x trains with its standard
settings. Every network's docstring says what differs. Common to all: bilinear resizing aligns the edges of the grids,
not the corner samples, and heads are a quarter as wide as the map they read (512 channels on a ResNet-50, and 256 for
the auxiliary head). Its ResNets are GluonCV's v1c (``backbone='resnet50_v1c'``; ``'resnet18_v1c'`` for ``r18-d8``), or
plain ones (``'resnet50_v1b'``, ``'resnet18'`` for ``r18b-d8``).
"""
from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ...errors import UnknownNameError
from ..backbones import BACKBONES
from ..backbones.resnet import is_basic
from .pytorch import gluon_name

# what several of its networks have: ResNets with a deep stem, FCN heads, context modules
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
    """Return whether ``variant`` is ``'mmseg'`` and not the ``other`` one.

    Raises:
        UnknownNameError: it is neither; the message names ``network``.
    """
    if variant not in (other, "mmseg"):
        raise UnknownNameError(f"variant of {network}:", variant, [other, "mmseg"])
    return variant == "mmseg"


def backbone_options(backbone: str, mmseg: bool) -> dict[str, bool]:
    """Return the options with which a backbone is dilated as in mmsegmentation."""
    return {"dilate_first_only": True} if mmseg and is_basic(BACKBONES.resolve(backbone)) else {}


def mmseg_name(net, name: str, own: Mapping[str, str] | None = None) -> str | None:
    """Return our name of a tensor in mmsegmentation's checkpoints; None for one that is not used.

    Args:
        net: the network.
        name: theirs.
        own: regular expressions -> replacements, one after the other, before those that most networks share.
    """
    for pattern, ours in [*(own or {}).items(), *_COMMON.items()]:
        name = re.sub(pattern, ours, name)
    return gluon_name(net.named_parameters(), name)


def mean_last(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The image's mean as the last branch of ASPP: what its projection reads is its first in mmsegmentation."""
    tensors = dict(tensors)
    projection = tensors.get("decode_head.bottleneck.conv.weight")
    if projection is not None and "decode_head.image_pool.1.conv.weight" in tensors:
        width = tensors["decode_head.image_pool.1.conv.weight"].shape[0]
        tensors["decode_head.bottleneck.conv.weight"] = np.roll(projection, -width, axis=1)
    return tensors
