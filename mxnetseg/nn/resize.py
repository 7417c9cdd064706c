"""Bilinear resizing of feature maps. No other module of the library changes the size of a map.

``contrib.BilinearResize2D`` has a slow backward pass on the CPU, leaves the gradient of its ``like`` tensor
uninitialised, and aligns corners by default, which is easy to overlook. Bilinear interpolation is separable and linear,
so it is written here as two matrix products,

    Y[n, c] = R_h . X[n, c] . R_w^T,      R[i, j] = max(0, 1 - |pos(i) - j|),

where ``pos(i)`` is the position of output sample ``i`` on the input's axis. The forward pass equals the operator to
rounding, and the backward pass is two more products. All of it is computed in float32, in any network.

The operators of the two products carry the attribute ``RESIZE_MARK``, by which :mod:`mxnetseg.graph` finds them.
MXNet's passes keep attributes of operators (casts to half precision, oneDNN's fusion, quantisation, saving as JSON),
whereas names of operators depend on the block that calls, and the operators around a resize on the precision.

:mod:`mxnetseg.backends.resizes` replaces the products by one operator. For it, the last product carries
``RESIZE_KIND``, and the positions along the axes of the two maps are marked as SOURCE and TARGET.
"""
from __future__ import annotations

import mxnet as mx

from .._resize_marks import ALIGN_CORNERS, COLUMNS, HALF_PIXEL, NEAREST, RESIZE_KIND, RESIZE_MARK, ROWS, SOURCE, TARGET
from .precision import as_type_of, to_float32


def length(F, x, axis):
    """Return the length of ``x`` along ``axis`` as a tensor (1,) of its type, since a symbol has no shape."""
    return F.slice_axis(F.contrib.arange_like(x, axis=axis), axis=0, begin=-1, end=None) + 1


def _positions(F, x, axis, mark):
    """Return the positions 0, 1, 2, ... along an axis, marked as SOURCE or TARGET."""
    with mx.AttrScope(**{RESIZE_MARK: mark}):
        return F.contrib.arange_like(x, axis=axis)


def _bilinear_kind(align_corners):
    return ALIGN_CORNERS if align_corners else HALF_PIXEL


def _bilinear_matrix(F, source, target, align_corners):
    """Return R^T of one axis: (in, out). ``source`` and ``target`` are the positions 0, 1, 2, ... along it."""
    n_in, n_out = length(F, source, 0), length(F, target, 0)
    # one division, at the end: the products before it are exact in float32
    if align_corners:  # the corner samples of both grids coincide; a single output sample is at 0
        steps = F.broadcast_maximum(n_out - 1, F.ones_like(n_out))
        position = F.broadcast_div(F.broadcast_mul(target, n_in - 1), steps)
    else:  # the corner edges of both grids coincide (OpenCV's INTER_LINEAR), clamped at the border
        position = F.broadcast_div(F.broadcast_mul(target + 0.5, n_in), n_out) - 0.5
        position = F.broadcast_minimum(F.relu(position), n_in - 1)

    distance = F.abs(F.broadcast_sub(F.expand_dims(source, 1), F.expand_dims(position, 0)))
    return F.BlockGrad(F.relu(1 - distance))


def transpose_hw(F, x):
    """Transpose (N, C, H, W) -> (N, C, W, H). On a CPU MXNet's transpose() is five times as fast as its swapaxes()."""
    return F.transpose(x, axes=(0, 1, 3, 2))


def resize(F, x, like, *, align_corners: bool):
    """Resize ``x`` bilinearly to the height and width of ``like``, at any size, hybridised or not.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``, as ``hybrid_forward`` receives it.
        x: (N, C, H, W).
        like: (N', C', H', W'); only its size is used, and it gets no gradient.
        align_corners: True: the corner *samples* of the two grids coincide (MXNetSeg, GluonCV);
            False: the corner *edges* do (OpenCV, PyTorch's default).

    Returns:
        (N, C, H', W'), of the type of ``x``.
    """
    y, like = to_float32(F, x), to_float32(F, F.BlockGrad(like))

    def matrix(axis):
        return _bilinear_matrix(F, _positions(F, y, axis, SOURCE), _positions(F, like, axis, TARGET), align_corners)
    return _multiply(F, x, y, matrix(2), matrix(3), kind=_bilinear_kind(align_corners))


