"""3x3 convolutions with a quarter of the multiplications, as matrix products, for inference in float32.

Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016, section 4.1, F(4x4, 3x3): along an axis,
four neighbouring outputs need six inputs, and with ``B^T x`` of these (six numbers), ``G w`` of the three weights (six)
and ``A^T`` they cost six multiplications instead of twelve. Of a map they are ``A^T [U * V] A`` with ``U = G w G^T``
and ``V = B^T x B``; over all channels and tiles ``U * V`` is 36 matrix products.

``B^T`` and ``A^T`` on all tiles of an axis are matrices, too, so that all of it is matrix products. A dilated
convolution is an ordinary one on each of the maps of every ``d``-th row and column: its matrices act along the quotient
of a position by ``d`` and leave the remainder alone.

Rounding is some ten times that of a plain convolution, about 1e-5 of the largest output.

It is done on processors without AVX-512, where it was measured: with AVX-512 multiplications take half of the time, and
moving memory takes as long. ``MXNETSEG_WINOGRAD=1`` does it anywhere, ``MXNETSEG_WINOGRAD=0`` nowhere.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np

from .._processor import cpu_flags
from .convolutions import Convolution, Writer, convolutions, replace
from .rewiring import Entry, Graph

VARIABLE = "MXNETSEG_WINOGRAD"
# for the points 0, 1, -1, 2, -2 and infinity
_BT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], "float64")
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], "float64")
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], "float64")
_TILE, _POINTS = _AT.shape
# A longer axis is cut into pieces of about the second length, for the work grows with the square of a piece.
_LONGEST, _PIECE = 96, 48
# Operations in the time in which a byte is moved, as measured, and how much of a plain convolution's time must be
# promised by that.
_PER_BYTE, _PROMISE = 16, 0.75
# Of the transformed maps, in bytes, so that large pictures do not take a laptop's memory: 512 channels at 128 x 256.
_LARGEST = 160 << 20


@dataclass(frozen=True)
class Axis:
    """How tiles of four outputs lie on an axis.

    Attributes:
        length: in positions.
        dilation: ``d``; tiles are of positions with one remainder by it.
        apart: its matrices act along the quotients alone, and remainders go with what lies behind the axis; else
            along the positions, where the many zeros are multiplied, too.
    """

    length: int
    dilation: int
    apart: bool

    @property
    def quotients(self) -> int:
        return -(-self.length // self.dilation)

    @property
    def pieces(self) -> int:
        length = self.quotients if self.apart else self.length
        return 1 if length <= _LONGEST else -(-length // _PIECE)

    @property
    def tiles(self) -> int:
        """Of a piece, for each remainder."""
        return -(-self.quotients // (self.pieces * _TILE))

    @property
    def all_tiles(self) -> int:
        return self.pieces * self.tiles * self.dilation

    @property
    def padding(self) -> Tuple[int, int]:
        """Zeros that it needs (before, after): pieces overlap, and all have one length."""
        if self.pieces == 1:
            return 0, 0
        return self.dilation, (self.pieces * self.tiles * _TILE + 1) * self.dilation - self.length

    @property
    def inner(self) -> int:
        """How many remainders lie behind it."""
        return self.dilation if self.apart else 1

    def into_tiles(self) -> np.ndarray:
        """``B^T`` on all tiles of a piece: (6 * tiles, inputs), the point before the tile."""
        matrix = np.zeros((_POINTS, self.tiles, self.tiles * _TILE + 2))
        for tile in range(self.tiles):
            matrix[:, tile, tile * _TILE:tile * _TILE + _POINTS] = _BT
        if self.pieces == 1:  # it knows itself that there are zeros around the axis
            matrix = matrix[:, :, 1:1 + self.quotients]
        matrix = self._for_remainders(matrix.reshape(-1, matrix.shape[2]))
        return matrix[:, :self.length] if self.pieces == 1 else matrix

    def out_of_tiles(self) -> np.ndarray:
        """``A^T`` on all tiles of a piece: (outputs, 6 * tiles)."""
        matrix = np.zeros((self.tiles * _TILE, _POINTS, self.tiles))
        for tile in range(self.tiles):
            matrix[tile * _TILE:(tile + 1) * _TILE, :, tile] = _AT
        if self.pieces == 1:
            matrix = matrix[:self.quotients]
        matrix = self._for_remainders(matrix.reshape(len(matrix), -1))
        return matrix[:self.length] if self.pieces == 1 else matrix

    def _for_remainders(self, matrix: np.ndarray) -> np.ndarray:
        return matrix if self.apart else np.kron(matrix, np.eye(self.dilation))


def winograd(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str],
             values: Mapping[str, mx.nd.NDArray], weights: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """Rewrite those of the fused convolutions of ``graph`` that gain by it.

    Args:
        graph: of an inference on a CPU.
        shapes, types: of its outputs, by name.
        values: its parameters.
        weights: transformed weights by name, which serve every size; what is missing is added.

    Returns:
        the other new constants that it reads, by name.
    """
    constants: Dict[str, mx.nd.NDArray] = {}
    if os.environ.get(VARIABLE, "0" if "avx512f" in cpu_flags() else "1") == "0":
        return constants
    for convolution in convolutions(graph, shapes, types, values):
        height, width = convolution.shape[2:]
        dilation = convolution.dilation
        rows = Axis(height, dilation, apart=height % dilation == 0 or height > _LONGEST * dilation)
        columns = Axis(width, dilation, apart=False)
        if _work(convolution, rows, columns) <= _PROMISE * convolution.operations \
                and 4 * _transformed_size(convolution, rows, columns) <= _LARGEST:
            tiles = _Tiles(graph, convolution, rows, columns, constants)
            replace(graph, convolution, lambda x, t=tiles, w=convolution.weight: t.convolved(x, values[w], weights))
    return constants


def _transformed(weight: mx.nd.NDArray) -> mx.nd.NDArray:
    """``U``: (K, C, 3, 3) -> (36, C, K)."""
    u = np.einsum("ax,kcxy,by->abck", _G, weight.asnumpy().astype("float64"), _G, optimize=True)
    return mx.nd.array(u.reshape(-1, *u.shape[2:]), ctx=weight.context, dtype="float32")


def _transformed_size(convolution: Convolution, rows: Axis, columns: Axis) -> int:
    """Numbers in the larger of ``V`` and ``U * V``."""
    n, channels, *_ = convolution.shape
    return n * max(channels, convolution.filters) * 36 * rows.all_tiles * columns.all_tiles


def _work(convolution: Convolution, rows: Axis, columns: Axis) -> float:
    """Operations of the transformed convolution, and for every byte that it moves some more."""
    n, channels, height, width = convolution.shape
    maps = n * (channels + convolution.filters)
    plain, half, whole = height * width, 6 * height * columns.all_tiles, 36 * rows.all_tiles * columns.all_tiles
    piece_of_rows, piece_of_columns = rows.into_tiles().shape[1], columns.into_tiles().shape[1]
    transforms = 2.0 * maps * (half * piece_of_columns + whole * piece_of_rows)
    moved = 4.0 * (maps * (2 * plain + 4 * half + 3 * whole) + 36 * channels * convolution.filters)
    return 2.0 * n * whole * channels * convolution.filters + transforms + _PER_BYTE * moved


class _Tiles(Writer):
    """Writes the operators of one convolution.

    Args:
        graph: where to.
        convolution: which one.
        rows, columns: how its tiles lie.
        constants: the matrices of all convolutions, by name.
    """

    def __init__(self, graph: Graph, convolution: Convolution, rows: Axis, columns: Axis,
                 constants: Dict[str, mx.nd.NDArray]):
        super().__init__(graph, f"{convolution.node['name']}_winograd")
        self._convolution, self._rows, self._columns, self._constants = convolution, rows, columns, constants

    def convolved(self, x: Entry, weight: mx.nd.NDArray, weights: Dict[str, mx.nd.NDArray]) -> Entry:
        """(N, C, H, W) -> (N, K, H, W)."""
        (n, channels, *_), filters = self._convolution.shape, self._convolution.filters
        rows, columns = self._rows, self._columns
        padding = (*rows.padding, *columns.padding)
        if any(padding):
            x = self.add("Pad", x, mode="constant", pad_width=(0, 0, 0, 0, *padding))
        # A map between is (pieces of rows, 6, tiles of rows, pieces of columns, 6, tiles of columns); the first of
        # them go with the pictures, and remainders with the tiles.
        height, outer = rows.length + sum(rows.padding), n * rows.pieces
        middle, last = rows.tiles * rows.dilation * columns.pieces, columns.tiles * columns.dilation
        across = columns.pieces * 6 * last
        x = self._columns_into_tiles(x, (n, channels, height, across), columns)
        x = self.add("transpose", x, axes=(0, 2, 3, 1))
        x = self._rows_into_tiles(x, n, rows, across * channels)
        x = self._swapped(x, 1, outer, 6, middle * 6 * last * channels)
        x = self._swapped(x, 6, outer * middle, 6, last * channels)
        x = self._reshaped(x, 36, outer * middle * last, channels)
        u = self.constant(f"{self._convolution.weight}_winograd", weights, lambda: _transformed(weight))
        x = self.add("batch_dot", x, u)
        x = self._swapped(x, 6, 6, outer * middle, last * filters)
        x = self._swapped(x, 1, 6, outer, middle * 6 * last * filters)
        x = self._rows_out_of_tiles(x, n, rows, across * filters)
        x = self.add("transpose", self._reshaped(x, n, rows.length, across, filters), axes=(0, 3, 1, 2))
        return self._columns_out_of_tiles(x, (n, filters, rows.length), columns)

    def _columns_into_tiles(self, x: Entry, shape: Sequence[int], axis: Axis) -> Entry:
        """(N, C, H, padded W) -> ``shape``: (N, C, H, pieces * 6 * tiles)."""
        matrix = axis.into_tiles()
        x = self._cut(x, axis, matrix.shape[1], 3)
        return self._reshaped(self._dense(matrix, f"into_columns_{axis.length}_{axis.dilation}", x), *shape)

    def _columns_out_of_tiles(self, x: Entry, shape: Sequence[int], axis: Axis) -> Entry:
        """(N, K, H, pieces * 6 * tiles) -> ``shape`` + (W,)."""
        matrix = axis.out_of_tiles()
        x = self._dense(matrix, f"out_of_columns_{axis.length}_{axis.dilation}", self._reshaped(x, -1, matrix.shape[1]))
        x = self._reshaped(x, *shape, axis.pieces * len(matrix))
        return self.add("slice_axis", x, axis=3, begin=0, end=axis.length) if axis.pieces > 1 else x

    def _rows_into_tiles(self, x: Entry, n: int, axis: Axis, rest: int) -> Entry:
        """(N, padded H, rest) -> (N, pieces * 6 * tiles * remainders, rest)."""
        matrix = axis.into_tiles()
        x = self._cut(self._reshaped(x, n, -1, axis.inner * rest), axis, matrix.shape[1], 1)
        return self._product(matrix, f"into_rows_{axis.length}_{axis.dilation}", x, n * axis.pieces, axis.inner * rest)

    def _rows_out_of_tiles(self, x: Entry, n: int, axis: Axis, rest: int) -> Entry:
        """(N, pieces * 6 * tiles * remainders, rest) -> (N, H, rest)."""
        matrix = axis.out_of_tiles()
        x = self._product(matrix, f"out_of_rows_{axis.length}_{axis.dilation}", x, n * axis.pieces, axis.inner * rest)
        if axis.pieces == 1:
            return x
        x = self._reshaped(x, n, axis.pieces * len(matrix) * axis.inner, rest)
        return self.add("slice_axis", x, axis=1, begin=0, end=axis.length)

    def _cut(self, x: Entry, axis: Axis, inputs: int, place: int) -> Entry:
        """Pieces of so many inputs that overlap, as a new axis at ``place``, before the one that is cut."""
        if axis.pieces == 1:
            return x
        step = axis.tiles * _TILE * (1 if axis.apart else axis.dilation)
        pieces = [self.add("slice_axis", x, axis=place, begin=step * piece, end=step * piece + inputs)
                  for piece in range(axis.pieces)]
        return self.add("stack", *pieces, axis=place, num_args=axis.pieces)

    def _dense(self, matrix: np.ndarray, kind: str, x: Entry) -> Entry:
        """``matrix`` (outputs, inputs) times each row of (..., inputs), by oneDNN."""
        name = self._matrix(matrix, kind)
        return self.add("FullyConnected", self._reshaped(x, -1, matrix.shape[1]), name, num_hidden=len(matrix),
                         no_bias=True, flatten=False)

    def _product(self, matrix: np.ndarray, kind: str, x: Entry, batch: int, rest: int) -> Entry:
        """``matrix`` (outputs, inputs) times each of (batch, inputs, rest)."""
        name = self._matrix(np.broadcast_to(matrix, (batch, *matrix.shape)), kind)
        return self.add("batch_dot", name, self._reshaped(x, batch, matrix.shape[1], rest))

    def _matrix(self, matrix: np.ndarray, kind: str) -> Entry:
        # the name tells all axes of a network apart
        name = f"winograd_{kind}_{'x'.join(map(str, matrix.shape))}"
        return self.constant(name, self._constants, lambda: mx.nd.array(matrix, dtype="float32"))

    def _swapped(self, x: Entry, *shape: int) -> Entry:
        """The second of four axes behind the third; oneDNN turns four axes, more are turned by MXNet, slowly."""
        return x if 1 in shape[1:3] else self.add("transpose", self._reshaped(x, *shape), axes=(0, 2, 1, 3))

    def _reshaped(self, x: Entry, *shape: int) -> Entry:
        return self.add("Reshape", x, shape=tuple(shape))
