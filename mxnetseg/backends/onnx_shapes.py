"""MXNet's operators that arrange tensors, in ONNX: reshape, transpose, slice, concatenate, repeat, pad."""
from __future__ import annotations

import numpy as np

from .onnx_writer import Tensor, Writer
from .operators import ONNX, coded_shape, unsupported

_END = np.iinfo(np.int64).max  # of any axis
_BEFORE_START = np.iinfo(np.int64).min

# ---- shapes ---------------------------------------------------------------------------------

@ONNX.operator("Reshape")
def reshape(w, data, *, shape, reverse, target_shape, keep_highest):
    """Reshape with MXNet's codes (:func:`.operators.coded_shape`).

    The older argument ``target_shape`` has one code: 0 is the rest.
    """
    old = w.sizes(data)
    if not shape and target_shape:
        sizes = [old[0], *target_shape[1:]] if keep_highest else list(target_shape)
        return w.reshape(data, [-1 if isinstance(size, int) and size == 0 else size for size in sizes])
    return w.reshape(data, coded_shape(old, shape, reverse))


@ONNX.operator("reshape_like")
def reshape_like(w, lhs, rhs, *, lhs_begin, lhs_end, rhs_begin, rhs_end):
    """Replace the axes [lhs_begin, lhs_end) of ``lhs`` by the axes [rhs_begin, rhs_end) of ``rhs``; by default all."""
    left, right = w.sizes(lhs), w.sizes(rhs)
    first, last, _ = slice(lhs_begin, lhs_end).indices(len(left))
    return w.reshape(lhs, [*left[:first], *right[rhs_begin:rhs_end], *left[last:]])


@ONNX.operator("Flatten")
def flatten(w, data):
    """Join all axes after the first one."""
    return w("Flatten", data, axis=1)


@ONNX.operator("expand_dims")
def expand_dims(w, data, *, axis):
    """Insert an axis of size 1."""
    return w.unsqueeze(data, axis)


@ONNX.operator("squeeze")
def squeeze(w, data, *, axis):
    """Remove axes of size 1, all by default."""
    if axis is None:
        if not all(isinstance(size, int) for size in data.shape):
            raise unsupported("squeeze", "no axis, and a shape that is not fixed", "axis=..., or a fixed size")
        axis = [i for i, size in enumerate(data.shape) if size == 1]
    axes = axis if isinstance(axis, (tuple, list)) else [axis]
    return w("Squeeze", data, w.integers(*axes)) if axes else data


@ONNX.operator("transpose")
def transpose(w, data, *, axes):
    """Permute the axes; by default reverse them."""
    return w("Transpose", data, perm=[axis % data.rank for axis in axes or range(data.rank)[::-1]])


@ONNX.operator("SwapAxis")
def swap_axis(w, data, *, dim1, dim2):
    """Exchange two axes."""
    axes = list(range(data.rank))
    axes[dim1], axes[dim2] = axes[dim2], axes[dim1]
    return w("Transpose", data, perm=axes)


@ONNX.operator("depth_to_space")
def depth_to_space(w, data, *, block_size):
    """Move channels into blocks of the map: channel (by, bx, c) becomes row offset by and column offset bx of c."""
    return w("DepthToSpace", data, blocksize=block_size, mode="DCR")


@ONNX.operator("space_to_depth")
def space_to_depth(w, data, *, block_size):
    """Move blocks of the map into channels, the inverse of ``depth_to_space``."""
    return w("SpaceToDepth", data, blocksize=block_size)


@ONNX.operator("shape_array")
def shape_array(w, data):
    """Return the shape as int64 (rank,)."""
    return w.vector(*w.sizes(data))


@ONNX.operator("_contrib_arange_like")
def arange_like(w, data, *, start, step, repeat, axis):
    """Return start, start + step, ... in the type of ``data``: as many as its axis has, or in its shape."""
    if repeat != 1:
        raise unsupported("_contrib_arange_like", f"repeat={repeat}", "repeat=1")
    sizes = w.sizes(data)
    n = sizes[axis] if axis is not None else _product(sizes)
    result = w.cast(w.arange(n), data.dtype)
    if step != 1:
        result = w("Mul", result, w.number(step, data))
    if start != 0:
        result = w("Add", result, w.number(start, data))
    return w.reshape(result, sizes) if axis is None else result


def _product(sizes):
    result = 1
    for size in sizes:
        result = size * result
    return result


# ---- parts ----------------------------------------------------------------------------------

def _sliced(w: Writer, x: Tensor, axes, begins, ends, steps=None) -> Tensor:
    """Slice axes; begins and ends are sizes."""
    return w("Slice", x, w.vector(*begins), w.vector(*ends), w.integers(*axes),
             None if steps is None else w.integers(*steps))


@ONNX.operator("slice")
def slice_(w, data, *, begin, end, step):
    """Take begin:end:step of each of the first axes. None is the whole axis; a negative step goes backwards."""
    axes, begins, ends, steps = [], [], [], []
    for axis, (first, last) in enumerate(zip(begin, end)):
        stride = (step[axis] if axis < len(step) else None) or 1
        if first is None and last is None and stride == 1:
            continue
        axes.append(axis)
        begins.append(first if first is not None else 0 if stride > 0 else _END)
        ends.append(last if last is not None else _END if stride > 0 else _BEFORE_START)
        steps.append(stride)
    return _sliced(w, data, axes, begins, ends, steps) if axes else data


@ONNX.operator("slice_axis")
def slice_axis(w, data, *, axis, begin, end):
    """Take begin:end of one axis; negative numbers count from its end, None is the end."""
    return _sliced(w, data, [axis % data.rank], [begin], [_END if end is None else end])


