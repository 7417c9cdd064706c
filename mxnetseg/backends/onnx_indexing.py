"""MXNet's operators that take elements, sort, count and fill, in ONNX."""
from __future__ import annotations

import numpy as np

from .onnx_ops import check_dtype
from .onnx_writer import Dim, Tensor, Writer
from .operators import ONNX, unsupported

# ---- elements at indices --------------------------------------------------------------------

def _index(w, name, indices, size, mode):
    """Return indices as int64, clipped or wrapped to a size."""
    if mode not in ("clip", "wrap"):
        raise unsupported(name, f"mode={mode}", "clip, wrap")
    indices, size = w.cast(indices, np.int64), w.vector(size)
    if mode == "wrap":
        return w("Mod", indices, size)
    return w("Max", w("Min", indices, w("Sub", size, w.integers(1))), w.integers(0))


@ONNX.operator("pick")
def pick(w, data, index, *, axis, keepdims, mode):
    """Take one element along an axis for each index; an index outside is clipped (``clip``) or wrapped (``wrap``)."""
    axis %= data.rank
    if index.rank < data.rank:
        index = w.unsqueeze(index, axis)
    result = w("GatherElements", data, _index(w, "pick", index, w.sizes(data)[axis], mode), axis=axis)
    return result if keepdims else w("Squeeze", result, w.integers(axis))


@ONNX.operator("one_hot")
def one_hot(w, indices, *, depth, on_value, off_value, dtype):
    """Return ``on_value`` at each index and ``off_value`` elsewhere; an index outside has none."""
    dtype = check_dtype("one_hot", dtype)
    is_hot = w("Equal", w.unsqueeze(w.cast(indices, np.int64), -1), w.constant(np.arange(depth, dtype=np.int64)))
    return w("Where", is_hot, w.constant(np.array(on_value, dtype)), w.constant(np.array(off_value, dtype)))


@ONNX.operator("take")
def take(w, a, indices, *, axis, mode):
    """Take slices along an axis at the indices, which are clipped (``clip``) or wrapped (``wrap``)."""
    axis %= a.rank
    return w("Gather", a, _index(w, "take", indices, w.sizes(a)[axis], mode), axis=axis)


@ONNX.operator("Embedding")
def embedding(w, data, weight, *, input_dim, output_dim, dtype):
    """Return the row of ``weight`` of each index; an index outside is clipped."""
    return w("Gather", weight, _index(w, "Embedding", data, input_dim, "clip"), axis=0)


@ONNX.operator("gather_nd")
def gather_nd(w, data, indices):
    """Take ``data[indices[0], indices[1], ...]``; the first axis of ``indices`` counts the axes of ``data``."""
    if not isinstance(indices.shape[0], int):
        raise unsupported("gather_nd", f"indices of shape {indices.shape}", "a first axis of a known size")
    indices = w("Transpose", w.cast(indices, np.int64), perm=[*range(1, indices.rank), 0])
    return w("GatherND", data, indices)


@ONNX.operator("batch_take")
def batch_take(w, a, indices):
    """Take one element of each row; an index outside is clipped."""
    return pick(w, a, indices, axis=1, keepdims=False, mode="clip")


@ONNX.operator("diag")
def diag(w, data, *, k, axis1, axis2):
    """Return a diagonal, or the matrix with a vector as its diagonal."""
    sizes = w.sizes(data)
    if data.rank == 1:
        side = sizes[0] + abs(k)
        places = _diagonal(w, sizes[0], side, k)
        zeros = w("Expand", w.number(0, data), w.vector(side * side))
        return w.reshape(w("ScatterElements", zeros, places, data), [side, side])
    axis1, axis2 = axis1 % data.rank, axis2 % data.rank
    others = [axis for axis in range(data.rank) if axis not in (axis1, axis2)]
    rows, columns = sizes[axis1], sizes[axis2]
    flat = w.reshape(w("Transpose", data, perm=[*others, axis1, axis2]), [*(sizes[i] for i in others), rows * columns])
    count = w("Min", w.vector(rows - max(-k, 0)), w.vector(columns - max(k, 0)))
    return w("Gather", flat, _diagonal(w, w.dim(count), columns, k), axis=len(others))


