"""The one place where a map changes its size.

``contrib.BilinearResize2D`` has a slow backward on the CPU, an uninitialised gradient for the
``like`` tensor, and a default (``align_corners=True``) that nobody writes down. Bilinear
interpolation is separable and linear, so it is written here as two matrix products,

    Y[n, c] = R_h . X[n, c] . R_w^T,      R[i, j] = max(0, 1 - |pos(i) - j|),

with ``pos(i)`` the place of output sample ``i`` on the input's axis. The forward equals the
operator to rounding, the backward is two more products. All of it is float32 inside, whatever comes in.
"""
from __future__ import annotations

import json
from typing import Optional, Tuple

import mxnet as mx

from .precision import as_type_of, wide

# what may stand behind the products in a graph: as_type_of(), and what half precision makes of it
_CASTS = {"_copy", "amp_cast", "amp_multicast", "Cast"}


def length(F, x, axis):
    """Length of ``x`` along ``axis`` as a (1,) tensor of its type; a tensor because a symbol has no shape."""
    return F.slice_axis(F.contrib.arange_like(x, axis=axis), axis=0, begin=-1, end=None) + 1


def _weights(F, source, target, align_corners):
    """R^T for one axis: (in, out). ``source`` and ``target`` are 0, 1, 2, ... along it."""
    n_in, n_out = length(F, source, 0), length(F, target, 0)
    # one division, last: the products before it are exact in float32
    if align_corners:  # the corner samples of both grids coincide; a single output sample sits at 0
        steps = F.broadcast_maximum(n_out - 1, F.ones_like(n_out))
        position = F.broadcast_div(F.broadcast_mul(target, n_in - 1), steps)
    else:  # the corner edges of both grids coincide (OpenCV's INTER_LINEAR), clamped at the border
        position = F.broadcast_div(F.broadcast_mul(target + 0.5, n_in), n_out) - 0.5
        position = F.broadcast_minimum(F.relu(position), n_in - 1)
    distance = F.abs(F.broadcast_sub(F.expand_dims(source, 1), F.expand_dims(position, 0)))
    return F.BlockGrad(F.relu(1 - distance))


def turn(F, x):
    """(N, C, H, W) -> (N, C, W, H). On a CPU MXNet's transpose() is five times as fast as its swapaxes()."""
    return F.transpose(x, axes=(0, 1, 3, 2))


def resize(F, x, like, *, align_corners: bool):
    """Bilinear resize of ``x`` to the height and width of ``like``, at any size, hybridised or not.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``, as ``hybrid_forward`` receives it.
        x: (N, C, H, W).
        like: (N', C', H', W'); only its size is used, no gradient flows to it.
        align_corners: True: corner *samples* of the two grids coincide (MXNetSeg, GluonCV);
            False: corner *edges* do (OpenCV, today's PyTorch default).

    Returns:
        (N, C, H', W'), in the type of ``x``.
    """
    y, like = wide(F, x), wide(F, F.BlockGrad(like))
    return _products(F, x, y, *(_weights(F, *(F.contrib.arange_like(z, axis=axis) for z in (y, like)), align_corners)
                                for axis in (2, 3)))


def _products(F, x, y, rows, columns):
    """(R_h y R_w^T) in the type of ``x``; ``y`` is ``x`` in float32, ``rows`` and ``columns`` are R_h^T and R_w^T."""
    # dot() contracts the last axis of y with the first of R^T. The height first, so that what is transposed
    # is small and the large result is written once.
    y = F.dot(turn(F, y), rows)  # (N, C, W, H')
    return as_type_of(F, F.dot(turn(F, y), columns), x)  # (N, C, H', W')


