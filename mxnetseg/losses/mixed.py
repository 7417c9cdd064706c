"""Several weighted losses on a network's outputs, averaged over all devices together."""
from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from mxnet import autograd
from mxnet import ndarray as nd
from mxnet.gluon import HybridBlock

from .cross_entropy import CrossEntropy


class Blend:
    """Several losses on the same outputs, each with a mean of its own; stands for one loss in a :class:`Term`.

    Args:
        losses: pairs (weight, loss).
    """

    def __init__(self, losses: Sequence[Tuple[float, HybridBlock]]):
        self.losses = tuple(losses)

    def unmined(self, *, mean_over: str = "weights") -> "Blend":
        """The same without mining, for outputs that a paper trains on every pixel.

        Args:
            mean_over: what the cross-entropy is divided by, see :class:`~mxnetseg.losses.CrossEntropy`.
        """
        return Blend([(weight, loss.unmined(mean_over=mean_over) if isinstance(loss, CrossEntropy) else loss)
                      for weight, loss in self.losses])


class Term(NamedTuple):
    """``weight * loss(outputs[output], label)``; ``loss`` returns a pair (sum, count).

    A loss that sees several outputs has their numbers as a tuple: ``loss(outputs[i], outputs[j], label)``.
    The count of a loss that is a sum rather than a mean is 0.
    """

    output: Union[int, Tuple[int, ...]]
    weight: float
    loss: Union[HybridBlock, Blend]


class Part(NamedTuple):
    """What one device knows of one term: its sum and its share of the divisor, both (1,)."""

    total: nd.NDArray
    count: nd.NDArray


class MixedLoss(HybridBlock):
    """The loss a model declares: a weighted sum of terms on its outputs.

    ``loss(outputs, label)`` gives one :class:`Part` per term, for one device. The mean over the
    global batch needs all devices: :func:`global_backward`, :func:`global_value`.

    Args:
        terms: in the order in which they are reported; a :class:`Blend` is as many terms as it has losses.
    """

    def __init__(self, terms: Sequence[Term]):
        super().__init__()
        plain = [Term(t.output, t.weight * weight, loss) for t in terms
                 for weight, loss in (t.loss.losses if isinstance(t.loss, Blend) else [(1.0, t.loss)])]
        self.weights = tuple(float(t.weight) for t in plain)
        self._outputs = tuple(t.output if isinstance(t.output, tuple) else (t.output,) for t in plain)
        self._losses = [t.loss for t in plain]
        for i, loss in enumerate(self._losses):
            self.register_child(loss, f"term{i}")

    def forward(self, outputs: Sequence[nd.NDArray], label: nd.NDArray) -> List[Part]:
        return [Part(*loss(*(outputs[i] for i in seen), label)) for seen, loss in zip(self._outputs, self._losses)]


def _means(parts: Sequence[Sequence[Part]], weights: Sequence[float], turns: int = 1,
           divisors: Optional[Sequence[Optional[nd.NDArray]]] = None):
    """For each term: (its loss, d loss / d sum), on the first device. Nothing is waited for."""
    here = parts[0][0].total.context
    means = []
    for term, weight, divisor in zip(zip(*parts), weights, divisors or [None] * len(weights)):
        if divisor is None:
            divisor = nd.add_n(*[part.count.as_in_context(here) for part in term]) * turns
        per_unit = weight / (divisor + (divisor == 0))  # a plain sum, or no valid pixel anywhere: 0 / 1
        total = nd.add_n(*[part.total.as_in_context(here) for part in term])
        means.append((total * per_unit, per_unit))
    return means


def global_value(parts: Sequence[Sequence[Part]], weights: Sequence[float]) -> nd.NDArray:
    """The loss over all devices as a (1,) array: sum of weight * (sum of sums / sum of counts).

    Args:
        parts: what the :class:`MixedLoss` returned on each device.
        weights: its ``weights``.
    """
    return nd.add_n(*[mean for mean, _ in _means(parts, weights)])


def global_backward(parts: Sequence[Sequence[Part]], weights: Sequence[float], *, scale: float = 1.0, turns: int = 1,
                    divisors: Optional[Sequence[Optional[nd.NDArray]]] = None) -> nd.NDArray:
    """Back-propagate the loss over all devices; returns it, undivided by ``scale``, as a (1,) array.

    The divisor is summed over the devices first, so n devices with a joined batch and one device
    with the whole of it have the same gradients (up to rounding), however the valid pixels lie.

    Args:
        parts, weights: as for :func:`global_value`, recorded under autograd.
        scale: factor on all gradients (loss scaling).
        turns: in how many turns the batch is computed, of which this is one; the loss and the gradients of all
            turns together are those of the batch.
        divisors: of each term over the whole batch, (1,), on the first device. Where it is None, a turn's
            own mean counts for one part in ``turns``.
    """
    with autograd.pause():
        means = _means(parts, weights, turns, divisors)
        gradients = [[(per_unit * scale).as_in_context(part.total.context) for part in term]
                     for term, (_, per_unit) in zip(zip(*parts), means)]
        value = nd.add_n(*[mean for mean, _ in means])
    # all heads at once: contexts in lockstep share one graph
    autograd.backward([part.total for term in zip(*parts) for part in term],
                      [gradient for term in gradients for gradient in term])
    return value
