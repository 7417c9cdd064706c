"""The passes of a training graph: rewrites for the shape of a batch, and conversion to half precision."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import mxnet as mx

from .aligned import align_channels_in_training, misaligned_convolutions
from .dilated import skip_padding_in_training, widely_dilated_nodes
from .graph import Graph
from .half_precision import convert_symbol
from .passes import skipped_passes

# A convolution of this few input channels gives a plain layout in bfloat16, on which the batch norm after it is ten
# times as slow. So the stem stays in float32.
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class TrainingPass:
    """A rewrite of a training graph on CPUs for the shape of its batches, gradients included.

    Attributes:
        name: its switch, see :mod:`.passes`.
        candidates: graph -> the nodes that it may rewrite for some shape.
        rewrite: (graph, shapes of its outputs by name) -> graph; it may change the graph in place.
    """

    name: str
    candidates: Callable[[Graph], Sequence[int]]
    rewrite: Callable[[Graph, Mapping[str, Sequence[int]]], Graph]


TRAINING_PASSES: Sequence[TrainingPass] = (
    TrainingPass("dilated-training", widely_dilated_nodes, skip_padding_in_training),
    TrainingPass("aligned-training", misaligned_convolutions, align_channels_in_training))


def has_shape_passes(symbol: mx.sym.Symbol) -> bool:
    """Return whether a pass may rewrite a training graph for the shape of its batches."""
    graph, skipped = Graph(symbol), skipped_passes()
    return any(each.candidates(graph) for each in TRAINING_PASSES if each.name not in skipped)


def specialize_training_graph(symbol: mx.sym.Symbol, **shapes: Sequence[int]) -> mx.sym.Symbol:
    """Apply :data:`TRAINING_PASSES` to a graph on CPUs, before it is converted to half precision.

    Args:
        symbol: the graph.
        shapes: of its inputs by name.
    """
    skipped = skipped_passes()
    for each in TRAINING_PASSES:
        if each.name not in skipped:
            graph = Graph(symbol)
            symbol = each.rewrite(graph, graph.infer("shape", **shapes)).symbol()
    return symbol


def convert_training_graph(symbol: mx.sym.Symbol, precision: str, parameters: Mapping[str, mx.gluon.Parameter], *,
                           data_name: str) -> mx.sym.Symbol:
    """Convert a network to half precision, except for its stem in bfloat16.

    Args:
        symbol: the network.
        precision: ``'float32'``, which changes nothing, ``'bfloat16'`` or ``'float16'``.
        parameters: its parameters by name; they stay float32.
        data_name: name of its uint8 input.
    """
    if precision == "float32":
        return symbol
    stem = _narrow_convolutions(symbol, parameters) if precision == "bfloat16" else ()
    try:
        return convert_symbol(symbol, precision, data_name=data_name, float32_operators=stem)
    except mx.MXNetError:  # MXNet's pass fails where a network joins the stem with later maps (DenseNet)
        return convert_symbol(symbol, precision, data_name=data_name)


def _narrow_convolutions(symbol: mx.sym.Symbol, parameters: Mapping[str, mx.gluon.Parameter]) -> list[str]:
    """Return the names of the convolutions that read few channels."""
    names = []
    nodes = json.loads(symbol.tojson())["nodes"]  # not Graph, which renames the nodes of a block that is called twice
    for node in nodes:
        if node["op"] == "Convolution":
            # the name of an operator if the network computes the weight
            weight = nodes[node["inputs"][1][0]]["name"]
            groups = int(node["attrs"].get("num_group", 1))
            if weight in parameters and parameters[weight].shape[1] * groups <= _FEW_CHANNELS:
                names.append(node["name"])
    return names
