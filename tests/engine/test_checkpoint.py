"""Checkpoints: what is written is what is read, and nothing damaged, foreign or too new is."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.engine.checkpoint import all_finite


class Bag:
    """As much of a network as :func:`all_finite` looks at: ``count`` parameters of one number."""

    def __init__(self, count):
        self.parameters = {}
        for i in range(count):
            parameter = mx.gluon.Parameter(f"p{i}", shape=(1,), init="ones")
            parameter.initialize(ctx=mx.cpu())
            self.parameters[f"p{i}"] = parameter

    def named_parameters(self):
        return self.parameters


@pytest.mark.parametrize("count", [1, 200, 201, 450])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_finite_is_asked_of_every_parameter_however_many(count, value):
    net = Bag(count)  # a ResNet-50 has more than the 200 that MXNet's operator looks at in one call
    assert all_finite(net)
    net.parameters[f"p{count - 1}"].set_data(mx.nd.array([value]))
    assert not all_finite(net)
