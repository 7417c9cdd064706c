"""MXNet's operators that arrange tensors, in PyTorch: reshape, transpose, slice, concatenate, repeat, pad."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from .operators import operator, unsupported
from .torch_ops import recorded

# ---- shapes ---------------------------------------------------------------------------------

@operator("Reshape", "reshape")
@recorded
def reshape(data, *, shape=(), reverse=False, target_shape=(), keep_highest=False):
    """Reshape with MXNet's codes.

    0 copies an axis, -1 is the rest, -2 copies all remaining axes, -3 joins two axes, -4 splits one axis into the two
    sizes that follow, of which one may be -1. ``reverse`` reads both shapes from the right, so that
    -4 follows its sizes. The older argument
    ``target_shape`` has one code: 0 is the rest.

    MXNet counts the codes, not the axes, to find the axis of -1: after a split the rest goes to a later axis.
    """
    if not shape and target_shape:
        sizes = [data.shape[0], *target_shape[1:]] if keep_highest else list(target_shape)
        return data.reshape([size or -1 for size in sizes])
    if reverse:
        return data.reshape(_new_shape(list(data.shape)[::-1], list(shape)[::-1])[::-1])
    return data.reshape(_new_shape(list(data.shape), list(shape)))


def _new_shape(old: list[int], codes: list[int]) -> list[int]:
    new: list[int] = []
    at = i = 0
    rest = None
    while i < len(codes):
        code = codes[i]
        if code == -4:
            new += _split(old[at], codes[i + 1], codes[i + 2])
            at, i = at + 1, i + 2
        elif code == -3:
            new.append(old[at] * old[at + 1])
            at += 2
        elif code == -2:
            new += old[at:]
            at = len(old)
        elif code == 0:
            new.append(old[at])
            at += 1
        else:
            if code == -1:
                rest = i
            new.append(1 if code == -1 else code)
            at += 1
        i += 1
    if rest is not None:
        if rest >= len(new):
            raise unsupported("Reshape", f"shape={tuple(codes)}", "-1 before -4")
        new[rest] = -1
    return new


def _split(size: int, first: int, second: int) -> list[int]:
    return [size // second if first == -1 else first, size // first if second == -1 else second]


@operator("reshape_like")
@recorded
def reshape_like(lhs, rhs, *, lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None):
    """Replace the axes [lhs_begin, lhs_end) of ``lhs`` by the axes [rhs_begin, rhs_end) of ``rhs``; by default all."""
    def bounds(begin, end, rank):
        begin, end = 0 if begin is None else begin, rank if end is None else end
        return begin + rank * (begin < 0), end + rank * (end < 0)

    first, last = bounds(lhs_begin, lhs_end, lhs.dim())
    begin, end = bounds(rhs_begin, rhs_end, rhs.dim())
    return lhs.reshape(*lhs.shape[:first], *rhs.shape[begin:end], *lhs.shape[last:])


@operator("Flatten", "flatten")
def flatten(data):
    """Join all axes after the first one."""
    return data.flatten(1)


@operator("expand_dims")
def expand_dims(data, *, axis):
    """Insert an axis of size 1."""
    return data.unsqueeze(axis)


@operator("squeeze")
def squeeze(data, *, axis=None):
    """Remove axes of size 1, all by default."""
    return data.squeeze() if axis is None else data.squeeze(axis)


@operator("transpose")
@recorded
def transpose(data, *, axes=()):
    """Permute the axes; by default reverse them."""
    return data.permute(axes or tuple(range(data.dim()))[::-1])


@operator("SwapAxis", "swapaxes")
def swap_axis(data, *, dim1=0, dim2=0):
    """Exchange two axes."""
    return data.transpose(dim1, dim2)


@operator("depth_to_space")
@recorded
def depth_to_space(data, *, block_size):
    """Move channels into blocks of the map: channel (by, bx, c) becomes row offset by and column offset bx of c."""
    n, c, h, w = data.shape
    b = block_size
    return data.reshape(n, b, b, c // b ** 2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b ** 2, h * b, w * b)


@operator("space_to_depth")
@recorded
def space_to_depth(data, *, block_size):
    """Move blocks of the map into channels, the inverse of ``depth_to_space``."""
    n, c, h, w = data.shape
    b = block_size
    return data.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operator("shape_array")
@recorded
def shape_array(data):
    """Return the shape as int64 (rank,)."""
    return torch.tensor(data.shape, dtype=torch.int64, device=data.device)


@operator("_contrib_arange_like")
@recorded
def arange_like(data, *, start=0.0, step=1.0, repeat=1, ctx="", axis=None):
    """Return start, start + step, ... in the type of ``data``: as many as its axis has, or in its shape."""
    if repeat != 1:
        raise unsupported("_contrib_arange_like", f"repeat={repeat}", "repeat=1")
    n = data.numel() if axis is None else data.shape[axis]
    result = torch.arange(n, dtype=data.dtype, device=data.device) * step + start
    return result.reshape(data.shape) if axis is None else result


# ---- parts ----------------------------------------------------------------------------------

@operator("slice", "crop")
@recorded
def slice_(data, *, begin=(), end=(), step=()):
    """Take begin:end:step of each of the first axes. None is the whole axis; a negative step goes backwards."""
    for axis, (first, last) in enumerate(zip(begin, end)):
        stride = (step[axis] if axis < len(step) else None) or 1
        indices = range(data.shape[axis])[first:last:stride]
        if stride > 0:
            data = data[(slice(None),) * axis + (slice(first, last, stride),)]
        else:
            data = data.index_select(axis, torch.tensor(list(indices), dtype=torch.long, device=data.device))
    return data


@operator("slice_axis")
def slice_axis(data, *, axis, begin, end=None):
    """Take begin:end of one axis; negative numbers count from its end, None is the end."""
    if axis >= 0:
        return data[(slice(None),) * axis + (slice(begin, end),)]
    return data[(Ellipsis, slice(begin, end)) + (slice(None),) * (-1 - axis)]


@operator("slice_like")
@recorded
def slice_like(data, shape_like, *, axes=()):
    """Cut axes, all by default, to the sizes of another tensor."""
    for axis in axes or range(data.dim()):
        data = data.narrow(axis, 0, shape_like.shape[axis])
    return data


@operator("SliceChannel", "split")
@recorded
def slice_channel(data, *, num_outputs, axis=1, squeeze_axis=False):
    """Split an axis into equal parts; with ``squeeze_axis``, parts of size 1 lose the axis."""
    if data.shape[axis] % num_outputs:
        raise unsupported("SliceChannel", f"{data.shape[axis]} channels in {num_outputs} parts", "equal parts")
    parts = data.chunk(num_outputs, axis)
    return tuple(part.squeeze(axis) if squeeze_axis else part for part in parts)


@operator("_split_v2")
@recorded
def split_v2(data, *, indices=(), axis=0, squeeze_axis=False, sections=0):
    """Split an axis into equal sections, or at indices, of which the first is 0."""
    parts = data.chunk(sections, axis) if sections else data.tensor_split(indices[1:], axis)
    return tuple(part.squeeze(axis) if squeeze_axis else part for part in parts)


@operator("Crop")
@recorded
def crop_to(data, *like, num_args=1, offset=(0, 0), h_w=(0, 0), center_crop=False):
    """Cut (N, C, H, W) to the height and width of a second tensor or to ``h_w``, at an offset or in the middle."""
    h, w = like[0].shape[2:] if like else h_w
    y, x = ((data.shape[2] - h) // 2, (data.shape[3] - w) // 2) if center_crop else offset
    return data[:, :, y:y + h, x:x + w]


# ---- several tensors, repetition, padding ---------------------------------------------------

@operator("Concat", "concat")
def concat(*inputs, dim=1, num_args=0):
    """Concatenate along an axis, by default the channels."""
    return torch.cat(inputs, dim)


@operator("stack")
def stack(*inputs, axis=0, num_args=0):
    """Stack along a new axis."""
    return torch.stack(inputs, axis)


@operator("broadcast_axis", "broadcast_axes")
@recorded
def broadcast_axis(data, *, axis=(), size=()):
    """Repeat axes of size 1."""
    shape = list(data.shape)
    for one, n in zip(axis, size):
        shape[one] = n
    return data.expand(shape)


@operator("broadcast_to")
@recorded
def broadcast_to(data, *, shape=()):
    """Repeat axes of size 1 up to a shape, in which 0 copies the size."""
    return data.expand([n or data.shape[axis] for axis, n in enumerate(shape)])


@operator("broadcast_like")
@recorded
def broadcast_like(lhs, rhs, *, lhs_axes=None, rhs_axes=None):
    """Repeat axes of size 1 up to the shape of another tensor, or given axes up to its given axes."""
    if lhs_axes is None:
        return lhs.expand(rhs.shape)
    shape = list(lhs.shape)
    for left, right in zip(lhs_axes, rhs_axes):
        shape[left] = rhs.shape[right]
    return lhs.expand(shape)


@operator("tile")
def tile(data, *, reps=()):
    """Repeat the whole tensor along each axis."""
    return data.tile(reps)


@operator("repeat")
@recorded
def repeat(data, *, repeats, axis=None):
    """Repeat each element along an axis; without one, of the flattened tensor."""
    return data.repeat_interleave(repeats, axis)


@operator("reverse", "flip")
def reverse(data, *, axis=()):
    """Reverse axes."""
    return data.flip(axis)


@operator("Pad", "pad")
def pad(data, *, mode="constant", pad_width=(), constant_value=0.0):
    """Pad by (before, after) of each axis, the first axis first; modes constant, edge and reflect."""
    pairs = [tuple(pad_width[i:i + 2]) for i in range(0, len(pad_width), 2)]
    names = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}
    if mode not in names:
        raise unsupported("Pad", f"mode={mode}", ", ".join(names))
    if mode == "constant":
        return F.pad(data, [n for pair in reversed(pairs) for n in pair], value=constant_value)
    return F.pad(data, [n for pair in reversed(pairs[2:]) for n in pair], mode=names[mode])
