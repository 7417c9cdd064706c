"""A cache of graphs, each compiled for one input shape."""
from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Callable

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from .._memory import ASSUMED_MEMORY, give_back_freed_memory, total_memory
from .blocks import compile_outermost
from .inference_graph import has_constant_weights
from .shape_phase import specialize_for_shape

# a graph is idle if it was not used in the last so many calls, times the number of graphs that are kept
_IDLE_CALLS = 4
# shapes are remembered up to this number, times the number of graphs that are kept
_SHAPES_SEEN = 64
_MEMORY_FRACTION = 1 / 4  # of a device's memory that graphs may take by default
# The memory of a graph is about that of its largest maps, as measured on several networks within a third.
_LARGEST_MAPS, _FLOAT_BYTES = 6, 4


class ShapeCache:
    """A block for inference, compiled for each input shape that recurs.

    A graph for one shape keeps its memory and its folded weights between calls (``static_shape``). A graph for any
    shape folds weights and converts their layout at every call, which in bfloat16 costs more than it gains.
    If the block contains an :class:`.inference_graph.InferenceGraph`, whose weights are constants, the passes of
    :mod:`.shape_phase` are applied too. A shape seen for the first time runs through the graph for any shape, so that
    images of all different sizes compile nothing.

    Args:
        make: builds the block, initialised; all blocks that it builds share their parameters.
        keep: number of graphs held at once. A further graph replaces one that was not used in the last ``4 * keep``
            calls. If all were used, it is not made, so that many alternating shapes do not compile for ever.
        memory: memory that all graphs may take together, by an estimate, in bytes; by default a quarter of the
            device's.
    """

    def __init__(self, make: Callable[[], HybridBlock], *, keep: int = 8, memory: int | None = None):
        self._make, self._keep, self._memory = make, keep, memory
        self._any_shape = compile_outermost(make(), static_alloc=True)
        # shape -> memory of its graph, which is estimated when the shape recurs
        self._seen: OrderedDict[tuple, int | None] = OrderedDict()
        self._graphs: OrderedDict[tuple, HybridBlock] = OrderedDict()  # the one used last is last
        # of each graph: the call that used it last, and its memory
        self._calls, self._last_call, self._memory_of = 0, {}, {}
        self._shared_weights: dict[mx.Context, dict[str, mx.gluon.Parameter]] = {}

    def __call__(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return the block's output; the call does not wait for it."""
        key = (x.shape, x.context)
        self._calls += 1
        graph = self._graphs.pop(key, None)
        if graph is None:
            if not self._make_room_for(x):
                return self._any_shape(x)
            shared = self._shared_weights.setdefault(x.context, {})
            graph = compile_outermost(_for_shape(self._make(), x, shared), static_alloc=True, static_shape=True)
        self._graphs[key], self._last_call[key] = graph, self._calls
        return graph(x)

    def estimate_memory(self, shape: Sequence[int], dtype: Any = "uint8") -> int:
        """Estimate the memory of a graph for a shape, in bytes."""
        internals = self._any_shape(mx.sym.var("data", dtype=dtype)).get_internals()
        shapes = internals.infer_shape_partial(data=tuple(shape))[1]
        maps = [_FLOAT_BYTES * math.prod(shape) for name, shape in zip(internals.list_outputs(), shapes)
                if name.endswith("_output")]
        return sum(sorted(maps)[-_LARGEST_MAPS:])

    def _make_room_for(self, x: mx.nd.NDArray) -> bool:
        """Return whether to compile a graph for this shape: it was seen before and fits the memory budget.

        Evicts idle graphs to make room.
        """
        key = (x.shape, x.context)
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > _SHAPES_SEEN * self._keep:
                self._seen.popitem(last=False)
            return False

        needed = self._seen[key]
        if needed is None:
            needed = self._seen[key] = self.estimate_memory(x.shape, x.dtype)
        budget = int(device_memory(x.context) * _MEMORY_FRACTION) if self._memory is None else self._memory
        idle = [held for held in self._graphs if self._calls - self._last_call[held] > _IDLE_CALLS * self._keep]
        while len(self._graphs) == self._keep or sum(self._memory_of.values()) + needed > budget:
            if not idle:
                return False
            self._evict(idle.pop(0))
        self._memory_of[key] = needed
        return True

    def _evict(self, key: tuple) -> None:
        graph = self._graphs.pop(key)
        del self._last_call[key], self._memory_of[key]
        # this frees its memory now; the block itself has reference cycles and would wait for the garbage collector
        graph._clear_cached_op()
        give_back_freed_memory()  # otherwise the memory of its weights fragments the heap


def device_memory(context: mx.Context) -> int:
    """Return the total memory of a device in bytes; 8 GiB if a machine does not report it."""
    if context.device_type == "gpu":
        return mx.context.gpu_memory_info(context.device_id)[1]
    return total_memory() or ASSUMED_MEMORY


def _for_shape(block: HybridBlock, x: mx.nd.NDArray, shared: dict[str, mx.gluon.Parameter]) -> HybridBlock:
    """Return a block for the shape of ``x``: ``block`` itself if its weights may change.

    Args:
        block: the block for any shape.
        x: an input.
        shared: transformed weights that the graphs of all shapes share, by name; those that are missing are added.
    """
    data = mx.sym.var("data", dtype=x.dtype)
    symbol = block(data)
    if not has_constant_weights(symbol):
        return block

    parameters = block.collect_params()
    values = {name: p.data(x.context) for name, p in parameters.items()}
    weights = {name: p.data(x.context) for name, p in shared.items()}
    symbol, constants = specialize_for_shape(symbol, x.shape, x.dtype, values, x.context, weights)

    for name in weights.keys() - shared.keys():
        shared[name] = mx.gluon.Parameter(name, grad_req="null")
        shared[name]._load_init(weights[name], [x.context])
    parameters.update({name: shared[name] for name in shared if name in symbol.list_inputs()})
    graph = SymbolBlock(symbol, [data], parameters)
    for name, value in constants.items():
        graph.params[name]._load_init(value, [x.context])
    return graph