def _diagonal(w: Writer, count: Dim, columns: Dim, k: int) -> Tensor:
    """Return the places of a diagonal in a flattened matrix."""
    begin = k if k >= 0 else -k * columns
    return w("Add", w("Mul", w.arange(count), w.vector(columns + 1)), w.vector(begin))


# ---- order ----------------------------------------------------------------------------------

def _ordered(w: Writer, data: Tensor, axis: int | None, is_ascend: bool, k: Dim = 0) -> tuple[Tensor, Tensor, int]:
    """Return the first k values in their order, or all, with their positions; and the axis."""
    data, axis = (w.reshape(data, (-1,)), 0) if axis is None else (data, axis % data.rank)
    count = w.vector(k or w.sizes(data)[axis])
    values, positions = w("TopK", data, count, axis=axis, largest=int(not is_ascend), sorted=1, outputs=2)
    return values, positions, axis


@ONNX.operator("sort")
def sort(w, data, *, axis, is_ascend):
    """Sort along an axis; without one, the flattened tensor."""
    return _ordered(w, data, axis, is_ascend)[0]


@ONNX.operator("argsort")
def argsort(w, data, *, axis, is_ascend, dtype):
    """Return the positions that sort along an axis; without one, the flattened tensor."""
    return w.cast(_ordered(w, data, axis, is_ascend)[1], check_dtype("argsort", dtype))


@ONNX.operator("topk")
def topk(w, data, *, axis, k, ret_typ, is_ascend, dtype):
    """Return the ``k`` largest or smallest elements along an axis, all if ``k`` is 0, as a list.

    ``ret_typ`` is ``value``, ``indices``, ``both`` (values and indices) or ``mask`` (1 at these elements).
    """
    values, positions, place = _ordered(w, data, axis, is_ascend, k)
    if ret_typ == "mask":
        flat = w.reshape(data, (-1,)) if axis is None else data
        zeros, ones = (w("Expand", w.number(i, data), w.vector(*w.sizes(x))) for i, x in ((0, flat), (1, positions)))
        return [w.reshape(w("ScatterElements", zeros, positions, ones, axis=place), w.sizes(data))]
    positions = w.cast(positions, check_dtype("topk", dtype))
    results = {"value": [values], "indices": [positions], "both": [values, positions]}
    if ret_typ not in results:
        raise unsupported("topk", f"ret_typ={ret_typ}", ", ".join([*results, "mask"]))
    return results[ret_typ]


@ONNX.operator("_np_cumsum")
def cumsum(w, data, *, axis, dtype):
    """Return the sums up to each element along an axis; without one, of the flattened tensor."""
    data, axis = (w.reshape(data, (-1,)), 0) if axis is None else (data, axis)
    data = data if dtype is None else w.cast(data, check_dtype("cumsum", dtype))
    return w("CumSum", data, w.constant(np.array(axis, np.int64)))


# ---- constants ------------------------------------------------------------------------------

@ONNX.operator("_zeros", value=0.0)
@ONNX.operator("_ones", value=1.0)
@ONNX.operator("_full")
def full(w, *, shape, value, dtype):
    """Return a tensor of one number."""
    if not all(shape):
        raise unsupported("_full", f"shape={shape}", "a shape without 0, the sign of an unknown size")
    return w.constant(np.full(shape, value, check_dtype("_full", dtype)))


@ONNX.operator("_arange")
def arange(w, *, start, stop, step, repeat, infer_range, dtype):
    """Return start, start + step, ... below ``stop``, each ``repeat`` times."""
    if infer_range:
        raise unsupported("_arange", "infer_range=True", "infer_range=False")
    first, last = (0.0, start) if stop is None else (start, stop)
    return w.constant(np.repeat(np.arange(first, last, step), repeat).astype(check_dtype("_arange", dtype)))
