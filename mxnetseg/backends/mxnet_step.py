"""The forward pass of a training step with its loss, as one graph at a precision.

In ``bfloat16`` and ``float16``, convolutions and matrix products are in half precision, forward and backward
(Micikevicius et al., Mixed precision training, ICLR 2018, section 3.1). The parameters stay float32, as the master
copy, and are cast in the graph, so that their gradients are float32. Losses and the statistics of norms are float32.
"""
from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from ..graph.blocks import block_with_parameters, compile_outermost
from ..graph.training import convert_training_graph, has_shape_passes, specialize_training_graph
from ..losses import LossSum
from ..losses.mixed import SumNumbers
from ..nn.blocks import InputStep
from .mxnet_parallel import DeviceBatches, forward, needs_lockstep

# A graph planned for one shape shares more of its memory (up to a seventh less, FCN-R18) and prepares its operators
# once. Another shape is planned anew, but all batches of a training have the same shape.
_ONE_SHAPE = {"static_alloc": True, "static_shape": True}


class Step(HybridBlock):
    """Images uint8 (N, H, W, 3) and labels uint8 (N, H, W) -> sum and divisor of each term of the loss.

    Args:
        net: a :class:`~mxnetseg.models._base.SegModel`.
        loss: a :class:`~mxnetseg.losses.MixedLoss` of its outputs.
    """

    def __init__(self, net, loss):
        super().__init__()
        with self.name_scope():
            self.input = InputStep(net.mean, net.std)
            self.net, self.loss = net, loss

    def hybrid_forward(self, F, images, labels):
        return self.loss(self.net(self.input(images)), labels)


class TrainingGraph:
    """A :class:`Step` compiled for some devices: ``graph(device_batches)`` returns the loss sums of each device.

    The call does not wait for results. Running statistics are updated in the backward pass without MXNet's engine
    knowing: call ``waitall()`` before reading them, or they may be those of the previous step.

    Args:
        step: the step, all of it initialised on ``contexts``.
        contexts: where it will run.
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'``.

    Attributes:
        lockstep: whether the contexts run layer by layer, un-hybridised, so that their batch norms can exchange values.

    Raises:
        ConfigError: bfloat16 on several CPU contexts whose batch norm is synchronised.
    """

    def __init__(self, step: Step, contexts: Sequence[mx.Context], precision: str):
        self.lockstep = needs_lockstep(step.net)
        if self.lockstep and precision == "bfloat16":
            raise ConfigError("CPU contexts that synchronise their batch norm run layer by layer, in float32 only",
                              where="train.precision", received=f"{precision} on {len(contexts)} contexts",
                              fix="one context (--ctx cpu), or --set model.norm=bn")

        self._step, self._precision = step, precision
        self._inputs = mx.sym.var("images"), mx.sym.var("labels")
        # un-hybridised, a network need not be one graph
        self._network = None if self.lockstep else mx.sym.Group(list(step.net(step.input(self._inputs[0]))))
        on_cpus = all(context.device_type == "cpu" for context in contexts)
        self._depends_on_shape = on_cpus and not self.lockstep and has_shape_passes(self._network)
        self._compiled: dict[tuple[int, ...] | None, HybridBlock] = {}

    def symbol(self, shape: tuple[int, ...] | None = None) -> mx.sym.Symbol:
        """Return (images, labels) -> sum, count, sum, count, ...: the network at the precision, and the loss.

        Args:
            shape: shape of the images that the network is specialised for; None for a graph of any shape.
        """
        network = self._network
        if shape is not None and self._depends_on_shape:
            network = specialize_training_graph(network, images=shape)
        network = convert_training_graph(network, self._precision, self._step.collect_params(), data_name="images")
        terms = self._step.loss([network[i] for i in range(len(network.list_outputs()))], self._inputs[1])
        return mx.sym.Group([number for term in terms for number in term])

    def __call__(self, device_batches: DeviceBatches) -> list[list[LossSum]]:
        """Return the loss sums of each (images, labels), one pair per context, recorded if the caller records."""
        terms = forward(lambda pair: self._run(*pair), device_batches, in_step=self.lockstep)
        return [[LossSum(*term) for term in one] for one in terms]

    def _run(self, images: mx.nd.NDArray, labels: mx.nd.NDArray) -> list[Sequence[mx.nd.NDArray]]:
        if self.lockstep:
            return self._step(images, labels)
        shape = images.shape if self._depends_on_shape else None
        if shape not in self._compiled:
            block = block_with_parameters(self.symbol(shape), self._inputs, self._step.collect_params())
            self._compiled[shape] = compile_outermost(block, **_ONE_SHAPE)
        numbers = self._compiled[shape](images, labels)
        return list(zip(numbers[::2], numbers[1::2]))


class Divisors:
    """Divisors of a loss's terms that depend on the labels only.

    A batch that is computed as several micro-batches needs the divisors of the whole batch before the first
    micro-batch can be propagated back.

    Args:
        step: its ``loss`` is initialised where the labels will be.
    """

    def __init__(self, step: Step):
        labels = mx.sym.var("labels")
        counts = [term[1] for term in step(mx.sym.var("images"), labels)]
        self._known = ["images" not in count.list_arguments() for count in counts]
        self._graph = None
        if any(self._known):
            symbol = mx.sym.Group([count for count, known in zip(counts, self._known) if known])
            self._graph = compile_outermost(block_with_parameters(symbol, [labels], step.collect_params()))

    def __call__(self, labels: Sequence[mx.nd.NDArray], *,
                 sum_numbers: SumNumbers = list) -> list[mx.nd.NDArray | None]:
        """Return the divisor of each term over a whole batch.

        Args:
            labels: labels of all device batches of all micro-batches.
            sum_numbers: see :func:`~mxnetseg.losses.global_backward`.

        Returns:
            for each term (1,), on the first device; None if the term's divisor depends on the network (mining).
        """
        if self._graph is None:
            return [None] * len(self._known)
        here = labels[0].context
        counts = [self._graph(device_batch) for device_batch in labels]
        counts = [[one] if isinstance(one, mx.nd.NDArray) else one for one in counts]
        sums = iter(sum_numbers([mx.nd.add_n(*[count.as_in_context(here) for count in term])
                                 for term in zip(*counts)]))
        return [next(sums) if known else None for known in self._known]
