"""MXNet's operators by element in PyTorch: arithmetic, comparisons, activations, reductions, indexing.

The functions take tensors. Called with proxies of :mod:`torch.fx`, they record the functions of PyTorch that they call;
a function marked :func:`recorded` needs the shapes of its inputs, and is recorded as a call of itself.
"""
from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from .operators import TORCH, reduced_axes, unsupported

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
          "uint8": torch.uint8, "int8": torch.int8, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool}


def recorded(function):
    """Return a function that records itself if it is called with proxies of :mod:`torch.fx`."""
    @functools.wraps(function)
    def call(*inputs, **arguments):
        for value in inputs:
            if isinstance(value, fx.Proxy):
                return value.tracer.create_proxy("call_function", call, inputs, arguments)
        return function(*inputs, **arguments)
    return call


# ---- two tensors ----------------------------------------------------------------------------

@recorded
def divide(lhs, rhs):
    """Divide. The quotient of whole numbers is a whole number, rounded towards 0; a number has the tensor's type."""
    tensor = lhs if isinstance(lhs, torch.Tensor) else rhs
    if tensor.is_floating_point():
        return lhs / rhs
    lhs, rhs = (value if isinstance(value, torch.Tensor) else int(value) for value in (lhs, rhs))
    return torch.div(torch.as_tensor(lhs, device=tensor.device), rhs, rounding_mode="trunc").to(tensor.dtype)


def _enter_binary() -> None:
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": divide, "maximum": torch.maximum,
                 "minimum": torch.minimum, "power": torch.pow, "hypot": torch.hypot, "mod": torch.remainder}
    for name, function in functions.items():
        TORCH.operator(f"broadcast_{name}")(_binary(function))
    for name, function in _COMPARISONS.items():
        TORCH.operator(f"broadcast_{name}")(_comparison(function))


def _binary(function):
    def apply(lhs, rhs):
        """Combine two tensors of one type element by element; sizes of 1 are repeated."""
        return function(lhs, rhs)
    return apply


_COMPARISONS = {"equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge,
                "lesser": torch.lt, "lesser_equal": torch.le}


def _comparison(function):
    def apply(lhs, rhs):
        """Compare element by element. The result is 0 or 1 in the type of ``lhs``, without a gradient."""
        return function(lhs, rhs).type_as(lhs)
    return apply


@TORCH.operator("add_n")
def add_n(*inputs):
    """Add up any number of tensors of one shape."""
    return functools.reduce(lambda a, b: a + b, inputs)


# ---- a tensor and a number ------------------------------------------------------------------

_SCALAR = {
    "_plus_scalar": lambda x, s: x + s, "_minus_scalar": lambda x, s: x - s, "_rminus_scalar": lambda x, s: s - x,
    "_mul_scalar": lambda x, s: x * s, "_div_scalar": lambda x, s: divide(x, s),
    "_rdiv_scalar": lambda x, s: divide(s, x),
    "_power_scalar": lambda x, s: x ** s, "_rpower_scalar": lambda x, s: s ** x,
    "_mod_scalar": lambda x, s: x.remainder(s),
    "_maximum_scalar": lambda x, s: x.clamp(min=s), "_minimum_scalar": lambda x, s: x.clamp(max=s)}


def _enter_scalar() -> None:
    for name, function in _SCALAR.items():
        TORCH.operator(name)(_scalar(function))
    for name, function in _COMPARISONS.items():
        TORCH.operator(f"_{name}_scalar")(_scalar_comparison(function))


def _scalar(function):
    def apply(data, *, scalar=1.0):
        """Combine a tensor with a number; ``r`` in the name exchanges the two sides.

        A whole number keeps the type of a tensor of whole numbers.
        """
        return function(data, int(scalar) if float(scalar).is_integer() else scalar)
    return apply


def _scalar_comparison(function):
    def apply(data, *, scalar=1.0):
        """Compare a tensor with a number. The result is 0 or 1 in the type of ``data``."""
        return function(data, scalar).type_as(data)
    return apply


# ---- one tensor -----------------------------------------------------------------------------

_UNARY = {
    "abs": torch.abs, "sign": torch.sign, "ceil": torch.ceil, "floor": torch.floor, "trunc": torch.trunc,
    "fix": torch.trunc, "exp": torch.exp, "log": torch.log, "log2": torch.log2, "log10": torch.log10,
    "log1p": torch.log1p, "expm1": torch.expm1, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "square": torch.square,
    "reciprocal": torch.reciprocal, "negative": torch.neg, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "arcsin": torch.asin, "arccos": torch.acos, "arctan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh,
    "tanh": torch.tanh, "erf": torch.erf, "relu": torch.relu, "sigmoid": torch.sigmoid, "softsign": F.softsign,
    "zeros_like": torch.zeros_like, "ones_like": torch.ones_like, "BlockGrad": lambda x: x.detach(),
    "stop_gradient": lambda x: x.detach(), "_copy": lambda x: x, "identity": lambda x: x, "make_loss": lambda x: x,
    "round": lambda x: torch.sign(x) * torch.floor(torch.abs(x) + 0.5),  # halves away from zero
    "rint": lambda x: torch.ceil(x - 0.5),  # halves downwards, which MXNet does
    "logical_not": lambda x: torch.eq(x, 0).type_as(x), "cbrt": lambda x: torch.sign(x) * torch.abs(x) ** (1 / 3)}


