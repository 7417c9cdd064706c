"""Widely dilated 3x3 convolutions as nine 1x1 convolutions, one for each weight, without the zeros around the map.

By definition (Yu and Koltun, Multi-scale context aggregation by dilated convolutions, 2016, equation 2) a dilated
convolution is the sum of its weights' products with the map, each shifted to its weight's position. If the dilation is
close to the size of the map, as in DeepLab's pyramid (Chen et al., Rethinking atrous convolution, 2017, section 3.3),
the outer weights are multiplied mostly with the zeros around the map: at rate 36 on 64 x 64, six of ten multiplications
are. oneDNN computes them all, and copies the map for each weight; in training it keeps the copies. Here each weight is
multiplied only with the part of the map that it overlaps.

This is done on processors without AVX-512, in float32; with AVX-512 in training, if few multiplications remain.
``MXNETSEG_DILATED=1`` always does it, ``MXNETSEG_DILATED=0`` never.
"""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Callable

import numpy as np

from .convolutions import (
    Convolution,
    ConvolutionRewriter,
    Span,
    dilation_of,
    fused_convolutions,
    replacement_writer,
    rewriting_pays,
)
from .graph import Entry, Graph, ShapedGraph

VARIABLE = "MXNETSEG_DILATED"
# the smallest dilation, and the smallest number of filters, of a convolution that is rewritten
_MIN_DILATION, _MIN_FILTERS = 6, 64
# Time to move and add maps, divided by the time of all multiplications of the convolution, times its channels;
# measured from 128 to 2048 channels.
_MOVING, _MOVING_IN_TRAINING = 120, 70
# With AVX-512, oneDNN is as fast as this rewriting, or faster, unless this small a fraction of the multiplications
# remains: a step of 2 x 2048 x 32 x 32 takes 219 ms instead of 302 at rate 12 (0.56), 351 and 121 at 24 (0.25), 265 and
# 39 at 36.
_SMALL_FRACTION = 0.3


@dataclass(frozen=True)
class Overlap(Span):
    """Outputs along an axis at which weight number ``weight`` (0, 1 or 2) overlaps the map."""

    weight: int
    dilation: int

    @property
    def reads(self) -> tuple[int, int]:
        """The inputs [begin, end)."""
        shift = (self.weight - 1) * self.dilation
        return self.begin + shift, self.end + shift


def overlaps(length: int, dilation: int) -> list[Overlap]:
    """Return the overlap of each weight that reaches an axis; the middle one, which covers all of it, comes first."""
    middle = Overlap(0, length, 1, dilation)
    if dilation >= length:
        return [middle]
    return [middle, Overlap(dilation, length, 0, dilation), Overlap(0, length - dilation, 2, dilation)]


def nonzero_fraction(size: Sequence[int], dilation: int) -> float:
    """Return the fraction of a convolution's multiplications that are not with the zeros around the map."""
    return prod(sum(overlap.end - overlap.begin for overlap in overlaps(length, dilation)) / (3 * length)
                for length in size)


def time_ratio(convolution: Convolution) -> float:
    """Estimate the time of :func:`skip_padding` over oneDNN's; 1 for convolutions that it leaves alone."""
    _, channels, *size = convolution.shape
    if not is_widely_dilated(convolution.dilation, convolution.filters):
        return 1.0
    return min(nonzero_fraction(size, convolution.dilation) + _MOVING / channels, 1.0)


def is_widely_dilated(dilation: int, filters: int) -> bool:
    """Return whether a 3x3 convolution is of the kind that this module rewrites."""
    return dilation >= _MIN_DILATION and filters >= _MIN_FILTERS


def skip_padding(shaped: ShapedGraph) -> ShapedGraph:
    """Rewrite the widely dilated fused convolutions that get faster, in an inference on a CPU."""
    if shaped.is_on_cpu and rewriting_pays(VARIABLE):
        for convolution in fused_convolutions(shaped):
            if time_ratio(convolution) < 1:
                _replace(ConvolutionRewriter(shaped, convolution))
    return shaped


def _replace(rewriter: ConvolutionRewriter) -> None:
    convolution = rewriter.convolution

    def weight(row: int, column: int | None = None) -> Entry:
        if column is None:
            return rewriter.weight(f"{row}", lambda w: np.moveaxis(w[:, :, row], 2, 0).reshape(-1, w.shape[1], 1, 1))
        return rewriter.weight(f"{row}{column}", lambda w: w[:, :, row:row + 1, column:column + 1])

    rewriter.replace(lambda x: _sum_of_products(rewriter.add, x, weight, convolution.shape, convolution.filters,
                                                convolution.dilation))


