"""Convolutions of 8, 24, 40, ... channels in training, on processors with AVX-512: 8 channels of zeros are added.

There oneDNN stores maps in blocks of 16 channels. A convolution of 24 channels reads blocks of 8, and writes such
blocks even if it has a multiple of 16 filters. The gradient arrives in blocks of 16, and oneDNN's batch norm has no
kernel for both: it computes its gradient with reference code, which takes longer than a 3x3 convolution of the map.
With 8 more channels of zeros, all these maps are in blocks of 16. docs/performance-log.md has the figures.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from .._processor import has_avx512
from .convolutions import replacement_writer
from .graph import OUTSIDE, Entry, Graph

_BLOCK, _SMALL_BLOCK = 16, 8
# operators whose gradient oneDNN computes in blocks of 16; after others, such as clip, it is in the plain layout
_BLOCKED = ("Activation", "Convolution", "elemwise_add")


def misaligned_convolutions(graph: Graph) -> list[int]:
    """Return the nodes that :func:`align_channels_in_training` rewrites."""
    if not has_avx512():
        return []
    readers = graph.readers()

    def are_all(entry: Entry, ops: Sequence[str]) -> bool:
        return all(reader != OUTSIDE and graph.nodes[reader]["op"] in ops for reader in readers.get(entry, [OUTSIDE]))

    found = []
    for number, node in enumerate(graph.nodes):
        if node["op"] != "Convolution" or int(node["attrs"].get("num_group", 1)) > 1:
            continue
        channels = _input_channels(graph, number)
        if channels % _BLOCK == _SMALL_BLOCK and int(node["attrs"]["num_filter"]) % _BLOCK == 0 \
                and are_all((number, 0), ["BatchNorm"]) \
                and all(are_all((reader, 0), _BLOCKED) for reader in readers[number, 0]):
            found.append(number)
    return found


def _input_channels(graph: Graph, number: int) -> int:
    """Return the channels that a convolution reads, from the declared shape of its weight; 0 if it is computed."""
    weight = graph.nodes[graph.nodes[number]["inputs"][1][0]]
    shape = weight["attrs"].get("__shape__", "()") if weight["op"] == "null" else "()"
    sizes = shape.strip("()").split(",")
    return int(sizes[1]) if len(sizes) == 4 else 0


def align_channels_in_training(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Add 8 channels of zeros to the maps and weights of convolutions that would otherwise read blocks of 8.

    The weights keep their shape outside the graph, and the gradients are the same.

    Args:
        graph: a training graph on CPUs, before it is converted to half precision.
        shapes: of its outputs, by name.
    """
    for number in misaligned_convolutions(graph):
        node = graph.nodes[number]
        add = replacement_writer(node, graph)
        x, weight, *bias = node["inputs"]
        node["inputs"] = [_extended(add, x, shapes[graph.output(x)]),
                          _extended(add, weight, shapes[graph.output(weight)]), *bias]
    return graph


def _extended(add: Callable[..., Entry], x: Entry, shape: Sequence[int]) -> Entry:
    """Append 8 channels of zeros to axis 1 of (N, C, H, W)."""
    first, channels, height, width = shape
    # as three axes: oneDNN's concatenation of four splits the gradient between blocks only, and fails on others
    flat = add("Reshape", x, shape=(first, channels, height * width))
    zeros = add("_zeros", shape=(first, _SMALL_BLOCK, height * width), dtype="float32")
    joined = add("Concat", flat, zeros, num_args=2, dim=1)
    return add("Reshape", joined, shape=(first, channels + _SMALL_BLOCK, height, width))
