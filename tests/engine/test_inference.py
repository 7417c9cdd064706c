"""Whole images, windows, scales and flips: properties that hold for any network."""
from copy import copy
from dataclasses import replace

import cv2
import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo.segbase import MultiEvalModel
from hypothesis import given
from hypothesis import strategies as st
from mxnet.gluon import nn

from mxnetseg.backends import mxnet_runtime
from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.config import Config
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.engine.windows import inner_window_starts
from mxnetseg.errors import DataError
from mxnetseg.graph.inference_graph import compile_for_inference, split_last_resize
from mxnetseg.models import get_model
from mxnetseg.models._base import SegModel
from mxnetseg.nn.resize import resize

NCLASS = 4


class Pointwise(SegModel):
    """A 1x1 convolution: each output depends on one pixel alone, so windows change nothing."""

    def __init__(self, nclass=NCLASS):
        super().__init__(nn.HybridSequential(), nclass)
        with self.name_scope():
            self.head = nn.Conv2D(nclass, 1, in_channels=3)

    def hybrid_forward(self, F, x):
        return (self.head(x),)


class Constant(SegModel):
    """A network with the same logits everywhere."""

    def __init__(self, nclass=NCLASS):
        super().__init__(nn.HybridSequential(), nclass)
        with self.name_scope():
            self.head = nn.Conv2D(nclass, 1, in_channels=3, weight_initializer="zeros")

    def hybrid_forward(self, F, x):
        return (self.head(x),)


def network(network_class=Pointwise, contexts=1, seed=0):
    net, random = network_class(), np.random.RandomState(seed)
    net.initialize(ctx=[mx.cpu(i) for i in range(contexts)])
    for name, p in net.named_parameters().items():
        if network_class is Pointwise or "bias" in name:
            p.set_data(mx.nd.array(random.normal(size=p.shape)))
    return net


