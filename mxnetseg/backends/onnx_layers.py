"""MXNet's layers in ONNX: convolution, pooling, norms, dropout, resizing, softmax."""
from __future__ import annotations

import numpy as np

from .._resize_marks import ALIGN_CORNERS, HALF_PIXEL, NEAREST
from .onnx_ops import check_dtype
from .onnx_writer import Dim, Tensor, Writer
from .operators import ONNX, unsupported

_LAYOUTS = (None, "None", "NCW", "NCHW", "NCDHW")


def _filled(value, rank: int, default: int) -> list[int]:
    return list(value) if value else [default] * rank


def _check_layout(name: str, layout, rank: int) -> None:
    if layout not in _LAYOUTS or rank not in (1, 2, 3):
        raise unsupported(name, f"layout={layout} with {rank} dimensions", "channels first, 1 to 3 dimensions")


@ONNX.operator("Convolution")
def convolution(w, data, weight, bias=None, *, kernel, stride, dilate, pad, num_filter, num_group, no_bias, layout):
    """Convolve (N, C, ...) with (num_filter, C / num_group, ...)."""
    rank = len(kernel)
    _check_layout("Convolution", layout, rank)
    return w("Conv", data, weight, None if no_bias else bias, kernel_shape=kernel, strides=_filled(stride, rank, 1),
             pads=_filled(pad, rank, 0) * 2, dilations=_filled(dilate, rank, 1), group=num_group)


