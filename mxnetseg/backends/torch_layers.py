"""MXNet's layers in PyTorch: dense layer, pooling, norms, dropout, resizing, softmax."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .._resize_marks import ALIGN_CORNERS, HALF_PIXEL, NEAREST
from .operators import TORCH, unsupported
from .torch_convolutions import check_layout, filled
from .torch_ops import DTYPES, recorded


@TORCH.operator("FullyConnected")
def fully_connected(data, weight, bias=None, *, num_hidden=0, no_bias=False, flatten=True):
    """Multiply by weight^T; with ``flatten``, after all axes but the first were joined."""
    return F.linear(data.flatten(1) if flatten else data, weight, None if no_bias else bias)


# ---- pooling and resizing -------------------------------------------------------------------

@TORCH.operator("Pooling")
def pooling(data, *, kernel=(), pool_type="max", global_pool=False, pooling_convention="valid", stride=(),
            pad=(), p_value=None, count_include_pad=True, layout=None):
    """Pool by max, avg, sum or lp.

    Of n elements, ``valid`` makes (n + 2 pad - kernel) / stride + 1, rounded down, ``full`` the same rounded up, and
    ``same`` (n + 2 pad) / stride rounded up. avg divides by the window's size, without the padding if
    ``count_include_pad`` is False.
    """
    if global_pool:
        return global_pooling(data, pool_type=pool_type, p_value=p_value)
    rank = len(kernel)
    check_layout("Pooling", layout, rank)
    stride, pad = filled(stride, rank, 1), filled(pad, rank, 0)
    if pooling_convention not in ("valid", "full", "same"):
        raise unsupported("Pooling", f"pooling_convention={pooling_convention}", "valid, full, same")
    if pool_type not in ("max", "avg", "sum", "lp") or (pool_type == "lp" and not p_value):
        raise unsupported("Pooling", f"pool_type={pool_type}, p_value={p_value}", "max, avg, sum, lp with p_value")

    ceil = pooling_convention == "full"
    # PyTorch refuses the first, and drops windows that begin in the padding after the map, which MXNet does not
    is_unusual = any(2 * p > k or (ceil and p + s > k) for k, s, p in zip(kernel, stride, pad))
    if pool_type in ("max", "avg") and not is_unusual and pooling_convention != "same":
        if pool_type == "max":
            return getattr(F, f"max_pool{rank}d")(data, kernel, stride, pad, 1, ceil)
        return getattr(F, f"avg_pool{rank}d")(data, kernel, stride, pad, ceil, count_include_pad)
    return padded_pooling(data, kernel=kernel, stride=stride, pad=pad, pool_type=pool_type, power=p_value,
                          convention=pooling_convention, count_include_pad=count_include_pad)


@recorded
def padded_pooling(data, *, kernel, stride, pad, pool_type, power, convention, count_include_pad):
    """Pool a map that is padded first, so that windows may lie in the padding: the lowest number, or 0, is there."""
    pads = []
    for n, k, s, p in zip(data.shape[2:], kernel, stride, pad):
        steps = {"valid": (n + 2 * p - k) // s, "full": -(-(n + 2 * p - k) // s), "same": -(-(n + 2 * p) // s) - 1}
        pads.append((p, max(steps[convention] * s + k - n - p, 0)))
    margins = [margin for pair in reversed(pads) for margin in pair]
    rank = len(kernel)

    if pool_type == "max":
        padded = F.pad(data, margins, value=torch.finfo(data.dtype).min)
        return getattr(F, f"max_pool{rank}d")(padded, kernel, stride)

    def total(x):
        return getattr(F, f"avg_pool{rank}d")(x, kernel, stride) * math.prod(kernel)

    if pool_type == "lp":
        return total(F.pad(data.abs() ** power, margins)) ** (1 / power)
    if pool_type == "sum":
        return total(F.pad(data, margins))
    ones = torch.ones_like(data[:1, :1])
    if count_include_pad:  # up to the padding on the right
        inside = [min(margin, pad[rank - 1 - i // 2]) for i, margin in enumerate(margins)]
        ones = F.pad(F.pad(ones, inside, value=1.0), [a - b for a, b in zip(margins, inside)])
    else:
        ones = F.pad(ones, margins)
    return total(F.pad(data, margins)) / total(ones).clamp(min=1)


@recorded
def global_pooling(data, *, pool_type="max", p_value=None):
    """Pool each map to one number: (N, C, 1, ...)."""
    axes = tuple(range(2, data.dim()))
    if pool_type == "lp":
        return torch.linalg.vector_norm(data, p_value, axes, keepdim=True)
    functions = {"max": torch.amax, "avg": torch.mean, "sum": torch.sum}
    if pool_type not in functions:
        raise unsupported("Pooling", f"pool_type={pool_type}", ", ".join([*functions, "lp"]))
    return functions[pool_type](data, axes, keepdim=True)


@TORCH.operator("_contrib_AdaptiveAvgPooling2D")
def adaptive_avg_pooling(data, *, output_size=()):
    """Average over a grid of windows: (N, C, height, width), one number is both."""
    return F.adaptive_avg_pool2d(data, (tuple(output_size) or (1,)) * (2 if len(output_size) < 2 else 1))


@TORCH.operator("_mxnetseg_resize")
@recorded
def marked_resize(data, *like, kind="", factor=1):
    """Enlarge by a factor, then resize to the height and width of a second tensor; either may be left out."""
    modes = {HALF_PIXEL: {"mode": "bilinear", "align_corners": False},
             ALIGN_CORNERS: {"mode": "bilinear", "align_corners": True}, NEAREST: {"mode": "nearest"}}
    if kind not in modes:
        raise unsupported("_mxnetseg_resize", f"kind={kind}", ", ".join(modes))
    sizes = [] if factor == 1 else [(data.shape[2] * factor, data.shape[3] * factor)]
    for size in [*sizes, *(tensor.shape[2:] for tensor in like)]:
        data = F.interpolate(data, tuple(size), **modes[kind])
    return data


@TORCH.operator("_contrib_BilinearResize2D")
@recorded
def bilinear_resize(data, *like, height=1, width=1, scale_height=None, scale_width=None, mode="size",
                    align_corners=True):
    """Resize (N, C, H, W) bilinearly; corners are aligned by default.

    The mode gives the size: ``size`` (height and width, or the scales), ``like`` (of a second tensor, which gets no
    gradient), ``odd_scale`` (scales; an odd size n becomes (n - 1) scale + 1), ``to_even_down``, ``to_even_up``,
    ``to_odd_down``, ``to_odd_up`` (the next even or odd number).
    """
    h, w = data.shape[2:]
    if mode == "like":
        size = like[0].shape[2:]
    elif mode == "size":
        size = (torch.sym_int(h * scale_height) if scale_height is not None else height,
                torch.sym_int(w * scale_width) if scale_width is not None else width)
    elif mode == "odd_scale":  # without a branch, so that an exported program computes both
        size = tuple(torch.sym_int((n - n % 2) * scale) + n % 2 for n, scale in ((h, scale_height), (w, scale_width)))
    else:
        steps = {"to_even_down": (0, -1), "to_even_up": (0, 1), "to_odd_down": (1, -1), "to_odd_up": (1, 1)}
        if mode not in steps:
            raise unsupported("_contrib_BilinearResize2D", f"mode={mode}", f"size, like, odd_scale, {', '.join(steps)}")
        rest, step = steps[mode]
        size = tuple(n if n % 2 == rest else n + step for n in (h, w))
    if not align_corners:  # one row or column is the first one in MXNet, not the middle
        data = data[:, :, :1 if size[0] == 1 else None, :1 if size[1] == 1 else None]
    return F.interpolate(data, tuple(size), mode="bilinear", align_corners=align_corners)


@TORCH.operator("UpSampling")
@recorded
def upsampling(*inputs, scale, sample_type="", multi_input_mode="concat"):
    """Enlarge by a whole factor.

    ``nearest`` enlarges each input to the size of the first one times ``scale`` and concatenates or adds them;
    ``bilinear`` is a transposed convolution, channel by channel, with the weight that is the second input.
    """
    if sample_type == "bilinear":
        data, weight = inputs
        kernel, pad = 2 * scale - scale % 2, -(-(scale - 1) // 2)
        return F.conv_transpose2d(data, weight, None, scale, pad, 2 * pad + scale - kernel, data.shape[1])
    h, w = (n * scale for n in inputs[0].shape[2:])
    maps = [x.repeat_interleave(h // x.shape[2], 2).repeat_interleave(w // x.shape[3], 3) for x in inputs]
    return sum(maps[1:], maps[0]) if multi_input_mode == "sum" else torch.cat(maps, 1)


@TORCH.operator("BilinearSampler")
def bilinear_sampler(data, grid):
    """Sample bilinearly at the positions (x, y) in the two channels of the grid (N, 2, H, W).

    -1 and 1 are the centres of the corner pixels, and zeros lie outside.
    """
    return F.grid_sample(data, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=True)


# ---- norms ----------------------------------------------------------------------------------

def normalise_batch(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor, eps: float
                    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalise (N, C, ...) by the statistics of its channels; return it, mean and variance (divided by n)."""
    mean, var = torch.zeros_like(bias), torch.zeros_like(bias)
    y = F.batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
    n = x.numel() // x.shape[1]
    return y, mean, (n - 1) / n * var  # PyTorch divides by n - 1