def image_of(height, width, seed=0):
    """Return a smooth image, so that resizing it is meaningful."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 4, 2), max(width // 4, 2), 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def softmax(logits):
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def reference(net, image):
    """Compute the probabilities of a Pointwise network in NumPy: (K, H, W)."""
    x = (image / 255 - np.array(net.mean)) / np.array(net.std)
    weight, bias = net.head.weight.data().asnumpy()[..., 0, 0], net.head.bias.data().asnumpy()
    return softmax(np.einsum("kc,hwc->khw", weight, x) + bias[:, None, None])


def bilinear(probabilities, height, width):
    planes = [cv2.resize(p.astype("float32"), (width, height), interpolation=cv2.INTER_LINEAR) for p in probabilities]
    return np.stack(planes)


class TestWindows:
    @given(st.integers(1, 400), st.integers(1, 400), st.floats(0.01, 1))
    def test_cover_everything_and_end_inside(self, length, window, stride):
        window = min(window, length)
        starts = inner_window_starts(length, window, stride)
        covered = np.zeros(length, int)
        for start in starts:
            assert 0 <= start <= length - window
            covered[start:start + window] += 1
        assert covered.min() >= 1
        assert starts == sorted(set(starts))  # none is computed twice

    @given(st.integers(1, 400), st.integers(1, 400), st.floats(0.01, 1))
    def test_their_step_is_at_most_the_requested_one(self, length, window, stride):
        window = min(window, length)
        starts = inner_window_starts(length, window, stride)
        assert all(b - a <= max(int(window * stride), 1) for a, b in zip(starts, starts[1:]))

    @pytest.mark.parametrize("size", [(32, 40), (33, 47), (20, 60), (60, 20), (5, 7), (24, 24), (25, 24)])
    @pytest.mark.parametrize("crop", [(24, 24), (16, 30), (64, 64)])
    @pytest.mark.parametrize("network_class", [Pointwise, Constant])
    def test_change_nothing_for_a_pointwise_network(self, size, crop, network_class):
        net, image = network(network_class), image_of(*size)
        wanted = Segmenter(MXNetRuntime(net)).probabilities(image)
        assert wanted.shape == (NCLASS, *size)
        got = Segmenter(MXNetRuntime(net), Protocol(mode="slide", crop_size=crop)).probabilities(image)
        np.testing.assert_allclose(got, wanted, atol=1e-6)

    @pytest.mark.parametrize("batch", [1, 2, 3, 100])
    def test_computed_together_or_alone(self, batch):
        net, image = get_model("toy", nclass=NCLASS), image_of(40, 50)
        protocols = (Protocol(mode="slide", crop_size=(16, 24), batch=b) for b in (1, batch))
        one, some = (Segmenter(MXNetRuntime(net), protocol).probabilities(image) for protocol in protocols)
        np.testing.assert_allclose(some, one, atol=1e-6)

    def test_overlaps_are_averaged(self):
        """Compare with a plain loop in NumPy, for a network whose result depends on windows."""
        net, image = get_model("toy", nclass=NCLASS), image_of(31, 45)
        whole = Segmenter(MXNetRuntime(net))
        total, count = np.zeros((NCLASS, 31, 45)), np.zeros((31, 45))
        for y in (0, 10, 15):
            for x in (0, 16, 21):
                total[:, y:y + 16, x:x + 24] += whole.probabilities(
                    np.ascontiguousarray(image[y:y + 16, x:x + 24]))
                count[y:y + 16, x:x + 24] += 1
        sliding = Segmenter(MXNetRuntime(net), Protocol(mode="slide", crop_size=(16, 24)))
        np.testing.assert_allclose(sliding.probabilities(image), total / count, atol=1e-5)
        assert np.abs(total / count - whole.probabilities(image)).max() > 1e-3  # windows did matter


class TestScales:
    def test_the_average_is_numpys(self):
        net, image = network(), image_of(30, 44)
        scales, wanted = (0.5, 1.0, 1.75), 0
        for scale in scales:
            size = round(44 * scale), round(30 * scale)
            scaled = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            wanted = wanted + bilinear(reference(net, scaled), 30, 44) / len(scales)
        for flip in (False, True):  # flipping does not change a pointwise network
            got = Segmenter(MXNetRuntime(net), Protocol(scales=scales, flip=flip)).probabilities(image)
            np.testing.assert_allclose(got, wanted, atol=2e-5)
        np.testing.assert_allclose(got.sum(0), 1, atol=1e-5)

    def test_the_flipped_image_is_averaged(self):
        net, image = get_model("toy", nclass=NCLASS), image_of(30, 44)
        plain = Segmenter(MXNetRuntime(net))
        straight = plain.probabilities(image)
        flipped = plain.probabilities(np.ascontiguousarray(image[:, ::-1]))[:, :, ::-1]
        assert np.abs(straight - flipped).max() > 1e-3
        got = Segmenter(MXNetRuntime(net), Protocol(flip=True)).probabilities(image)
        np.testing.assert_allclose(got, (straight + flipped) / 2, atol=1e-6)

    @pytest.mark.parametrize("size, base, wanted", [((30, 44), 22, (15, 22)), ((44, 30), 88, (88, 60)),
                                                    ((31, 45), 64, (44, 64)), ((30, 44), 44, (30, 44)),
                                                    ((3, 300), 30, (1, 30))])
    def test_base_size_is_the_long_side(self, size, base, wanted):
        (scaled,) = Segmenter(MXNetRuntime(network()), Protocol(base_size=base))._scaled(image_of(*size))
        assert scaled.shape == (*wanted, 3)

    def test_windows_scales_and_flip_together(self):
        net, image = network(), image_of(33, 45)
        protocol = Protocol(mode="slide", base_size=60, crop_size=(24, 20), scales=(0.5, 1.25), flip=True, batch=3)
        wanted = 0
        for long_side in (30, 75):
            scaled = cv2.resize(image, (long_side, round(33 * long_side / 45)), interpolation=cv2.INTER_LINEAR)
            wanted = wanted + bilinear(reference(net, scaled), 33, 45) / 2
        got = Segmenter(MXNetRuntime(net), protocol).probabilities(image)
        np.testing.assert_allclose(got, wanted, atol=2e-5)

    def test_logits_too_large_for_exp(self):
        net = network()
        net.head.weight.set_data(net.head.weight.data() * 1e4)
        image = image_of(20, 20)
        got = Segmenter(MXNetRuntime(net), Protocol(scales=(0.5, 1.0), flip=True)).probabilities(image)
        assert np.isfinite(got).all()


def interpolate(x, length, axis):
    """Interpolate bilinearly along one axis, corner edges aligned, in float64."""
    position = np.clip((np.arange(length) + 0.5) * x.shape[axis] / length - 0.5, 0, x.shape[axis] - 1)
    low = np.minimum(position.astype(int), max(x.shape[axis] - 2, 0))
    high, fraction = np.minimum(low + 1, x.shape[axis] - 1), np.expand_dims(position - low, 1 - axis)[..., None]
    return x.take(low, axis) * (1 - fraction) + x.take(high, axis) * fraction


def plainly(net, image, protocol):
    """Compute probabilities by a protocol's definition, in float64 except for the network: (K, H, W)."""
    def probabilities(window):
        x = ((window / 255 - np.array(net.mean)) / np.array(net.std)).transpose(2, 0, 1)[None]
        logits = net(mx.nd.array(x))[0][0].asnumpy().astype(np.float64)
        e = np.exp(logits - logits.max(0))
        return (e / e.sum(0)).transpose(1, 2, 0)

    total, views = 0, 0
    for scale in protocol.scales:
        long_side = (protocol.base_size or max(image.shape)) * scale
        height, width = (round(side * long_side / max(image.shape)) for side in image.shape[:2])
        scaled = cv2.resize(image, (width, height)) if (height, width) != image.shape[:2] else image
        crop = [min(c, s) for c, s in zip(protocol.crop_size, scaled.shape)] if protocol.mode == "slide" \
            else [height, width]
        steps = [max(int(c * protocol.stride), 1) for c in crop]
        for view in (scaled, scaled[:, ::-1])[:1 + protocol.flip]:
            flipped = view is not scaled
            total_of_view, count = np.zeros((height, width, net.nclass)), np.zeros((height, width, 1))
            for y in range(0, height - crop[0] + steps[0], steps[0]):
                for x in range(0, width - crop[1] + steps[1], steps[1]):
                    y, x = min(y, height - crop[0]), min(x, width - crop[1])
                    first = width - x - crop[1] if flipped else x  # windows are flipped, not the image
                    here = np.s_[y:y + crop[0], first:first + crop[1]]
                    total_of_view[here] += probabilities(np.ascontiguousarray(view[here]))
                    count[here] += 1
            total_of_view = (total_of_view / count)[:, ::-1 if flipped else 1]
            total = total + interpolate(interpolate(total_of_view, image.shape[0], 0), image.shape[1], 1)
            views += 1
    return (total / views).transpose(2, 0, 1)


