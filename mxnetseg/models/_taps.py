"""Weights of convolutions that crops of one size never train."""
from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._nodes import Node, nodes

if TYPE_CHECKING:
    from ._base import SegModel


def untrained_taps(net: SegModel, crop: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Find convolutions some of whose weights meet padding alone in crops of one size, but pixels in larger images.

    A 3x3 convolution of a 1 x 1 map multiplies one pixel by its central weight. The other eight get no gradient, keep
    their first values, and disturb the result as soon as a larger image has more pixels there. The same happens to a
    convolution with dilation 24 on a map of 16 x 20.

    Args:
        net: a network of :func:`~mxnetseg.models.build_model` or :func:`~mxnetseg.models.get_model`.
        crop: (height, width) of the crops.

    Returns:
        (height, width), about the smallest crop that trains all weights, by structural name of each such weight.
    """
    names = {p.name: name for name, p in net._collect_params_with_prefix().items()}
    factors: dict[str, tuple[float, float]] = {}  # of the crop's sides, 1 where all taps of an axis meet pixels
    for node in nodes(net, crop):
        if node.operator == "Convolution":
            weight = names[node.inputs[1].variable().name]
            here = _missing(node, 0), _missing(node, 1)
            factors[weight] = min(factors.get(weight, here), here)  # a block that is called twice is trained by both
    return {weight: (math.ceil(crop[0] * factor[0] / 32) * 32, math.ceil(crop[1] * factor[1] / 32) * 32)
            for weight, factor in factors.items() if max(factor) > 1}


def _missing(node: Node, axis: int) -> float:
    """Return the ratio of the side that all taps of a convolution need to its input's; 1 if they all meet pixels."""
    kernel, stride, dilation, padding = (ast.literal_eval(node.attributes.get(key, "()"))[axis:axis + 1] or (default,)
                                         for key, default in (("kernel", 1), ("stride", 1), ("dilate", 1), ("pad", 0)))
    side = node.inputs[0].shape[2 + axis]
    needed = side
    while not _all_meet(needed, kernel[0], stride[0], dilation[0], padding[0]):
        needed += 1
    return needed / side


def _all_meet(side: int, kernel: int, stride: int, dilation: int, padding: int) -> bool:
    """Return whether each tap of a convolution multiplies at least one of ``side`` pixels."""
    starts = range(-padding, side + padding - dilation * (kernel - 1), stride)
    return all(any(0 <= start + tap * dilation < side for start in starts) for tap in range(kernel))