@TORCH.operator("BatchNorm")
class BatchNorm(nn.Module):
    """Normalise each channel, with the statistics of the batch in training and the running statistics otherwise.

    ``fix_gamma``, True by default, replaces gamma by 1. The running statistics keep ``momentum`` of their value; they
    receive the variance divided by n, unlike PyTorch's. ``use_global_stats`` never uses the batch. The layer owns its
    parameters, or is called with them if they have names of another kind.

    Where a step calls it several times, MXNet updates the running statistics in its backward pass, so the first call
    comes last. Each call is a layer of this class: number ``call`` of ``calls``.
    """

    NAMES = ("gamma", "beta", "running_mean", "running_var")

    def __init__(self, *, eps=1e-3, momentum=0.9, fix_gamma=True, use_global_stats=False, output_mean_var=False,
                 axis=1):
        super().__init__()
        if output_mean_var:
            raise unsupported("BatchNorm", "output_mean_var=True", "output_mean_var=False")
        self.eps, self.momentum, self.axis = eps, momentum, axis
        self.fix_gamma, self.use_global_stats = fix_gamma, use_global_stats
        self.call, self.calls = 0, 1
        self.normalise = normalise_batch  # torch_distributed replaces it

    def forward(self, data, *parameters):
        """Return the normalised data; update the running statistics in training."""
        gamma, beta, running_mean, running_var = parameters or [getattr(self, name) for name in self.NAMES]
        x = data if self.axis == 1 else data.movedim(self.axis, 1)
        weight = None if self.fix_gamma else gamma
        if self.training and not self.use_global_stats:
            x, mean, var = self.normalise(x, weight, beta, self.eps)
            kept = self.momentum ** self.calls if self.call == 0 else 1.0
            new = (1 - self.momentum) * self.momentum ** self.call
            with torch.no_grad():
                running_mean.copy_(kept * running_mean + new * mean)
                running_var.copy_(kept * running_var + new * var)
        else:
            x = F.batch_norm(x, running_mean, running_var, weight, beta, False, 0.0, self.eps)
        return x if self.axis == 1 else x.movedim(1, self.axis)

    def extra_repr(self) -> str:
        return (f"eps={self.eps}, momentum={self.momentum}, fix_gamma={self.fix_gamma}, "
                f"use_global_stats={self.use_global_stats}")


