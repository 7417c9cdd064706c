"""Conversion of a graph to int8, except for layers that cost accuracy."""
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet.contrib import quantization

from .blocks import block_with_values

log = logging.getLogger(__name__)

# MXNet's passes for oneDNN: of a float32 graph, and of one that is to be quantised
_ONEDNN, _ONEDNN_FOR_INT8 = "MKLDNN", "MKLDNN_QUANTIZE"
# fraction of the calibration images' pixels that must keep their class
AGREEMENT = 0.992
# Each group of layers takes one image's inference to judge; in networks with more layers, neighbours share a group.
_MOST_GROUPS = 64
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
    """Search for the int8 form of a graph that keeps the classes of real images.

    Everything is quantised first. If too many pixels of the calibration images change their class, each layer is
    tried alone in int8, and the layers that change the logits most return to float32: as few as keep enough classes.
    """

    def __init__(self, symbol, arguments, auxiliaries, calibration):
        self._arguments, self._auxiliaries, self._batches = arguments, auxiliaries, calibration
        self._symbol = symbol.get_backend_symbol(_ONEDNN_FOR_INT8)
        names = (node.name for node in self._symbol.get_internals())
        self._layers = list(dict.fromkeys(name for name in names if name.startswith("sg_mkldnn")))
        exact = self._block((symbol.get_backend_symbol(_ONEDNN), arguments, auxiliaries))
        self._exact_logits = [exact(x).asnumpy() for x in self._batches]
        self._ranges = self._measure_ranges()

    def best(self):
        """Return (symbol, arguments, auxiliaries, names of the layers kept in float32)."""
        kept, quantized, agreement = self._with_float32([])
        if agreement < AGREEMENT:
            groups = self._by_harm()
            # The fewest groups that suffice, by bisection: more groups in float32 do not change more classes.
            enough, too_few = len(groups), 0
            found = None
            while enough - too_few > 1:
                middle = (enough + too_few) // 2
                tried = self._with_float32(groups[:middle])
                if tried[-1] >= AGREEMENT:
                    enough, found = middle, tried
                else:
                    too_few = middle
            kept, quantized, agreement = found or self._with_float32(groups)

        log.info("int8: %.2f %% of the calibration pixels keep their class; %d of %d layers in float32",
                 100 * agreement, len(kept), len(self._layers))
        return (*quantized, tuple(kept))

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

    def _with_float32(self, groups: list[list[str]]) -> tuple[list[str], _Weighted, float]:
        """Return the layers of some groups, the graph with these layers in float32, and its agreement."""
        kept = [name for group in groups for name in group]
        quantized = self._convert(kept)
        return kept, quantized, self._agreement(quantized)

    def _agreement(self, quantized: _Weighted) -> float:
        """Return the fraction of the calibration images' pixels that keep their class."""
        block = self._block(quantized)
        return float(np.mean([(block(x).argmax(axis=1).asnumpy() == logits.argmax(axis=1)).mean()
                              for x, logits in zip(self._batches, self._exact_logits)]))

    def _by_harm(self) -> list[list[str]]:
        """Return the layers in groups of neighbours, ordered by how each changes the logits if it alone is int8.

        The worst comes first. Logits say more than classes here: one layer alone changes few classes.
        """
        size = -(-len(self._layers) // _MOST_GROUPS)
        groups = [self._layers[i:i + size] for i in range(0, len(self._layers), size)]
        x, exact = self._batches[0], self._exact_logits[0]

        def harm(group: Sequence[str]) -> float:
            block = self._block(self._convert([name for name in self._layers if name not in group]))
            return float(np.square(block(x).asnumpy() - exact).mean())
        return sorted(groups, key=harm, reverse=True)

    @staticmethod
    def _block(weighted: _Weighted):
        symbol, arguments, auxiliaries = weighted
        return block_with_values(symbol, {**auxiliaries, **arguments}, [mx.cpu()])
