"""Weighted sums of losses on a network's outputs, averaged over the batches of all devices."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mxnet import autograd
from mxnet import ndarray as nd
from mxnet.gluon import HybridBlock

from .cross_entropy import CrossEntropy

SumNumbers = Callable[[Sequence[nd.NDArray]], Sequence[nd.NDArray]]


class Blend:
    """Weighted sum of losses on the same outputs, each with its own mean; takes the place of a loss in a :class:`Term`.

    Args:
        losses: pairs (weight, loss).
    """

    def __init__(self, losses: Sequence[tuple[float, HybridBlock]]):
        self.losses = tuple(losses)

    def unmined(self, *, mean_over: str = "weights") -> Blend:
        """Return the same losses without mining, for outputs that a paper trains on every pixel.

        Args:
            mean_over: divisor of the cross-entropy, see :class:`~mxnetseg.losses.CrossEntropy`.
        """
        return Blend([(weight, loss.unmined(mean_over=mean_over) if isinstance(loss, CrossEntropy) else loss)
                      for weight, loss in self.losses])


class Term(NamedTuple):
    """One term of a network's loss: ``weight * loss(outputs[output], label)``.

    Attributes:
        output: index of the output; a tuple of indices for a loss on several: ``loss(outputs[i], outputs[j], label)``.
        weight: factor of the loss.
        loss: returns a pair (sum, count). The count is 0 if the loss is a sum instead of a mean.
    """

    output: int | tuple[int, ...]
    weight: float
    loss: HybridBlock | Blend


class LossSum(NamedTuple):
    """Contribution of one device to one term: its sum and its part of the divisor, both (1,)."""

    total: nd.NDArray
    count: nd.NDArray


class MixedLoss(HybridBlock):
    """Loss that a network declares: a weighted sum of terms on its outputs.

    ``loss(outputs, label)`` returns one :class:`LossSum` per term, for one device. :func:`global_backward` and
    :func:`global_value` combine the results of all devices to the mean over the global batch.

    Args:
        terms: the terms, in the order of the results; a term with a :class:`Blend` counts as one term per loss of it.
    """

    def __init__(self, terms: Sequence[Term]):
        super().__init__()
        plain = [Term(t.output, t.weight * weight, loss) for t in terms
                 for weight, loss in (t.loss.losses if isinstance(t.loss, Blend) else [(1.0, t.loss)])]
        self.weights = tuple(float(t.weight) for t in plain)
        self._outputs = tuple(t.output if isinstance(t.output, tuple) else (t.output,) for t in plain)
        self._losses: list[Any] = [t.loss for t in plain]
        for i, loss in enumerate(self._losses):
            self.register_child(loss, f"term{i}")

    def forward(self, outputs: Sequence[nd.NDArray], label: nd.NDArray) -> list[LossSum]:
        return [LossSum(*loss(*(outputs[i] for i in seen), label)) for seen, loss in zip(self._outputs, self._losses)]


def _means(loss_sums: Sequence[Sequence[LossSum]], weights: Sequence[float], micro_batches: int = 1,
           divisors: Sequence[nd.NDArray | None] | None = None,
           sum_numbers: SumNumbers = list) -> list[tuple[nd.NDArray, nd.NDArray]]:
    """Return (loss, d loss / d sum) of each term, on the first device, without synchronising."""
    device = loss_sums[0][0].total.context
    numbers = sum_numbers([nd.add_n(*[getattr(one, what).as_in_context(device) for one in term])
                           for term in zip(*loss_sums) for what in ("total", "count")])
    means = []
    for total, count, weight, divisor in zip(numbers[::2], numbers[1::2], weights, divisors or [None] * len(weights)):
        if divisor is None:
            divisor = count * micro_batches
        # the divisor is 0 for a loss that is a sum, or without valid pixels; 1 takes its place
        per_unit = weight / (divisor + (divisor == 0))
        means.append((total * per_unit, per_unit))
    return means


def global_value(loss_sums: Sequence[Sequence[LossSum]], weights: Sequence[float]) -> nd.NDArray:
    """Return the loss over all devices as a (1,) array: the sum of weight * (sum of sums / sum of counts).

    Args:
        loss_sums: the results of the :class:`MixedLoss` on each device.
        weights: its ``weights``.
    """
    return nd.add_n(*[mean for mean, _ in _means(loss_sums, weights)])


def global_backward(loss_sums: Sequence[Sequence[LossSum]], weights: Sequence[float], *, scale: float = 1.0,
                    micro_batches: int = 1, divisors: Sequence[nd.NDArray | None] | None = None,
                    sum_numbers: SumNumbers = list) -> nd.NDArray:
    """Back-propagate the loss over all devices, and return it as a (1,) array, without the factor ``scale``.

    The divisor is summed over the devices first. So n devices that split a batch compute the same gradients (up to
    rounding) as one device with the whole batch, wherever the valid pixels are.

    Args:
        loss_sums, weights: as for :func:`global_value`, recorded under autograd.
        scale: factor of all gradients (loss scaling).
        micro_batches: number of micro-batches of the batch; ``loss_sums`` belong to one of them. The losses and
            gradients of all micro-batches add up to those of the batch.
        divisors: divisor of each term over the whole batch, (1,), on the first device. For a term with None, the loss
            is the mean of the micro-batches' own means.
        sum_numbers: arrays (1,) -> their sums over all processes that split the batch; by default there is one.
    """
    with autograd.pause():
        means = _means(loss_sums, weights, micro_batches, divisors, sum_numbers)
        gradients = [[(per_unit * scale).as_in_context(one.total.context) for one in term]
                     for term, (_, per_unit) in zip(zip(*loss_sums), means)]
        value = nd.add_n(*[mean for mean, _ in means])

    # one call for all heads, because contexts in lockstep share one graph
    autograd.backward([one.total for term in zip(*loss_sums) for one in term],
                      [gradient for term in gradients for gradient in term])
    return value
