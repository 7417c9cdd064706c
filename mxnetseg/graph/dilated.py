"""Widely dilated 3x3 convolutions as a 1x1 convolution for each of the nine weights, without the zeros around the map.

By its definition (Yu and Koltun, Multi-scale context aggregation by dilated convolutions, 2016, equation 2) a dilated
convolution is the sum of its weights' products with the map, each moved to its weight's place. Where the dilation is
near the size of the map, as in DeepLab's pyramid (Chen et al., Rethinking atrous convolution, 2017, section 3.3), the
outer weights meet little but the zeros around it: at rate 36 on 64 x 64 those are six of ten multiplications. oneDNN
does them all, and copies the map for each weight; in training it keeps the copies. Here a weight is multiplied with
what it meets of the map.

It is done on processors without AVX-512, in float32; with AVX-512 in training, where few multiplications are left.
``MXNETSEG_DILATED=1`` does it anywhere, ``MXNETSEG_DILATED=0`` nowhere.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .convolutions import Convolution, Span, Writer, convolutions, dilation_of, instead_of, rewriting_pays
from .graph import Entry, Graph

VARIABLE = "MXNETSEG_DILATED"
# from this dilation on, and for so many filters at least
_FROM, _FILTERS = 6, 64
# What moving maps and adding up cost, over what all multiplications of the convolution cost, times its channels; as
# measured from 128 to 2048 channels.
_MOVING, _MOVING_IN_TRAINING = 120, 70
# With AVX-512, oneDNN's way is as fast as this one, or faster, unless so few of the multiplications are left: of
# 2 x 2048 x 32 x 32 a step takes 219 instead of 302 ms at rate 12 (0.56), 351 and 121 at 24 (0.25), 265 and 39 at 36.
_FEW = 0.3


@dataclass(frozen=True)
class Meeting(Span):
    """Outputs at which a weight, the ``weight``-th of three, meets the map along an axis."""

    weight: int
    dilation: int

    @property
    def reads(self) -> Tuple[int, int]:
        """The inputs [begin, end)."""
        shift = (self.weight - 1) * self.dilation
        return self.begin + shift, self.end + shift


def meetings(length: int, dilation: int) -> List[Meeting]:
    """Of each weight that meets an axis at all; the middle one, which meets all of it, is the first."""
    middle = Meeting(0, length, 1, dilation)
    if dilation >= length:
        return [middle]
    return [middle, Meeting(dilation, length, 0, dilation), Meeting(0, length - dilation, 2, dilation)]


def left(size: Sequence[int], dilation: int) -> float:
    """The share of a convolution's multiplications that are not with the zeros around the map."""
    return prod(sum(met.end - met.begin for met in meetings(length, dilation)) / (3 * length) for length in size)


def share(convolution: Convolution) -> float:
    """Of its time in oneDNN: what :func:`without_zeros` would take, by an estimate; 1 for what it leaves alone."""
    _, channels, *size = convolution.shape
    if not _wide(convolution.dilation, convolution.filters):
        return 1.0
    return min(left(size, convolution.dilation) + _MOVING / channels, 1.0)


def without_zeros(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str],
                  values: Mapping[str, mx.nd.NDArray], weights: Dict[str, mx.nd.NDArray]) -> None:
    """Rewrite those of the fused convolutions of ``graph`` that are widely dilated and gain by it.

    Args:
        graph: of an inference on a CPU.
        shapes, types: of its outputs, by name.
        values: its parameters.
        weights: parts of weights by name, which serve every size; what is missing is added.
    """
    if not rewriting_pays(VARIABLE):
        return
    for convolution in convolutions(graph, shapes, types, values):
        if share(convolution) < 1:
            _replace(Writer(graph, convolution, values, weights))


def _replace(writer: Writer) -> None:
    convolution = writer.convolution

    def weight(row: int, column: Optional[int] = None) -> Entry:
        if column is None:
            return writer.weight(f"{row}", lambda w: np.moveaxis(w[:, :, row], 2, 0).reshape(-1, w.shape[1], 1, 1))
        return writer.weight(f"{row}{column}", lambda w: w[:, :, row:row + 1, column:column + 1])
    writer.replace(lambda x: _sum(writer.add, x, weight, convolution.shape, convolution.filters, convolution.dilation))