@TORCH.operator("Dropout")
class Dropout(nn.Module):
    """Set elements to 0 with probability ``p`` in training (``mode='always'``: ever) and divide the others by 1 - p.

    All elements along ``axes`` share one decision.
    """

    def __init__(self, *, p=0.5, mode="training", axes=()):
        super().__init__()
        if mode not in ("training", "always"):
            raise unsupported("Dropout", f"mode={mode}", "training, always")
        self.p, self.mode, self.axes = p, mode, tuple(axes)

    def forward(self, data):
        """Return the data, in training with zeros."""
        if not (self.training or self.mode == "always"):
            return data
        shape = [1 if axis in self.axes else n for axis, n in enumerate(data.shape)]
        return data * F.dropout(data.new_ones(shape), self.p, True)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode}, axes={self.axes}"


@TORCH.operator("LayerNorm")
@recorded
def layer_norm(data, gamma, beta, *, axis=-1, eps=1e-5, output_mean_var=False):
    """Normalise along one axis, then scale and shift along it."""
    if output_mean_var:
        raise unsupported("LayerNorm", "output_mean_var=True", "output_mean_var=False")
    x = data.movedim(axis, -1)
    return F.layer_norm(x, gamma.shape, gamma, beta, eps).movedim(-1, axis)


@TORCH.operator("GroupNorm")
@recorded
def group_norm(data, gamma, beta, *, num_groups=1, eps=1e-5, output_mean_var=False):
    """Normalise each group of channels; MXNet 1.9.1 has one gamma and beta per group, not per channel."""
    if output_mean_var:
        raise unsupported("GroupNorm", "output_mean_var=True", "output_mean_var=False")
    repeats = data.shape[1] // gamma.shape[0]
    return F.group_norm(data, num_groups, gamma.repeat_interleave(repeats), beta.repeat_interleave(repeats), eps)


