"""3x3 convolutions with a quarter of the multiplications, as matrix products, for inference in float32.

Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016, section 4.1, F(4x4, 3x3): along an axis,
four neighbouring outputs need six inputs x. With ``B^T x`` (six numbers), ``G w`` of the three weights (six numbers)
and ``A^T`` they cost six multiplications instead of twelve. In two dimensions the outputs are ``A^T [U * V] A`` with
``U = G w G^T`` and ``V = B^T x B``; over all channels and tiles ``U * V`` is 36 matrix products.

``B^T`` and ``A^T`` on all tiles of an axis are matrices, too, so that all of it is matrix products. A dilated
convolution is an ordinary convolution on each of the maps of every ``d``-th row and column: its matrices act along the
quotient of a position by ``d`` and keep the remainder.

The rounding error is about ten times that of a plain convolution, about 1e-5 of the largest output.

This is done on processors without AVX-512. With AVX-512, FCN-R18 takes 942 ms instead of 507, PSPNet-R50 2520 instead
of 1907. ``MXNETSEG_WINOGRAD=1`` always does it, ``MXNETSEG_WINOGRAD=0`` never.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from .convolutions import Convolution, ConvolutionRewriter, Span, fused_convolutions, rewriting_pays
from .dilated import time_ratio
from .graph import Entry, ShapedGraph

VARIABLE = "MXNETSEG_WINOGRAD"
# the matrices of the interpolation points 0, 1, -1, 2, -2 and infinity
_BT = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], "float64")
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], "float64")
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], "float64")
# outputs of a tile along an axis, and points that are multiplied for it: along an axis and in all
_TILE, _POINTS = _AT.shape
_POINTS_2D = _POINTS ** 2
# An axis longer than the first number is cut into spans of about the second, since the work grows with the square of a
# span's length.
_LONGEST, _SPAN = 96, 48
# Operations that take as long as moving one byte, as measured; and the fraction of a plain convolution's time below
# which the estimate must lie for a convolution to be rewritten.
_OPERATIONS_PER_BYTE, _MAX_TIME_RATIO = 16, 0.75
# Largest transformed maps of a block, in bytes, so that a large image does not take all the memory of a laptop.
_MAX_BLOCK_BYTES = 64 << 20
_FLOAT_BYTES = 4
# a multiplication and an addition
_OPERATIONS_PER_PRODUCT = 2.0
# how often the map, the map transformed along one axis and the map transformed along both are read or written
_PLAIN_MOVES, _HALF_MOVES, _WHOLE_MOVES = 2, 4, 2


@dataclass(frozen=True)
class TiledSpan(Span):
    """Outputs along an axis in tiles of four.

    Attributes:
        length: of the whole axis.
        dilation: ``d``; a tile consists of positions with the same remainder by ``d``. ``begin`` is a multiple of it.
        splits_axis: treat the axis as two, quotients and remainders. The matrices act along the quotients, and the
            remainders join the axes that follow. ``d`` must divide the length. Otherwise the matrices act along the
            positions, and multiply the many zeros between tiles' positions too.
    """

    length: int
    dilation: int
    splits_axis: bool = False

    @property
    def reads(self) -> tuple[int, int]:
        """The inputs [begin, end); beyond the axis there are zeros."""
        return max(self.begin - self.dilation, 0), min(self.end + self.dilation, self.length)

    @property
    def tiles(self) -> int:
        """Number of tiles of each remainder."""
        return -(-(self.end - self.begin) // (_TILE * self.dilation))

    @property
    def all_tiles(self) -> int:
        return self.tiles * self.dilation

    @property
    def split_remainders(self) -> int:
        """Length of the axis of remainders that the matrices do not act on."""
        return self.dilation if self.splits_axis else 1

    @property
    def inputs(self) -> int:
        """Number of inputs that the matrices act on."""
        begin, end = self.reads
        return (end - begin) // self.split_remainders

    @property
    def outputs(self) -> int:
        """Number of outputs of the matrices."""
        return (self.end - self.begin) // self.split_remainders

    @property
    def points(self) -> int:
        """Number of points between the matrices."""
        return _POINTS * self.all_tiles // self.split_remainders

    def into_tiles(self) -> np.ndarray:
        """Return ``B^T`` on all tiles: (points, inputs), with the point as the slowest index."""
        matrix = np.zeros((_POINTS, self.tiles, self.tiles * _TILE + 2))
        for tile in range(self.tiles):
            matrix[:, tile, tile * _TILE:tile * _TILE + _POINTS] = _BT
        matrix = self._for_remainders(matrix.reshape(-1, matrix.shape[2]))
        beyond = (self.dilation - self.begin + self.reads[0]) // self.split_remainders
        return matrix[:, beyond:beyond + self.inputs]

    def out_of_tiles(self) -> np.ndarray:
        """Return ``A^T`` on all tiles: (outputs, points)."""
        matrix = np.zeros((self.tiles * _TILE, _POINTS, self.tiles))
        for tile in range(self.tiles):
            matrix[tile * _TILE:(tile + 1) * _TILE, :, tile] = _AT
        return self._for_remainders(matrix.reshape(len(matrix), -1))[:self.outputs]

    def _for_remainders(self, matrix: np.ndarray) -> np.ndarray:
        return matrix if self.splits_axis else np.kron(matrix, np.eye(self.dilation))


def spans(length: int, dilation: int, longest: int, *, splits_axis: bool = False) -> list[TiledSpan]:
    """Cut an axis into spans of equal length, except for the last.

    None is longer than ``longest``, or than one tile if that is longer.
    """
    tile_length = _TILE * dilation
    count = -(-length // longest)
    step = -(-length // count // tile_length) * tile_length
    return [TiledSpan(begin, min(begin + step, length), length, dilation, splits_axis)
            for begin in range(0, length, step)]


def use_winograd(shaped: ShapedGraph) -> ShapedGraph:
    """Rewrite the fused convolutions that get faster, and faster than by :mod:`.dilated`, in an inference on a CPU.

    The transformed weights are added to the shared weights, the matrices to the constants.
    """
    if not shaped.is_on_cpu or not rewriting_pays(VARIABLE):
        return shaped
    for convolution in fused_convolutions(shaped):
        rows, columns = _blocks(convolution)
        dilated_ratio = time_ratio(convolution)
        limit = dilated_ratio if dilated_ratio < 1 else _MAX_TIME_RATIO
        if _work(convolution, rows, columns) <= limit * convolution.operations:
            rewriter = _TileRewriter(shaped, convolution)
            # one image after the other, so that the points of its tiles can be the first axes
            images = [Span(i, i + 1) for i in range(convolution.shape[0])]
            rewriter.replace(partial(rewriter.in_blocks, images, rows, columns, rewriter.block))
    return shaped


def _blocks(convolution: Convolution) -> tuple[list[TiledSpan], list[TiledSpan]]:
    """Return the rows and columns of an image's blocks, which are computed one after the other."""
    (_, channels, height, width), dilation = convolution.shape, convolution.dilation
    columns = spans(width, dilation, width if width <= _LONGEST else _SPAN)

    splits_axis = height % dilation == 0
    remainders = dilation if splits_axis else 1
    longest = height if height <= _LONGEST * remainders else _SPAN * remainders
    tile_row_bytes = _FLOAT_BYTES * max(channels, convolution.filters) * _POINTS_2D * columns[0].all_tiles * dilation
    longest = min(longest, _MAX_BLOCK_BYTES // tile_row_bytes * _TILE * dilation)
    return spans(height, dilation, max(longest, 1), splits_axis=splits_axis), columns


def _transformed(weight: np.ndarray) -> np.ndarray:
    """Return ``U``: (K, C, 3, 3) -> (36, C, K), the columns' points before the rows'."""
    g = _G.astype(weight.dtype)
    return np.einsum("ax,kcxy,by->back", g, weight, g, optimize=True).reshape(_POINTS_2D, *weight.shape[1::-1])


def _work(convolution: Convolution, rows: Sequence[TiledSpan], columns: Sequence[TiledSpan]) -> float:
    """Estimate the cost of the transformed convolution in operations; moved bytes are counted as operations."""
    n, channels, *_ = convolution.shape
    filters, total = convolution.filters, 0.0
    for row, column in product(rows, columns):
        # numbers of a channel in the plain map, transformed along the columns only, and along both axes
        height = row.inputs * row.split_remainders
        plain, half = height * column.inputs, _POINTS * height * column.all_tiles
        whole = _POINTS_2D * row.all_tiles * column.all_tiles

        products = _OPERATIONS_PER_PRODUCT * whole * channels * filters
        transforms = _OPERATIONS_PER_PRODUCT * (channels + filters) * (half * column.inputs + whole * row.inputs)
        map_moves = _PLAIN_MOVES * plain + _HALF_MOVES * half + _WHOLE_MOVES * whole
        moved = _FLOAT_BYTES * ((channels + filters) * map_moves + _POINTS_2D * channels * filters)
        total += products + transforms + _OPERATIONS_PER_BYTE * moved
    return n * total


class _TileRewriter(ConvolutionRewriter):
    """Replacement of one convolution by products with the matrices of tiles."""

    def __init__(self, shaped: ShapedGraph, convolution: Convolution):
        super().__init__(shaped, convolution)
        self._constants = shaped.constants

    def block(self, rows: TiledSpan, columns: TiledSpan, x: Entry) -> Entry:
        """Write one block: (1, C, rows read, columns read) -> (1, K, rows, columns)."""
        channels, filters = self.convolution.shape[1], self.convolution.filters
        height, tiles = rows.inputs * rows.split_remainders, columns.all_tiles
        x = self._dense("into_columns", columns, x)
        x = self.add("transpose", self._reshaped(x, channels, height, _POINTS, tiles), axes=(2, 1, 3, 0))
        x = self._product("into_rows", rows, x, rows.split_remainders * tiles * channels)

        x = self._reshaped(x, _POINTS_2D, rows.all_tiles * tiles, channels)
        x = self.add("batch_dot", x, self.weight("winograd", _transformed))

        x = self._product("out_of_rows", rows, x, rows.split_remainders * tiles * filters)
        height = rows.end - rows.begin
        # in two steps, because one step takes oneDNN four times as long if the lengths are powers of two
        x = self.add("transpose", self._reshaped(x, _POINTS, height, tiles, filters), axes=(1, 0, 2, 3))
        x = self.add("transpose", self._reshaped(x, 1, height, _POINTS * tiles, filters), axes=(0, 3, 1, 2))
        x = self._dense("out_of_columns", columns, x)
        return self._reshaped(x, 1, filters, height, columns.end - columns.begin)

    def _dense(self, direction: str, span: TiledSpan, x: Entry) -> Entry:
        """Multiply the matrix (outputs, inputs) with each row of (..., inputs), by oneDNN."""
        outputs, inputs = _matrix_shape(direction, span)
        return self.add("FullyConnected", self._reshaped(x, -1, inputs), self._matrix(direction, span),
                        num_hidden=outputs, no_bias=True, flatten=False)

    def _product(self, direction: str, span: TiledSpan, x: Entry, rest: int) -> Entry:
        """Multiply the matrix (outputs, inputs) with each of (6, inputs, rest)."""
        outputs, inputs = _matrix_shape(direction, span)
        matrix = self._matrix(direction, span, (_POINTS, outputs, inputs))
        return self.add("batch_dot", matrix, self._reshaped(x, _POINTS, inputs, rest))

    def _matrix(self, direction: str, span: TiledSpan, shape: tuple[int, ...] | None = None) -> Entry:
        """Return the matrix ``into_...`` or ``out_of_...`` tiles, broadcast to ``shape``; made once for all blocks."""
        def make():
            matrix = span.into_tiles() if direction.startswith("into") else span.out_of_tiles()
            return np.broadcast_to(matrix, shape or matrix.shape)
        # the name is different for any two spans of a network
        name = f"winograd_{direction}_{span.begin}_{span.end}_{span.length}_{span.dilation}"
        return self.constant(name, self._constants, make)

    def _reshaped(self, x: Entry, *shape: int) -> Entry:
        return self.add("Reshape", x, shape=tuple(shape))


def _matrix_shape(direction: str, span: TiledSpan) -> tuple[int, int]:
    """Return the shape of a matrix: (outputs, inputs)."""
    return (span.points, span.inputs) if direction.startswith("into") else (span.outputs, span.points)
