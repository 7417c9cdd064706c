"""Search for the layers that an int8 network keeps in float32, for MXNet and ONNX alike.

Everything is quantised first. If too many pixels of the calibration images change their class, each layer is tried
alone in int8, and the layers that change the logits most return to float32: as few as keep enough classes.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable, Generic, TypeVar

import numpy as np

log = logging.getLogger(__name__)

# fraction of the calibration images' pixels that must keep their class
AGREEMENT = 0.992
# Each group of layers takes one image's inference to judge; in networks with more layers, neighbours share a group.
_MOST_GROUPS = 64

Model = TypeVar("Model")


@dataclass(frozen=True)
class Quantized(Generic[Model]):
    """Result of the search.

    Attributes:
        model: the network in int8.
        float32_layers: names of the layers that stay in float32.
        agreement: fraction of the calibration images' pixels that keep their class.
    """

    model: Model
    float32_layers: tuple[str, ...]
    agreement: float


def keep_classes(layers: Sequence[str], quantize: Callable[[Sequence[str]], Model],
                 infer: Callable[[Model, int], Iterable[np.ndarray]], exact: Sequence[np.ndarray]) -> Quantized[Model]:
    """Return the int8 network with the fewest float32 layers that keeps enough pixels' classes.

    Args:
        layers: names of the layers that can be quantised, in the network's order.
        quantize: returns the network in int8, except for the layers of the given names.
        infer: returns the logits (1, C, H, W) of a network for the first n calibration images, one after the other.
        exact: the float32 network's logits of all calibration images.
    """
    def with_float32(groups: Sequence[Sequence[str]]) -> Quantized[Model]:
        kept = tuple(name for group in groups for name in group)
        model = quantize(kept)
        pairs = zip(infer(model, len(exact)), exact)
        return Quantized(model, kept, float(np.mean([(a.argmax(axis=1) == b.argmax(axis=1)).mean() for a, b in pairs])))

    def harm(group: Sequence[str]) -> float:
        # Logits say more than classes here: one layer alone changes few classes.
        (logits,) = infer(quantize([name for name in layers if name not in group]), 1)
        return float(np.square(logits - exact[0]).mean())

    found = with_float32([])
    if found.agreement < AGREEMENT:
        size = max(-(-len(layers) // _MOST_GROUPS), 1)
        groups = sorted((layers[i:i + size] for i in range(0, len(layers), size)), key=harm, reverse=True)

        # The fewest groups that suffice, by bisection: more groups in float32 do not change more classes.
        enough, too_few = len(groups), 0
        best = None
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            found = with_float32(groups[:middle])
            if found.agreement >= AGREEMENT:
                enough, best = middle, found
            else:
                too_few = middle
        found = best or with_float32(groups)

    log.info("int8: %.2f %% of the calibration pixels keep their class; %d of %d layers in float32",
             100 * found.agreement, len(found.float32_layers), len(layers))
    return found
