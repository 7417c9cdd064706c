"""Exponential moving average of the weights during a training in MXNet."""
from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx
import numpy as np

from .training import average_decay

_AT_ONCE = 45  # arrays of one update; the operator takes at most 60


class WeightAverage:
    """Moving average of the trained parameters of a network, which can change places with them.

    Each context averages its own copy, so nothing is sent between devices. Running statistics are not averaged: MXNet
    changes them without its engine knowing, so that a step could read them too early.

    Args:
        net: the network, whose values are the first averages.
        decay: ``train.ema``.
    """

    def __init__(self, net, decay: float):
        # a parameter of several names is averaged once, under the last of them
        trained = {id(p): (name, p) for name, p in net.named_parameters().items() if p.grad_req != "null"}
        self._decay = decay
        self._weights = {name: p.list_data() for name, p in trained.values()}
        self._averages = {name: [weight.copy() for weight in weights] for name, weights in self._weights.items()}
        self._are_averages_in_network = False

    def follow(self, updates: int) -> None:
        """Move the averages towards the weights, without waiting for them.

        Args:
            updates: number of updates of the weights, the latest included.
        """
        rest = 1 - average_decay(self._decay, updates)
        for weights, averages in zip(zip(*self._weights.values()), zip(*self._averages.values())):  # of one context
            for first in range(0, len(weights), _AT_ONCE):
                some = averages[first:first + _AT_ONCE]
                pairs = [array for pair in zip(some, weights[first:first + _AT_ONCE]) for array in pair]
                # SGD at the rate -rest and the decay -1, as one operator: average - rest * average + rest * weight
                mx.nd.multi_sgd_update(*pairs, num_weights=len(some), lrs=[-rest] * len(some), wds=[-1.0] * len(some),
                                       out=list(some))

    def show(self, averages: bool) -> None:
        """Put the averages into the network (True) or the trained weights (False), unless they are there already."""
        if averages == self._are_averages_in_network:
            return
        for name, weights in self._weights.items():
            for here, there in zip(weights, self._averages[name]):
                kept = here.copy()
                here[:] = there
                there[:] = kept
        self._are_averages_in_network = averages

    def trained(self) -> dict[str, np.ndarray]:
        """Return the trained weights by name."""
        arrays = self._averages if self._are_averages_in_network else self._weights
        return {name: values[0].asnumpy() for name, values in arrays.items()}


def set_trained(net, values: Mapping[str, np.ndarray]) -> None:
    """Give the network trained weights, on every context."""
    parameters = net.named_parameters()
    for name, value in values.items():
        for data in parameters[name].list_data():
            data[:] = value
