"""Average pooling to a fraction of the size."""
from __future__ import annotations

from .precision import as_type_of, wide
from .resize import length, turn


def _cells(F, x, axis, factor):
    """A tensor with as many elements as there are cells along an axis of length n: max(1, n // factor).

    A symbol cannot compute with shapes, so it is done with operators whose output is as long as that.
    """
    line = F.reshape(F.contrib.arange_like(x, axis=axis), (1, 1, 1, -1))  # n
    # 1 + min(n, factor) elements, of which every factor-th is kept: one if n < factor, else two
    start = F.concat(*(F.slice(line, begin=(0, 0, 0, 0), end=(1, 1, 1, n)) for n in (1, factor)), dim=3)
    one_or_two = F.slice(start, begin=(None,) * 4, end=(None,) * 4, step=(1, 1, 1, factor))
    # Hence 4 n plus something is odd for n < factor and even otherwise, and 'odd_scale' makes
    # (length - 1) * scale + 1 of odd lengths and length * scale of even ones, rounded down.
    line = F.concat(line, line, line, line, one_or_two, dim=3)
    return F.contrib.BilinearResize2D(line, mode="odd_scale", scale_height=1, scale_width=1 / (4 * factor))


def _weights(F, x, axis, factor):
    """For one axis: (in, out), 1 / (its pixels) where a pixel lies in a cell."""
    pixel = F.expand_dims(F.contrib.arange_like(x, axis=axis), 1)
    cell = F.expand_dims(F.contrib.arange_like(_cells(F, x, axis, factor), axis=3), 0)
    n_in = length(F, x, axis)
    n_out = F.slice_axis(F.reshape(cell, (-1,)), axis=0, begin=-1, end=None) + 1
    begin = F.floor(F.broadcast_div(F.broadcast_mul(cell, n_in), n_out))
    end = F.ceil(F.broadcast_div(F.broadcast_mul(cell + 1, n_in), n_out))
    inside = F.broadcast_greater_equal(pixel, begin) * F.broadcast_lesser(pixel, end)
    return F.BlockGrad(F.broadcast_div(inside, end - begin))


def pool_by(F, x, factor: int):
    """Adaptive average pooling of ``x`` to ``1 / factor`` of its height and width, hybridised or not.

    What ``contrib.AdaptiveAvgPooling2D`` does with an output size that it would have to know beforehand:
    cell i is the mean over pixels floor(i n / m) to ceil((i + 1) n / m) - 1 of n, for m cells.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``, as ``hybrid_forward`` receives it.
        x: (N, C, H, W).
        factor: a power of two.

    Returns:
        (N, C, max(1, H // factor), max(1, W // factor))
    """
    y = wide(F, x)
    size = F.BlockGrad(y)
    # the height first, so that what is transposed is small
    y = F.dot(turn(F, y), _weights(F, size, 2, factor))  # (N, C, W, H / factor)
    return as_type_of(F, F.dot(turn(F, y), _weights(F, size, 3, factor)), x)