def widely_dilated_nodes(graph: Graph) -> list[int]:
    """Return the nodes of a training graph that :func:`skip_padding_in_training` may rewrite."""
    if os.environ.get(VARIABLE) == "0":
        return []
    return [number for number, node in enumerate(graph.nodes)
            if node["op"] == "Convolution" and len(node["inputs"]) == 2  # no bias
            and is_widely_dilated(dilation_of(node["attrs"]), int(node["attrs"]["num_filter"]))]


def skip_padding_in_training(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Rewrite the widely dilated convolutions that get faster, gradients included.

    Args:
        graph: a training graph on CPUs, before it is converted to half precision.
        shapes: of its outputs, by name.
    """
    for number in widely_dilated_nodes(graph):
        node = graph.nodes[number]
        shape, dilation = shapes[graph.output(node["inputs"][0])], dilation_of(node["attrs"])
        kept = nonzero_fraction(shape[2:], dilation)
        if kept + _MOVING_IN_TRAINING / shape[1] < 1 and (rewriting_pays(VARIABLE) or kept <= _SMALL_FRACTION):
            _replace_in_training(graph, number, shape)
    return graph


def _replace_in_training(graph: Graph, number: int, shape: Sequence[int]) -> None:
    node = graph.nodes[number]
    add, filters = replacement_writer(node, graph), int(node["attrs"]["num_filter"])
    x, weight = node["inputs"]
    # as (9 K, C, 1, 1), so that the gradients of the parts are joined rather than nine gradients added
    by_position = add("Reshape", add("transpose", weight, axes=(2, 3, 0, 1)), shape=(9 * filters, shape[1], 1, 1))
    rows, _ = add("SliceChannel", by_position, num_outputs=3, axis=0)

    @lru_cache(None)
    def columns(row: int) -> int:
        return add("SliceChannel", (rows, row), num_outputs=3, axis=0)[0]

    def part(row: int, column: int | None = None) -> Entry:
        return (rows, row) if column is None else (columns(row), column)
    graph.replace({(number, 0): _sum_of_products(add, x, part, shape, filters, dilation_of(node["attrs"]))})


def _sum_of_products(add: Callable[..., Entry], x: Entry, weight: Callable[..., Entry], shape: Sequence[int],
                     filters: int, dilation: int) -> Entry:
    """Write the convolution as a sum of 1x1 convolutions: (N, C, H, W) -> (N, K, H, W).

    Args:
        add: writes an operator.
        x: the map.
        weight: ``weight(row, column)`` is one weight, (K, C, 1, 1), and ``weight(row)`` those of three columns,
            (3 K, C, 1, 1).
        shape: of ``x``.
        filters, dilation: of the convolution.
    """
    height, width = shape[2:]
    x = add("Reshape", x, shape=tuple(shape))  # converts the layout once; otherwise every slice would

    def products(rows_read: Entry, row: int) -> Iterator[tuple[Overlap, Entry]]:
        """Yield the product of each weight of a row with the part of the map that it overlaps."""
        columns = overlaps(width, dilation)
        if 2 * dilation <= width:  # all at once, because training keeps the inputs until the gradients are computed
            together = add("Convolution", rows_read, weight(row), num_filter=3 * filters, kernel=(1, 1), no_bias=True)
            parts, _ = add("SliceChannel", together, num_outputs=3, axis=1)
            for column in columns:
                yield column, _cut(add, (parts, column.weight), 3, column, width)
        else:
            for column in columns:
                yield column, add("Convolution", _cut(add, rows_read, 3, column, width), weight(row, column.weight),
                                  num_filter=filters, kernel=(1, 1), no_bias=True)

    total = None
    for row in overlaps(height, dilation):
        line = None
        for column, part in products(_cut(add, x, 2, row, height), row.weight):
            part = _padded(add, part, 3, column, width)
            line = part if line is None else add("elemwise_add", line, part)
        line = _padded(add, line, 2, row, height)
        total = line if total is None else add("elemwise_add", total, line)
    return total


def _cut(add: Callable[..., Entry], x: Entry, axis: int, overlap: Overlap, length: int) -> Entry:
    """Return the part of a map that an overlap reads along an axis."""
    begin, end = overlap.reads
    return x if (begin, end) == (0, length) else add("slice_axis", x, axis=axis, begin=begin, end=end)


def _padded(add: Callable[..., Entry], x: Entry, axis: int, overlap: Overlap, length: int) -> Entry:
    """Pad a part of a map with zeros to the map's length along an axis."""
    around = [0] * 8
    around[2 * axis:2 * axis + 2] = overlap.begin, length - overlap.end
    return add("Pad", x, mode="constant", pad_width=tuple(around)) if any(around) else x
