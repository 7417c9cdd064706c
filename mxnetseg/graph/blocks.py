"""Gluon blocks from symbols, and blocks compiled into one graph."""
from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock


def compile_outermost(block: HybridBlock, **flags) -> HybridBlock:
    """Hybridise ``block`` but not its children, and return it.

    The children are traced into its graph all the same. ``hybridize()`` would switch them too, but a
    network on CPU contexts in lockstep must stay imperative for training while the blocks around it
    are compiled for inference.

    Args:
        block: the block.
        flags: as for ``hybridize``: ``static_alloc=True``.
    """
    block.hybridize(False)  # also discards older graphs
    block._flags = list(flags.items())
    block._active = True
    return block


def block_with_parameters(symbol: mx.sym.Symbol, inputs: Sequence[mx.sym.Symbol], parameters) -> SymbolBlock:
    """Return a block that computes ``symbol`` with the given parameters themselves, not with copies of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MXNet guesses types before it has the parameters
        return SymbolBlock(symbol, list(inputs), params=parameters)


def block_with_values(symbol: mx.sym.Symbol, values: Mapping[str, mx.nd.NDArray],
                      contexts: Sequence[mx.Context]) -> SymbolBlock:
    """Return a block that computes ``symbol`` of ``data`` with parameters of the given values.

    Args:
        symbol: the graph.
        values: parameters and running statistics by name.
        contexts: where the parameters are placed.
    """
    block = block_with_parameters(symbol, [mx.sym.var("data")], None)
    for name, parameter in block.collect_params().items():
        # not initialize(), because MXNet has no random numbers of type bfloat16 or int8
        parameter._load_init(values[name], list(contexts), cast_dtype=True, dtype_source="saved")
    return block
