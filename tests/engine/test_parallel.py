"""The forward of a data-parallel step keeps the caller's autograd mode, in step or not."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import nn

from mxnetseg.engine.parallel import forward, needs_lockstep
from mxnetseg.graph.shape_cache import compile_outermost
from mxnetseg.nn.norm import CrossContextBatchNorm

CONTEXTS = [mx.cpu(0), mx.cpu(1)]


class Modes:
    """Notes the mode that it is called in."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append((autograd.is_recording(), autograd.is_training()))
        return x + 1


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


def test_an_error_of_one_context_is_the_callers():
    def broken(x):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"):
        forward(broken, [1, 2], in_step=True)


def test_lockstep_is_needed_wherever_such_a_norm_is():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(2, 1), nn.BatchNorm())
    assert not needs_lockstep(net)
    net.add(nn.HybridSequential())
    net[2].add(CrossContextBatchNorm())
    assert needs_lockstep(net)


def test_only_the_outermost_block_is_compiled():
    inner, outer = nn.Dense(2, in_units=3), nn.HybridSequential()
    outer.add(inner)
    outer.initialize()
    x = nd.random.normal(shape=(4, 3))
    wanted = outer(x).asnumpy()
    assert compile_outermost(outer, static_alloc=True) is outer
    assert outer._active and not inner._active
    np.testing.assert_allclose(outer(x).asnumpy(), wanted, rtol=1e-6)
    assert outer._cached_graph and not inner._cached_graph  # one graph, of the whole
