"""Average pooling to a fraction of the size."""
from __future__ import annotations

from .precision import as_type_of, to_float32
from .resize import length, transpose_hw


def _cells(F, x, axis, factor):
    """Return a tensor with one element for each cell along an axis of length n: max(1, n // factor) elements.

    A symbol cannot compute with shapes, so this uses operators whose output has that length.
    """
    line = F.reshape(F.contrib.arange_like(x, axis=axis), (1, 1, 1, -1))  # n
    # 1 + min(n, factor) elements, of which every factor-th is kept: one if n < factor, else two
    start = F.concat(*(F.slice(line, begin=(0, 0, 0, 0), end=(1, 1, 1, n)) for n in (1, factor)), dim=3)
    one_or_two = F.slice(start, begin=(None,) * 4, end=(None,) * 4, step=(1, 1, 1, factor))
    # So 4 n plus that number is odd for n < factor and even otherwise. From a length, 'odd_scale' computes
    # (length - 1) * scale + 1 if it is odd, and length * scale if it is even, rounded down.
    line = F.concat(line, line, line, line, one_or_two, dim=3)
    return F.contrib.BilinearResize2D(line, mode="odd_scale", scale_height=1, scale_width=1 / (4 * factor))


def _averaging_matrix(F, x, axis, factor):
    """Return the matrix (in, out) of one axis: 1 / (pixels of the cell) where a pixel lies in a cell, else 0."""
    pixel = F.expand_dims(F.contrib.arange_like(x, axis=axis), 1)
    cell = F.expand_dims(F.contrib.arange_like(_cells(F, x, axis, factor), axis=3), 0)
    n_in = length(F, x, axis)
    n_out = F.slice_axis(F.reshape(cell, (-1,)), axis=0, begin=-1, end=None) + 1

    begin = F.floor(F.broadcast_div(F.broadcast_mul(cell, n_in), n_out))
    end = F.ceil(F.broadcast_div(F.broadcast_mul(cell + 1, n_in), n_out))
    inside = F.broadcast_greater_equal(pixel, begin) * F.broadcast_lesser(pixel, end)
    return F.BlockGrad(F.broadcast_div(inside, end - begin))


def pool_by(F, x, factor: int):
    """Average-pool ``x`` adaptively to ``1 / factor`` of its height and width, hybridised or not.

    ``contrib.AdaptiveAvgPooling2D`` does the same, but needs the output size beforehand.
    Of m cells over n pixels, cell i is the mean of pixels floor(i n / m) to ceil((i + 1) n / m) - 1.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``, as ``hybrid_forward`` receives it.
        x: (N, C, H, W).
        factor: a power of two.

    Returns:
        (N, C, max(1, H // factor), max(1, W // factor))
    """
    y = to_float32(F, x)
    size = F.BlockGrad(y)
    # the height first, so that the map which is transposed is small
    y = F.dot(transpose_hw(F, y), _averaging_matrix(F, size, 2, factor))  # (N, C, W, H / factor)
    return as_type_of(F, F.dot(transpose_hw(F, y), _averaging_matrix(F, size, 3, factor)), x)