@TORCH.operator("InstanceNorm")
def instance_norm(data, gamma, beta, *, eps=1e-3):
    """Normalise each map of each image."""
    return F.instance_norm(data, weight=gamma, bias=beta, eps=eps)


@TORCH.operator("L2Normalization")
@recorded
def l2_normalization(data, *, eps=1e-10, mode="instance"):
    """Divide by sqrt(sum of squares + eps), summed over an image, the channels or the positions."""
    axes = {"instance": tuple(range(1, data.dim())), "channel": (1,), "spatial": tuple(range(2, data.dim()))}
    if mode not in axes:
        raise unsupported("L2Normalization", f"mode={mode}", ", ".join(axes))
    return data / (data.square().sum(axes[mode], keepdim=True) + eps).sqrt()


@TORCH.operator("LRN")
def lrn(data, *, nsize, alpha=1e-4, beta=0.75, knorm=2.0):
    """Divide by (knorm + alpha / nsize sum of squares over nsize channels)^beta."""
    return F.local_response_norm(data, nsize, alpha, beta, knorm)


# ---- softmax --------------------------------------------------------------------------------

@TORCH.operator("softmax", function="softmax")
@TORCH.operator("log_softmax", function="log_softmax")
@TORCH.operator("softmin", function="softmin")
def softmax(data, *, function, axis=-1, temperature=None, dtype=None, use_length=False):
    """Return softmax, its logarithm, or softmax of the negative, along an axis, of ``data / temperature``."""
    if use_length:
        raise unsupported(function, "use_length=True", "use_length=False")
    data = data if temperature in (None, 1) else data / temperature
    result = getattr(F, function)(data, axis)
    return result if dtype is None else result.to(DTYPES[dtype])


@TORCH.operator("SoftmaxActivation")
def softmax_activation(data, *, mode="instance"):
    """Return softmax over the channels (``channel``) or over the last axis (``instance``)."""
    return F.softmax(data, 1 if mode == "channel" else -1)


@TORCH.operator("SoftmaxOutput")
@recorded
def softmax_output(data, *, multi_output=False, preserve_shape=False):
    """Return softmax. MXNet's backward is that of the cross-entropy with the label; here it is that of softmax."""
    if multi_output:
        return F.softmax(data, 1)
    return F.softmax(data, -1) if preserve_shape else F.softmax(data.flatten(1), 1).reshape(data.shape)
