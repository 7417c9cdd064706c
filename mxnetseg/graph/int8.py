"""Conversion of a graph to int8, except for layers that cost accuracy."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet.contrib import quantization

from .blocks import block_with_values
from .int8_search import keep_classes

# MXNet's passes for oneDNN: of a float32 graph, and of one that is to be quantised
_ONEDNN, _ONEDNN_FOR_INT8 = "MKLDNN", "MKLDNN_QUANTIZE"
# MXNet quantises a product of two maps but computes it for signed numbers only: a sigmoid's unsigned output fails.
_NOT_QUANTIZED = ("elemwise_mul",)

# symbol, arguments, running statistics
_Weighted = tuple[mx.sym.Symbol, Mapping[str, mx.nd.NDArray], Mapping[str, mx.nd.NDArray]]


def quantize(symbol: mx.sym.Symbol, arguments: Mapping[str, mx.nd.NDArray], auxiliaries: Mapping[str, mx.nd.NDArray],
             calibration: Sequence[mx.nd.NDArray]):
    """Convert a graph to int8 such that nearly all pixels of the calibration images keep their class.

    Args:
        symbol, arguments, auxiliaries: the float32 graph of ``data``, its parameters and its running statistics.
        calibration: normalised images, (1, 3, H, W) each.

    Returns:
        the new symbol, arguments and auxiliaries, and the names of the layers that stay in float32.
    """
    return _Quantizer(symbol, arguments, auxiliaries, calibration).best()


class _Quantizer:
    """MXNet's side of :func:`.int8_search.keep_classes`."""

    def __init__(self, symbol, arguments, auxiliaries, calibration):
        self._arguments, self._auxiliaries, self._batches = arguments, auxiliaries, calibration
        self._symbol = symbol.get_backend_symbol(_ONEDNN_FOR_INT8)
        names = (node.name for node in self._symbol.get_internals())
        self._layers = list(dict.fromkeys(name for name in names if name.startswith("sg_mkldnn")))
        self._float32 = (symbol.get_backend_symbol(_ONEDNN), arguments, auxiliaries)
        self._ranges = self._measure_ranges()

    def best(self):
        """Return (symbol, arguments, auxiliaries, names of the layers kept in float32)."""
        exact = list(self._infer(self._float32, len(self._batches)))
        found = keep_classes(self._layers, self._convert, self._infer, exact)
        return (*found.model, found.float32_layers)

    def _measure_ranges(self):
        """Collect the smallest and largest value of every layer's output on the images, with MXNet's collector."""
        *_, collector = self._quantize([])
        for x in self._batches:
            module = mx.mod.Module(self._symbol, context=mx.cpu(), data_names=["data"], label_names=None)
            module.bind(for_training=False, data_shapes=[("data", x.shape)])
            module.set_params(self._arguments, self._auxiliaries)
            module._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
            module.forward(mx.io.DataBatch(data=[x]), is_train=False)
            module.get_outputs()[0].wait_to_read()
        return collector

    def _quantize(self, kept: Sequence[str]):
        return quantization.quantize_graph(
            self._symbol, self._arguments, self._auxiliaries, excluded_sym_names=list(kept),
            excluded_op_names=list(_NOT_QUANTIZED), calib_mode="naive", quantized_dtype="auto", quantize_mode="smart",
            quantize_granularity="channel-wise")

    def _convert(self, kept: Sequence[str]) -> _Weighted:
        """Return the graph with the layers ``kept`` in float32, its arguments and its running statistics."""
        symbol, *_ = self._quantize(kept)
        symbol, arguments, auxiliaries = quantization.calib_graph(
            symbol, self._arguments, self._auxiliaries, self._ranges, calib_mode="naive", quantized_dtype="auto",
            logger=None)
        return symbol.get_backend_symbol(_ONEDNN_FOR_INT8), arguments, auxiliaries

    def _infer(self, weighted: _Weighted, images: int) -> Iterator[np.ndarray]:
        """Yield the logits of the first calibration images."""
        symbol, arguments, auxiliaries = weighted
        block = block_with_values(symbol, {**auxiliaries, **arguments}, [mx.cpu()])
        for x in self._batches[:images]:
            yield block(x).asnumpy()
