"""3x3 convolutions with a quarter of the multiplications, as matrix products, for inference in float32.

Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016, section 4.1, F(4x4, 3x3): along an axis,
four neighbouring outputs need six inputs, and with ``B^T x`` of these (six numbers), ``G w`` of the three weights (six)
and ``A^T`` they cost six multiplications instead of twelve. Of a map they are ``A^T [U * V] A`` with ``U = G w G^T``
and ``V = B^T x B``; over all channels and tiles ``U * V`` is 36 matrix products.

``B^T`` and ``A^T`` on all tiles of an axis are matrices, too, so that all of it is matrix products. A dilated
convolution is an ordinary one on each of the maps of every ``d``-th row and column: its matrices act along the quotient
of a position by ``d`` and leave the remainder alone.

Rounding is some ten times that of a plain convolution, about 1e-5 of the largest output.

It is done on processors without AVX-512. With it FCN-R18 takes 942 ms instead of 507, PSPNet-R50 2520 instead of 1907.
``MXNETSEG_WINOGRAD=1`` does it anywhere, ``MXNETSEG_WINOGRAD=0`` nowhere.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .convolutions import Convolution, Span, Writer, convolutions, rewriting_pays
from .dilated import share
from .graph import Entry, Graph

VARIABLE = "MXNETSEG_WINOGRAD"
# for the points 0, 1, -1, 2, -2 and infinity
_BT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], "float64")
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], "float64")
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], "float64")
_TILE, _POINTS = _AT.shape
# A longer axis is cut into spans of about the second length, for the work grows with the square of a span.
_LONGEST, _SPAN = 96, 48
# Operations in the time in which a byte is moved, as measured, and how much of a plain convolution's time must be
# promised by that.
_PER_BYTE, _PROMISE = 16, 0.75
# Of the transformed maps of a block, in bytes: so that a large picture does not take a laptop's memory.
_LARGEST = 64 << 20


@dataclass(frozen=True)
class TiledSpan(Span):
    """Outputs in tiles of four.

    Attributes:
        length: of the whole axis.
        dilation: ``d``; tiles are of positions with one remainder by it. ``begin`` is a multiple of it.
        apart: its matrices act along the quotients alone, and remainders go with what lies behind the axis; else
            along the positions, where the many zeros are multiplied, too. It wants an axis that ``d`` divides.
    """

    length: int
    dilation: int
    apart: bool = False

    @property
    def reads(self) -> Tuple[int, int]:
        """The inputs [begin, end); beyond the axis there are zeros."""
        return max(self.begin - self.dilation, 0), min(self.end + self.dilation, self.length)

    @property
    def tiles(self) -> int:
        """For each remainder."""
        return -(-(self.end - self.begin) // (_TILE * self.dilation))

    @property
    def all_tiles(self) -> int:
        return self.tiles * self.dilation

    @property
    def inner(self) -> int:
        """How many remainders lie behind it."""
        return self.dilation if self.apart else 1

    @property
    def inputs(self) -> int:
        """How many its matrices act on."""
        begin, end = self.reads
        return (end - begin) // self.inner

    @property
    def outputs(self) -> int:
        return (self.end - self.begin) // self.inner

    @property
    def points(self) -> int:
        """How many its matrices make of these, and take back."""
        return _POINTS * self.all_tiles // self.inner

    def into_tiles(self) -> np.ndarray:
        """``B^T`` on all tiles: (points, inputs), the point before the tile."""
        matrix = np.zeros((_POINTS, self.tiles, self.tiles * _TILE + 2))
        for tile in range(self.tiles):
            matrix[:, tile, tile * _TILE:tile * _TILE + _POINTS] = _BT
        matrix = self._for_remainders(matrix.reshape(-1, matrix.shape[2]))
        beyond = (self.dilation - self.begin + self.reads[0]) // self.inner
        return matrix[:, beyond:beyond + self.inputs]

    def out_of_tiles(self) -> np.ndarray:
        """``A^T`` on all tiles: (outputs, points)."""
        matrix = np.zeros((self.tiles * _TILE, _POINTS, self.tiles))
        for tile in range(self.tiles):
            matrix[tile * _TILE:(tile + 1) * _TILE, :, tile] = _AT
        return self._for_remainders(matrix.reshape(len(matrix), -1))[:self.outputs]

    def _for_remainders(self, matrix: np.ndarray) -> np.ndarray:
        return matrix if self.apart else np.kron(matrix, np.eye(self.dilation))


def spans(length: int, dilation: int, longest: int, *, apart: bool = False) -> List[TiledSpan]:
    """An axis in spans of one length, but for the last; none is longer than ``longest``, or else of one tile."""
    grain = _TILE * dilation
    count = -(-length // longest)
    step = -(-length // count // grain) * grain
    return [TiledSpan(begin, min(begin + step, length), length, dilation, apart) for begin in range(0, length, step)]


def winograd(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str],
             values: Mapping[str, mx.nd.NDArray], weights: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """Rewrite those of the fused convolutions of ``graph`` that gain by it, and more than by :mod:`.dilated`.

    Args:
        graph: of an inference on a CPU.
        shapes, types: of its outputs, by name.
        values: its parameters.
        weights: transformed weights by name, which serve every size; what is missing is added.

    Returns:
        the other new constants that it reads, by name.
    """
    constants: Dict[str, mx.nd.NDArray] = {}
    if not rewriting_pays(VARIABLE):
        return constants
    for convolution in convolutions(graph, shapes, types, values):
        rows, columns = _blocks(convolution)
        weight_by_weight = share(convolution)
        promise = weight_by_weight if weight_by_weight < 1 else _PROMISE
        if _work(convolution, rows, columns) <= promise * convolution.operations:
            tiles = _Tiles(graph, convolution, values, weights, constants)
            # a picture after the other, so that the points of its tiles can be the first axes
            pictures = [Span(i, i + 1) for i in range(convolution.shape[0])]
            tiles.replace(partial(tiles.in_blocks, pictures, rows, columns, tiles.block))
    return constants


def _blocks(convolution: Convolution) -> Tuple[List[TiledSpan], List[TiledSpan]]:
    """Rows and columns of the blocks of a picture, which are computed one after the other."""
    (_, channels, height, width), dilation = convolution.shape, convolution.dilation
    columns = spans(width, dilation, width if width <= _LONGEST else _SPAN)
    apart = height % dilation == 0
    of_matrix = dilation if apart else 1
    longest = height if height <= _LONGEST * of_matrix else _SPAN * of_matrix
    a_row_of_tiles = 4 * max(channels, convolution.filters) * _POINTS ** 2 * columns[0].all_tiles * dilation
    longest = min(longest, _LARGEST // a_row_of_tiles * _TILE * dilation)
    return spans(height, dilation, max(longest, 1), apart=apart), columns


def _transformed(weight: np.ndarray) -> np.ndarray:
    """``U``: (K, C, 3, 3) -> (36, C, K), the columns' points before the rows'."""
    g = _G.astype(weight.dtype)
    return np.einsum("ax,kcxy,by->back", g, weight, g, optimize=True).reshape(_POINTS ** 2, *weight.shape[1::-1])


def _work(convolution: Convolution, rows: Sequence[TiledSpan], columns: Sequence[TiledSpan]) -> float:
    """Operations of the transformed convolution, and for every byte that it moves some more."""
    n, channels, *_ = convolution.shape
    filters, total = convolution.filters, 0.0
    for row, column in product(rows, columns):
        plain, half = row.inputs * row.inner * column.inputs, 6 * row.inputs * row.inner * column.all_tiles
        whole = 36 * row.all_tiles * column.all_tiles
        transforms = 2.0 * (channels + filters) * (half * column.inputs + whole * row.inputs)
        moved = 4.0 * ((channels + filters) * (2 * plain + 4 * half + 2 * whole) + 36 * channels * filters)
        total += 2.0 * whole * channels * filters + transforms + _PER_BYTE * moved
    return n * total


class _Tiles(Writer):
    """Writes the operators of one convolution.

    Args:
        graph, convolution, values, weights: see :class:`~.convolutions.Writer`.
        constants: the matrices of all convolutions, by name.
    """

    def __init__(self, graph: Graph, convolution: Convolution, values: Mapping[str, mx.nd.NDArray],
                 weights: Dict[str, mx.nd.NDArray], constants: Dict[str, mx.nd.NDArray]):
        super().__init__(graph, convolution, values, weights)
        self._constants = constants

    def block(self, rows: TiledSpan, columns: TiledSpan, x: Entry) -> Entry:
        """(1, C, read rows, read columns) -> (1, K, rows, columns)."""
        channels, filters = self.convolution.shape[1], self.convolution.filters
        height, last = rows.inputs * rows.inner, columns.all_tiles
        x = self._dense("into_columns", columns, x)
        x = self.add("transpose", self._reshaped(x, channels, height, _POINTS, last), axes=(2, 1, 3, 0))
        x = self._product("into_rows", rows, x, rows.inner * last * channels)
        x = self._reshaped(x, _POINTS ** 2, rows.all_tiles * last, channels)
        x = self.add("batch_dot", x, self.weight("winograd", _transformed))
        x = self._product("out_of_rows", rows, x, rows.inner * last * filters)
        height = rows.end - rows.begin
        # in two steps, for oneDNN takes four times as long for both in one where lengths are powers of two
        x = self.add("transpose", self._reshaped(x, _POINTS, height, last, filters), axes=(1, 0, 2, 3))
        x = self.add("transpose", self._reshaped(x, 1, height, _POINTS * last, filters), axes=(0, 3, 1, 2))
        x = self._dense("out_of_columns", columns, x)
        return self._reshaped(x, 1, filters, height, columns.end - columns.begin)

    def _dense(self, kind: str, span: TiledSpan, x: Entry) -> Entry:
        """The matrix (outputs, inputs) times each row of (..., inputs), by oneDNN."""
        outputs, inputs = _shape(kind, span)
        return self.add("FullyConnected", self._reshaped(x, -1, inputs), self._matrix(kind, span), num_hidden=outputs,
                        no_bias=True, flatten=False)

    def _product(self, kind: str, span: TiledSpan, x: Entry, rest: int) -> Entry:
        """The matrix (outputs, inputs) times each of (6, inputs, rest)."""
        outputs, inputs = _shape(kind, span)
        matrix = self._matrix(kind, span, (_POINTS, outputs, inputs))
        return self.add("batch_dot", matrix, self._reshaped(x, _POINTS, inputs, rest))

    def _matrix(self, kind: str, span: TiledSpan, shape: Optional[Tuple[int, ...]] = None) -> Entry:
        """That of ``into_...`` or ``out_of_...``, broadcast to ``shape``; made once for all blocks and pictures."""
        def make():
            matrix = span.into_tiles() if kind.startswith("into") else span.out_of_tiles()
            return np.broadcast_to(matrix, shape or matrix.shape)
        # the name tells all spans of a network apart
        name = f"winograd_{kind}_{span.begin}_{span.end}_{span.length}_{span.dilation}"
        return self.constant(name, self._constants, make)

    def _reshaped(self, x: Entry, *shape: int) -> Entry:
        return self.add("Reshape", x, shape=tuple(shape))


def _shape(kind: str, span: TiledSpan) -> Tuple[int, int]:
    """Of the matrix of that kind: (outputs, inputs)."""
    return (span.points, span.inputs) if kind.startswith("into") else (span.outputs, span.points)
