"""The protocol over the runtime interface: the arithmetic on the host equals MXNet's."""
from __future__ import annotations

import cv2
import mxnet as mx
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mxnetseg._precisions import PrecisionChoice
from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.backends.package import NetworkRecord
from mxnetseg.backends.runtime import HostRuntime, StoredNetwork, one_device
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.errors import ConfigError, DataError, DeviceError, UsageError
from mxnetseg.models import get_model


class MXNetOnTheHost(HostRuntime):
    """The logits of a network of MXNet, and everything after them in NumPy."""

    name = "host"

    def __init__(self, net):
        record = NetworkRecord({"normalisation": {"mean": net.mean, "std": net.std}}, net.smallest_side)
        super().__init__(StoredNetwork(record, net), "cpu", "float32")
        self.net = net

    @classmethod
    def convert(cls, package):
        raise AssertionError("not called")

    @classmethod
    def choose_device(cls, ctx):
        return one_device(ctx, cls.name) or "cpu"

    @classmethod
    def precisions(cls, device):
        return ("float32", "bfloat16"), PrecisionChoice("bfloat16", "it is fast")

    def logits(self, images):
        return self.net(mx.nd.array(self.normalized(images)))[0].asnumpy()


def image_of(height, width):
    """Return a smooth image, whose resized values do not depend on the last digits of the positions."""
    small = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def net():
    mx.random.seed(0)
    net = get_model("toy", nclass=5)
    net.head.weight.set_data(net.head.weight.data() * 5)  # so that probabilities differ
    return net


PROTOCOLS = [
    Protocol(), Protocol(flip=True), Protocol(scales=(0.6, 1.0, 1.3), flip=True), Protocol(base_size=60),
    Protocol(mode="slide", crop_size=(24, 20), scales=(0.75, 1.5), flip=True, batch=4),
    Protocol(mode="gluoncv", crop_size=(24, 24), base_size=60, scales=(0.5, 1.0), flip=True, batch=3)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_the_host_gives_what_mxnet_gives(net, protocol):
    image = image_of(37, 51)
    wanted, got = (Segmenter(runtime, protocol) for runtime in (MXNetRuntime(net), MXNetOnTheHost(net)))
    probabilities = wanted.probabilities(image)
    assert np.ptp(probabilities) > 0.1
    assert_allclose(got.probabilities(image), probabilities, atol=1e-4 if protocol.mode == "gluoncv" else 2e-5)
    assert_array_equal(got(image), wanted(image))
    assert got(image).dtype == np.uint8


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("channels", [1, 19, 600])
@pytest.mark.parametrize("to", [(37, 51), (9, 80), (1, 1)])
def test_resize(net, to, channels, align_corners):
    x = np.random.default_rng(0).normal(size=(23, 40, channels)).astype("float32")
    wanted = MXNetRuntime(net).resize(mx.nd.array(x), to, align_corners=align_corners).asnumpy()
    got = MXNetOnTheHost(net).resize(x, to, align_corners=align_corners)
    assert got.dtype == np.float32
    assert_allclose(got, wanted, atol=5e-5)


def test_argmax_takes_the_first_of_equal_scores(net):
    x = np.random.default_rng(0).integers(0, 4, (30, 40, 7)).astype("float32")
    assert_array_equal(MXNetOnTheHost(net).argmax(x), x.argmax(2))


def test_a_stream_is_in_order(net):
    images = [image_of(20 + i, 30) for i in range(4)]
    segmenter = Segmenter(MXNetOnTheHost(net))
    for one, image in zip(segmenter.stream(iter(images)), images):
        assert_array_equal(one, segmenter(image))


def test_a_network_of_one_size_refuses_others(net):
    runtime = MXNetOnTheHost(net)
    runtime.fixed_size = (32, 48)
    assert Segmenter(runtime)(image_of(32, 48)).shape == (32, 48)
    with pytest.raises(DataError, match="32 x 48 pixels only"):
        Segmenter(runtime)(image_of(48, 32))


def test_a_network_that_ends_with_class_maps_refuses_scales(net):
    runtime = MXNetOnTheHost(net)
    runtime.has_scores = False
    Segmenter(runtime)
    for protocol in (Protocol(flip=True), Protocol(base_size=64), Protocol(mode="slide")):
        with pytest.raises(UsageError, match="class maps only"):
            Segmenter(runtime, protocol)


@pytest.mark.parametrize("requested, stored, wanted", [
    (None, "float32", "float32"), ("auto", "float32", "bfloat16"), ("float32", "float32", "float32"),
    ("bfloat16", "float32", "bfloat16"), (None, "int8", "int8"), ("auto", "int8", "int8"), ("int8", "int8", "int8")])
def test_precisions(requested, stored, wanted):
    network = StoredNetwork(NetworkRecord(), None, stored)
    choice = MXNetOnTheHost.choose_precision(requested, network, "cpu")
    assert choice.precision == wanted and choice.reason


@pytest.mark.parametrize("requested, stored", [("int8", "float32"), ("plain", "float32"), ("float16", "float32"),
                                               ("float32", "int8"), ("bfloat16", "int8")])
def test_other_precisions_are_refused(requested, stored):
    with pytest.raises(ConfigError, match="does not compute this network in " + requested) as error:
        MXNetOnTheHost.choose_precision(requested, StoredNetwork(NetworkRecord(), None, stored), "cpu")
    assert (stored if stored == "int8" else "float32") in error.value.fix


def test_several_devices_are_refused():
    assert MXNetOnTheHost.choose_device(None) == "cpu" and MXNetOnTheHost.choose_device(["CPU"]) == "cpu"
    with pytest.raises(DeviceError, match="one device"):
        MXNetOnTheHost.choose_device(["0", "1"])
