"""Rewritten convolutions give the same results: by transformed tiles, and by parts without zeros."""
from contextlib import nullcontext

import mxnet as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.ours import MainOutput
from mxnetseg.graph import convolutions, dilated, winograd
from mxnetseg.graph.graph import Graph, ShapedGraph
from mxnetseg.graph.inference_graph import InferenceGraph
from mxnetseg.graph.shape_cache import ShapeCache
from mxnetseg.models import get_model

TAILS = {"alone": "", "bias": "b", "bias and relu": "br", "norm": "n", "norm and relu": "nr", "bias and norm": "bn",
         "norm of fixed scale": "nf", "norm, sum and relu": "nsr", "sum with the other first": "nSr"}


@pytest.fixture
def always(monkeypatch):
    """Rewrite every convolution that can be rewritten."""
    monkeypatch.setenv(winograd.VARIABLE, "1")
    monkeypatch.setenv(dilated.VARIABLE, "1")
    monkeypatch.setattr(winograd, "_MAX_TIME_RATIO", float("inf"))
    monkeypatch.setattr(winograd, "time_ratio", lambda convolution: 1.0)
    rewrite_any_dilation(monkeypatch)


def rewrite_any_dilation(monkeypatch):
    for name, value in (("_MIN_DILATION", 1), ("_MIN_FILTERS", 1), ("_MOVING", 0), ("_MOVING_IN_TRAINING", 0)):
        monkeypatch.setattr(dilated, name, value)


def convolution(filters, dilation, *bias):
    return mx.sym.Convolution(mx.sym.var("data"), mx.sym.var("w"), *bias, no_bias=not bias, kernel=(3, 3),
                              dilate=(dilation,) * 2, pad=(dilation,) * 2, num_filter=filters)


def network(shape, filters, dilation, tail):
    """Return a convolution with the operators after it, and values for all of it."""
    rng = np.random.RandomState(0)
    values = {"data": rng.normal(size=shape), "w": rng.normal(size=(filters, shape[1], 3, 3)),
              "b": rng.normal(size=filters), "gamma": rng.uniform(0.5, 2, filters), "beta": rng.normal(size=filters),
              "mean": rng.normal(size=filters), "var": rng.uniform(0.5, 2, filters),
              "more": rng.normal(size=(shape[0], filters, *shape[2:]))}
    v = {name: mx.sym.var(name) for name in values}
    y = convolution(filters, dilation, *([v["b"]] if "b" in tail else []))
    if "n" in tail:
        y = mx.sym.BatchNorm(y, v["gamma"], v["beta"], v["mean"], v["var"], fix_gamma="f" in tail, eps=1e-2)
    if "s" in tail.lower():
        y = mx.sym.elemwise_add(*((y, v["more"]) if "s" in tail else (v["more"], y)))
    if "r" in tail:
        y = mx.sym.Activation(y, act_type="relu")
    return y, {name: mx.nd.array(value) for name, value in values.items()}


def shaped_graph(symbol, values, **shapes):
    graph = Graph(symbol.get_backend_symbol("MKLDNN"))
    return ShapedGraph(graph, graph.infer("shape", **shapes), graph.infer("type", data="float32"), values)


def both(rewrite, shape, filters=5, dilation=1, tail=""):
    """Return the outputs of the rewritten and the original network, both over the largest value."""
    return both_of(rewrite, *network(shape, filters, dilation, tail))


def both_of(rewrite, symbol, values):
    """Return the outputs of any network of convolutions, rewritten and original, both over the largest value."""
    known = {name: values[name].shape for name in symbol.list_inputs() if name in ("data", "more")}
    shaped = rewrite(shaped_graph(symbol, values, **known))
    assert len(shaped.shared_weights) >= 1
    rewritten, values = shaped.graph.symbol(), {**values, **shaped.shared_weights, **shaped.constants}
    assert not any(node["op"].startswith("_sg_mkldnn") for node in shaped.graph.nodes if "subgraphs" in node)
    got, wanted = (s.bind(mx.cpu(), {name: values[name] for name in s.list_arguments()}, aux_states={
        name: values[name] for name in s.list_auxiliary_states()}).forward()[0].asnumpy() for s in (rewritten, symbol))
    assert got.shape == wanted.shape
    return got / np.abs(wanted).max(), wanted / np.abs(wanted).max()


