"""Widely dilated convolutions without the zeros around the map, for inference in float32.

With a dilation near the size of the map outer weights meet little but zeros: at rate 36 on 64 x 64, as in DeepLab's
pyramid (Chen et al., Rethinking atrous convolution, 2017, section 3.3), those are six of ten multiplications. oneDNN
does them all, and in its slow way, by a copy for each weight, once the padding is wider than what its kernels compute
at once. Cut where an outer weight begins or ceases to meet the map, each part is a convolution without padding by those
weights that do.

It is done on processors without AVX-512. With it DeepLabv3+-R50 takes longer than in plain MXNet.
``MXNETSEG_DILATED=1`` does it anywhere, ``MXNETSEG_DILATED=0`` nowhere.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import mxnet as mx

from .convolutions import Span, Writer, convolutions, rewriting_pays
from .rewiring import Entry, Graph

VARIABLE = "MXNETSEG_DILATED"
# from this dilation on, and for so many filters at least, as the map is copied for it
_FROM, _FILTERS = 6, 64


@dataclass(frozen=True)
class Part(Span):
    """Outputs that the weights ``[first, last)`` of three reach."""

    first: int
    last: int
    dilation: int

    @property
    def reads(self) -> Tuple[int, int]:
        """The inputs [begin, end)."""
        return self.begin + (self.first - 1) * self.dilation, self.end + (self.last - 2) * self.dilation


def parts(length: int, dilation: int) -> List[Part]:
    """An axis, cut where an outer weight begins or ceases to meet it."""
    cuts = sorted({0, min(dilation, length), max(length - dilation, 0), length})
    found = []
    for begin, end in zip(cuts, cuts[1:]):
        met = [k for k in range(3) if begin + (k - 1) * dilation >= 0 and end + (k - 1) * dilation <= length]
        found.append(Part(begin, end, met[0], met[-1] + 1, dilation))
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
    if not rewriting_pays(VARIABLE):
        return
    for convolution in convolutions(graph, shapes, types, values):
        if convolution.dilation >= _FROM and convolution.filters >= _FILTERS:
            _replace(Writer(graph, convolution, values, weights))


def _replace(writer: Writer) -> None:
    n, _, *size = writer.convolution.shape
    dilation, filters = writer.convolution.dilation, writer.convolution.filters

    def block(row: Part, column: Part, x: Entry) -> Entry:
        rows, columns = slice(row.first, row.last), slice(column.first, column.last)
        weight = writer.weight(f"{row.first}{row.last}{column.first}{column.last}", lambda w: w[:, :, rows, columns])
        return writer.add("Convolution", x, weight, num_filter=filters, no_bias=True,
                          kernel=(row.last - row.first, column.last - column.first), dilate=(dilation, dilation))
    writer.replace([Span(0, n)], *(parts(length, dilation) for length in size), block)
