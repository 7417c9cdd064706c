"""Convolutions of 24, 40, ... channels in training: the same outputs and gradients, and no reference kernel."""
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mxnetseg._processor import has_avx512
from mxnetseg.graph import aligned
from mxnetseg.graph.blocks import block_with_parameters
from mxnetseg.graph.graph import Graph
from mxnetseg.graph.training import has_shape_passes, specialize_training_graph
from mxnetseg.models import get_model

SHAPE = (2, 3, 8, 12)


@pytest.fixture(autouse=True)
def avx512(monkeypatch):
    monkeypatch.setattr(aligned, "has_avx512", lambda: True)


def network(channels=24, filters=32, last="relu", **convolution):
    """Return stem, convolution, batch norm and an activation, initialised, and its symbol."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(channels, 3, padding=1, in_channels=3), nn.BatchNorm(in_channels=channels), nn.Activation("relu"),
            nn.Conv2D(filters, **{"kernel_size": 1, "use_bias": False, "in_channels": channels, **convolution}),
            nn.BatchNorm(in_channels=filters),
            nn.HybridLambda("tanh") if last == "tanh" else nn.Activation(last))
    net.initialize(mx.init.Normal(0.5))
    return net, net(mx.sym.var("images"))


def with_gradients(symbol, net):
    """Return the output and the gradients of a training step, by name."""
    block = block_with_parameters(symbol, [mx.sym.var("images")], net.collect_params())
    block.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(np.random.RandomState(1).normal(size=SHAPE))
    x.attach_grad()
    with mx.autograd.record():
        y = block(x)
        loss = (y * mx.nd.array(np.random.RandomState(2).normal(size=y.shape))).sum()
    loss.backward()
    found = {name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"}
    return {**found, "output": y.asnumpy(), "images": x.grad.asnumpy()}


@pytest.mark.parametrize("convolution", [{}, {"use_bias": True}, {"kernel_size": 3, "padding": 1, "strides": 2}])
@pytest.mark.parametrize("channels", [8, 24, 40])
def test_outputs_and_gradients(channels, convolution):
    net, symbol = network(channels, **convolution)
    rewritten = specialize_training_graph(symbol, images=SHAPE)
    assert "Concat" in rewritten.tojson() and "Concat" not in symbol.tojson()
    assert rewritten.infer_shape(images=SHAPE)[0] == symbol.infer_shape(images=SHAPE)[0]  # of the parameters
    got, wanted = with_gradients(rewritten, net), with_gradients(symbol, net)
    for name, value in wanted.items():
        # biases before a batch norm have no influence, so their gradients are rounding errors
        np.testing.assert_allclose(got[name], value, atol=1e-3 if name.endswith("bias") else
                                   2e-5 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("arguments, rewritten", [
    ({}, True), ({"channels": 32}, False), ({"channels": 20}, False), ({"filters": 24}, False),
    ({"groups": 2}, False), ({"last": "tanh"}, False)])
def test_which_convolutions(arguments, rewritten):
    _, symbol = network(**arguments)
    assert bool(aligned.misaligned_convolutions(Graph(symbol))) == rewritten == has_shape_passes(symbol)


def test_only_with_avx512_and_only_if_the_pass_is_on(monkeypatch):
    _, symbol = network()
    assert has_shape_passes(symbol)
    with monkeypatch.context() as patch:
        patch.setattr(aligned, "has_avx512", lambda: False)
        assert not has_shape_passes(symbol)
    monkeypatch.setenv("MXNETSEG_SKIP_PASSES", "aligned-training")
    assert "Concat" not in specialize_training_graph(symbol, images=SHAPE).tojson()


def test_the_laterals_of_a_ladder_on_efficientnet_are_rewritten():
    net = get_model("swiftnet", backbone="efficientnet_lite0", nclass=2)
    graph = Graph(net(mx.sym.var("images"))[0])
    weights = [graph.nodes[graph.nodes[i]["inputs"][1][0]]["name"] for i in aligned.misaligned_convolutions(graph)]
    wanted = [net.fusion_c2.conv1x1, net.fusion_c1.conv1x1]  # 40 and 24 channels
    assert sorted(weights) == sorted(name for block in wanted for name in block.collect_params(".*weight"))


STEP = """
import mxnetseg
import mxnet as mx
from mxnetseg.graph.blocks import block_with_parameters
from mxnetseg.graph.training import specialize_training_graph
from mxnetseg.nn.fusion import LateralFusion

class Ladder(mx.gluon.nn.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.stem = mx.gluon.nn.Conv2D(24, 3, padding=1, in_channels=3)
            self.fusion = LateralFusion(32, in_channels=24)
            self.high = mx.gluon.nn.Conv2D(32, 1, in_channels=3)
    def hybrid_forward(self, F, x):
        return self.fusion(self.high(x), self.stem(x))

net = Ladder()
net.initialize()
symbol = specialize_training_graph(net(mx.sym.var("images")), images=(2, 3, 16, 16))
block = block_with_parameters(symbol, [mx.sym.var("images")], net.collect_params())
block.hybridize(static_alloc=True, static_shape=True)
with mx.autograd.record():
    loss = block(mx.nd.ones((2, 3, 16, 16))).sum()
loss.backward()
mx.nd.waitall()
"""


@pytest.mark.skipif(not has_avx512(), reason="oneDNN uses blocks of 16 channels with AVX-512 only")
@pytest.mark.parametrize("skipped, kernels", [("", 0), ("aligned-training", 1)])
def test_onednn_runs_no_reference_batch_norm(skipped, kernels):
    environment = {**os.environ, "DNNL_VERBOSE": "1", "MXNETSEG_SKIP_PASSES": skipped}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    norms = [line for line in done.stdout.splitlines() if ",batch_normalization," in line and ",backward" in line]
    assert len(norms) == 2 and sum("bnorm_ref" in line for line in norms) == kernels
