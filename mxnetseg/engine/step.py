"""The forward of a training step with its loss, as one graph at a precision.

In ``bfloat16`` and ``float16`` convolutions and matrix products are in half precision, forward and backward
(Micikevicius et al., Mixed precision training, ICLR 2018, section 3.1); the parameters stay float32, the master copy,
and are cast in the graph, so the gradients that arrive at them are float32. Losses and the statistics of norms are
float32.
"""
from __future__ import annotations

import json
import warnings
from typing import List, Optional, Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock

from ..errors import ConfigError
from ..losses import Part
from ..nn.blocks import InputStep
from .graph import compile_outermost
from .parallel import forward, needs_lockstep
from .precision import to_half

# A convolution of so few input channels gives a plain layout in bfloat16, on which the batch norm behind it is ten
# times as slow: the stem stays in float32.
_FEW_CHANNELS = 4
# A graph planned for one shape shares more of its memory (a seventh less at most, FCN-R18) and prepares its operators
# once. Another shape is planned anew; all batches of a training have the same.
_ONE_SHAPE = {"static_alloc": True, "static_shape": True}


class Step(HybridBlock):
    """Pictures and labels -> the loss's parts: uint8 (N, H, W, 3), uint8 (N, H, W).

    Args:
        net: a :class:`~mxnetseg.models.base.SegModel`.
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
        symbol: the graph where it is in half precision, else None.

    Raises:
        ConfigError: half precision over several CPU contexts whose batch norm is synchronised.
    """

    def __init__(self, step: Step, contexts: Sequence[mx.Context], precision: str):
        self.lockstep, self.symbol = needs_lockstep(step.net), None
        if self.lockstep and precision == "bfloat16":
            raise ConfigError("CPU contexts that share their batch norm run layer by layer, in float32",
                              where="train.precision", received=f"{precision} on {len(contexts)} contexts",
                              fix="one context (--ctx cpu), or --set model.norm=bn")
        if self.lockstep:
            self._run = step
        elif precision == "float32":
            self._run = compile_outermost(step, **_ONE_SHAPE)
        else:
            inputs = mx.sym.var("images"), mx.sym.var("labels")
            self.symbol = _in_half(step, inputs, precision)
            block = compile_outermost(_block(self.symbol, inputs, step), **_ONE_SHAPE)
            self._run = lambda images, labels: _paired(block(images, labels))

    def __call__(self, shares) -> List[List[Part]]:
        """The parts of each (images, labels), one a context, recorded if the caller records."""
        parts = forward(lambda pair: self._run(*pair), shares, in_step=self.lockstep)
        return [[Part(*part) for part in one] for one in parts]


def _in_half(step: Step, inputs: Sequence[mx.sym.Symbol], precision: str) -> mx.sym.Symbol:
    """(images, labels) -> sum, count, sum, count, ...: the network in half precision, the loss on top as it is."""
    images, labels = inputs
    network = mx.sym.Group(list(step.net(step.input(images))))

    def half(stay_float32=()):
        return to_half(network, precision, data_name=images.name, excluded_sym_names=stay_float32)
    try:
        outputs = half(_narrow_convolutions(network, step.collect_params()) if precision == "bfloat16" else ())
    except mx.MXNetError:  # MXNet's pass loses track where a network joins the stem with what follows (DenseNet)
        outputs = half()
    parts = step.loss([outputs[i] for i in range(len(outputs.list_outputs()))], labels)
    return mx.sym.Group([number for part in parts for number in part])


def _block(symbol: mx.sym.Symbol, inputs: Sequence[mx.sym.Symbol], step: Step) -> SymbolBlock:
    """The graph with the parameters of ``step`` themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it guesses types before it has the parameters, which tell them
        return SymbolBlock(symbol, list(inputs), params=step.collect_params())


def _paired(numbers: Sequence[mx.nd.NDArray]) -> List[Sequence[mx.nd.NDArray]]:
    return list(zip(numbers[::2], numbers[1::2]))


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
