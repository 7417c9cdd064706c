"""Nodes of a network's graph with their shapes, without running it."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import mxnet as mx

if TYPE_CHECKING:
    from ._base import SegModel

_RECTIFIERS = ("relu", "leaky", "prelu", "elu")


class Node(NamedTuple):
    """A node of a graph. ``shape`` is that of its first output; ``operator`` is ``'null'`` for a variable."""

    operator: str
    name: str
    attributes: dict[str, str]
    inputs: tuple[Node, ...]
    shape: tuple[int, ...]

    def variable(self) -> Node:
        """Return the variable that this node is, or that it reshapes or casts."""
        return self.inputs[0].variable() if self.inputs else self

    def rectifies(self) -> bool:
        """Return whether it is a ReLU of a feature map; ReLUs of at most two axes compute the weights of a resize."""
        activation = self.attributes.get("act_type", "relu" if self.operator == "relu" else None)
        return activation in _RECTIFIERS and len(self.shape) == 4


def nodes(net: SegModel, size: Sequence[int]) -> Iterator[Node]:
    """Yield the nodes of a network's graph, inputs first, for one image of (height, width)."""
    outputs = mx.sym.Group(list(net(mx.sym.var("data"))))
    internals = outputs.get_internals()
    shapes = iter(zip(internals.list_outputs(), internals.infer_shape(data=(1, 3, *size))[1]))
    pending = next(shapes, None)
    made: list[Node] = []
    for entry in json.loads(outputs.tojson(remove_amp_cast=False))["nodes"]:
        # Both lists have the same order. Names are not unique in a graph that calls a block twice, but the outputs of
        # an operator are adjacent: NAME_output, or NAME_output0, NAME_output1, ...
        first = pending[1]
        count = 1
        pending = next(shapes, None)
        while pending is not None and entry["op"] != "null" and pending[0] == f"{entry['name']}_output{count}":
            pending, count = next(shapes, None), count + 1
        made.append(Node(entry["op"], entry["name"], entry.get("attrs", {}),
                         tuple(made[i] for i, *_ in entry["inputs"]), tuple(first)))
        yield made[-1]
