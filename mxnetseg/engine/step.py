"""The forward of a training step with its loss, as one graph at a precision.

In ``bfloat16`` and ``float16`` convolutions and matrix products are in half precision, forward and backward
(Micikevicius et al., Mixed precision training, ICLR 2018, section 3.1); the parameters stay float32, the master copy,
and are cast in the graph, so the gradients that arrive at them are float32. Losses and the statistics of norms are
float32.
"""
from __future__ import annotations

import json
import warnings
from typing import Dict, List, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from ..errors import ConfigError
from ..graph.dilated import wide_convolutions, without_zeros_in_training
from ..graph.graph import Graph
from ..graph.precision import to_half
from ..graph.shape_cache import compile_outermost
from ..losses import LossSum
from ..nn.blocks import InputStep
from .parallel import forward, needs_lockstep

# A convolution of so few input channels gives a plain layout in bfloat16, on which the batch norm behind it is ten
# times as slow: the stem stays in float32.
_FEW_CHANNELS = 4
# A graph planned for one shape shares more of its memory (a seventh less at most, FCN-R18) and prepares its operators
# once. Another shape is planned anew; all batches of a training have the same.
_ONE_SHAPE = {"static_alloc": True, "static_shape": True}


class Step(HybridBlock):
    """Pictures and labels -> the loss's parts: uint8 (N, H, W, 3), uint8 (N, H, W).

    Args:
        net: a :class:`~mxnetseg.models._base.SegModel`.
        loss: a :class:`~mxnetseg.losses.MixedLoss` on its outputs.
    """

    def __init__(self, net, loss):
        super().__init__()
        with self.name_scope():
            self.input = InputStep(net.mean, net.std)
            self.net, self.loss = net, loss

    def hybrid_forward(self, F, images, labels):
        return self.loss(self.net(self.input(images)), labels)


class TrainingGraph:
    """A :class:`Step` compiled for some devices: ``graph(shares)`` gives each share's parts, nothing waited for.

    Running statistics move in the backward pass, of which MXNet's engine is not told: whoever reads them must call
    ``waitall()`` before, or may see those of a step ago.

    Args:
        step: all of it initialised on ``contexts``.
        contexts: where it will run.
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'``.

    Attributes:
        lockstep: whether the contexts run layer by layer, un-hybridised, so that their batch norms can meet.

    Raises:
        ConfigError: half precision over several CPU contexts whose batch norm is synchronised.
    """

    def __init__(self, step: Step, contexts: Sequence[mx.Context], precision: str):
        self.lockstep = needs_lockstep(step.net)
        if self.lockstep and precision == "bfloat16":
            raise ConfigError("CPU contexts that share their batch norm run layer by layer, in float32",
                              where="train.precision", received=f"{precision} on {len(contexts)} contexts",
                              fix="one context (--ctx cpu), or --set model.norm=bn")
        self._step, self._precision = step, precision
        self._inputs = mx.sym.var("images"), mx.sym.var("labels")
        # un-hybridised, a network need not be one graph
        self._network = None if self.lockstep else mx.sym.Group(list(step.net(step.input(self._inputs[0]))))
        on_cpus = all(context.device_type == "cpu" for context in contexts)
        self._of_size = on_cpus and not self.lockstep and bool(wide_convolutions(Graph(self._network)))
        self._compiled: Dict[Optional[Tuple[int, ...]], HybridBlock] = {}

    def symbol(self, shape: Optional[Tuple[int, ...]] = None) -> mx.sym.Symbol:
        """(images, labels) -> sum, count, sum, count, ...: the network at the precision, the loss on top as it is.

        Args:
            shape: of the images, which wide convolutions are rewritten for; None for a graph of any.
        """
        network = self._network
        if shape is not None and self._of_size:
            graph = Graph(network)
            without_zeros_in_training(graph, graph.infer("shape", images=shape))
            network = graph.symbol()
        if self._precision != "float32":
            network = _in_half(network, self._step, self._precision)
        parts = self._step.loss([network[i] for i in range(len(network.list_outputs()))], self._inputs[1])
        return mx.sym.Group([number for part in parts for number in part])

    def __call__(self, shares) -> List[List[LossSum]]:
        """The parts of each (images, labels), one a context, recorded if the caller records."""
        parts = forward(lambda pair: self._run(*pair), shares, in_step=self.lockstep)
        return [[LossSum(*part) for part in one] for one in parts]

    def _run(self, images: mx.nd.NDArray, labels: mx.nd.NDArray) -> List[Sequence[mx.nd.NDArray]]:
        if self.lockstep:
            return self._step(images, labels)
        shape = images.shape if self._of_size else None
        if shape not in self._compiled:
            block = _block(self.symbol(shape), self._inputs, self._step)
            self._compiled[shape] = compile_outermost(block, **_ONE_SHAPE)
        numbers = self._compiled[shape](images, labels)
        return list(zip(numbers[::2], numbers[1::2]))


def _in_half(network: mx.sym.Symbol, step: Step, precision: str) -> mx.sym.Symbol:
    """The network in half precision, but for its stem in bfloat16."""
    def half(stay_float32=()):
        return to_half(network, precision, data_name="images", excluded_sym_names=stay_float32)
    try:
        return half(_narrow_convolutions(network, step.collect_params()) if precision == "bfloat16" else ())
    except mx.MXNetError:  # MXNet's pass loses track where a network joins the stem with what follows (DenseNet)
        return half()


def _block(symbol: mx.sym.Symbol, inputs: Sequence[mx.sym.Symbol], step: Step) -> SymbolBlock:
    """The graph with the parameters of ``step`` themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it guesses types before it has the parameters, which tell them
        return SymbolBlock(symbol, list(inputs), params=step.collect_params())


def _narrow_convolutions(symbol: mx.sym.Symbol, parameters) -> List[str]:
    """Names of the convolutions that read few channels."""
    names = []
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "Convolution":
            weight = nodes[node["inputs"][1][0]]["name"]  # or an operator's, where the network makes the weights
            groups = int(node["attrs"].get("num_group", 1))
            if weight in parameters and parameters[weight].shape[1] * groups <= _FEW_CHANNELS:
                names.append(node["name"])
    return names


class Divisors:
    """What the terms of a loss are divided by, where the labels alone tell it: the part of the graph behind that.

    A batch that is computed in turns needs the divisors of the whole before the first turn can be propagated back.

    Args:
        step: its ``loss`` initialised where the labels will be.
    """

    def __init__(self, step: Step):
        labels = mx.sym.var("labels")
        counts = [part[1] for part in step(mx.sym.var("images"), labels)]
        self._known = ["images" not in count.list_arguments() for count in counts]
        self._graph = None
        if any(self._known):
            symbol = mx.sym.Group([count for count, known in zip(counts, self._known) if known])
            self._graph = compile_outermost(_block(symbol, [labels], step))

    def __call__(self, labels: Sequence[mx.nd.NDArray]) -> List[Optional[mx.nd.NDArray]]:
        """The divisor of each term over all of ``labels``, (1,), on the first one's device; None for a term whose
        divisor depends on what the network says (mining)."""
        if self._graph is None:
            return [None] * len(self._known)
        here = labels[0].context
        each = [self._graph(share) for share in labels]
        each = [[one] if isinstance(one, mx.nd.NDArray) else one for one in each]
        sums = iter([mx.nd.add_n(*[one.as_in_context(here) for one in term]) for term in zip(*each)])
        return [next(sums) if known else None for known in self._known]
