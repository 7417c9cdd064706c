"""Compiling a block into one graph."""
from __future__ import annotations

import math
from collections import OrderedDict
from typing import Callable, Dict, Optional, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from .._memory import give_back_freed_memory, total_memory
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
        keep: graphs held at once. A further one takes the place of those that were not used in the last ``4 * keep``
            calls; if all were, it is not made, so that sizes in turn do not compile for ever.
        memory: that all graphs may take together, by an estimate, in bytes; by default a quarter of the device's.
    """

    def __init__(self, make: Callable[[], HybridBlock], *, keep: int = 8, memory: Optional[int] = None):
        self._make, self._keep, self._memory = make, keep, memory
        self._any_size = compile_outermost(make(), static_alloc=True)
        self._seen: "OrderedDict[Tuple, Optional[int]]" = OrderedDict()  # with its graph's memory, once it came again
        self._graphs: "OrderedDict[Tuple, HybridBlock]" = OrderedDict()  # the one used last is last
        self._calls, self._used, self._needs = 0, {}, {}  # of each graph: its last call, and its memory
        self._weights: Dict[mx.Context, Dict[str, mx.gluon.Parameter]] = {}  # what the graphs of all sizes share

    def __call__(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """The block's output; not waited for."""
        size = (x.shape, x.context)
        self._calls += 1
        graph = self._graphs.pop(size, None)
        if graph is None:
            if not self._has_a_place(x):
                return self._any_size(x)
            weights = self._weights.setdefault(x.context, {})
            graph = compile_outermost(_for_size(self._make(), x, weights), static_alloc=True, static_shape=True)
        self._graphs[size], self._used[size] = graph, self._calls
        return graph(x)

    def _has_a_place(self, x: mx.nd.NDArray) -> bool:
        """Whether this size came before, and a graph may be made for it; those that are idle are given up for it."""
        size = (x.shape, x.context)
        if size not in self._seen:
            self._seen[size] = None
            if len(self._seen) > 64 * self._keep:
                self._seen.popitem(last=False)
            return False
        needed = self._seen[size]
        if needed is None:
            needed = self._seen[size] = _memory_of(self._any_size, x)
        memory = device_memory(x.context) // 4 if self._memory is None else self._memory
        idle = [held for held in self._graphs if self._calls - self._used[held] > 4 * self._keep]
        while len(self._graphs) == self._keep or sum(self._needs.values()) + needed > memory:
            if not idle:
                return False
            self._give_up(idle.pop(0))
        self._needs[size] = needed
        return True

    def _give_up(self, size: Tuple) -> None:
        graph = self._graphs.pop(size)
        del self._used[size], self._needs[size]
        # its memory goes now; the block itself, of cycles, would wait for Python's collector of garbage
        graph._clear_cached_op()
        give_back_freed_memory()  # or the heap that its weights leave is cut to pieces


def device_memory(context: mx.Context) -> int:
    """What a device has in all, in bytes; 8 GiB where a computer does not say it."""
    if context.device_type == "gpu":
        return mx.context.gpu_memory_info(context.device_id)[1]
    return total_memory() or 8 << 30


def _memory_of(block: HybridBlock, x: mx.nd.NDArray) -> int:
    """About what a graph for the size of ``x`` takes, in bytes: its six largest maps, as measured on several networks
    within a third."""
    internals = block(mx.sym.var("data", dtype=x.dtype)).get_internals()
    shapes = internals.infer_shape_partial(data=x.shape)[1]
    maps = [4 * math.prod(shape) for name, shape in zip(internals.list_outputs(), shapes) if name.endswith("_output")]
    return sum(sorted(maps)[-6:])


def _for_size(block: HybridBlock, x: mx.nd.NDArray, weights: Dict[str, mx.gluon.Parameter]) -> HybridBlock:
    if not _frozen(block):
        return block
    parameters = block.collect_params()
    data, values = mx.sym.var("data", dtype=x.dtype), {name: p.data(x.context) for name, p in parameters.items()}
    shared = {name: p.data(x.context) for name, p in weights.items()}
    symbol, constants = for_size(block(data), x.shape, x.dtype, values, x.context, shared)
    for name in shared.keys() - weights.keys():
        weights[name] = mx.gluon.Parameter(name, grad_req="null")
        weights[name]._load_init(shared[name], [x.context])
    parameters.update({name: weights[name] for name in weights if name in symbol.list_inputs()})
    graph = SymbolBlock(symbol, [data], parameters)
    for name, value in constants.items():
        graph.params[name]._load_init(value, [x.context])
    return graph


def _frozen(block: HybridBlock) -> bool:
    """Whether its weights, or a part's, never change: those of a :class:`.precision.Fused`."""
    return getattr(block, "frozen", False) or any(_frozen(child) for child in block._children.values())
