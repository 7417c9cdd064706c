"""MXNet's operators by element in ONNX: arithmetic, comparisons, activations, reductions, products.

Every function takes the writer, tensors (positional) and the operator's arguments (keywords), and returns the result.
"""
from __future__ import annotations

import math

import numpy as np

from .onnx_writer import Tensor, Writer
from .operators import ONNX, reduced_axes, unsupported

DTYPES = ("float32", "float64", "float16", "uint8", "int8", "int32", "int64", "bool")


def check_dtype(name: str, dtype: str) -> str:
    """Return the name of a type, or raise an error if it cannot be converted."""
    if dtype not in DTYPES:
        raise unsupported(name, f"dtype={dtype}", ", ".join(DTYPES))
    return dtype


# ---- two tensors, a tensor and a number -----------------------------------------------------

def mod(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    """Return the remainder with the sign of the divisor."""
    if x.dtype.kind != "f":
        return w("Mod", x, y)
    rest = w("Mod", x, y, fmod=1)
    zero = w.number(0, x)
    has_wrong_sign = w("Less", w("Mul", w("Sign", rest), w("Sign", y)), zero)
    return w("Where", has_wrong_sign, w("Add", rest, y), rest)


def _hypot(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    return w("Sqrt", w("Add", w("Mul", x, x), w("Mul", y, y)))


def _node(op: str):
    return lambda w, *inputs: w(op, *inputs)


def _enter_binary() -> None:
    functions = {"add": _node("Add"), "sub": _node("Sub"), "mul": _node("Mul"), "div": _node("Div"),
                 "maximum": _node("Max"), "minimum": _node("Min"), "power": _node("Pow"), "hypot": _hypot, "mod": mod}
    for name, function in functions.items():
        ONNX.operator(f"broadcast_{name}")(_binary(function))
        if name == "hypot":
            continue
        scalar = {"add": "plus", "sub": "minus"}.get(name, name)
        for prefix in ("", "r") if name in ("sub", "div", "power") else ("",):
            ONNX.operator(f"_{prefix}{scalar}_scalar")(_scalar(function, is_reversed=bool(prefix),
                                                               is_division=name == "div"))

    for name, op in {"equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual", "lesser": "Less",
                     "lesser_equal": "LessOrEqual", "not_equal": "Equal"}.items():
        ONNX.operator(f"broadcast_{name}")(_binary(_comparison(op, name == "not_equal")))
        ONNX.operator(f"_{name}_scalar")(_scalar(_comparison(op, name == "not_equal")))


def _binary(function):
    def apply(w, lhs, rhs):
        """Combine two tensors of one type element by element; sizes of 1 are repeated."""
        return function(w, lhs, rhs)
    return apply


def _scalar(function, is_reversed: bool = False, is_division: bool = False):
    def apply(w, data, *, scalar):
        """Combine a tensor with a number; ``r`` in the name exchanges the two sides.

        Whole numbers stay whole; a division converts its number to one, too.
        """
        number = w.number(int(scalar) if is_division and data.dtype.kind != "f" else scalar, data)
        return function(w, number, data) if is_reversed else function(w, data, number)
    return apply


def _comparison(op: str, is_negated: bool):
    def apply(w, lhs, rhs):
        """Compare element by element. The result is 0 or 1 in the type of ``lhs``."""
        result = w(op, lhs, rhs)
        return w.cast(w("Not", result) if is_negated else result, lhs.dtype)
    return apply


@ONNX.operator("add_n")
def add_n(w, *inputs):
    """Add up any number of tensors of one shape."""
    total = inputs[0]
    for x in inputs[1:]:
        total = w("Add", total, x)
    return total


# ---- one tensor -----------------------------------------------------------------------------

def _over(number: float):
    return lambda w, x: w("Div", w("Log", x), w.number(number, x))


def _logical_not(w, x):
    return w.cast(w("Equal", x, w.number(0, x)), x.dtype)


def _round(w, x):  # halves away from zero
    return w("Mul", w("Sign", x), w("Floor", w("Add", w("Abs", x), w.number(0.5, x))))


def _trunc(w, x):
    return w("Mul", w("Sign", x), w("Floor", w("Abs", x)))


def _filled(value: float):
    return lambda w, x: w("Expand", w.number(value, x), w.vector(*w.sizes(x)))


_UNARY = {
    "abs": "Abs", "sign": "Sign", "ceil": "Ceil", "floor": "Floor", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "reciprocal": "Reciprocal", "negative": "Neg", "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin",
    "arccos": "Acos", "arctan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "erf": "Erf", "relu": "Relu",
    "sigmoid": "Sigmoid", "softsign": "Softsign"}
_UNARY_FUNCTIONS = {
    **{name: _node(op) for name, op in _UNARY.items()},
    "trunc": _trunc, "fix": _trunc, "round": _round, "logical_not": _logical_not,
    "zeros_like": _filled(0), "ones_like": _filled(1),
    "rint": lambda w, x: w("Ceil", w("Sub", x, w.number(0.5, x))),  # halves downwards, which MXNet does
    "log2": _over(math.log(2)), "log10": _over(math.log(10)),
    "log1p": lambda w, x: w("Log", w("Add", x, w.number(1, x))),
    "expm1": lambda w, x: w("Sub", w("Exp", x), w.number(1, x)),
    "rsqrt": lambda w, x: w("Reciprocal", w("Sqrt", x)), "square": lambda w, x: w("Mul", x, x),
    "cbrt": lambda w, x: w("Mul", w("Sign", x), w("Pow", w("Abs", x), w.number(1 / 3, x))),
    **{name: lambda w, x: x for name in ("BlockGrad", "stop_gradient", "_copy", "identity", "make_loss")}}


def _enter_unary() -> None:
    for name, function in _UNARY_FUNCTIONS.items():
        ONNX.operator(name)(_unary(function))


def _unary(function):
    def apply(w, data):
        """Compute a function of each element."""
        return function(w, data)
    return apply


@ONNX.operator("Activation")
def activation(w, data, *, act_type):
    """Apply relu, sigmoid, tanh, softrelu (log(1 + e^x)) or softsign."""
    functions = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    if act_type not in functions:
        raise unsupported("Activation", f"act_type={act_type}", ", ".join(functions))
    return w(functions[act_type], data)


@ONNX.operator("LeakyReLU")
def leaky_relu(w, data, gamma=None, *, act_type, slope):
    """Apply leaky, prelu (slopes ``gamma``: one, or one per channel), elu, selu or gelu (with the error function)."""
    if act_type == "leaky":
        return w("LeakyRelu", data, alpha=float(slope))
    if act_type == "prelu":
        return w("PRelu", data, w.reshape(gamma, (-1,) + (1,) * (data.rank - 2)))
    if act_type == "elu":
        return w("Elu", data, alpha=float(slope))
    if act_type == "selu":
        return w("Selu", data)
    if act_type == "gelu":
        phi = w("Add", w("Erf", w("Div", data, w.number(math.sqrt(2), data))), w.number(1, data))
        return w("Mul", w("Mul", data, phi), w.number(0.5, data))
    raise unsupported("LeakyReLU", f"act_type={act_type}", "leaky, prelu, elu, selu, gelu")


@ONNX.operator("hard_sigmoid")
def hard_sigmoid(w, data, *, alpha, beta):
    """Clip ``alpha x + beta`` to [0, 1]."""
    return w("HardSigmoid", data, alpha=float(alpha), beta=float(beta))


@ONNX.operator("clip")
def clip(w, data, *, a_min, a_max):
    """Clip to [a_min, a_max]."""
    return w("Clip", data, w.number(a_min, data), w.number(a_max, data))


@ONNX.operator("smooth_l1")
def smooth_l1(w, data, *, scalar):
    """Return 0.5 (s x)^2 where |x| < 1 / s^2, otherwise |x| - 0.5 / s^2."""
    size = w("Abs", data)
    square = w("Mul", w("Mul", data, data), w.number(0.5 * scalar ** 2, data))
    line = w("Sub", size, w.number(0.5 / scalar ** 2, data))
    return w("Where", w("Less", size, w.number(1 / scalar ** 2, data)), square, line)


@ONNX.operator("Cast")
def cast(w, data, *, dtype):
    """Convert to another type."""
    return w.cast(data, check_dtype("Cast", dtype))


@ONNX.operator("amp_multicast")
def amp_multicast(w, data, like, *, num_outputs, cast_narrow):
    """Convert the first input, the only one that can be used, to the type of the second, which is as narrow."""
    if num_outputs != 2 or not cast_narrow:
        raise unsupported("amp_multicast", f"num_outputs={num_outputs}, cast_narrow={cast_narrow}",
                          "two inputs, cast_narrow=True")
    return w.cast(data, like.dtype)


@ONNX.operator("where")
def where(w, condition, x, y):
    """Take ``x`` where ``condition`` is not 0, otherwise ``y``; a vector of conditions decides row by row."""
    if condition.rank == 1 < x.rank:
        condition = w.unsqueeze(condition, *range(1, x.rank))
    return w("Where", w("Not", w("Equal", condition, w.number(0, condition))), x, y)


# ---- reductions -----------------------------------------------------------------------------

@ONNX.operator("sum", function="ReduceSum")
@ONNX.operator("mean", function="ReduceMean")
@ONNX.operator("max", function="ReduceMax")
@ONNX.operator("min", function="ReduceMin")
@ONNX.operator("prod", function="ReduceProd")
def reduce(w, data, *, function, axis, keepdims, exclude):
    """Reduce over axes, all by default, or with ``exclude`` over all others.

    A full reduction has the shape (1,). Whole numbers stay whole.
    """
    axes = reduced_axes(data.rank, axis, exclude)
    if not axes:
        return data
    if function == "ReduceMean" and data.dtype.kind != "f":
        sizes, count = w.sizes(data), 1
        for i in axes:
            count = sizes[i] * count
        total = reduce(w, data, function="ReduceSum", axis=axis, keepdims=keepdims, exclude=exclude)
        return w("Div", total, w.cast(w.vector(count), data.dtype))
    result = w(function, data, w.integers(*axes), keepdims=int(keepdims))
    return w.reshape(result, (1,)) if not result.shape else result


@ONNX.operator("norm")
def norm(w, data, *, ord, axis, out_dtype, keepdims):
    """Return the norm of order 1 or 2 over axes, all by default (of the shape (1,))."""
    if ord not in (1, 2) or out_dtype is not None:
        raise unsupported("norm", f"ord={ord}, out_dtype={out_dtype}", "ord 1 and 2, out_dtype None")
    return reduce(w, data, function=f"ReduceL{ord}", axis=axis, keepdims=keepdims, exclude=False)


@ONNX.operator("argmax", function="ArgMax")
@ONNX.operator("argmin", function="ArgMin")
def arg_reduce(w, data, *, function, axis, keepdims):
    """Return the position of the first extreme value along an axis, in float32."""
    if axis is None:
        data, axis, keepdims = w.reshape(data, (-1,)), 0, True
    return w.cast(w(function, data, axis=axis, keepdims=int(keepdims)), np.float32)


# ---- products ------------------------------------------------------------------

@ONNX.operator("dot")
def dot(w, lhs, rhs, *, transpose_a, transpose_b):
    """Contract the last axis of ``lhs`` with the first axis of ``rhs``, at any rank.

    ``transpose_a`` contracts the first axis of ``lhs``, ``transpose_b`` the last axis of ``rhs``.
    """
    if transpose_a:
        lhs = w("Transpose", lhs, perm=[*range(1, lhs.rank), 0])
    if transpose_b:
        rhs = w("Transpose", rhs, perm=[rhs.rank - 1, *range(rhs.rank - 1)])
    if rhs.rank == 2 and lhs.rank > 1:
        return w("MatMul", lhs, rhs)
    left, right = w.sizes(lhs), w.sizes(rhs)
    result = w("MatMul", w.reshape(lhs, (-1, left[-1])), w.reshape(rhs, (right[0], -1)))
    return w.reshape(result, [*left[:-1], *right[1:]] or (1,))


def transposed(w: Writer, x: Tensor) -> Tensor:
    """Return the transposed matrices."""
    return w("Transpose", x, perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2])


@ONNX.operator("batch_dot")
def batch_dot(w, lhs, rhs, *, transpose_a, transpose_b):
    """Multiply matrices, one pair for each index of the axes before the last two."""
    return w("MatMul", transposed(w, lhs) if transpose_a else lhs, transposed(w, rhs) if transpose_b else rhs)


_enter_binary()
_enter_unary()
