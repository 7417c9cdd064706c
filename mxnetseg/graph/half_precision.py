"""Conversion of a graph to bfloat16 or float16 by MXNet's own passes, with the lists of operators that we give them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import mxnet as mx
from mxnet.contrib import amp

# operators that MXNet cannot compute in bfloat16 and that its own list lacks
_FLOAT32_ONLY = [("LeakyReLU", "act_type", ["prelu", "leaky", "rrelu", "gelu"])]


def convert_with_weights(symbol: mx.sym.Symbol, arguments: Mapping[str, mx.nd.NDArray],
                         auxiliaries: Mapping[str, mx.nd.NDArray], precision: str):
    """Convert convolutions and dense layers, and cast their weights once and for all.

    Weights that are cast at run time would be folded anew for each image.

    Args:
        symbol, arguments, auxiliaries: the graph, its parameters and its running statistics.
        precision: ``'bfloat16'`` or ``'float16'``.

    Returns:
        the new symbol, arguments and auxiliaries.
    """
    return _with_operator_lists(precision, lambda **lists: amp.convert_model(
        symbol, dict(arguments), dict(auxiliaries), target_dtype=precision, cast_optional_params=True, **lists))


def convert_symbol(symbol: mx.sym.Symbol, precision: str, *, data_name: str,
                   float32_operators: Sequence[str] = ()) -> mx.sym.Symbol:
    """Convert convolutions and dense layers; the graph casts its float32 parameters itself.

    This is for training: the parameters are the master weights, and their gradients arrive in float32.

    Args:
        symbol: the graph.
        precision: ``'bfloat16'`` or ``'float16'``.
        data_name: name of its input, which is uint8.
        float32_operators: names of operators that stay in float32.
    """
    def convert(**lists):
        half = amp.convert_symbol(symbol, target_dtype=precision, data_names=[data_name],
                                  excluded_sym_names=list(float32_operators), cast_optional_params=False, **lists)
        half.infer_type(**{data_name: "uint8"})  # raises if the types of operators do not agree
        return half
    return _with_operator_lists(precision, convert)


def _with_operator_lists(precision: str, convert: Callable[..., Any]) -> Any:
    """Call ``convert`` with the lists of operators that MXNet computes in half precision and in float32."""
    dtype = amp.amp.bfloat16 if precision == "bfloat16" else precision
    conditional = [*amp.list_conditional_fp32_ops(dtype), *_FLOAT32_ONLY]
    try:
        return convert(conditional_fp32_ops=conditional)
    except mx.MXNetError:
        # In bfloat16, a concatenation or a pooling may read a bfloat16 map together with a resized float32 one.
        if precision != "bfloat16":
            raise

    lists = {"conditional_fp32_ops": conditional, "target_dtype_ops": amp.list_lp16_ops(dtype)}
    try:
        return convert(fp32_ops=[*amp.list_fp32_ops(dtype), "Concat"], **lists)
    except mx.MXNetError:
        return convert(fp32_ops=[*amp.list_fp32_ops(dtype), "Concat", "Pooling"], **lists)