def _multiply(F, x, y, rows, columns, *, kind):
    """Return R_h y R_w^T in the type of ``x``.

    Args:
        y: ``x`` in float32.
        rows, columns: R_h^T, R_w^T.
        kind: the value of ``RESIZE_KIND``.
    """
    # dot() contracts the last axis of y with the first axis of R^T. The height comes first, so that the map which is
    # transposed is small and the large result is written once.
    with mx.AttrScope(**{RESIZE_MARK: ROWS}):
        y = F.dot(transpose_hw(F, y), rows)  # (N, C, W, H')
    with mx.AttrScope(**{RESIZE_MARK: COLUMNS, RESIZE_KIND: kind}):
        y = F.dot(transpose_hw(F, y), columns)  # (N, C, H', W')
    return as_type_of(F, y, x)


def resize_channels_last(F, x, rows, columns):
    """Multiply as :func:`resize` does, but with the channels last.

    A CPU computes softmax and argmax over the last axis several times as fast as over the second one.

    Args:
        x: (N, C, h, w) float32.
        rows, columns: R_h^T (h, H) and R_w^T (w, W), see :func:`mxnetseg.graph.inference_graph.split_last_resize`.

    Returns:
        (H, N, W, C). N comes second, because then no large map is transposed.
    """
    y = F.dot(columns, F.transpose(x, axes=(3, 2, 0, 1)), transpose_a=True)  # (W, h, N, C)
    return F.dot(rows, F.transpose(y, axes=(1, 2, 0, 3)), transpose_a=True)


def nearest(F, x, like):
    """Resize ``x`` to the height and width of ``like`` by copying samples: row i of m is row i n / m, rounded down.

    Args: see :func:`resize`. x: (N, C, H, W), like: (N', C', H', W') -> (N, C, H', W').
    """
    y, like = to_float32(F, x), to_float32(F, F.BlockGrad(like))
    return _multiply(F, x, y, *(_nearest_matrix(F, y, like, axis) for axis in (2, 3)), kind=NEAREST)


def _nearest_matrix(F, x, like, axis):
    """Return the matrix (in, out) of one axis that is 1 where an output sample is a copy of the input's."""
    source, target = _positions(F, x, axis, SOURCE), _positions(F, like, axis, TARGET)
    position = F.broadcast_div(F.broadcast_mul(target, length(F, source, 0)), length(F, target, 0))
    return F.BlockGrad(F.broadcast_equal(F.expand_dims(source, 1), F.expand_dims(F.floor(position), 0)))


def halve(F, x, *, align_corners: bool):
    """Resize ``x`` bilinearly to half its height and width, rounded up, at any size, hybridised or not.

    Args: see :func:`resize`. x: (N, C, H, W) -> (N, C, (H + 1) // 2, (W + 1) // 2).
    """
    # every second row and column; only the size of this map is used
    like = F.slice(x, begin=(None,) * 4, end=(None,) * 4, step=(None, None, 2, 2))
    return resize(F, x, like, align_corners=align_corners)


def enlarge(F, x, factor: int, *, align_corners: bool, then=None):
    """Resize ``x`` bilinearly to ``factor`` times its height and width, at any size, hybridised or not.

    Args: see :func:`resize`. x: (N, C, H, W) -> (N, C, factor H, factor W).
        then: another map, to whose size the result is resized again. Where the height of ``x`` was rounded up,
            ``factor`` times it may be some rows too many. Both resizes are computed as one.
    """
    y = to_float32(F, x)
    matrices = []
    for axis in (2, 3):
        source = _positions(F, y, axis, SOURCE)
        enlarged = F.contrib.arange_like(F.concat(*[source] * factor, dim=0), axis=0)
        matrix = _bilinear_matrix(F, source, enlarged, align_corners)
        if then is not None:
            last = _positions(F, to_float32(F, F.BlockGrad(then)), axis, TARGET)
            matrix = F.dot(matrix, _bilinear_matrix(F, enlarged, last, align_corners))
        matrices.append(matrix)
    return _multiply(F, x, y, *matrices, kind=f"{_bilinear_kind(align_corners)}*{factor}")
