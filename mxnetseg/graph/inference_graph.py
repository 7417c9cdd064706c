"""A network compiled for inference at a precision, and what can be read from its graph afterwards."""
from __future__ import annotations

from collections.abc import Container, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from .._resize_marks import COLUMNS, RESIZE_MARK, ROWS
from ..errors import ConfigError, UsageError
from ..nn.blocks import InputStep
from .blocks import block_with_values
from .graph import Graph
from .passes import run_passes
from .precision_phase import PRECISION_PASSES, NetworkGraph

# Attribute of the weights of an InferenceGraph, which never change. It is read in the symbol of the block around it,
# where the InferenceGraph itself is not visible any more.
_CONSTANT_MARK = "__mxnetseg_constant__"
# operators that may follow a resize: the casts of as_type_of(), and those that conversion to half precision adds
_CASTS = {"_copy", "amp_cast", "amp_multicast", "Cast"}


class InferenceGraph(HybridBlock):
    """The main output of a network at a precision: normalised (N, 3, H, W) -> (logits (N, K, H, W),).

    Its weights are copies. Training the network afterwards does not change them.

    Attributes:
        precision: the precision it computes in.
        float32_layers: names of the layers that int8 left in float32.
    """

    def __init__(self, net, precision: str, contexts: Sequence[mx.Context], *,
                 calibration: Sequence[np.ndarray] = ()):
        """Compile a network.

        Args:
            net: a :class:`~mxnetseg.models._base.SegModel`, initialised.
            precision: a key of :data:`.precision_phase.PRECISION_PASSES`.
            contexts: where it will run.
            calibration: for int8: some real images, uint8 (H, W, 3) RGB, without masks.

        Raises:
            UsageError: int8 without calibration images.
        """
        super().__init__()
        if precision == "int8" and not len(calibration):
            raise UsageError("int8 needs a few real images to measure the range of every layer on",
                             fix="give images to calibrate on, or choose another precision")

        self.mean, self.std, self.smallest_side = net.mean, net.std, net.smallest_side
        self.aligned_stride = getattr(net, "aligned_stride", 1)
        self.precision = precision
        network = _main_output(net, contexts[0].device_type, calibration)
        network = run_passes(PRECISION_PASSES[precision], network)
        self.float32_layers = network.float32_layers
        values = {**network.auxiliaries, **network.arguments}
        _mark_constants(network.symbol, values)
        with self.name_scope():
            self.graph = block_with_values(network.symbol, values, contexts)

    def hybrid_forward(self, F, x):
        return (self.graph(x),)


def compile_for_inference(net, contexts: Sequence[mx.Context], precision: str = "float32", *,
                          calibration: Sequence[np.ndarray] = ()):
    """Compile a network for inference.

    Args:
        net, contexts, calibration: see :class:`InferenceGraph`.
        precision: ``'float32'``, ``'bfloat16'``, ``'float16'``, ``'int8'``, or ``'plain'``. ``'auto'`` is resolved by
            :func:`mxnetseg.engine.precision.choose_precision`.

    Returns:
        an :class:`InferenceGraph`; for ``'plain'``, ``net`` itself.

    Raises:
        ConfigError: the precision is unknown.
        UsageError: int8 without calibration images.
    """
    if precision == "plain":
        return net
    if precision not in PRECISION_PASSES:
        raise ConfigError("a network cannot be compiled for this precision", received=precision,
                          fix=f"one of {', '.join(PRECISION_PASSES)}, plain; choose_precision() resolves auto")
    return InferenceGraph(net, precision, contexts, calibration=calibration)


def _main_output(net, device_type: str, calibration: Sequence[np.ndarray] = ()) -> NetworkGraph:
    """Return the main output of a network as a symbol of ``data``, with copies of its weights."""
    symbol = net(mx.sym.var("data"))[0]
    parameters = {p.name: p for p in net.collect_params().values()}

    def copies(names):
        # by way of the host, in plain layout: oneDNN may have laid a weight out such that MXNet cannot cast it
        return {name: mx.nd.array(parameters[name].data().asnumpy()) for name in names if name != "data"}

    return NetworkGraph(symbol, copies(symbol.list_arguments()), copies(symbol.list_auxiliary_states()), device_type,
                        _normalized(net, calibration) if len(calibration) else ())


def _normalized(net, images: Sequence[np.ndarray]) -> list[mx.nd.NDArray]:
    step = InputStep(net.mean, net.std)
    step.initialize()
    return [step(mx.nd.array(image[None], dtype="uint8")) for image in images]


def _mark_constants(symbol: mx.sym.Symbol, names: Container[str]) -> None:
    for node in symbol.get_internals():
        if node.name in names:
            node._set_attr(**{_CONSTANT_MARK: "True"})


def has_constant_weights(symbol: mx.sym.Symbol) -> bool:
    """Return whether an :class:`InferenceGraph`, whose weights never change, is part of a symbol."""
    return any(_CONSTANT_MARK in attributes for attributes in symbol.attr_dict().values())


def split_last_resize(logits: mx.sym.Symbol) -> tuple[mx.sym.Symbol, mx.sym.Symbol, mx.sym.Symbol] | None:
    """Split the resize that ends a compiled network from the map before it.

    Inference flips and transposes the map while it is small, resizes it with the channels last
    (:func:`mxnetseg.nn.resize.resize_channels_last`), and leaves out the casts after the resize.

    Args:
        logits: the main output of a network.

    Returns:
        (x, R_h^T, R_w^T), where x: (N, C, h, w), R_h^T: (h, H), R_w^T: (w, W). None if no :class:`InferenceGraph`
        gives the logits, since plain networks are evaluated as they are, or if no resize ends the network.
    """
    return _split(logits) if has_constant_weights(logits) else None


def _split(y: mx.sym.Symbol) -> tuple[mx.sym.Symbol, mx.sym.Symbol, mx.sym.Symbol] | None:
    """Split a symbol that a function of :mod:`mxnetseg.nn.resize` gave, casts after it included."""
    graph = Graph(y)
    number = graph.heads[0][0]
    while graph.nodes[number]["op"] in _CASTS:
        y, number = y.get_children()[0], graph.nodes[number]["inputs"][0][0]

    matrices = []
    for axis in (COLUMNS, ROWS):
        for op in ("dot", "transpose"):
            node = graph.nodes[number]
            if node["op"] != op or node["attrs"].get(RESIZE_MARK) != axis:
                return None
            y, *matrix = y.get_children()
            matrices += matrix
            number = node["inputs"][0][0]
    columns, rows = matrices
    return y, rows, columns