class TestAgainstPlainArithmetic:
    """Batching windows, flipping small maps and resizing with channels last give the protocol's result."""

    PROTOCOLS = [
        Protocol(), Protocol(flip=True), Protocol(scales=(0.6, 1.0, 1.3), flip=True),
        Protocol(mode="slide", crop_size=(24, 20), scales=(0.75, 1.5), flip=True),
        Protocol(mode="slide", crop_size=(24, 20), scales=(0.75, 1.5), flip=True, batch=4),
        Protocol(mode="slide", base_size=70, crop_size=(19, 33), stride=0.5, scales=(0.3, 1.0), batch=4)]

    @pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
    @pytest.mark.parametrize("precision", ["plain", "float32"])
    def test_probabilities(self, protocol, precision):
        contexts = [mx.cpu(0), mx.cpu(1)]
        net = get_model("toy", nclass=NCLASS, ctx=contexts)
        net.head.weight.set_data(net.head.weight.data(contexts[0]) * 20)  # so that probabilities differ
        segmenter = Segmenter(MXNetRuntime(compile_for_inference(net, contexts, precision), contexts), protocol)
        image = image_of(37, 51)
        wanted = plainly(net, image, protocol)
        assert np.ptp(wanted) > 0.5
        for context in [*contexts, *contexts, *contexts]:  # for any size, then twice compiled for it
            got = segmenter.probabilities(image, context)
            np.testing.assert_allclose(got, wanted, atol=2e-5)
            np.testing.assert_array_equal(segmenter(image, context), got.argmax(0))

    @pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16), "int8"])
    def test_the_last_resize_of_a_compiled_network_is_found(self, precision):
        net = get_model("toy", nclass=NCLASS)
        graph = compile_for_inference(net, [mx.cpu()], precision, calibration=[image_of(32, 32)])
        assert split_last_resize(graph(mx.sym.var("data"))[0]) is not None

    @pytest.mark.parametrize("size", [(37, 51), (51, 37), (40, 40)])
    @pytest.mark.parametrize("base, flip", [(60, True), (30, False)])
    @pytest.mark.parametrize("precision, batch", [("plain", 1), ("float32", 4)])
    def test_gluoncvs_protocol_equals_gluoncvs_class(self, size, base, flip, precision, batch):
        net, scales, image = get_model("toy", nclass=NCLASS), (0.5, 1.0, 1.25), image_of(*size)

        class GluonCVModel:
            base_size, crop_size = base, 24
            collect_params = net.collect_params

            def evaluate(self, x):
                return net(x)[0]
        x = ((image / 255 - np.array(net.mean)) / np.array(net.std)).transpose(2, 0, 1)
        theirs = MultiEvalModel(GluonCVModel(), NCLASS, [mx.cpu()], flip=flip, scales=scales)
        wanted = theirs(mx.nd.array(x))[0].asnumpy()
        protocol = Protocol("gluoncv", base_size=base, crop_size=(24, 24), scales=scales, flip=flip, batch=batch)
        segmenter = Segmenter(MXNetRuntime(compile_for_inference(net, [mx.cpu()], precision)), protocol)
        np.testing.assert_allclose(segmenter.probabilities(image), wanted / wanted.sum(0), atol=1e-5)
        assert (segmenter(image) == wanted.argmax(0)).mean() > 0.99  # a tie may fall either way

    @pytest.mark.parametrize("to", [(37, 51), (9, 80), (64, 20), (1, 1)])
    @pytest.mark.parametrize("channels", [1, 19])
    def test_both_ways_to_resize_probabilities(self, to, channels, monkeypatch):
        x = np.random.RandomState(0).normal(size=(23, 40, channels))
        wanted = interpolate(interpolate(x, to[0], 0), to[1], 1)
        runtime = MXNetRuntime(network())
        for channels_at_most in (512, 0):  # OpenCV's resize, and the matrix products of GPUs
            monkeypatch.setattr(mxnet_runtime, "OPENCV_CHANNELS", channels_at_most)
            got = runtime.resize(mx.nd.array(x), to, align_corners=False)
            np.testing.assert_allclose(got.asnumpy(), wanted, atol=5e-5)