def _enter_unary() -> None:
    for name, function in _UNARY.items():
        TORCH.operator(name)(_unary(function))


def _unary(function):
    def apply(data):
        """Compute a function of each element. ``make_loss`` passes the gradient through; MXNet replaces it by 1."""
        return function(data)
    return apply


@TORCH.operator("Activation")
def activation(data, *, act_type=""):
    """Apply relu, sigmoid, tanh, softrelu (log(1 + e^x)) or softsign."""
    functions = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softrelu": F.softplus,
                 "softsign": F.softsign}
    if act_type not in functions:
        raise unsupported("Activation", f"act_type={act_type}", ", ".join(functions))
    return functions[act_type](data)


@TORCH.operator("LeakyReLU")
def leaky_relu(data, gamma=None, *, act_type="leaky", slope=0.25):
    """Apply leaky, prelu (slopes ``gamma``: one, or one per channel), elu, selu or gelu (with the error function)."""
    if act_type == "leaky":
        return F.leaky_relu(data, slope)
    if act_type == "prelu":
        return F.prelu(data, gamma)
    if act_type == "elu":
        return F.elu(data, slope)
    if act_type == "selu":
        return F.selu(data)
    if act_type == "gelu":
        return F.gelu(data)
    raise unsupported("LeakyReLU", f"act_type={act_type}", "leaky, prelu, elu, selu, gelu")


@TORCH.operator("hard_sigmoid")
def hard_sigmoid(data, *, alpha=0.2, beta=0.5):
    """Clip ``alpha x + beta`` to [0, 1]."""
    return clip(data * alpha + beta, a_min=0.0, a_max=1.0)


@TORCH.operator("clip")
@recorded
def clip(data, *, a_min=0.0, a_max=0.0):
    """Clip to [a_min, a_max]; the gradient at both bounds is 1."""
    if data.requires_grad and data.is_floating_point() and torch.is_grad_enabled():
        return _Clip.apply(data, a_min, a_max)
    return torch.clamp(data, a_min, a_max)


class _Clip(torch.autograd.Function):
    """:func:`torch.clamp` with a backward pass of one operator.

    PyTorch's own computes two comparisons, their conjunction and a selection: a sixth of a training step of
    EfficientNet-Lite. The backward pass of hardtanh reads the same once, but excludes the bounds, which are therefore
    moved outwards to the next float32.
    """

    @staticmethod
    def forward(ctx, data, low, high):
        ctx.save_for_backward(data)
        ctx.bounds = tuple(float(np.nextafter(np.float32(bound), np.float32(side)))
                           for bound, side in ((low, -np.inf), (high, np.inf)))
        return torch.clamp(data, low, high)

    @staticmethod
    def backward(ctx, gradient):
        data, = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, data, *ctx.bounds), None, None


@TORCH.operator("smooth_l1")
def smooth_l1(data, *, scalar=1.0):
    """Return 0.5 (s x)^2 where |x| < 1 / s^2, otherwise |x| - 0.5 / s^2."""
    return F.huber_loss(data, torch.zeros_like(data), reduction="none", delta=1 / scalar ** 2) * scalar ** 2


@TORCH.operator("Cast")
def cast(data, *, dtype=""):
    """Convert to another type."""
    if dtype not in DTYPES:
        raise unsupported("Cast", f"dtype={dtype}", ", ".join(DTYPES))
    return data.to(DTYPES[dtype])


@TORCH.operator("amp_multicast")
def amp_multicast(data, like, *, num_outputs, cast_narrow):
    """Convert the first input, the only one that can be used, to the type of the second, which is as narrow."""
    if num_outputs != 2 or not cast_narrow:
        raise unsupported("amp_multicast", f"num_outputs={num_outputs}, cast_narrow={cast_narrow}",
                          "two inputs, cast_narrow=True")
    return data.type_as(like)


@TORCH.operator("where")
@recorded
def where(condition, x, y):
    """Take ``x`` where ``condition`` is not 0, otherwise ``y``; a vector of conditions decides row by row."""
    if condition.dim() == 1:
        condition = condition.reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(torch.ne(condition, 0), x, y)


# ---- reductions -----------------------------------------------------------------------------