def before_resize(y: mx.sym.Symbol) -> Optional[Tuple[mx.sym.Symbol, mx.sym.Symbol, mx.sym.Symbol]]:
    """What was resized, of a symbol that a function of this file gave: (x, R_h^T, R_w^T); of any other None.

    x: (N, C, h, w), R_h^T: (h, H), R_w^T: (w, W). Inference resizes the logits of a network its own way with them
    (:func:`resize_last`), mirrors them while they are small, and leaves out what casts the result.
    """
    while _operator(y)[0] in _CASTS:
        y = y.get_children()[0]
    factors = []
    for _ in range(2):
        if _operator(y)[0] != "dot":
            return None
        y, factor = y.get_children()
        if _operator(y) != ("transpose", "(0, 1, 3, 2)"):
            return None
        y = y.get_children()[0]
        factors.append(factor)
    columns, rows = factors
    return y, rows, columns


def _operator(y: mx.sym.Symbol) -> Tuple[str, Optional[str]]:
    """Its name and its ``axes``."""
    graph = json.loads(y.tojson())
    node = graph["nodes"][graph["heads"][0][0]]
    return node["op"], node.get("attrs", {}).get("axes")


def resize_last(F, x, rows, columns):
    """The products with the channels last, where a CPU takes softmax and argmax over them several times as fast.

    Args: x: (N, C, h, w) float32; rows, columns: R_h^T and R_w^T, see :func:`before_resize`.

    Returns:
        (H, N, W, C): N comes second, for so no large map is turned.
    """
    y = F.dot(columns, F.transpose(x, axes=(3, 2, 0, 1)), transpose_a=True)  # (W, h, N, C)
    return F.dot(rows, F.transpose(y, axes=(1, 2, 0, 3)), transpose_a=True)


def nearest(F, x, like):
    """``x`` at the height and width of ``like``, each place a copy: of row i n / m, rounded down, for row i of m.

    Args: see :func:`resize`. x: (N, C, H, W), like: (N', C', H', W') -> (N, C, H', W').
    """
    y, like = wide(F, x), wide(F, F.BlockGrad(like))
    return _products(F, x, y, *(_choice(F, y, like, axis) for axis in (2, 3)))


def _choice(F, x, like, axis):
    """(in, out), 1 where an output sample is a copy of the input's."""
    source, target = F.contrib.arange_like(x, axis=axis), F.contrib.arange_like(like, axis=axis)
    position = F.broadcast_div(F.broadcast_mul(target, length(F, x, axis)), length(F, like, axis))
    return F.BlockGrad(F.broadcast_equal(F.expand_dims(source, 1), F.expand_dims(F.floor(position), 0)))


def halve(F, x, *, align_corners: bool):
    """Bilinear resize of ``x`` to half its height and width, rounded up, at any size, hybridised or not.

    Args: see :func:`resize`. x: (N, C, H, W) -> (N, C, (H + 1) // 2, (W + 1) // 2).
    """
    # every second row and column; only its size counts
    like = F.slice(x, begin=(None,) * 4, end=(None,) * 4, step=(None, None, 2, 2))
    return resize(F, x, like, align_corners=align_corners)


def enlarge(F, x, factor: int, *, align_corners: bool, then=None):
    """Bilinear resize of ``x`` to ``factor`` times its height and width, at any size, hybridised or not.

    Args: see :func:`resize`. x: (N, C, H, W) -> (N, C, factor H, factor W), or the size of ``then``, another map:
        then that is resized again. (For a rounded size, ``factor`` times it may be some rows more. Both steps are
        done in one.)
    """
    y = wide(F, x)
    weights = []
    for axis in (2, 3):
        line = F.contrib.arange_like(y, axis=axis)
        longer = F.contrib.arange_like(F.concat(*[line] * factor, dim=0), axis=0)
        weights.append(_weights(F, line, longer, align_corners))
        if then is not None:
            last = F.contrib.arange_like(wide(F, F.BlockGrad(then)), axis=axis)
            weights[-1] = F.dot(weights[-1], _weights(F, longer, last, align_corners))
    return _products(F, x, y, *weights)
