"""Map parameter names of GluonCV's segmentation networks to ours.

GluonCV's FCN, PSPNet, DeepLabV3 and DANet sit on dilated ResNets (v1s) or ResNeSts, its DeepLabV3+ on Xception-65;
all of output stride 8. They fix the size of their output at ``crop_size``, ours follows the image: the outputs are the
same at that size. Its HRNet is read too (:mod:`.hrnet`). Not its ICNet and FastSCNN, which differ from ours
(mmsegmentation's) in structure, its DeepLabV3b+, which sits on a WideResNet, and the smallest HRNet.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

# beginning of a name there -> here; what several of its networks have
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


def gluoncv_name(net, name: str, own: Sequence[tuple[str, str]] = ()) -> str | None:
    """Return our name of a parameter in GluonCV's checkpoints.

    Args:
        net: the network.
        name: GluonCV's.
        own: regular expressions -> replacements, before those that several networks share.
    """
    if name.split(".", 1)[0] in net.backbone._children:
        return f"backbone.{name}"
    for theirs, ours in (*own, *_COMMON):
        name = re.sub(theirs, ours, name)
    return name
