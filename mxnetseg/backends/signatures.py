"""The operators of MXNet that are converted: their names, and the arguments of each with MXNet's defaults.

Each is declared here once, for all targets. The functions of a target are entered under the first name of an operator
(:class:`.operators.OperatorTable`).
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# inputs of an operator, by position, whose values change in training without a gradient
STATISTICS = {"BatchNorm": (3, 4), "BatchNorm_v1": (3, 4), "_contrib_SyncBatchNorm": (3, 4)}
REQUIRED = object()  # the default of an argument that has none


class OrNone(NamedTuple):
    """The default of an argument that may also be None."""

    default: object


class Signature(NamedTuple):
    """The declaration of an operator.

    Attributes:
        name: the first of its names.
        arguments: MXNet's default of each argument, or :data:`REQUIRED`.
        hints: arguments that change neither the values nor the derivative, such as the size of a workspace.
        ignored: numbers of the inputs that are not used, such as the label of a loss.
    """

    name: str
    arguments: Mapping[str, object]
    hints: frozenset[str] = frozenset()
    ignored: frozenset[int] = frozenset()

    def default(self, argument: str) -> object:
        """Return the default of an argument."""
        default = self.arguments.get(argument)
        return default.default if isinstance(default, OrNone) else default

    @property
    def needed(self) -> set[str]:
        """The arguments that a function of a target must have."""
        return set(self.arguments) - self.hints


SIGNATURES: dict[str, Signature] = {}  # by each name


def _declare(*names: str, hints: Mapping[str, object] | None = None, ignored: frozenset[int] = frozenset(),
             **arguments: Any) -> None:
    signature = Signature(names[0], {**arguments, **(hints or {})}, frozenset(hints or ()), ignored)
    for name in names:
        if name in SIGNATURES:
            raise ValueError(f"the operator {name} is declared twice")
        SIGNATURES[name] = signature


# ---- by element -----------------------------------------------------------------------------

_declare("broadcast_add", "broadcast_plus", "elemwise_add", "_plus", "_Plus", "_add", "_grad_add")
_declare("broadcast_sub", "broadcast_minus", "elemwise_sub", "_minus", "_Minus", "_sub")
for _name in ("mul", "div"):
    _declare(f"broadcast_{_name}", f"elemwise_{_name}", f"_{_name}", f"_{_name.title()}")
for _name in ("maximum", "minimum", "power", "hypot", "mod"):
    _declare(f"broadcast_{_name}", f"_{_name}")
for _name in ("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal"):
    _declare(f"broadcast_{_name}", f"_{_name}")
    _declare(f"_{_name}_scalar", scalar=1.0, hints={"is_int": True})
for _name, _old in (("plus", "Plus"), ("minus", "Minus"), ("rminus", "RMinus"), ("mul", "Mul"), ("div", "Div"),
                    ("rdiv", "RDiv"), ("power", "Power"), ("rpower", "RPower"), ("mod", "Mod"),
                    ("maximum", "Maximum"), ("minimum", "Minimum")):
    _declare(f"_{_name}_scalar", f"_{_old}Scalar", scalar=1.0, hints={"is_int": True})
for _name in ("abs", "sign", "ceil", "floor", "trunc", "fix", "round", "rint", "exp", "log", "log2", "log10", "log1p",
              "expm1", "sqrt", "rsqrt", "cbrt", "square", "reciprocal", "negative", "sin", "cos", "tan", "arcsin",
              "arccos", "arctan", "sinh", "cosh", "tanh", "erf", "relu", "sigmoid", "softsign", "BlockGrad",
              "stop_gradient", "_copy", "identity", "make_loss", "logical_not"):
    _declare(_name)
for _name in ("zeros_like", "ones_like"):
    _declare(_name, hints={"dtype": None})  # MXNet ignores it, and GluonCV's CenterNet gives it
_declare("add_n", "ElementWiseSum", hints={"num_args": 0})
_declare("Activation", act_type="")
_declare("LeakyReLU", act_type="leaky", slope=0.25, hints={"lower_bound": 0.125, "upper_bound": 0.334})
_declare("hard_sigmoid", alpha=0.2, beta=0.5)
_declare("clip", a_min=0.0, a_max=0.0)
_declare("smooth_l1", scalar=1.0)
_declare("Cast", "cast", "amp_cast", dtype="")
_declare("amp_multicast", num_outputs=REQUIRED, cast_narrow=False)
_declare("where")

# ---- reductions, products, indexing ---------------------------------------------------------

for _names in (("sum", "sum_axis"), ("mean",), ("max", "max_axis"), ("min", "min_axis"), ("prod",)):
    _declare(*_names, axis=None, keepdims=False, exclude=False)
_declare("norm", ord=2, axis=None, out_dtype=None, keepdims=False)
for _name in ("argmax", "argmin"):
    _declare(_name, axis=None, keepdims=False)
for _name in ("dot", "batch_dot"):
    _declare(_name, transpose_a=False, transpose_b=False, hints={"forward_stype": None})
_declare("pick", axis=-1, keepdims=False, mode="clip")
_declare("one_hot", depth=REQUIRED, on_value=1.0, off_value=0.0, dtype="float32")
_declare("take", axis=0, mode="clip")
_declare("sort", axis=OrNone(-1), is_ascend=True)
_declare("argsort", axis=OrNone(-1), is_ascend=True, dtype="float32")
_declare("topk", axis=OrNone(-1), k=1, ret_typ="indices", is_ascend=False, dtype="float32")
_declare("_np_cumsum", "cumsum", axis=None, dtype=None)
_declare("gather_nd")
_declare("batch_take")
_declare("diag", k=0, axis1=0, axis2=1)
_declare("_full", shape=(), value=REQUIRED, dtype="float32", hints={"ctx": ""})
for _name in ("_zeros", "_ones"):
    _declare(_name, shape=(), dtype="float32", hints={"ctx": ""})
_declare("_arange", start=0.0, stop=None, step=1.0, repeat=1, infer_range=False, dtype="float32", hints={"ctx": ""})
_declare("Embedding", input_dim=0, output_dim=0, dtype="float32", hints={"sparse_grad": False})

# ---- layers ---------------------------------------------------------------------------------

_declare("Convolution", "Convolution_v1", kernel=(), stride=(), dilate=(), pad=(), num_filter=REQUIRED, num_group=1,
         no_bias=False, layout=None, hints={"workspace": 1024, "cudnn_tune": None, "cudnn_off": False})
_declare("Deconvolution", kernel=(), stride=(), dilate=(), pad=(), adj=(), target_shape=(), num_filter=REQUIRED,
         num_group=1, no_bias=True, layout=None, hints={"workspace": 512, "cudnn_tune": None, "cudnn_off": False})
_declare("FullyConnected", num_hidden=0, no_bias=False, flatten=True)
_declare("Pooling", "Pooling_v1", kernel=(), pool_type="max", global_pool=False, pooling_convention="valid", stride=(),
         pad=(), p_value=None, count_include_pad=True, layout=None, hints={"cudnn_off": False})
_declare("_contrib_AdaptiveAvgPooling2D", output_size=())
_declare("_contrib_BilinearResize2D", height=1, width=1, scale_height=None, scale_width=None, mode="size",
         align_corners=True)
_declare("_mxnetseg_resize", kind="", factor=1)  # see resizes.py
_declare("UpSampling", scale=REQUIRED, sample_type="", multi_input_mode="concat",
         hints={"num_filter": 0, "num_args": 1, "workspace": 512})
_declare("BilinearSampler", hints={"cudnn_off": False})
_declare("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm", eps=1e-3, momentum=0.9, fix_gamma=True,
         use_global_stats=False, output_mean_var=False, axis=1,
         hints={"cudnn_off": False, "min_calib_range": None, "max_calib_range": None, "ndev": 1, "key": ""})
_declare("Dropout", p=0.5, mode="training", axes=(), hints={"cudnn_off": False})
_declare("LayerNorm", axis=-1, eps=1e-5, output_mean_var=False)
_declare("GroupNorm", num_groups=1, eps=1e-5, output_mean_var=False)
_declare("InstanceNorm", eps=1e-3)
_declare("L2Normalization", eps=1e-10, mode="instance")
_declare("LRN", nsize=REQUIRED, alpha=1e-4, beta=0.75, knorm=2.0)
for _name in ("softmax", "log_softmax", "softmin"):
    _declare(_name, axis=-1, temperature=None, dtype=None, use_length=False)
_declare("SoftmaxActivation", mode="instance")
_declare("SoftmaxOutput", "Softmax", multi_output=False, preserve_shape=False, ignored=frozenset({1}),
         hints={"grad_scale": 1.0, "ignore_label": -1.0, "use_ignore": False, "normalization": "null",
                "out_grad": False, "smooth_alpha": 0.0})

# ---- shapes ---------------------------------------------------------------------------------

_declare("Reshape", "reshape", shape=(), reverse=False, target_shape=(), keep_highest=False)
_declare("reshape_like", lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None)
_declare("Flatten", "flatten")
_declare("expand_dims", axis=REQUIRED)
_declare("squeeze", axis=None)
_declare("transpose", axes=())
_declare("SwapAxis", "swapaxes", dim1=0, dim2=0)
_declare("depth_to_space", block_size=REQUIRED)
_declare("space_to_depth", block_size=REQUIRED)
_declare("shape_array")
_declare("_contrib_arange_like", start=0.0, step=1.0, repeat=1, axis=None, hints={"ctx": ""})
_declare("slice", "crop", begin=(), end=(), step=())
_declare("slice_axis", axis=REQUIRED, begin=REQUIRED, end=None)
_declare("slice_like", axes=())
_declare("SliceChannel", "split", num_outputs=REQUIRED, axis=1, squeeze_axis=False)
_declare("_split_v2", indices=(), axis=0, squeeze_axis=False, sections=0)
_declare("Crop", offset=(0, 0), h_w=(0, 0), center_crop=False, hints={"num_args": 1})
_declare("Concat", "concat", dim=1, hints={"num_args": 0})
_declare("stack", axis=0, hints={"num_args": 0})
_declare("broadcast_axis", "broadcast_axes", axis=(), size=())
_declare("broadcast_to", shape=())
_declare("broadcast_like", lhs_axes=None, rhs_axes=None)
_declare("tile", reps=())
_declare("repeat", repeats=REQUIRED, axis=None)
_declare("reverse", "flip", axis=())
_declare("Pad", "pad", mode="constant", pad_width=(), constant_value=0.0)