def wide_convolutions(graph: Graph) -> List[int]:
    """The nodes of a training's graph that :func:`without_zeros_in_training` may rewrite."""
    if os.environ.get(VARIABLE) == "0":
        return []
    return [number for number, node in enumerate(graph.nodes)
            if node["op"] == "Convolution" and len(node["inputs"]) == 2  # no bias
            and _wide(dilation_of(node["attrs"]), int(node["attrs"]["num_filter"]))]


def without_zeros_in_training(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> None:
    """Rewrite the widely dilated convolutions of ``graph`` that gain by it, gradients included.

    Args:
        graph: of a training on CPUs, before it is cast to half precision.
        shapes: of its outputs, by name.
    """
    for number in wide_convolutions(graph):
        node = graph.nodes[number]
        shape, dilation = shapes[graph.output(node["inputs"][0])], dilation_of(node["attrs"])
        kept = left(shape[2:], dilation)
        if kept + _MOVING_IN_TRAINING / shape[1] < 1 and (rewriting_pays(VARIABLE) or kept <= _FEW):
            _replace_in_training(graph, number, shape)


def _replace_in_training(graph: Graph, number: int, shape: Sequence[int]) -> None:
    node = graph.nodes[number]
    add, filters = instead_of(node, graph), int(node["attrs"]["num_filter"])
    x, weight = node["inputs"]
    # as (9 K, C, 1, 1), of which the pieces' gradients make one whole without adding nine
    turned = add("Reshape", add("transpose", weight, axes=(2, 3, 0, 1)), shape=(9 * filters, shape[1], 1, 1))
    rows, _ = add("SliceChannel", turned, num_outputs=3, axis=0)

    @lru_cache(None)
    def columns(row: int) -> int:
        return add("SliceChannel", (rows, row), num_outputs=3, axis=0)[0]

    def piece(row: int, column: Optional[int] = None) -> Entry:
        return (rows, row) if column is None else (columns(row), column)
    graph.replace({(number, 0): _sum(add, x, piece, shape, filters, dilation_of(node["attrs"]))})


def _wide(dilation: int, filters: int) -> bool:
    return dilation >= _FROM and filters >= _FILTERS


def _sum(add: Callable[..., Entry], x: Entry, weight: Callable[..., Entry], shape: Sequence[int], filters: int,
         dilation: int) -> Entry:
    """(N, C, H, W) -> (N, K, H, W), written by ``add``.

    Args:
        weight: ``weight(row, column)`` is a weight, (K, C, 1, 1), and ``weight(row)`` those of the three columns,
            (3 K, C, 1, 1).
    """
    height, width = shape[2:]
    x = add("Reshape", x, shape=tuple(shape))  # lays it out plainly, once, or else every slice would

    def products(read: Entry, row: int) -> Iterator[Tuple[Meeting, Entry]]:
        """What a row of weights gives of the rows of the map that it meets, column by column."""
        columns = meetings(width, dilation)
        if 2 * dilation <= width:  # all at once, for training keeps what is read until the gradients are computed
            together = add("Convolution", read, weight(row), num_filter=3 * filters, kernel=(1, 1), no_bias=True)
            parts, _ = add("SliceChannel", together, num_outputs=3, axis=1)
            for column in columns:
                yield column, _cut(add, (parts, column.weight), 3, column, width)
        else:
            for column in columns:
                yield column, add("Convolution", _cut(add, read, 3, column, width), weight(row, column.weight),
                                  num_filter=filters, kernel=(1, 1), no_bias=True)

    total = None
    for row in meetings(height, dilation):
        line = None
        for column, part in products(_cut(add, x, 2, row, height), row.weight):
            part = _padded(add, part, 3, column, width)
            line = part if line is None else add("elemwise_add", line, part)
        line = _padded(add, line, 2, row, height)
        total = line if total is None else add("elemwise_add", total, line)
    return total


def _cut(add: Callable[..., Entry], x: Entry, axis: int, met: Meeting, length: int) -> Entry:
    """What is read of a map along an axis."""
    begin, end = met.reads
    return x if (begin, end) == (0, length) else add("slice_axis", x, axis=axis, begin=begin, end=end)


def _padded(add: Callable[..., Entry], x: Entry, axis: int, met: Meeting, length: int) -> Entry:
    """As long as the map along an axis, zeros where there is nothing."""
    around = [0] * 8
    around[2 * axis:2 * axis + 2] = met.begin, length - met.end
    return add("Pad", x, mode="constant", pad_width=tuple(around)) if any(around) else x
