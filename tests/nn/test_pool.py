"""Pooling to a fraction of the size against MXNet's adaptive pooling with a given size."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import nd
from mxnet.gluon import HybridBlock

from mxnetseg.nn.pool import pool_by


class Pool(HybridBlock):
    def __init__(self, factor):
        super().__init__()
        self._factor = factor

    def hybrid_forward(self, F, x):
        return pool_by(F, x, self._factor)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("hybridised", [False, True])
def test_equals_adaptive_pooling_at_sizes_that_change(factor, hybridised):
    pool = Pool(factor)
    pool.hybridize(hybridised)
    for height, width in [(1, 1), (1, 40), (2, 3), (7, 9), (15, 16), (16, 20), (17, 31), (33, 32), (64, 47)]:
        x = nd.array(np.random.RandomState(height).normal(size=(2, 3, height, width)))
        size = (max(1, height // factor), max(1, width // factor))
        wanted = nd.contrib.AdaptiveAvgPooling2D(x, output_size=size).asnumpy()
        got = pool(x).asnumpy()
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_the_gradient_spreads_over_the_pixels_of_a_cell():
    x = nd.zeros((1, 1, 4, 6))
    x.attach_grad()
    with mx.autograd.record():
        y = nd.sum(pool_by(nd, x, 2) * nd.arange(6).reshape((1, 1, 2, 3)))
    y.backward()
    np.testing.assert_allclose(x.grad[0, 0].asnumpy(), np.kron(np.arange(6).reshape(2, 3), np.full((2, 2), 0.25)))