@TORCH.operator("sum", function="sum")
@TORCH.operator("mean", function="mean")
@TORCH.operator("max", function="amax")
@TORCH.operator("min", function="amin")
@TORCH.operator("prod", function="prod")
@recorded
def reduce(data, *, function, axis=None, keepdims=False, exclude=False):
    """Reduce over axes, all by default, or with ``exclude`` over the axes that are not given.

    A full reduction has the shape (1,). Whole numbers stay whole.

    Where several elements are the maximum, MXNet gives each the whole gradient, PyTorch a part of it.
    """
    axes = reduced_axes(data.dim(), axis, exclude)
    if not axes:
        return data
    if function == "prod":
        result = data
        for one in sorted(axes, reverse=True):
            result = result.prod(one, keepdim=keepdims)
    elif function == "mean" and not data.is_floating_point():
        result = divide(torch.sum(data, axes, keepdim=keepdims), math.prod(data.shape[axis] for axis in axes))
    else:
        result = getattr(torch, function)(data, axes, keepdim=keepdims)
    return (result.reshape(1) if result.dim() == 0 else result).to(data.dtype)


@TORCH.operator("norm")
@recorded
def norm(data, *, ord=2, axis=None, out_dtype=None, keepdims=False):
    """Return the norm of order 1 or 2 over axes, all by default (of the shape (1,))."""
    if ord not in (1, 2) or out_dtype is not None:
        raise unsupported("norm", f"ord={ord}, out_dtype={out_dtype}", "ord 1 and 2, out_dtype None")
    result = torch.linalg.vector_norm(data, ord, reduced_axes(data.dim(), axis, False), keepdim=keepdims)
    return result.reshape(1) if result.dim() == 0 else result


@TORCH.operator("argmax", function="argmax")
@TORCH.operator("argmin", function="argmin")
@recorded
def arg_reduce(data, *, function, axis=None, keepdims=False):
    """Return the position of the first extreme value along an axis, in float32."""
    if axis is None:
        return getattr(torch, function)(data.reshape(-1)).reshape(1).float()
    return getattr(torch, function)(data, axis, keepdim=keepdims).float()


# ---- products and indexing ------------------------------------------------------------------

@TORCH.operator("dot")
@recorded
def dot(lhs, rhs, *, transpose_a=False, transpose_b=False):
    """Contract the last axis of ``lhs`` with the first axis of ``rhs``, at any rank.

    ``transpose_a`` contracts the first axis of ``lhs``, ``transpose_b`` the last axis of ``rhs``.
    """
    if rhs.dim() == 2 and lhs.dim() > 1 and not transpose_a:
        return torch.matmul(lhs, rhs.t() if transpose_b else rhs)
    result = torch.tensordot(lhs, rhs, ([0 if transpose_a else lhs.dim() - 1], [rhs.dim() - 1 if transpose_b else 0]))
    return result.reshape(1) if result.dim() == 0 else result


@TORCH.operator("batch_dot")
def batch_dot(lhs, rhs, *, transpose_a=False, transpose_b=False):
    """Multiply matrices, one pair for each index of the axes before the last two."""
    return torch.matmul(lhs.transpose(-1, -2) if transpose_a else lhs, rhs.transpose(-1, -2) if transpose_b else rhs)


@TORCH.operator("pick")
@recorded
def pick(data, index, *, axis=-1, keepdims=False, mode="clip"):
    """Take one element along an axis for each index; an index outside is clipped (``clip``) or wrapped (``wrap``)."""
    if mode not in ("clip", "wrap"):
        raise unsupported("pick", f"mode={mode}", "clip, wrap")
    index = index.long() if index.dim() == data.dim() else index.long().unsqueeze(axis)
    index = index.clamp(0, data.shape[axis] - 1) if mode == "clip" else index.remainder(data.shape[axis])
    result = data.gather(axis, index)
    return result if keepdims else result.squeeze(axis)


@TORCH.operator("one_hot")
@recorded
def one_hot(indices, *, depth, on_value=1.0, off_value=0.0, dtype="float32"):
    """Return ``on_value`` at each index and ``off_value`` elsewhere; an index outside has none."""
    classes = torch.arange(depth, device=indices.device)
    hot = indices.long().unsqueeze(-1) == classes
    return torch.where(hot, float(on_value), float(off_value)).to(DTYPES[dtype])


@TORCH.operator("take")
@recorded
def take(a, indices, *, axis=0, mode="clip"):
    """Take slices along an axis at the indices, which are clipped (``clip``) or wrapped (``wrap``)."""
    if mode not in ("clip", "wrap"):
        raise unsupported("take", f"mode={mode}", "clip, wrap")
    n, axis = a.shape[axis], axis % a.dim()
    index = indices.long().clamp(0, n - 1) if mode == "clip" else indices.long().remainder(n)
    return a.index_select(axis, index.reshape(-1)).reshape(*a.shape[:axis], *indices.shape, *a.shape[axis + 1:])


@TORCH.operator("Embedding")
def embedding(data, weight, *, input_dim=0, output_dim=0, dtype="float32"):
    """Return the row of ``weight`` of each index; an index outside is clipped."""
    return F.embedding(data.long().clamp(0, input_dim - 1), weight)


_enter_binary()
_enter_scalar()
_enter_unary()
