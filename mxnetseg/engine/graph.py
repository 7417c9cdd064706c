"""Compiling a block into one graph."""
from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from .passes import for_size


def compile_outermost(block: HybridBlock, **flags) -> HybridBlock:
    """Hybridise ``block`` but not its children, and return it.

    The children are traced into its graph all the same. ``hybridize()`` would switch them too, and a
    network on CPU contexts in lockstep must stay imperative for training while the blocks around it
    are compiled for inference.

    Args:
        flags: as for ``hybridize``: ``static_alloc=True``.
    """
    block.hybridize(False)  # also forgets older graphs
    block._flags = list(flags.items())
    block._active = True
    return block


class PerSize:
    """A block for inference, compiled for each input size that comes again.

    A graph for one size keeps its memory and its folded weights between calls (``static_shape``); one that must
    serve any size folds and lays out all weights anew at every call, which costs bfloat16 more than it gains.
    Where weights are frozen, it computes once what depends on the size alone (:func:`.passes.for_size`).
    A size seen for the first time goes through the graph for any size: pictures that all differ compile nothing.

    Args:
        make: builds the block, initialised; all that it builds share their parameters.
        keep: graphs held at once; beyond, the one that has not been used for longest is given up.
    """

    def __init__(self, make: Callable[[], HybridBlock], *, keep: int = 8):
        self._make, self._keep = make, keep
        self._any_size = compile_outermost(make(), static_alloc=True)
        self._seen: "OrderedDict[Tuple, None]" = OrderedDict()
        self._graphs: "OrderedDict[Tuple, HybridBlock]" = OrderedDict()

    def __call__(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """The block's output; not waited for."""
        size = (x.shape, x.context)
        graph = self._graphs.pop(size, None)
        if graph is None:
            if size not in self._seen:
                _remember(self._seen, size, None, 64 * self._keep)
                return self._any_size(x)
            graph = compile_outermost(_for_size(self._make(), x), static_alloc=True, static_shape=True)
        _remember(self._graphs, size, graph, self._keep)
        return graph(x)


def _for_size(block: HybridBlock, x: mx.nd.NDArray) -> HybridBlock:
    if not _frozen(block):
        return block
    parameters = block.collect_params()
    data = mx.sym.var("data", dtype=x.dtype)
    symbol, constants = for_size(block(data), x.shape, x.dtype, {name: p.data(x.context) for name, p in
                                                                 parameters.items()}, x.context)
    graph = SymbolBlock(symbol, [data], parameters)
    for name, value in constants.items():
        graph.params[name]._load_init(value, [x.context])
    return graph


def _frozen(block: HybridBlock) -> bool:
    """Whether its weights, or a part's, never change: those of a :class:`.precision.Fused`."""
    return getattr(block, "frozen", False) or any(_frozen(child) for child in block._children.values())


def _remember(places: OrderedDict, key, value, keep: int) -> None:
    """Put ``value`` last and drop the first beyond ``keep``."""
    places[key] = value
    if len(places) > keep:
        places.popitem(last=False)