class TestClassMaps:
    @pytest.mark.parametrize("protocol", [
        Protocol(), Protocol(flip=True), Protocol(mode="slide", crop_size=(16, 16)), Protocol(scales=(0.5, 1.0)),
        Protocol(base_size=64)])
    @pytest.mark.parametrize("size", [(1, 1), (9, 31), (32, 32), (33, 47)])
    def test_are_the_most_probable_class_at_the_images_size(self, protocol, size):
        segmenter, image = Segmenter(MXNetRuntime(network()), protocol), image_of(*size)
        got = segmenter(image)
        assert got.shape == size and got.dtype == np.uint8
        np.testing.assert_array_equal(got, segmenter.probabilities(image).argmax(0))

    @pytest.mark.parametrize("contexts", [1, 2, 3])
    @pytest.mark.parametrize("count", [0, 1, 2, 7])
    def test_a_stream_is_in_order_and_equal_on_any_contexts(self, contexts, count):
        images = [image_of(20 + i, 30 - i, seed=i) for i in range(count)]
        net = network(contexts=contexts)
        segmenter = Segmenter(MXNetRuntime(net, [mx.cpu(i) for i in range(contexts)]))
        got = list(segmenter.stream(iter(images)))
        assert len(got) == count
        for image, one in zip(images, got):
            np.testing.assert_array_equal(one, reference(net, image).argmax(0))

    def test_a_stream_holds_few_images(self):
        """It reads an image only when it needs it: one a context is being computed, and one is read ahead."""
        read = []

        def images():
            for i in range(10):
                read.append(i)
                yield image_of(16, 16, seed=i)
        segmenter = Segmenter(MXNetRuntime(network(contexts=2), [mx.cpu(0), mx.cpu(1)]))
        for yielded, _ in enumerate(segmenter.stream(images()), start=1):
            assert len(read) - yielded <= 2
        assert len(read) == 10

    def test_weights_of_a_plain_network_may_change_between_two_images(self):
        """The graph is compiled once, and its parameters are not constants."""
        net, image = network(), image_of(20, 20)
        segmenter = Segmenter(MXNetRuntime(net))
        segmenter(image)
        net.head.bias.set_data(mx.nd.array([0, 0, 1e6, 0]))
        assert (segmenter(image) == 2).all()

    def test_the_networks_own_mean_and_deviation_are_used(self):
        net, image = network(), image_of(20, 20)
        net.mean, net.std = (0.1, 0.9, 0.5), (0.7, 0.2, 1.0)
        got = Segmenter(MXNetRuntime(net)).probabilities(image)
        np.testing.assert_allclose(got, reference(net, image), atol=1e-5)


