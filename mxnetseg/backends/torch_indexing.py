"""MXNet's operators that sort, count, gather and fill, in PyTorch."""
from __future__ import annotations

import torch

from .operators import operator, unsupported
from .signatures import OrNone
from .torch_ops import DTYPES, recorded

_LAST = OrNone(-1)  # an axis; None: of the flattened tensor

# ---- order ----------------------------------------------------------------------------------

@operator("sort")
@recorded
def sort(data, *, axis=_LAST, is_ascend=True):
    """Sort along an axis; without one, the flattened tensor."""
    data, axis = (data.reshape(-1), 0) if axis is None else (data, axis)
    return torch.sort(data, dim=axis, descending=not is_ascend, stable=True).values


@operator("argsort")
@recorded
def argsort(data, *, axis=_LAST, is_ascend=True, dtype="float32"):
    """Return the positions that sort along an axis; without one, the flattened tensor."""
    data, axis = (data.reshape(-1), 0) if axis is None else (data, axis)
    return torch.sort(data, dim=axis, descending=not is_ascend, stable=True).indices.to(DTYPES[dtype])


@operator("topk")
@recorded
def topk(data, *, axis=_LAST, k=1, ret_typ="indices", is_ascend=False, dtype="float32"):
    """Return the ``k`` largest or smallest elements along an axis, all if ``k`` is 0, as a tuple.

    ``ret_typ`` is ``value``, ``indices``, ``both`` (values and indices) or ``mask`` (1 at these elements).
    """
    flat = data.reshape(-1) if axis is None else data
    axis = 0 if axis is None else axis
    values, indices = torch.sort(flat, dim=axis, descending=not is_ascend, stable=True)
    k = k or flat.shape[axis]
    values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
    if ret_typ == "mask":
        return (torch.zeros_like(flat).scatter(axis, indices, 1.0).reshape(data.shape),)
    indices = indices.to(DTYPES[dtype])
    results = {"value": (values,), "indices": (indices,), "both": (values, indices)}
    if ret_typ not in results:
        raise unsupported("topk", f"ret_typ={ret_typ}", ", ".join([*results, "mask"]))
    return results[ret_typ]


@operator("_np_cumsum", "cumsum")
@recorded
def cumsum(data, *, axis=None, dtype=None):
    """Return the sums up to each element along an axis; without one, of the flattened tensor."""
    data, axis = (data.reshape(-1), 0) if axis is None else (data, axis)
    return torch.cumsum(data, axis, dtype=None if dtype is None else DTYPES[dtype])


# ---- gathering ------------------------------------------------------------------------------

@operator("gather_nd")
@recorded
def gather_nd(data, indices):
    """Take ``data[indices[0], indices[1], ...]``; the first axis of ``indices`` counts the axes of ``data``."""
    return data[tuple(indices.long().unbind(0))]


@operator("batch_take")
@recorded
def batch_take(a, indices):
    """Take one element of each row; an index outside is clipped."""
    return a.gather(1, indices.long().clamp(0, a.shape[1] - 1).reshape(-1, 1)).squeeze(1)


@operator("diag")
@recorded
def diag(data, *, k=0, axis1=0, axis2=1):
    """Return a diagonal, or the matrix with a vector as its diagonal."""
    return torch.diag(data, k) if data.dim() == 1 else torch.diagonal(data, k, axis1, axis2)


# ---- constants ------------------------------------------------------------------------------

@operator("_zeros", value=0.0)
@operator("_ones", value=1.0)
@operator("_full")
@recorded
def full(*, shape=(), value, dtype="float32", ctx=""):
    """Return a tensor of one number, on PyTorch's default device."""
    if not all(shape):
        raise unsupported("_full", f"shape={shape}", "a shape without 0, the sign of an unknown size")
    return torch.full(tuple(shape), value, dtype=DTYPES[dtype])


@operator("_arange")
@recorded
def arange(*, start=0.0, stop=None, step=1.0, repeat=1, infer_range=False, dtype="float32", ctx=""):
    """Return start, start + step, ... below ``stop``, each ``repeat`` times."""
    if infer_range:
        raise unsupported("_arange", "infer_range=True", "infer_range=False")
    first, last = (0.0, start) if stop is None else (start, stop)
    return torch.arange(first, last, step, dtype=DTYPES[dtype]).repeat_interleave(repeat)
