"""Data parallelism: how a batch is split, and a forward that keeps the caller's autograd mode."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import nn

from mxnetseg.backends.mxnet_parallel import forward, needs_lockstep, split_batch
from mxnetseg.graph.blocks import compile_outermost
from mxnetseg.nn.norm import CrossContextBatchNorm

CONTEXTS = [mx.cpu(0), mx.cpu(1)]


class Modes:
    """Network that records the autograd mode of each call."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append((autograd.is_recording(), autograd.is_training()))
        return x + 1


def test_a_batch_is_split_in_its_order():
    images = np.arange(8 * 2 * 2 * 3, dtype=np.uint8).reshape(8, 2, 2, 3)
    labels = np.arange(8 * 2 * 2, dtype=np.uint8).reshape(8, 2, 2)
    micro_batches = split_batch(images, labels, CONTEXTS, 2)
    pairs = [pair for device_batches in micro_batches for pair in device_batches]
    assert [len(device_batches) for device_batches in micro_batches] == [2, 2]
    assert [(x.context, y.context) for x, y in pairs] == [(c, c) for c in CONTEXTS] * 2
    np.testing.assert_array_equal(np.concatenate([x.asnumpy() for x, _ in pairs]), images)
    np.testing.assert_array_equal(np.concatenate([y.asnumpy() for _, y in pairs]), labels)


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("scope, mode", [
    (autograd.record, (True, True)), (lambda: autograd.record(train_mode=False), (True, False)),
    (autograd.pause, (False, False)), (autograd.train_mode, (False, True))])
def test_the_mode_is_the_callers(in_step, scope, mode):
    net, inputs = Modes(), [nd.full((2,), i, ctx=c) for i, c in enumerate(CONTEXTS)]
    with scope():
        outputs = forward(net, inputs, in_step=in_step)
    assert net.seen == [mode] * 2
    assert [y.context for y in outputs] == CONTEXTS
    assert [y.asnumpy().tolist() for y in outputs] == [[1, 1], [2, 2]]


def test_an_error_of_one_context_reaches_the_caller():
    def broken(x):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"):
        forward(broken, [1, 2], in_step=True)


def test_a_nested_cross_context_norm_needs_lockstep():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(2, 1), nn.BatchNorm())
    assert not needs_lockstep(net)
    net.add(nn.HybridSequential())
    net[2].add(CrossContextBatchNorm())
    assert needs_lockstep(net)


def test_only_the_outermost_block_is_compiled():
    layer, outer = nn.Dense(2, in_units=3), nn.HybridSequential()
    outer.add(layer)
    outer.initialize()
    x = nd.random.normal(shape=(4, 3))
    wanted = outer(x).asnumpy()
    assert compile_outermost(outer, static_alloc=True) is outer
    assert outer._active and not layer._active
    np.testing.assert_allclose(outer(x).asnumpy(), wanted, rtol=1e-6)
    assert outer._cached_graph and not layer._cached_graph  # one graph of the whole