class Halving(SegModel):
    """Halves a map and doubles it with aligned corners, so that sides of other remainders move it."""

    def __init__(self, nclass=NCLASS):
        super().__init__(nn.HybridSequential(), nclass)
        with self.name_scope():
            self.head = nn.Conv2D(nclass, 3, 4, 1, in_channels=3, weight_initializer=mx.init.Normal(1))

    def hybrid_forward(self, F, x):
        return (resize(F, self.head(x), x, align_corners=True),)


class TestExtension:
    """A class map is that of the image with repeated edges, cut, on each way to it."""

    @pytest.fixture(scope="class")
    def runtime(self):
        mx.random.seed(0)
        net = Halving()
        net.initialize()
        return MXNetRuntime(net)

    @given(height=st.integers(8, 40), width=st.integers(8, 40), flip=st.booleans(), base=st.sampled_from([None, 24]))
    def test_of_whole_images(self, runtime, height, width, flip, base):
        protocol = Protocol(base_size=base, flip=flip, size_divisor=16, remainders=(1, 0))
        image = image_of(height, width)
        plain = replace(protocol, size_divisor=1, base_size=None)
        scaled = image if not base else cv2.resize(
            image, next(Segmenter(runtime, protocol)._scaled_sizes((height, width)))[::-1])
        below, right = (1 - scaled.shape[0]) % 16, -scaled.shape[1] % 16
        extended = cv2.copyMakeBorder(scaled, 0, below, 0, right, cv2.BORDER_REPLICATE)
        expected = Segmenter(runtime, plain).probabilities(extended)[:, :scaled.shape[0], :scaled.shape[1]]
        got = Segmenter(runtime, protocol)
        np.testing.assert_allclose(got.probabilities(image), bilinear(expected, height, width), atol=2e-5)
        if not base:
            classes = Segmenter(runtime, plain)(extended)[:height, :width]
            np.testing.assert_array_equal(got(image), classes)
            np.testing.assert_array_equal(list(got.stream([image, image])), [classes] * 2)

    def test_of_several_images_at_once(self, runtime):
        protocol = Protocol(size_divisor=16)
        images = [image_of(30, 50, seed) for seed in range(3)]
        one_by_one = [Segmenter(runtime, protocol)(image) for image in images]
        np.testing.assert_array_equal(list(Segmenter(runtime, protocol, batch=3).stream(images)), one_by_one)

    def test_without_it_the_maps_differ(self, runtime):
        image = image_of(37, 37)
        assert (Segmenter(runtime)(image) != Segmenter(runtime, Protocol(size_divisor=16))(image)).any()

    def test_of_images_that_windows_do_not_fill(self, runtime):
        protocol = Protocol("slide", crop_size=(16, 32), size_divisor=16)
        whole = image_of(48, 30)
        extended = cv2.copyMakeBorder(whole, 0, 0, 0, 2, cv2.BORDER_REPLICATE)
        expected = Segmenter(runtime, replace(protocol, size_divisor=1))(extended)[:, :30]
        np.testing.assert_array_equal(Segmenter(runtime, protocol)(whole), expected)

    def test_an_image_that_is_too_small_is_named_by_its_own_size(self, runtime):
        runtime = copy(runtime)
        runtime.smallest_side = 20
        assert Segmenter(runtime, Protocol(size_divisor=16))(image_of(17, 40)).shape == (17, 40)
        with pytest.raises(DataError, match="received: 16 x 40"):
            Segmenter(runtime, Protocol(size_divisor=16))(image_of(16, 40))


