"""MXNet's convolutions in PyTorch, and the forms whose gradients PyTorch computes wrongly in half precision."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from .operators import TORCH, unsupported
from .torch_ops import recorded

_LAYOUTS = (None, "None", "NCW", "NCHW", "NCDHW")
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def filled(value, rank: int, default: int) -> tuple[int, ...]:
    """Return an argument with one number for each dimension; MXNet leaves defaults empty."""
    return tuple(value) if value else (default,) * rank


def _spacing(dilate, kernel) -> tuple[int, ...]:
    """Return the dilation of each dimension: 1 where the kernel has one weight, which nothing spaces."""
    return tuple(d if k > 1 else 1 for d, k in zip(filled(dilate, len(kernel), 1), kernel))


def check_layout(name: str, layout, rank: int) -> None:
    """Raise CheckpointError if the layout is not channels first with 1 to 3 dimensions."""
    if layout not in _LAYOUTS or rank not in (1, 2, 3):
        raise unsupported(name, f"layout={layout} with {rank} dimensions", "channels first, 1 to 3 dimensions")


@TORCH.operator("Convolution")
def convolution(data, weight, bias=None, *, kernel=(), stride=(), dilate=(), pad=(), num_filter, num_group=1,
                no_bias=False, layout=None):
    """Convolve (N, C, ...) with (num_filter, C / num_group, ...)."""
    rank = len(kernel)
    check_layout("Convolution", layout, rank)
    bias = None if no_bias else bias
    stride, pad, dilate = filled(stride, rank, 1), filled(pad, rank, 0), _spacing(dilate, kernel)
    if max(dilate) > 1:
        return dilated_convolution(data, weight, bias, stride=stride, pad=pad, dilate=dilate, groups=num_group)
    return _CONVOLUTIONS[rank](data, weight, bias, stride, pad, dilate, num_group)


def _is_cpu_autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # PyTorch before 2.4
        return torch.is_autocast_cpu_enabled()


@recorded
def dilated_convolution(data, weight, bias, *, stride, pad, dilate, groups, adj=None):
    """Convolve with a dilation; with ``adj``, transposed.

    On a processor, it is computed in float32 where PyTorch's gradients in bfloat16 would be random numbers: those of
    weights whose second axis is no multiple of 16, if maps are stored with the channels last (seen with oneDNN 3.12 in
    PyTorch 2.13 and AVX-512). In float32, depthwise convolutions are faster, too.
    """
    def convolve(*inputs):
        if adj is None:
            return _CONVOLUTIONS[len(dilate)](*inputs, stride, pad, dilate, groups)
        return _TRANSPOSED[len(dilate)](*inputs, stride, pad, adj, groups, dilate)

    is_unsafe = max(dilate) > 1 and weight.shape[1] % 16 and data.device.type == "cpu" and torch.is_grad_enabled()
    if not is_unsafe or not (_is_cpu_autocast() or data.dtype.itemsize == 2):
        return convolve(data, weight, bias)
    exact = torch.promote_types(data.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        return convolve(*(None if x is None else x.to(exact) for x in (data, weight, bias))).to(data.dtype)


@TORCH.operator("Deconvolution")
def deconvolution(data, weight, bias=None, *, kernel=(), stride=(), dilate=(), pad=(), adj=(), target_shape=(),
                  num_filter, num_group=1, no_bias=True, layout=None):
    """Convolve transposed: size (n - 1) stride + (kernel - 1) dilate + 1 - 2 pad + adj. No bias by default.

    ``target_shape`` gives the size instead, and pad and adj follow from it.
    """
    rank = len(kernel)
    check_layout("Deconvolution", layout, rank)
    stride, pad, adj = filled(stride, rank, 1), filled(pad, rank, 0), filled(adj, rank, 0)
    dilate = _spacing(dilate, kernel)
    bias = None if no_bias else bias
    if any(target_shape):
        return deconvolution_to(data, weight, bias, target=tuple(target_shape), stride=stride, dilate=dilate,
                                groups=num_group)
    if max(dilate) > 1:
        return dilated_convolution(data, weight, bias, stride=stride, pad=pad, dilate=dilate, groups=num_group, adj=adj)
    return _TRANSPOSED[rank](data, weight, bias, stride, pad, adj, num_group, dilate)


@recorded
def deconvolution_to(data, weight, bias, *, target, stride, dilate, groups):
    """Convolve transposed to a size: what is too much is cut off on both sides, one more at the beginning if odd."""
    cut = [(n - 1) * s + (k - 1) * d + 1 - wanted
           for n, s, k, d, wanted in zip(data.shape[2:], stride, weight.shape[2:], dilate, target)]
    if min(cut) < 0:
        raise unsupported("Deconvolution", f"target_shape={target}", "a size that the kernel and stride reach")
    return dilated_convolution(data, weight, bias, stride=stride, pad=[(n + 1) // 2 for n in cut], dilate=dilate,
                               groups=groups, adj=[n % 2 for n in cut])