SIZES = st.integers(1, 40)


class TestWinograd:
    @settings(max_examples=40)
    @given(n=st.integers(1, 2), height=SIZES, width=SIZES, dilation=st.sampled_from([1, 2, 3, 4, 12]),
           longest=st.sampled_from([(8, 5), (96, 48)]), largest=st.sampled_from([1, 1 << 14, 1 << 30]))
    @example(n=2, height=7, width=9, dilation=4, longest=(8, 5), largest=1)
    @example(n=2, height=13, width=5, dilation=12, longest=(8, 5), largest=1)
    def test_any_size_and_dilation_in_any_blocks(self, n, height, width, dilation, longest, largest):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(winograd.VARIABLE, "1")
            patch.setattr(winograd, "_MAX_TIME_RATIO", float("inf"))
            patch.setattr(winograd, "_LONGEST", longest[0])
            patch.setattr(winograd, "_SPAN", longest[1])
            patch.setattr(winograd, "_MAX_BLOCK_BYTES", largest)
            got, wanted = both(winograd.use_winograd, (n, 3, height, width), dilation=dilation)
        np.testing.assert_allclose(got, wanted, atol=2e-5)

    @given(length=st.integers(1, 99), dilation=st.integers(1, 12), longest=st.integers(1, 99))
    def test_spans_cover_an_axis_and_begin_with_a_tile(self, length, dilation, longest):
        found = winograd.spans(length, dilation, longest)
        assert [place for span in found for place in range(span.begin, span.end)] == list(range(length))
        assert all(span.begin % (4 * dilation) == 0 for span in found)
        assert all(span.end - span.begin < longest + 4 * dilation for span in found)

    @pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
    def test_fused_operators_follow(self, always, tail):
        got, wanted = both(winograd.use_winograd, (2, 4, 9, 14), dilation=2, tail=tail)
        np.testing.assert_allclose(got, wanted, atol=1e-5)

    def test_one_weight_before_two_norms(self, always):
        first, values = network((1, 4, 9, 14), 4, 1, "n")
        others = {name: mx.nd.random.uniform(0.5, 2, 4) for name in ("gamma2", "beta2", "mean2", "var2")}
        y = mx.sym.Convolution(first, first.get_internals()["w"], no_bias=True, kernel=(3, 3), pad=(1, 1), num_filter=4)
        y = mx.sym.BatchNorm(y, *map(mx.sym.var, others), fix_gamma=False)
        got, wanted = both_of(winograd.use_winograd, y, {**values, **others})
        np.testing.assert_allclose(got, wanted, atol=1e-5)

    def test_the_identities_of_the_paper(self):
        """F(4, 3) of one tile in integers: A^T [G w * B^T x] is the correlation of x and w."""
        rng = np.random.RandomState(0)
        x, w = rng.randint(-9, 9, 6), rng.randint(-9, 9, 3)
        found = winograd._AT @ ((winograd._G @ w) * (winograd._BT @ x))
        np.testing.assert_allclose(found, np.correlate(x, w, "valid"), atol=1e-12)

    def test_the_rounding_error_of_many_channels_is_small(self, always):
        got, wanted = both(winograd.use_winograd, (1, 512, 16, 16), filters=64)
        assert np.abs(got - wanted).max() < 2e-5

    def test_only_convolutions_that_get_faster_are_rewritten(self, monkeypatch):
        monkeypatch.setenv(winograd.VARIABLE, "1")
        with pytest.raises(AssertionError):
            both(winograd.use_winograd, (1, 3, 16, 16))
        both(winograd.use_winograd, (1, 512, 48, 48), filters=512)

    @pytest.mark.parametrize("size, dilation, rewritten", [((128, 256), 12, True), ((64, 64), 24, False)])
    def test_widely_dilated_convolutions_that_it_computes_faster(self, monkeypatch, size, dilation, rewritten):
        monkeypatch.setenv(winograd.VARIABLE, "1")
        data, weight = (1, 2048, *size), (256, 2048, 3, 3)
        shaped = shaped_graph(convolution(256, dilation), {"w": mx.nd.zeros(weight)}, data=data)
        assert bool(winograd.use_winograd(shaped).shared_weights) == rewritten

    def test_large_maps_are_cut_into_blocks(self, always, monkeypatch):
        def blocks():
            symbol, values = network((1, 4, 16, 12), 5, 1, "")
            graph = winograd.use_winograd(shaped_graph(symbol, values, data=(1, 4, 16, 12))).graph
            return len(graph.readers()[graph.variable("w_winograd")])
        assert blocks() == 1
        monkeypatch.setattr(winograd, "_MAX_BLOCK_BYTES", 4 * 36 * 5 * 2 * 3)  # two times three tiles of five filters
        assert blocks() == 2


