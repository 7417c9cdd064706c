"""A compiled block gives the same as the block, at any size, in any order, after its weights have changed."""
import mxnet as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet.gluon import nn

from mxnetseg.graph import shape_cache
from mxnetseg.graph.shape_cache import ShapeCache, device_memory

SIZES = [(8, 8), (9, 12), (16, 8)]


def block():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, padding=1, in_channels=3), nn.BatchNorm(in_channels=4), nn.Activation("relu"))
    net.initialize()
    return net


def image(size):
    return mx.nd.array(np.random.RandomState(sum(size)).normal(size=(1, 3, *size)))


def wrapped(net):
    outer = nn.HybridSequential()
    outer.add(net)
    return outer


@settings(max_examples=20, deadline=None)
@given(order=st.lists(st.sampled_from(SIZES), min_size=1, max_size=12), keep=st.integers(1, 3))
def test_sizes_in_any_order(order, keep):
    net = block()
    graphs = ShapeCache(lambda: wrapped(net), keep=keep)
    wanted = {size: net(image(size)).asnumpy() for size in SIZES}
    held = [(size, graphs(image(size))) for size in order]  # later calls do not change earlier results
    for size, got in held:
        np.testing.assert_allclose(got.asnumpy(), wanted[size], atol=1e-5)
    assert len(graphs._graphs) <= keep


def test_a_size_is_compiled_when_it_recurs():
    made = []
    net = block()
    graphs = ShapeCache(lambda: made.append(1) or wrapped(net))
    for size in SIZES:
        graphs(image(size))
    assert len(made) == 1  # the graph for any size
    for _ in range(3):
        graphs(image(SIZES[0]))
    assert len(made) == 2


def test_more_alternating_sizes_than_graphs_do_not_compile_for_ever():
    made, net = [], block()
    graphs = ShapeCache(lambda: made.append(1) or wrapped(net), keep=2)
    for _ in range(6):
        for size in SIZES:
            graphs(image(size))
    assert len(made) == 1 + 2 and len(graphs._graphs) == 2


def test_an_idle_graph_makes_room():
    made, net = [], block()
    graphs = ShapeCache(lambda: made.append(1) or wrapped(net), keep=1)
    for size in [SIZES[0]] * 3 + [SIZES[1]] * 7:
        graphs(image(size))
    assert len(made) == 1 + 2 and [shape[2:] for shape, _ in graphs._graphs] == [SIZES[1]]


def test_all_graphs_together_keep_to_the_memory_budget():
    net, largest = block(), 4 * 4 * 16 * 8  # bytes of one of three maps at the last size; half of it at the first size
    graphs = ShapeCache(lambda: wrapped(net), memory=4 * largest)
    for size in [SIZES[2]] * 3 + [SIZES[0]] * 3:
        graphs(image(size))
    assert [shape[2:] for shape, _ in graphs._graphs] == [SIZES[2]]
    for _ in range(40):  # until the larger graph is idle
        graphs(image(SIZES[0]))
    assert [shape[2:] for shape, _ in graphs._graphs] == [SIZES[0]]
    small = ShapeCache(lambda: wrapped(net), memory=largest)
    for size in [SIZES[2]] * 40 + [SIZES[0]] * 40:
        np.testing.assert_allclose(small(image(size)).asnumpy(), net(image(size)).asnumpy(), atol=1e-5)
    assert not small._graphs


def test_a_graph_is_kept_after_its_size_is_forgotten(monkeypatch):
    traced, net = [], block()
    monkeypatch.setattr(ShapeCache, "estimate_memory", lambda self, shape, dtype: traced.append(shape[2:]) or 1)
    graphs = ShapeCache(lambda: wrapped(net), keep=2, memory=2)
    others = [(4, width) for width in range(4, 4 + 64 * 2)]
    for size in [SIZES[0]] * 2 + others + [SIZES[1]] * 2 + [SIZES[2]] * 2 + [SIZES[0]] * 4:
        np.testing.assert_allclose(graphs(image(size)).asnumpy(), net(image(size)).asnumpy(), atol=1e-5)
    assert [shape[2:] for shape, _ in graphs._graphs] == [SIZES[1], SIZES[2]]
    assert traced == [*SIZES, SIZES[0]]  # estimated once, although it needed room three times


def test_the_memory_of_a_machine(monkeypatch):
    assert 1 << 28 < device_memory(mx.cpu()) < 1 << 46
    monkeypatch.setattr(shape_cache, "total_memory", lambda: None)
    assert device_memory(mx.cpu()) == 8 << 30


def test_new_weights_reach_every_graph():
    net = block()
    graphs = ShapeCache(lambda: wrapped(net))
    x = image(SIZES[0])
    for _ in range(3):
        graphs(x).wait_to_read()
    net[0].weight.set_data(mx.nd.ones((4, 3, 3, 3)))
    np.testing.assert_allclose(graphs(x).asnumpy(), net(x).asnumpy(), atol=1e-5)
