"""A network compiled for inference gives the same logits in float32, and the same classes in other precisions."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.errors import ConfigError, UsageError
from mxnetseg.graph import inference_graph, int8_search
from mxnetseg.graph.inference_graph import InferenceGraph, compile_for_inference, split_last_resize
from mxnetseg.models._base import SegModel
from mxnetseg.nn.blocks import ConvModule2d
from mxnetseg.nn.resize import enlarge, nearest, resize, resize_channels_last

CPU = [mx.cpu()]


class Colours(SegModel):
    """Classify the strongest of three colours, by two convolutions, a concatenation and a resize."""

    def __init__(self, mixed=False):
        super().__init__(nn.HybridSequential(), 3)
        self._mixed = mixed
        with self.name_scope():
            self.conv1 = ConvModule2d(3, 1, in_channels=3)
            self.conv2 = ConvModule2d(3, 1, strides=2, in_channels=3)
            self.head = nn.Conv2D(3, 1, in_channels=6 if mixed else 3)

    def hybrid_forward(self, F, x):
        y = self.conv1(x)
        if self._mixed:
            return (self.head(F.concat(y, resize(F, self.conv2(y), y, align_corners=False), dim=1)),)
        return (resize(F, self.head(self.conv2(y)), x, align_corners=False),)


def network(mixed=False):
    net = Colours(mixed)
    net.initialize()
    for conv in (net.conv1, net.conv2):
        conv.conv.weight.set_data(mx.nd.array(2 * np.eye(3).reshape(3, 3, 1, 1)))
    net.head.weight.set_data(mx.nd.array(np.eye(3, 6 if mixed else 3).reshape(3, -1, 1, 1)))
    net(mx.nd.zeros((1, 3, 32, 32)))
    return net


def image_of(height, width, seed=0):
    blocks = np.random.RandomState(seed).randint(0, 256, (-(-height // 8), -(-width // 8), 3)).astype("uint8")
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("precision,agreement", [
    ("float32", 1.0), pytest.param("bfloat16", 0.95, marks=pytest.mark.bfloat16), ("int8", 0.95)])
def test_every_precision_gives_the_same_classes(precision, agreement, mixed):
    net = network(mixed)
    compiled = compile_for_inference(net, CPU, precision, calibration=[image_of(40, 48, seed) for seed in range(3)])
    assert compiled.precision == precision
    for size in ((40, 48), (33, 57), (40, 48), (40, 48)):
        one, other = (Segmenter(MXNetRuntime(n))(image_of(*size, seed=9)) for n in (net, compiled))
        assert len(np.unique(one)) == 3
        assert (one == other).mean() >= agreement  # one of 30 patches may be a tie


def test_float32_is_equal_to_rounding_with_scales_windows_and_flip():
    net, image = network(), image_of(48, 64)
    protocol = Protocol(mode="slide", crop_size=(32, 32), scales=(0.75, 1.0), flip=True, batch=2)
    one, other = (Segmenter(MXNetRuntime(n), protocol).probabilities(image)
                  for n in (net, compile_for_inference(net, CPU)))
    np.testing.assert_allclose(other, one, atol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_its_weights_are_bfloat16():
    graph = InferenceGraph(network(), "bfloat16", CPU).graph
    dtypes = {name: str(p.dtype) for name, p in graph.collect_params().items() if name.endswith("conv0_weight")}
    assert dtypes and all("bfloat16" in dtype for dtype in dtypes.values()), dtypes


def test_int8_keeps_layers_that_cost_accuracy_in_float32(monkeypatch):
    net, images = network(), [image_of(40, 48, seed) for seed in range(3)]
    monkeypatch.setattr(int8_search, "AGREEMENT", 0.0)
    assert InferenceGraph(net, "int8", CPU, calibration=images).float32_layers == ()
    monkeypatch.setattr(int8_search, "AGREEMENT", 1.1)  # more than can be reached
    compiled = InferenceGraph(net, "int8", CPU, calibration=images)
    assert len(compiled.float32_layers) == 3
    x = mx.nd.random.normal(shape=(1, 3, 32, 32))
    np.testing.assert_allclose(compiled(x)[0].asnumpy(), net(x)[0].asnumpy(), atol=1e-5)


def test_int8_without_calibration_images_is_refused():
    with pytest.raises(UsageError, match="real images"):
        compile_for_inference(network(), CPU, "int8")


def test_plain_is_the_network_itself():
    net = network()
    assert compile_for_inference(net, CPU, "plain") is net


def test_training_the_network_afterwards_does_not_change_the_compiled_one():
    net = network()
    compiled, x = compile_for_inference(net, CPU), mx.nd.random.normal(shape=(1, 3, 16, 16))
    before = compiled(x)[0].asnumpy()
    net.head.weight.set_data(net.head.weight.data() * 0)
    np.testing.assert_array_equal(compiled(x)[0].asnumpy(), before)


def test_two_contexts_give_the_same():
    contexts = [mx.cpu(0), mx.cpu(1)]
    net, x = network(), mx.nd.random.normal(shape=(1, 3, 16, 16))
    compiled = compile_for_inference(net, contexts)
    one, other = (compiled(x.as_in_context(context))[0].asnumpy() for context in contexts)
    np.testing.assert_array_equal(one, other)


@pytest.mark.bfloat16
def test_mxnet_computes_bfloat16_if_the_processor_module_says_so():
    """A tiny convolution in bfloat16; the marker skips this test if has_bfloat16() is False."""
    graph = InferenceGraph(network(), "bfloat16", CPU)
    assert np.isfinite(graph(mx.nd.ones((1, 3, 16, 16)))[0].asnumpy()).all()


class TestLastResize:
    """Inference splits the last resize of a network and computes it with the channels last."""

    @pytest.mark.parametrize("function", [
        lambda x, like: resize(mx.sym, x, like, align_corners=True),
        lambda x, like: resize(mx.sym, x, like, align_corners=False),
        lambda x, like: nearest(mx.sym, x, like),
        lambda x, like: enlarge(mx.sym, x, 3, align_corners=True),
        lambda x, like: mx.sym.Cast(resize(mx.sym, x, like, align_corners=True), dtype="float32")])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_with_the_channels_last_it_is_the_same(self, function, batch):
        resized = function(mx.sym.var("x"), mx.sym.var("like"))
        parts = inference_graph._split(resized)
        assert parts is not None
        both = mx.sym.Group([resized, resize_channels_last(mx.sym, *parts)])
        x, like = (mx.nd.random.normal(shape=shape) for shape in ((batch, 4, 5, 7), (1, 1, 12, 9)))
        given = {name: value for name, value in (("x", x), ("like", like)) if name in both.list_inputs()}
        usual, last = both.bind(mx.cpu(), given).forward()
        assert usual.shape[2:] != x.shape[2:]
        np.testing.assert_allclose(last.asnumpy(), usual.asnumpy().transpose(2, 0, 3, 1), atol=1e-5)

    def test_other_last_operators_are_not_split(self):
        x = mx.sym.var("x")
        transposed = mx.sym.transpose(x, axes=(0, 1, 3, 2))
        for other in (x, x + 1, transposed, mx.sym.dot(x, x), mx.sym.dot(transposed, x),
                      resize(mx.sym, x, x, align_corners=True) * 2):
            assert inference_graph._split(other) is None

    def test_a_plain_network_is_not_split(self):
        net, data = network(), mx.sym.var("data")
        assert inference_graph._split(net(data)[0]) is not None and split_last_resize(net(data)[0]) is None
        assert split_last_resize(compile_for_inference(net, CPU)(data)[0]) is not None


@pytest.mark.parametrize("precision", ["auto", "float8"])
def test_a_precision_that_is_not_resolved_is_refused(precision):
    with pytest.raises(ConfigError, match="cannot be compiled") as error:
        compile_for_inference(network(), CPU, precision)
    assert "choose_precision" in error.value.fix
