"""MXNet's operators that arrange tensors, in PyTorch: reshape, transpose, slice, concatenate, repeat, pad."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from .operators import TORCH, coded_shape, unsupported
from .torch_ops import recorded

# ---- shapes ---------------------------------------------------------------------------------

@TORCH.operator("Reshape")
@recorded
def reshape(data, *, shape=(), reverse=False, target_shape=(), keep_highest=False):
    """Reshape with MXNet's codes (:func:`.operators.coded_shape`).

    The older argument ``target_shape`` has one code: 0 is the rest.
    """
    if not shape and target_shape:
        sizes = [data.shape[0], *target_shape[1:]] if keep_highest else list(target_shape)
        return data.reshape([size or -1 for size in sizes])
    return data.reshape(coded_shape(data.shape, shape, reverse))


@TORCH.operator("reshape_like")
@recorded
def reshape_like(lhs, rhs, *, lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None):
    """Replace the axes [lhs_begin, lhs_end) of ``lhs`` by the axes [rhs_begin, rhs_end) of ``rhs``; by default all."""
    def bounds(begin, end, rank):
        begin, end = 0 if begin is None else begin, rank if end is None else end
        return begin + rank * (begin < 0), end + rank * (end < 0)

    first, last = bounds(lhs_begin, lhs_end, lhs.dim())
    begin, end = bounds(rhs_begin, rhs_end, rhs.dim())
    return lhs.reshape(*lhs.shape[:first], *rhs.shape[begin:end], *lhs.shape[last:])


@TORCH.operator("Flatten")
def flatten(data):
    """Join all axes after the first one."""
    return data.flatten(1)


@TORCH.operator("expand_dims")
def expand_dims(data, *, axis):
    """Insert an axis of size 1."""
    return data.unsqueeze(axis)


@TORCH.operator("squeeze")
def squeeze(data, *, axis=None):
    """Remove axes of size 1, all by default."""
    return data.squeeze() if axis is None else data.squeeze(axis)


@TORCH.operator("transpose")
@recorded
def transpose(data, *, axes=()):
    """Permute the axes; by default reverse them."""
    return data.permute(axes or tuple(range(data.dim()))[::-1])


@TORCH.operator("SwapAxis")
def swap_axis(data, *, dim1=0, dim2=0):
    """Exchange two axes."""
    return data.transpose(dim1, dim2)


@TORCH.operator("depth_to_space")
@recorded
def depth_to_space(data, *, block_size):
    """Move channels into blocks of the map: channel (by, bx, c) becomes row offset by and column offset bx of c."""
    n, c, h, w = data.shape
    b = block_size
    return data.reshape(n, b, b, c // b ** 2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b ** 2, h * b, w * b)


@TORCH.operator("space_to_depth")
@recorded
def space_to_depth(data, *, block_size):
    """Move blocks of the map into channels, the inverse of ``depth_to_space``."""
    n, c, h, w = data.shape
    b = block_size
    return data.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@TORCH.operator("shape_array")
@recorded
def shape_array(data):
    """Return the shape as int64 (rank,)."""
    return torch.tensor(data.shape, dtype=torch.int64, device=data.device)


@TORCH.operator("_contrib_arange_like")
@recorded
def arange_like(data, *, start=0.0, step=1.0, repeat=1, axis=None):
    """Return start, start + step, ... in the type of ``data``: as many as its axis has, or in its shape."""
    if repeat != 1:
        raise unsupported("_contrib_arange_like", f"repeat={repeat}", "repeat=1")
    n = data.numel() if axis is None else data.shape[axis]
    result = torch.arange(n, dtype=data.dtype, device=data.device) * step + start
    return result.reshape(data.shape) if axis is None else result


# ---- parts ----------------------------------------------------------------------------------

@TORCH.operator("slice")
@recorded
def slice_(data, *, begin=(), end=(), step=()):
    """Take begin:end:step of each of the first axes. None is the whole axis; a negative step goes backwards."""
    for axis, (first, last) in enumerate(zip(begin, end)):
        stride = (step[axis] if axis < len(step) else None) or 1
        if stride > 0:
            data = data[(slice(None),) * axis + (slice(first, last, stride),)]
        else:
            indices = range(data.shape[axis])[first:last:stride]  # it fixes the size in an exported program
            data = data.index_select(axis, torch.tensor(list(indices), dtype=torch.long, device=data.device))
    return data


@TORCH.operator("slice_axis")
def slice_axis(data, *, axis, begin, end=None):
    """Take begin:end of one axis; negative numbers count from its end, None is the end."""
    if axis >= 0:
        return data[(slice(None),) * axis + (slice(begin, end),)]
    return data[(Ellipsis, slice(begin, end)) + (slice(None),) * (-1 - axis)]


@TORCH.operator("slice_like")
@recorded
def slice_like(data, shape_like, *, axes=()):
    """Cut axes, all by default, to the sizes of another tensor."""
    for axis in axes or range(data.dim()):
        data = data.narrow(axis, 0, shape_like.shape[axis])
    return data


@TORCH.operator("SliceChannel")
@recorded
def slice_channel(data, *, num_outputs, axis=1, squeeze_axis=False):
    """Split an axis into equal parts; with ``squeeze_axis``, parts of size 1 lose the axis."""
    if data.shape[axis] % num_outputs:
        raise unsupported("SliceChannel", f"{data.shape[axis]} channels in {num_outputs} parts", "equal parts")
    parts = data.chunk(num_outputs, axis)
    return tuple(part.squeeze(axis) if squeeze_axis else part for part in parts)


@TORCH.operator("_split_v2")
@recorded
def split_v2(data, *, indices=(), axis=0, squeeze_axis=False, sections=0):
    """Split an axis into equal sections, or at indices, of which the first is 0."""
    parts = data.chunk(sections, axis) if sections else data.tensor_split(indices[1:], axis)
    return tuple(part.squeeze(axis) if squeeze_axis else part for part in parts)


@TORCH.operator("Crop")
@recorded
def crop_to(data, *like, offset=(0, 0), h_w=(0, 0), center_crop=False):
    """Cut (N, C, H, W) to the height and width of a second tensor or to ``h_w``, at an offset or in the middle."""
    h, w = like[0].shape[2:] if like else h_w
    y, x = ((data.shape[2] - h) // 2, (data.shape[3] - w) // 2) if center_crop else offset
    return data[:, :, y:y + h, x:x + w]


# ---- several tensors, repetition, padding ---------------------------------------------------

@TORCH.operator("Concat")
def concat(*inputs, dim=1):
    """Concatenate along an axis, by default the channels."""
    return torch.cat(inputs, dim)


@TORCH.operator("stack")
def stack(*inputs, axis=0):
    """Stack along a new axis."""
    return torch.stack(inputs, axis)


@TORCH.operator("broadcast_axis")
@recorded
def broadcast_axis(data, *, axis=(), size=()):
    """Repeat axes of size 1."""
    shape = list(data.shape)
    for one, n in zip(axis, size):
        shape[one] = n
    return data.expand(shape)


@TORCH.operator("broadcast_to")
@recorded
def broadcast_to(data, *, shape=()):
    """Repeat axes of size 1 up to a shape, in which 0 copies the size."""
    return data.expand([n or data.shape[axis] for axis, n in enumerate(shape)])


@TORCH.operator("broadcast_like")
@recorded
def broadcast_like(lhs, rhs, *, lhs_axes=None, rhs_axes=None):
    """Repeat axes of size 1 up to the shape of another tensor, or given axes up to its given axes."""
    if lhs_axes is None:
        return lhs.expand(rhs.shape)
    shape = list(lhs.shape)
    for left, right in zip(lhs_axes, rhs_axes):
        shape[left] = rhs.shape[right]
    return lhs.expand(shape)


@TORCH.operator("tile")
def tile(data, *, reps=()):
    """Repeat the whole tensor along each axis."""
    return data.tile(reps)


@TORCH.operator("repeat")
@recorded
def repeat(data, *, repeats, axis=None):
    """Repeat each element along an axis; without one, of the flattened tensor."""
    return data.repeat_interleave(repeats, axis)


@TORCH.operator("reverse")
def reverse(data, *, axis=()):
    """Reverse axes."""
    return data.flip(axis)


@TORCH.operator("Pad")
def pad(data, *, mode="constant", pad_width=(), constant_value=0.0):
    """Pad by (before, after) of each axis, the first axis first; modes constant, edge and reflect."""
    pairs = [tuple(pad_width[i:i + 2]) for i in range(0, len(pad_width), 2)]
    names = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}
    if mode not in names:
        raise unsupported("Pad", f"mode={mode}", ", ".join(names))
    if mode == "constant":
        return F.pad(data, [n for pair in reversed(pairs) for n in pair], value=constant_value)
    return F.pad(data, [n for pair in reversed(pairs[2:]) for n in pair], mode=names[mode])