@ONNX.operator("slice_like")
def slice_like(w, data, shape_like, *, axes):
    """Cut axes, all by default, to the sizes of another tensor."""
    like = w.sizes(shape_like)
    axes = [axis % data.rank for axis in axes or range(data.rank)]
    return _sliced(w, data, axes, [0] * len(axes), [like[axis] for axis in axes])


def _squeezed(w: Writer, parts: Tensor | list[Tensor], axis: int, squeeze_axis: bool) -> list[Tensor]:
    parts = parts if isinstance(parts, list) else [parts]
    return [w("Squeeze", part, w.integers(axis)) for part in parts] if squeeze_axis else parts


@ONNX.operator("SliceChannel")
def slice_channel(w, data, *, num_outputs, axis, squeeze_axis):
    """Split an axis into equal parts; with ``squeeze_axis``, parts of size 1 lose the axis."""
    axis %= data.rank
    n = data.shape[axis]
    if isinstance(n, int) and n % num_outputs:
        raise unsupported("SliceChannel", f"{n} channels in {num_outputs} parts", "equal parts")
    parts = w("Split", data, axis=axis, num_outputs=num_outputs, outputs=num_outputs)
    return _squeezed(w, parts, axis, squeeze_axis)


@ONNX.operator("_split_v2")
def split_v2(w, data, *, indices, axis, squeeze_axis, sections):
    """Split an axis into equal sections, or at indices, of which the first is 0."""
    axis %= data.rank
    n = data.shape[axis]
    if not isinstance(n, int) or (sections and n % sections):
        raise unsupported("_split_v2", f"size {n} in {sections or len(indices)} parts", "equal parts of a known size")
    bounds = list(range(0, n + 1, n // sections)) if sections else [*indices, n]
    parts = w("Split", data, w.integers(*np.diff(bounds)), axis=axis, outputs=len(bounds) - 1)
    return _squeezed(w, parts, axis, squeeze_axis)


@ONNX.operator("Crop")
def crop_to(w, data, *like, offset, h_w, center_crop):
    """Cut (N, C, H, W) to the height and width of a second tensor or to ``h_w``, at an offset or in the middle."""
    size = w.sizes(like[0])[2:] if like else h_w
    if center_crop:
        offset = [(n - m) // 2 for n, m in zip(w.sizes(data)[2:], size)]
    return _sliced(w, data, [2, 3], offset, [begin + n for begin, n in zip(offset, size)])


# ---- several tensors, repetition, padding ---------------------------------------------------

@ONNX.operator("Concat")
def concat(w, *inputs, dim):
    """Concatenate along an axis, by default the channels."""
    return w("Concat", *inputs, axis=dim)


@ONNX.operator("stack")
def stack(w, *inputs, axis):
    """Stack along a new axis."""
    return w("Concat", *(w.unsqueeze(x, axis) for x in inputs), axis=axis)


@ONNX.operator("broadcast_axis")
def broadcast_axis(w, data, *, axis, size):
    """Repeat axes of size 1."""
    shape = [1] * data.rank
    for one, n in zip(axis, size):
        shape[one] = n
    return w("Expand", data, w.integers(*shape))


@ONNX.operator("broadcast_to")
def broadcast_to(w, data, *, shape):
    """Repeat axes of size 1 up to a shape, in which 0 copies the size."""
    return w("Expand", data, w.integers(*(n or 1 for n in shape)))


@ONNX.operator("broadcast_like")
def broadcast_like(w, lhs, rhs, *, lhs_axes, rhs_axes):
    """Repeat axes of size 1 up to the shape of another tensor, or given axes up to its given axes."""
    like = w.sizes(rhs)
    if lhs_axes is None:
        return w("Expand", lhs, w.vector(*like))
    shape = [1] * lhs.rank
    for left, right in zip(lhs_axes, rhs_axes):
        shape[left] = like[right]
    return w("Expand", lhs, w.vector(*shape))


@ONNX.operator("tile")
def tile(w, data, *, reps):
    """Repeat the whole tensor along each axis."""
    rank = max(len(reps), data.rank)
    data = w.unsqueeze(data, *range(rank - data.rank)) if rank > data.rank else data
    return w("Tile", data, w.integers(*(1,) * (rank - len(reps)), *reps))


@ONNX.operator("repeat")
def repeat(w, data, *, repeats, axis):
    """Repeat each element along an axis; without one, of the flattened tensor."""
    if axis is None:
        data, axis = w.reshape(data, (-1,)), 0
    axis %= data.rank
    sizes = w.sizes(data)
    shape = [1] * (data.rank + 1)
    shape[axis + 1] = repeats
    repeated = w("Expand", w.unsqueeze(data, axis + 1), w.integers(*shape))
    return w.reshape(repeated, [*sizes[:axis], sizes[axis] * repeats, *sizes[axis + 1:]])


@ONNX.operator("reverse")
def reverse(w, data, *, axis):
    """Reverse axes."""
    axes = [one % data.rank for one in axis]
    return _sliced(w, data, axes, [_END] * len(axes), [_BEFORE_START] * len(axes), [-1] * len(axes))


@ONNX.operator("Pad")
def pad(w, data, *, mode, pad_width, constant_value):
    """Pad by (before, after) of each axis, the first axis first; modes constant, edge and reflect."""
    if mode not in ("constant", "edge", "reflect"):
        raise unsupported("Pad", f"mode={mode}", "constant, edge, reflect")
    value = w.number(constant_value, data) if mode == "constant" else None
    return w("Pad", data, w.integers(*pad_width[::2], *pad_width[1::2]), value, mode=mode)
