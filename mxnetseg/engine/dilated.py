"""Widely dilated convolutions without the zeros around the map, for inference in float32.

With a dilation near the size of the map outer weights meet little but zeros: at rate 36 on 64 x 64, as in DeepLab's
pyramid (Chen et al., Rethinking atrous convolution, 2017, section 3.3), those are six of ten multiplications. oneDNN
does them all, and in its slow way, by a copy for each weight, once the padding is wider than what its kernels compute
at once. Cut where an outer weight begins or ceases to meet the map, each part is a convolution without padding by those
weights that do.

``MXNETSEG_DILATED=0`` prevents it.
"""
from __future__ import annotations

import os
from typing import Dict, List, Mapping, NamedTuple, Sequence

import mxnet as mx

from .._processor import cpu_flags
from .convolutions import Convolution, Writer, convolutions, replace
from .rewiring import Entry, Graph

VARIABLE = "MXNETSEG_DILATED"
# from this dilation on, with AVX-512 and without; and for so many filters at least, as the map is copied for it
_FROM, _FILTERS = (12, 6), 64


class Part(NamedTuple):
    """Outputs ``[begin, end)`` along an axis that the weights ``[first, last)`` of three reach."""

    begin: int
    end: int
    first: int
    last: int

    def reads(self, dilation: int):
        """The inputs [begin, end)."""
        return self.begin + (self.first - 1) * dilation, self.end + (self.last - 2) * dilation


def parts(length: int, dilation: int) -> List[Part]:
    """An axis, cut where an outer weight begins or ceases to meet it."""
    cuts = sorted({0, min(dilation, length), max(length - dilation, 0), length})
    found = []
    for begin, end in zip(cuts, cuts[1:]):
        met = [k for k in range(3) if begin + (k - 1) * dilation >= 0 and end + (k - 1) * dilation <= length]
        found.append(Part(begin, end, met[0], met[-1] + 1))
    return found


def without_zeros(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str],
                  values: Mapping[str, mx.nd.NDArray], weights: Dict[str, mx.nd.NDArray]) -> None:
    """Rewrite the widely dilated ones of the fused convolutions of ``graph``.

    Args:
        graph: of an inference on a CPU.
        shapes, types: of its outputs, by name.
        values: its parameters.
        weights: parts of weights by name, which serve every size; what is missing is added.
    """
    if os.environ.get(VARIABLE) == "0":
        return
    least = _FROM[0 if "avx512f" in cpu_flags() else 1]
    for convolution in convolutions(graph, shapes, types, values):
        if convolution.dilation >= least and convolution.filters >= _FILTERS:
            replace(graph, convolution, lambda x, c=convolution: _in_parts(graph, c, x, values[c.weight], weights))


def _in_parts(graph: Graph, convolution: Convolution, x: Entry, weight: mx.nd.NDArray,
              weights: Dict[str, mx.nd.NDArray]) -> Entry:
    writer, dilation = Writer(graph, f"{convolution.node['name']}_part"), convolution.dilation
    rows, columns = (parts(length, dilation) for length in convolution.shape[2:])

    def cut(x, axis, part):
        begin, end = part.reads(dilation)
        return x if (begin, end) == (0, convolution.shape[axis]) else writer.add("slice_axis", x, axis=axis,
                                                                                  begin=begin, end=end)

    def one(x, row, column):
        weight_part = writer.constant(
            f"{convolution.weight}_{row.first}{row.last}{column.first}{column.last}", weights,
            lambda: mx.nd.array(weight.asnumpy()[:, :, row.first:row.last, column.first:column.last],
                                ctx=weight.context))
        return writer.add("Convolution", cut(x, 3, column), weight_part, num_filter=convolution.filters, no_bias=True,
                          kernel=(row.last - row.first, column.last - column.first), dilate=(dilation, dilation))

    def joined(entries, axis):
        return entries[0] if len(entries) == 1 else writer.add("Concat", *entries, dim=axis, num_args=len(entries))
    strips = [(cut(x, 2, row), row) for row in rows]
    return joined([joined([one(strip, row, column) for column in columns], 3) for strip, row in strips], 2)