@pytest.mark.parametrize("rewrite, variable", [(winograd.use_winograd, winograd.VARIABLE),
                                               (dilated.skip_padding, dilated.VARIABLE)])
@pytest.mark.parametrize("avx512, variable_value, rewritten", [
    (False, None, True), (True, None, False), (True, "1", True), (False, "0", False)])
def test_on_which_processors(always, monkeypatch, rewrite, variable, avx512, variable_value, rewritten):
    monkeypatch.setattr(convolutions, "has_avx512", lambda: avx512)
    monkeypatch.delenv(variable)
    if variable_value is not None:
        monkeypatch.setenv(variable, variable_value)
    with nullcontext() if rewritten else pytest.raises(AssertionError):
        both(rewrite, (1, 3, 8, 8), dilation=2)


class TestDilated:
    @settings(max_examples=40)
    @given(n=st.integers(1, 2), height=SIZES, width=SIZES, dilation=st.integers(1, 45))
    def test_any_size_and_dilation(self, n, height, width, dilation):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(dilated.VARIABLE, "1")
            rewrite_any_dilation(patch)
            got, wanted = both(dilated.skip_padding, (n, 3, height, width), dilation=dilation)
        np.testing.assert_allclose(got, wanted, atol=1e-5)

    @pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
    def test_fused_operators_follow(self, always, tail):
        got, wanted = both(dilated.skip_padding, (2, 4, 9, 14), dilation=6, tail=tail)
        np.testing.assert_allclose(got, wanted, atol=1e-5)

    @given(length=st.integers(1, 99), dilation=st.integers(1, 99))
    def test_every_overlap_of_a_weight_with_the_axis_is_counted_once(self, length, dilation):
        found = sorted((place, overlap.weight) for overlap in dilated.overlaps(length, dilation)
                       for place in range(overlap.begin, overlap.end))
        assert found == [(place, k) for place in range(length) for k in range(3)
                         if 0 <= place + (k - 1) * dilation < length]