@ONNX.operator("Deconvolution")
def deconvolution(w, data, weight, bias=None, *, kernel, stride, dilate, pad, adj, target_shape, num_filter, num_group,
                  no_bias, layout):
    """Convolve transposed: size (n - 1) stride + (kernel - 1) dilate + 1 - 2 pad + adj. No bias by default.

    ``target_shape`` gives the size instead: what is too much is cut off on both sides, one more at the beginning.
    """
    rank = len(kernel)
    _check_layout("Deconvolution", layout, rank)
    has_target = any(target_shape)
    result = w("ConvTranspose", data, weight, None if no_bias else bias, kernel_shape=kernel,
               strides=_filled(stride, rank, 1), dilations=_filled(dilate, rank, 1), group=num_group,
               pads=[0] * 2 * rank if has_target else _filled(pad, rank, 0) * 2,
               output_padding=[0] * rank if has_target else _filled(adj, rank, 0))
    if not has_target:
        return result
    begins = [(n - target + 1) // 2 for n, target in zip(w.sizes(result)[2:], target_shape)]
    if any(isinstance(n, int) and n < 0 for n in begins):
        raise unsupported("Deconvolution", f"target_shape={target_shape}", "a size that the kernel and stride reach")
    ends = [begin + target for begin, target in zip(begins, target_shape)]
    return w("Slice", result, w.vector(*begins), w.vector(*ends), w.integers(*range(2, rank + 2)))


@ONNX.operator("FullyConnected")
def fully_connected(w, data, weight, bias=None, *, num_hidden, no_bias, flatten):
    """Multiply by weight^T; with ``flatten``, after all axes but the first were joined."""
    data = w("Flatten", data, axis=1) if flatten and data.rank != 2 else data
    result = w("MatMul", data, w("Transpose", weight, perm=[1, 0]))
    return result if no_bias or bias is None else w("Add", result, bias)


# ---- pooling --------------------------------------------------------------------------------

@ONNX.operator("Pooling")
def pooling(w, data, *, kernel, pool_type, global_pool, pooling_convention, stride, pad, p_value, count_include_pad,
            layout):
    """Pool by max, avg, sum or lp.

    Of n elements, ``valid`` makes (n + 2 pad - kernel) / stride + 1, rounded down, ``full`` the same rounded up, and
    ``same`` (n + 2 pad) / stride rounded up. ONNX rounds down, and more padding after the map makes up for the
    difference. avg divides by the window's size, without that padding, and with ``count_include_pad=False`` without
    any.
    """
    if global_pool:
        return _global_pooling(w, data, pool_type, p_value)
    rank = len(kernel)
    _check_layout("Pooling", layout, rank)
    if pooling_convention not in ("valid", "full", "same"):
        raise unsupported("Pooling", f"pooling_convention={pooling_convention}", "valid, full, same")
    stride, before = _filled(stride, rank, 1), _filled(pad, rank, 0)
    more = {"valid": [0] * rank, "full": [s - 1 for s in stride], "same": [k - 1 for k in kernel]}[pooling_convention]
    pads = [*before, *(p + extra for p, extra in zip(before, more))]
    # so that each window holds an element of the map, as ONNX demands
    is_usual = all(n < k for n, k in zip(pads, [*kernel] * 2))

    def pool(op, x, pads=None, **attributes):
        if pads is None and set(kernel) == {1}:  # ONNX Runtime would join padding and pooling, and then refuse the pads
            axes = range(2, 2 + rank)
            return w("Slice", x, w.integers(*[0] * rank), w.integers(*[np.iinfo(np.int64).max] * rank),
                     w.integers(*axes), w.integers(*stride))
        return w(op, x, kernel_shape=list(kernel), strides=stride, pads=pads, **attributes)

    if pool_type == "max":
        if is_usual:
            return pool("MaxPool", data, pads)
        return pool("MaxPool", _padded(w, data, pads, float(np.finfo(data.dtype).min)))
    if pool_type == "avg" and is_usual and (not count_include_pad or not any(pads)):
        return pool("AveragePool", data, pads, count_include_pad=0)
    # ONNX Runtime divides by a part of the last windows where the axes have different padding
    if pool_type == "avg" and is_usual and len(set(pads)) == 1:
        return pool("AveragePool", data, pads, count_include_pad=1)

    def total(x, pads=pads):
        # ONNX Runtime joins padding and pooling, and then divides by a part of the window where the padding is not
        # symmetric; so the product is computed between them
        padded = w("Mul", _padded(w, x, pads, 0.0), w.number(float(np.prod(kernel)), x))
        return pool("AveragePool", padded)

    if pool_type == "avg":
        ones = w("Expand", w.number(1, data), w.vector(1, 1, *w.sizes(data)[2:]))
        counts = total(_padded(w, ones, before * 2, 1.0), [0] * rank + more) if count_include_pad else total(ones)
        return w("Div", total(data), w("Max", counts, w.number(1, data)))
    if pool_type == "sum":
        return total(data)
    if pool_type == "lp" and p_value:
        powers = w("Pow", w("Abs", data), w.number(p_value, data))
        return w("Pow", total(powers), w.number(1 / p_value, data))
    raise unsupported("Pooling", f"pool_type={pool_type}, p_value={p_value}", "max, avg, sum, lp with p_value")


def _padded(w: Writer, x: Tensor, pads: list[int], value: float) -> Tensor:
    """Pad all axes after the first two: first the numbers before them, then those after them."""
    rank = len(pads) // 2
    return w("Pad", x, w.integers(0, 0, *pads[:rank], 0, 0, *pads[rank:]), w.number(value, x)) if any(pads) else x


def _global_pooling(w: Writer, data: Tensor, pool_type: str, p_value: int | None) -> Tensor:
    """Pool each map to one number: (N, C, 1, ...)."""
    if pool_type == "avg":
        return w("GlobalAveragePool", data)
    if pool_type == "max":
        return w("GlobalMaxPool", data)
    if pool_type in ("sum", "lp") and (pool_type == "sum" or p_value in (1, 2)):
        reduce = "ReduceSum" if pool_type == "sum" else f"ReduceL{p_value}"
        return w(reduce, data, w.integers(*range(2, data.rank)))
    raise unsupported("Pooling", f"pool_type={pool_type}, p_value={p_value}", "max, avg, sum, lp with p_value 1 or 2")


@ONNX.operator("_contrib_AdaptiveAvgPooling2D")
def adaptive_avg_pooling(w, data, *, output_size):
    """Average over a grid of windows: (N, C, height, width), one number is both.

    Cell i of m over n pixels is the mean of the pixels floor(i n / m) to ceil((i + 1) n / m) - 1. Averaging is a
    product with a matrix for each axis, since ONNX has no such operator and the sizes may be unknown.
    """
    rows, columns = (tuple(output_size) or (1,)) * (2 if len(output_size) < 2 else 1)
    if (rows, columns) == (1, 1):
        return w("GlobalAveragePool", data)
    _, _, height, width = w.sizes(data)
    y = w("MatMul", _averaging_matrix(w, height, rows, data), data)
    return w("MatMul", y, w("Transpose", _averaging_matrix(w, width, columns, data), perm=[1, 0]))


def _averaging_matrix(w: Writer, n: Dim, m: int, like: Tensor) -> Tensor:
    """Return the matrix (m, n) of one axis: 1 / (pixels of the cell) where a pixel lies in a cell, else 0."""
    cell, size, count = w.constant(np.arange(m, dtype=np.int64)), w.vector(n), w.integers(m)
    begin = w("Div", w("Mul", cell, size), count)
    end = w("Div", w("Add", w("Mul", w("Add", cell, w.integers(1)), size), w.integers(m - 1)), count)
    begin, end, pixel = w.unsqueeze(begin, 1), w.unsqueeze(end, 1), w.arange(n)
    is_inside = w("And", w("GreaterOrEqual", pixel, begin), w("Less", pixel, end))
    return w("Div", w.cast(is_inside, like.dtype), w.cast(w("Sub", end, begin), like.dtype))


# ---- resizing -------------------------------------------------------------------------------

def resize(w: Writer, data: Tensor, kind: str, size: list[Dim]) -> Tensor:
    """Resize (N, C, H, W) to a height and width.

    Args:
        w: the writer.
        data: the map.
        kind: see :mod:`mxnetseg._resize_marks`.
        size: the height and the width.
    """
    if size == list(data.shape[2:]):
        return data
    if kind == NEAREST:
        return _nearest(w, data, size)
    result = w("Resize", data, None, None, w.vector(*w.sizes(data)[:2], *size), mode="linear",
               coordinate_transformation_mode=kind)
    return w.with_shape(result, [*data.shape[:2], *(n if isinstance(n, int) else None for n in size)])


def _nearest(w: Writer, data: Tensor, size: list[Dim]) -> Tensor:
    """Copy row i n / m, rounded down, of n rows to row i of m; so the columns.

    ONNX's ``Resize`` computes that quotient with a rounded scale, and runtimes differ where it is a whole number.
    """
    for axis, m in ((2, size[0]), (3, size[1])):
        n = w.sizes(data)[axis]
        data = w("Gather", data, w("Div", w("Mul", w.arange(m), w.vector(n)), w.vector(m)), axis=axis)
    return data


@ONNX.operator("_mxnetseg_resize")
def marked_resize(w, data, *like, kind, factor):
    """Enlarge by a factor, then resize to the height and width of a second tensor; either may be left out."""
    if kind not in (HALF_PIXEL, ALIGN_CORNERS, NEAREST):
        raise unsupported("_mxnetseg_resize", f"kind={kind}", f"{HALF_PIXEL}, {ALIGN_CORNERS}, {NEAREST}")
    if factor != 1:
        data = resize(w, data, kind, [n * factor for n in w.sizes(data)[2:]])
    if like:
        return w.with_shape(resize(w, data, kind, w.sizes(like[0])[2:]), [*data.shape[:2], *like[0].shape[2:]])
    return data


@ONNX.operator("_contrib_BilinearResize2D")
def bilinear_resize(w, data, *like, height, width, scale_height, scale_width, mode, align_corners):
    """Resize (N, C, H, W) bilinearly; corners are aligned by default.

    The mode gives the size: ``size`` (height and width, or the scales), ``like`` (of a second tensor), ``odd_scale``
    (scales; an odd size n becomes (n - 1) scale + 1), ``to_even_down``, ``to_even_up``, ``to_odd_down``, ``to_odd_up``
    (the next even or odd number).
    """
    old = w.sizes(data)[2:]
    scales = (scale_height, scale_width)
    steps = {"to_even_down": (0, -1), "to_even_up": (0, 1), "to_odd_down": (1, -1), "to_odd_up": (1, 1)}
    if mode == "like":
        size = w.sizes(like[0])[2:]
    elif mode == "size":
        size = [one if scale is None else _scaled(w, n, scale)
                for n, scale, one in zip(old, scales, (height, width))]
    elif mode == "odd_scale":  # the rest n % 2 counts once, outside of the scale
        size = [_scaled(w, n - n % 2, scale) + n % 2 for n, scale in zip(old, scales)]
    elif mode in steps:
        rest, step = steps[mode]
        size = [n + (n + rest) % 2 * step for n in old]
    else:
        raise unsupported("_contrib_BilinearResize2D", f"mode={mode}", f"size, like, odd_scale, {', '.join(steps)}")
    if not align_corners:  # one row or column is the first one in MXNet, not the middle
        data = _first_if_one(w, data, size)
    return resize(w, data, ALIGN_CORNERS if align_corners else HALF_PIXEL, size)


def _first_if_one(w: Writer, data: Tensor, size: list[Dim]) -> Tensor:
    """Cut a map to its first row or column where the size to which it will be resized has one."""
    one, old = w.integers(1), w.sizes(data)[2:]
    ends = [w.dim(w("Where", w("Equal", w.vector(m), one), one, w.vector(n))) for n, m in zip(old, size)]
    if ends == old:
        return data
    return w("Slice", data, w.integers(0, 0), w.vector(*ends), w.integers(2, 3))


def _scaled(w: Writer, n: Dim, scale: float) -> Dim:
    """Return a size times a scale, rounded down."""
    product = w("Mul", w.cast(w.vector(n), np.float32), w.constant(np.array([scale], np.float32)))
    return w.dim(w.cast(product, np.int64))


@ONNX.operator("UpSampling")
def upsampling(w, *inputs, scale, sample_type, multi_input_mode):
    """Enlarge by a whole factor.

    ``nearest`` enlarges each input to the size of the first one times ``scale`` and concatenates or adds them;
    ``bilinear`` is a transposed convolution, channel by channel, with the weight that is the second input.
    """
    if sample_type == "bilinear":
        data, weight = inputs
        kernel, pad = 2 * scale - scale % 2, -(-(scale - 1) // 2)
        return w("ConvTranspose", data, weight, kernel_shape=[kernel] * 2, strides=[scale] * 2, pads=[pad] * 4,
                 output_padding=[2 * pad + scale - kernel] * 2, group=data.shape[1])
    size = [n * scale for n in w.sizes(inputs[0])[2:]]
    maps = [resize(w, x, NEAREST, size) for x in inputs]
    if len(maps) == 1:
        return maps[0]
    return w("Sum", *maps) if multi_input_mode == "sum" else w("Concat", *maps, axis=1)


@ONNX.operator("BilinearSampler")
def bilinear_sampler(w, data, grid):
    """Sample bilinearly at the positions (x, y) in the two channels of the grid (N, 2, H, W).

    -1 and 1 are the centres of the corner pixels, and zeros lie outside.
    """
    return w("GridSample", data, w("Transpose", grid, perm=[0, 2, 3, 1]), mode="bilinear", padding_mode="zeros",
             align_corners=1)


# ---- norms ----------------------------------------------------------------------------------

def _check_one_output(name: str, output_mean_var: bool) -> None:
    if output_mean_var:
        raise unsupported(name, "output_mean_var=True", "output_mean_var=False")


@ONNX.operator("BatchNorm")
def batch_norm(w, data, gamma, beta, mean, variance, *, eps, momentum, fix_gamma, use_global_stats, output_mean_var,
               axis):
    """Normalise each channel with the running statistics. ``fix_gamma``, True by default, replaces gamma by 1.

    A batch norm that follows a convolution does not come here: :mod:`.onnx_graph` folds it into the weights.
    """
    _check_one_output("BatchNorm", output_mean_var)
    gamma = w("Expand", w.number(1, gamma), w.vector(*w.sizes(gamma))) if fix_gamma else gamma
    axis %= data.rank
    if axis == 1:
        return w("BatchNormalization", data, gamma, beta, mean, variance, epsilon=float(eps))
    perm = [*range(data.rank)]
    perm[1], perm[axis] = axis, 1
    moved = w("BatchNormalization", w("Transpose", data, perm=perm), gamma, beta, mean, variance, epsilon=float(eps))
    return w("Transpose", moved, perm=perm)


@ONNX.operator("Dropout")
def dropout(w, data, *, p, mode, axes):
    """Return the data: this is an inference. ``mode='always'`` would drop there too."""
    if mode != "training":
        raise unsupported("Dropout", f"mode={mode}", "training")
    return data


@ONNX.operator("LayerNorm")
def layer_norm(w, data, gamma, beta, *, axis, eps, output_mean_var):
    """Normalise along one axis, then scale and shift along it."""
    _check_one_output("LayerNorm", output_mean_var)
    last, axis = data.rank - 1, axis % data.rank
    if axis == last:
        return w("LayerNormalization", data, gamma, beta, axis=-1, epsilon=float(eps))
    perm = [*range(data.rank)]
    perm[last], perm[axis] = axis, last
    moved = w("LayerNormalization", w("Transpose", data, perm=perm), gamma, beta, axis=-1, epsilon=float(eps))
    return w("Transpose", moved, perm=perm)


@ONNX.operator("GroupNorm")
def group_norm(w, data, gamma, beta, *, num_groups, eps, output_mean_var):
    """Normalise each group of channels; MXNet 1.9.1 has one gamma and beta per group, not per channel."""
    _check_one_output("GroupNorm", output_mean_var)
    if gamma.shape != (num_groups,):
        raise unsupported("GroupNorm", f"gamma of shape {gamma.shape}", f"one for each group: ({num_groups},)")
    sizes = w.sizes(data)
    groups = w.reshape(data, [sizes[0], num_groups, -1])
    return w.reshape(w("InstanceNormalization", groups, gamma, beta, epsilon=float(eps)), sizes)


@ONNX.operator("InstanceNorm")
def instance_norm(w, data, gamma, beta, *, eps):
    """Normalise each map of each image."""
    return w("InstanceNormalization", data, gamma, beta, epsilon=float(eps))


@ONNX.operator("L2Normalization")
def l2_normalization(w, data, *, eps, mode):
    """Divide by sqrt(sum of squares + eps), summed over an image, the channels or the positions."""
    axes = {"instance": range(1, data.rank), "channel": (1,), "spatial": range(2, data.rank)}
    if mode not in axes:
        raise unsupported("L2Normalization", f"mode={mode}", ", ".join(axes))
    squares = w("ReduceSum", w("Mul", data, data), w.integers(*axes[mode]))
    return w("Div", data, w("Sqrt", w("Add", squares, w.number(eps, data))))


@ONNX.operator("LRN")
def lrn(w, data, *, nsize, alpha, beta, knorm):
    """Divide by (knorm + alpha / nsize sum of squares over nsize channels)^beta."""
    return w("LRN", data, size=nsize, alpha=float(alpha), beta=float(beta), bias=float(knorm))


# ---- softmax --------------------------------------------------------------------------------

@ONNX.operator("softmax", function="Softmax")
@ONNX.operator("log_softmax", function="LogSoftmax")
@ONNX.operator("softmin", function="Softmin")
def softmax(w, data, *, function, axis, temperature, dtype, use_length):
    """Return softmax, its logarithm, or softmax of the negative, along an axis, of ``data / temperature``."""
    if use_length:
        raise unsupported(function, "use_length=True", "use_length=False")
    if temperature not in (None, 1):
        data = w("Div", data, w.number(temperature, data))
    if function == "Softmin":
        function, data = "Softmax", w("Neg", data)
    result = w(function, data, axis=axis)
    return result if dtype is None else w.cast(result, check_dtype(function, dtype))


@ONNX.operator("SoftmaxActivation")
def softmax_activation(w, data, *, mode):
    """Return softmax over the channels (``channel``) or over the last axis (``instance``)."""
    return w("Softmax", data, axis=1 if mode == "channel" else -1)


@ONNX.operator("SoftmaxOutput")
def softmax_output(w, data, *, multi_output, preserve_shape):
    """Return softmax over the channels (``multi_output``) or over the last axis; the label is not used."""
    if not multi_output and not preserve_shape and data.rank != 2:
        # over all axes but the first when it trains, over the last one in an inference on a CPU
        raise unsupported("SoftmaxOutput", f"{data.rank} axes, whose meaning depends on MXNet's build",
                          "multi_output=True, preserve_shape=True, or two axes")
    return w("Softmax", data, axis=1 if multi_output else -1)
