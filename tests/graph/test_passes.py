"""A rewritten graph gives the same results, and lacks the operators that the passes remove."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from benchmarks.ours import MainOutput
from mxnetseg.errors import ConfigError
from mxnetseg.graph import inference_graph, passes, shape_phase, training
from mxnetseg.graph.inference_graph import InferenceGraph
from mxnetseg.graph.precision_phase import PRECISION_PASSES, pad_odd_channels
from mxnetseg.graph.shape_cache import ShapeCache
from mxnetseg.graph.shape_phase import SHAPE_PASSES, specialize_for_shape
from mxnetseg.models._base import SegModel
from mxnetseg.nn.pool import pool_by
from mxnetseg.nn.resize import enlarge, nearest, resize

CPU = [mx.cpu()]


class Network(SegModel):
    """A network with every operator that the passes rewrite, and a block that is called twice."""

    def __init__(self):
        super().__init__(nn.HybridSequential(), 3)
        with self.name_scope():
            self.stem = nn.Conv2D(6, 3, strides=2, padding=1, in_channels=3)
            self.side = nn.Conv2D(5, 1, in_channels=6)
            self.gate = nn.Conv2D(6, 1, in_channels=6)
            self.drop = nn.Dropout(0.5)
            self.head = nn.Conv2D(3, 3, padding=1, in_channels=35)

    def hybrid_forward(self, F, x):
        y = F.relu(self.stem(x))
        again = F.relu(self.stem(resize(F, x, y, align_corners=False)))
        mean = F.contrib.AdaptiveAvgPooling2D(y, output_size=1)
        cells = F.contrib.AdaptiveAvgPooling2D(y, output_size=(2, 3))
        gated = F.broadcast_mul(y, F.sigmoid(self.gate(mean)) + F.mean(y, axis=(2, 3), keepdims=True))
        side = resize(F, self.side(pool_by(F, y, 2)), y, align_corners=True)
        parts = [gated, resize(F, cells, y, align_corners=False), nearest(F, again, y),
                 enlarge(F, pool_by(F, y, 2), 2, align_corners=False, then=y), F.zeros_like(y), side]
        return (resize(F, self.head(self.drop(F.concat(*parts, dim=1))), x, align_corners=True),)


@pytest.fixture(scope="module")
def net():
    mx.random.seed(3)
    net = Network()
    net.initialize(mx.init.Normal(0.3))
    net(image((32, 32)))
    return net


def image(size, batch=1):
    return mx.nd.array(np.random.RandomState(sum(size)).normal(size=(batch, 3, *size)))


def operators(symbol):
    return [node["op"] for node in json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])
@pytest.mark.parametrize("size", [(32, 48), (33, 47), (8, 8), (61, 20), (32, 16)])
def test_the_graph_for_one_shape_gives_the_same_as_the_graph_for_any(net, precision, size):
    compiled = InferenceGraph(net, precision, CPU)
    graphs = ShapeCache(lambda: MainOutput(compiled))
    x = image(size, batch=2)
    first, second, third = (graphs(x).asnumpy() for _ in range(3))
    np.testing.assert_array_equal(second, third)
    # sums in another order; a value may round to the next number of bfloat16
    np.testing.assert_allclose(second, first, atol=1e-5 if precision == "float32" else 0.02 * np.abs(first).max())
    remaining = set(operators(list(graphs._graphs.values())[0](mx.sym.var("data"))))
    assert not remaining & {"_contrib_arange_like", "zeros_like", "dot", "BlockGrad", "Dropout", "_copy",
                            "amp_multicast", "relu", "sigmoid", "mean"}
    assert ("_contrib_AdaptiveAvgPooling2D" in remaining) == (size == (32, 16))  # 8 columns in 3 cells: 3, 4 and 3


def test_pooling_cells_of_one_size_and_step():
    for length in range(1, 40):
        for cells in range(1, 10):
            x = mx.nd.array(np.random.RandomState(length).normal(size=(1, 2, length, 3)))
            wanted = mx.nd.contrib.AdaptiveAvgPooling2D(x, output_size=(cells, 1)).asnumpy()
            found = shape_phase._pooling_window(length, cells)
            if found is None:
                assert length % cells
            else:
                got = mx.nd.Pooling(x, kernel=(found[0], 3), stride=(found[1], 3), pool_type="avg").asnumpy()
                np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.bfloat16
def test_means_of_a_bfloat16_map_are_taken_without_a_cast(net):
    graphs = ShapeCache(lambda: MainOutput(InferenceGraph(net, "bfloat16", CPU)))
    for _ in range(2):
        graphs(image((32, 48)))
    symbol = list(graphs._graphs.values())[0](mx.sym.var("data"))
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]
    assert any(node["op"] == "Pooling" and nodes[node["inputs"][0][0]]["op"] == "_sg_mkldnn_conv" for node in nodes)


def test_operators_that_depend_on_the_image_stay(net):
    graphs = ShapeCache(lambda: MainOutput(InferenceGraph(net, "float32", CPU)))
    for seed in range(3):
        x = mx.nd.array(np.random.RandomState(seed).normal(size=(1, 3, 32, 48)))
        np.testing.assert_allclose(graphs(x).asnumpy(), net(x)[0].asnumpy(), atol=1e-4)


def test_a_plain_network_is_not_rewritten(net):
    graphs = ShapeCache(lambda: MainOutput(net))
    for _ in range(2):
        graphs(image((32, 48)))
    assert "dot" in operators(list(graphs._graphs.values())[0](mx.sym.var("data")))


def test_dropout_that_is_always_on_stays():
    data = mx.sym.var("data")
    symbol, _ = specialize_for_shape(mx.sym.Dropout(data, p=0.5, mode="always"), (4, 5), "float32", {}, mx.cpu())
    assert "Dropout" in operators(symbol)


def test_constants_that_nothing_reads_are_not_kept():
    data = mx.sym.var("data")
    rows = mx.sym.contrib.arange_like(data, axis=0)
    symbol = mx.sym.dot(mx.sym.dot(data, mx.sym.expand_dims(rows, 1)), mx.sym.expand_dims(rows + 1, 0))
    x = image((1, 1))[0, :, :, 0]  # (3, 1)
    x = mx.nd.concat(x, x, x, dim=1)
    small, constants = specialize_for_shape(symbol, x.shape, "float32", {}, mx.cpu())
    assert set(small.list_inputs()) == {"data", *constants} and len(constants) == 2
    wanted = symbol.eval(data=x)[0].asnumpy()
    np.testing.assert_allclose(small.eval(data=x, **constants)[0].asnumpy(), wanted, rtol=1e-6)


def test_an_even_number_of_channels_changes_nothing(net):
    before = inference_graph._main_output(net, "cpu")
    after = pad_odd_channels(before)
    changed = {name for name in before.arguments if after.arguments[name].shape != before.arguments[name].shape}
    assert changed == {net.stem.weight.name, net.head.weight.name}
    assert all(after.arguments[name].shape[1] % 2 == 0 for name in changed)
    for size in ((16, 24), (9, 7)):
        x = image(size)
        one, other = (network.symbol.eval(data=x, **network.arguments)[0].asnumpy() for network in (before, after))
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.bfloat16
def test_early_casts_are_exact_and_join_in_bfloat16(net, monkeypatch):
    x = image((24, 32))
    early = InferenceGraph(net, "bfloat16", CPU)
    monkeypatch.setenv(passes.SKIP_VARIABLE, "early-casts")
    late = InferenceGraph(net, "bfloat16", CPU)
    np.testing.assert_array_equal(early(x)[0].asnumpy(), late(x)[0].asnumpy())

    def casts_after_concatenations(compiled):
        symbol = compiled(mx.sym.var("data"))[0]
        nodes = json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]
        return sum(node["op"] == "amp_cast" and nodes[node["inputs"][0][0]]["op"] == "Concat"
                   and node["attrs"]["dtype"] == "bfloat16" for node in nodes)
    assert casts_after_concatenations(early) == 0 < casts_after_concatenations(late)


class TestSwitches:
    def test_every_pass_but_a_conversion_has_one(self):
        listed = [*SHAPE_PASSES, *training.TRAINING_PASSES, *(p for ps in PRECISION_PASSES.values() for p in ps)]
        assert {p.name for p in listed if not p.name.startswith("to-")} == set(passes.SWITCHES)

    @pytest.mark.parametrize("name", [n for n in passes.SWITCHES if n not in ("even-channels", "early-casts")] + [
        pytest.param(n, marks=pytest.mark.bfloat16) for n in ("even-channels", "early-casts")])
    def test_without_one_pass_the_result_is_the_same(self, net, monkeypatch, name):
        precision = "bfloat16" if name in ("even-channels", "early-casts") else "float32"
        for variable in ("MXNETSEG_WINOGRAD", "MXNETSEG_DILATED"):
            monkeypatch.setenv(variable, "1")
        x, found = image((32, 48)), []
        for skipped in ("", name):
            monkeypatch.setenv(passes.SKIP_VARIABLE, skipped)
            compiled = InferenceGraph(net, precision, CPU)
            graphs = ShapeCache(lambda compiled=compiled: MainOutput(compiled))
            found += [graphs(x).asnumpy() for _ in range(2)][1:]
        np.testing.assert_allclose(found[1], found[0], atol=2e-5 if precision == "float32" else
                                   0.02 * np.abs(found[0]).max())

    @pytest.mark.parametrize("name, operator", [
        ("idle-operators", "amp_multicast"), ("pooling", "mean"), ("constants", "_contrib_arange_like"),
        ("dense-products", "dot"), ("activations", "relu"), ("onednn-fusion", "Convolution")])
    def test_a_skipped_pass_leaves_its_operators(self, net, monkeypatch, name, operator):
        monkeypatch.setenv(passes.SKIP_VARIABLE, f" {name}, dilated")
        compiled = InferenceGraph(net, "float32", CPU)
        graphs = ShapeCache(lambda: MainOutput(compiled))
        for _ in range(2):
            graphs(image((32, 48)))
        assert operator in operators(list(graphs._graphs.values())[0](mx.sym.var("data")))

    def test_an_unknown_name_is_refused(self, net, monkeypatch):
        monkeypatch.setenv(passes.SKIP_VARIABLE, "winograd,winogard")
        with pytest.raises(ConfigError, match="unknown pass") as error:
            InferenceGraph(net, "float32", CPU)
        assert error.value.received == "winogard" and "early-casts" in error.value.fix