class TestDilatedInTraining:
    @settings(max_examples=30)
    @given(n=st.integers(1, 2), height=SIZES, width=SIZES, dilation=st.integers(1, 45))
    def test_outputs_and_gradients(self, n, height, width, dilation):
        symbol, values = network((n, 3, height, width), 5, dilation, "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(dilated.VARIABLE, "1")
            rewrite_any_dilation(patch)
            rewritten = in_training(symbol, values)
        assert '"dilate"' not in rewritten.tojson()
        for got, wanted in zip(*(with_gradients(s, values) for s in (rewritten, symbol))):
            np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())

    @pytest.mark.parametrize("tail", ["b", ""])
    def test_only_widely_dilated_convolutions_without_bias(self, always, monkeypatch, tail):
        monkeypatch.setattr(dilated, "_MIN_DILATION", 6)
        for dilation in (5, 6):
            rewritten = in_training(*network((1, 4, 9, 14), 5, dilation, tail))
            assert ('"dilate"' not in rewritten.tojson()) == (dilation == 6 and not tail)

    @pytest.mark.parametrize("avx512, variable_value, dilation, rewritten", [
        (False, None, 6, True), (True, None, 6, False), (True, None, 12, True), (True, "1", 6, True),
        (False, "0", 6, False)])
    def test_on_which_processors(self, always, monkeypatch, avx512, variable_value, dilation, rewritten):
        monkeypatch.setattr(convolutions, "has_avx512", lambda: avx512)
        monkeypatch.delenv(dilated.VARIABLE)
        if variable_value is not None:
            monkeypatch.setenv(dilated.VARIABLE, variable_value)
        assert ('"dilate"' not in in_training(*network((1, 4, 16, 16), 5, dilation, "")).tojson()) == rewritten

    @pytest.mark.parametrize("shape, dilation, rewritten", [
        ((2, 128, 64, 64), 12, False), ((2, 256, 64, 64), 12, False), ((2, 1024, 64, 64), 12, True),
        ((2, 2048, 32, 32), 12, True), ((2, 128, 16, 16), 12, True)])
    def test_only_convolutions_that_get_faster(self, monkeypatch, shape, dilation, rewritten):
        monkeypatch.setenv(dilated.VARIABLE, "1")
        graph = in_training(convolution(128, dilation), {"data": mx.nd.empty(shape)})
        assert ('"dilate"' not in graph.tojson()) == rewritten

    @given(height=SIZES, width=SIZES, dilation=st.integers(1, 45))
    def test_the_nonzero_fraction_follows_the_definition(self, height, width, dilation):
        reached = [sum(0 <= place + shift < length for place in range(length) for shift in (-dilation, 0, dilation))
                   for length in (height, width)]
        assert dilated.nonzero_fraction((height, width), dilation) == pytest.approx(
            reached[0] * reached[1] / (9 * height * width))


def in_training(symbol, values):
    graph = Graph(symbol)
    dilated.skip_padding_in_training(graph, graph.infer("shape", data=values["data"].shape))
    return graph.symbol()


def with_gradients(symbol, values):
    """Return the output, and the gradients of a weighted sum over it."""
    names = symbol.list_arguments()
    gradients = {name: mx.nd.zeros_like(values[name]) for name in names}
    bound = symbol.bind(mx.cpu(), {name: values[name] for name in names}, args_grad=gradients)
    output = bound.forward(is_train=True)[0]
    bound.backward(mx.nd.array(np.random.RandomState(1).normal(size=output.shape)))
    return [value.asnumpy() for value in (output, *gradients.values())]


@pytest.mark.parametrize("name", ["fcn", "deeplabv3plus"])
def test_a_network_gives_the_same_and_all_sizes_share_its_weights(always, monkeypatch, name):
    monkeypatch.setattr(dilated, "_MIN_DILATION", 4)
    monkeypatch.setattr(winograd, "time_ratio", dilated.time_ratio)
    net = get_model(name, backbone="resnet18", nclass=5, output_stride=8)
    sizes = [(64, 96), (57, 75)]
    images = [mx.nd.random.normal(shape=(1, 3, *size)) for size in sizes]
    wanted = [net(x)[0].asnumpy() for x in images]
    compiled = InferenceGraph(net, "float32", [mx.cpu()])
    graphs = ShapeCache(lambda: MainOutput(compiled))
    for _ in range(3):
        for x, logits in zip(images, wanted):
            np.testing.assert_allclose(graphs(x).asnumpy(), logits, atol=1e-4 * np.abs(logits).max())
    held = [{name: p for name, p in graph.collect_params().items() if name.endswith("_winograd")}
            for graph in graphs._graphs.values()]
    assert len(held) == 2 and len(held[0]) > 10 and held[0].keys() == held[1].keys()
    assert all(held[0][name] is held[1][name] for name in held[0])


def test_int8_and_plain_networks_are_not_rewritten(always):
    net = get_model("fcn", backbone="resnet18", nclass=5)
    x = mx.nd.random.normal(shape=(1, 3, 64, 64))
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3), "uint8")
    net(x)
    int8 = InferenceGraph(net, "int8", [mx.cpu()], calibration=[image])
    for network, float32_layers in ((net, ()), (int8, int8.float32_layers)):
        graphs = ShapeCache(lambda network=network: MainOutput(network))
        for _ in range(2):
            graphs(x).wait_to_read()
        names = list(list(graphs._graphs.values())[0].collect_params())
        assert sum(name.endswith("_winograd") for name in names) <= len(float32_layers)
