"""Names of parameters in GluonCV's segmentation networks, for those that mxnetseg has too.

GluonCV's FCN, PSPNet, DeepLabV3 and DANet use dilated ResNets (v1s) or ResNeSts, its DeepLabV3+ uses Xception-65;
all have output stride 8. They fix the size of their output at ``crop_size``, whereas the output here follows the image;
both are equal at that size. GluonCV's HRNet is read too (:mod:`~mxnetseg.models.hrnet`). Not read: its ICNet and
FastSCNN, whose structure differs (mxnetseg has mmsegmentation's), its DeepLabV3b+, which uses a WideResNet, and its
smallest HRNet.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._base import SegModel

# beginning of a name in GluonCV -> here; shared by several of its networks
_COMMON = (
    (r"^head\.psp\.", "ppm."), (r"^(ppm\.conv\d)\.0\.", r"\1.conv."), (r"^(ppm\.conv\d)\.1\.", r"\1.bn."),
    (r"^head\.aspp\.concurent\.", "aspp.branches."), (r"^head\.aspp\.project\.", "aspp.projection."),
    (r"^aspp\.branches\.4\.gap\.1\.", "aspp.branches.4.conv1x1.conv."),
    (r"^aspp\.branches\.4\.gap\.2\.", "aspp.branches.4.conv1x1.bn."),
    (r"^(aspp\.branches\.\d|aspp\.projection)\.0\.", r"\1.conv."),
    (r"^(aspp\.branches\.\d|aspp\.projection)\.1\.", r"\1.bn."),
    (r"^auxlayer\.block\.", "aux_head.block."), (r"^(head|aux_head)\.block\.0\.", r"\1.conv1.conv."),
    (r"^(head|aux_head)\.block\.1\.", r"\1.conv1.bn."), (r"^(head|aux_head)\.block\.4\.", r"\1.conv2."),
)


def gluoncv_name(net: SegModel, name: str, own: Sequence[tuple[str, str]] = ()) -> str | None:
    """Return the name here of a parameter in GluonCV's checkpoints.

    Args:
        net: the network.
        name: GluonCV's name.
        own: (regular expression, replacement) pairs of this network, applied before the common ones.
    """
    if name.split(".", 1)[0] in net.backbone._children:
        return f"backbone.{name}"
    for pattern, replacement in (*own, *_COMMON):
        name = re.sub(pattern, replacement, name)
    return name