class TestProtocol:
    def test_of_a_configuration(self):
        config = Config().replace({"eval.mode": "slide", "eval.base_size": 2048, "eval.crop_size": [768, 512],
                                   "eval.stride": 0.5, "eval.scales": [0.5, 1.0], "eval.batch": 4,
                                   "eval.ms_scales": [0.75, 1.25], "data.crop_size": [769, 360]})
        rest = 4, 32, (1, 8)
        assert Protocol.of(config) == Protocol("slide", 2048, (768, 512), 0.5, (0.5, 1.0), False, *rest)
        assert Protocol.of(config, ms=True) == Protocol("slide", 2048, (768, 512), 0.5, (0.75, 1.25), True, *rest)
        without = Protocol.of(config.replace({"eval.size_divisor": None}))
        assert (without.size_divisor, without.extended((357, 501))) == (1, (357, 501))

    def test_the_window_is_the_training_crop_by_default(self):
        assert Protocol.of(Config().replace({"data.crop_size": [200, 300]})).crop_size == (200, 300)

    @pytest.mark.parametrize("mode, size, extended", [
        ("whole", (360, 480), (384, 504)), ("whole", (384, 504), (384, 504)), ("whole", (385, 505), (416, 536)),
        ("slide", (360, 480), (360, 480)), ("slide", (300, 480), (320, 480)), ("gluoncv", (300, 300), (300, 300))])
    def test_images_are_extended_to_the_remainders_of_the_crops_but_not_beyond_a_window(self, mode, size, extended):
        protocol = Protocol(mode, crop_size=(320, 440), size_divisor=32, remainders=(0, 24))
        assert protocol.extended(size) == extended

    def test_its_description(self):
        assert str(Protocol()) == "whole images, original size, scale 1, without flip"
        assert str(Protocol("gluoncv")) == \
            "windows of 480 x 480, step 0.67, original size, scale 1, without flip, as GluonCV does it"
        assert str(Protocol("slide", 2048, (768, 512), 0.5, (0.5, 1.0), True)) == \
            "windows of 768 x 512, step 0.50, long side 2048, scales 0.5, 1, with flip"
