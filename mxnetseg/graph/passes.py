"""Passes over a graph: what a pass is, and the switch of each.

A pass takes a graph and returns a graph that computes the same. Three lists of passes exist:

* :data:`.precision_phase.PRECISION_PASSES`, once per precision, when a network is compiled for inference,
* :data:`.shape_phase.SHAPE_PASSES`, once per input shape, when a shape recurs,
* :data:`.training.TRAINING_PASSES`, once per batch shape, in training.

``MXNETSEG_SKIP_PASSES=idle-operators,winograd`` leaves out the named passes, to find the cause of a wrong result.
``--precision plain`` leaves out all of them. Conversions have no such switch: ``--precision`` is theirs.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Generic, TypeVar

from ..errors import ConfigError

SKIP_VARIABLE = "MXNETSEG_SKIP_PASSES"
# the names that SKIP_VARIABLE takes
SWITCHES = ("activations", "even-channels", "early-casts", "onednn-fusion",
            "idle-operators", "pooling", "winograd", "dilated", "constants", "dense-products", "dilated-training",
            "aligned-training")

GraphType = TypeVar("GraphType")


@dataclass(frozen=True)
class Pass(Generic[GraphType]):
    """A named rewrite of a graph.

    Attributes:
        name: one of :data:`SWITCHES`, or the name of a conversion to a precision.
        rewrite: graph -> graph; it may change the graph in place.
    """

    name: str
    rewrite: Callable[[GraphType], GraphType]


def run_passes(passes: Sequence[Pass], graph: Any) -> Any:
    """Apply the passes that are not switched off, in order, and return the graph.

    Raises:
        ConfigError: ``MXNETSEG_SKIP_PASSES`` names a pass that does not exist.
    """
    skipped = skipped_passes()
    for each in passes:
        if each.name not in skipped:
            graph = each.rewrite(graph)
    return graph


def skipped_passes() -> set[str]:
    """Return the names of the passes that ``MXNETSEG_SKIP_PASSES`` leaves out.

    Raises:
        ConfigError: a name is unknown.
    """
    names = {name.strip() for name in os.environ.get(SKIP_VARIABLE, "").split(",")} - {""}
    unknown = sorted(names - set(SWITCHES))
    if unknown:
        raise ConfigError("unknown pass", where=SKIP_VARIABLE, received=", ".join(unknown),
                          fix=f"one or several of {', '.join(SWITCHES)}, separated by commas")
    return names
