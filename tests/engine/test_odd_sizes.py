"""Compiled inference at any size against the plain network, for every network, through the evaluator's segmenter.

Every size is given twice: it runs first through the graph for any size, then through the graph for its own size
(Winograd convolutions, precomputed resizing). The two graphs are rewritten differently.
"""
import inspect

import mxnet as mx
import numpy as np
import pytest
from small_networks import SMALL

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.models import MODELS, get_model, list_models
from mxnetseg.nn.blocks import InputStep

QUICK = ("fcn", "fastscnn", "ladderdensenet")
# sides of many residues by 32: the smallest, primes, one below and one above powers of two
SIZES = [(33, 50), (47, 97), (65, 95), (127, 36), (109, 75), (64, 81)]


def build(name):
    arguments = dict(SMALL.get(name, {}))
    default = inspect.signature(MODELS.get(name).__init__).parameters.get("backbone")
    if default is not None and default.default.startswith("resnet"):
        arguments.setdefault("backbone", "resnet18")
    net = get_model(name, nclass=5, **arguments)
    random = np.random.RandomState(0)
    for p in net.collect_params().values():  # in a trained network running statistics are not 0 and 1
        if p.name.endswith("running_mean"):
            p.set_data(mx.nd.array(random.normal(0, 0.1, p.shape)))
        elif p.name.endswith("running_var"):
            p.set_data(mx.nd.array(random.uniform(0.5, 1.5, p.shape)))
        elif p.name.endswith("gamma") and name in ("flattenet", "hrnet", "ocrnet", "ovenet"):
            p.set_data(mx.nd.array(random.uniform(0.1, 0.4, p.shape)))  # otherwise the sums grow without bound
    return net


def tolerance(net, image):
    """Return the largest difference of a probability that rounding explains.

    A logit may differ by 20 times the change that an input larger by a millionth causes (the rule of
    tests/golden/README.md), and a probability by half of that, because of softmax's largest slope. So a
    network that amplifies rounding, such as one that warps by random offsets, gets a larger tolerance.
    """
    step = InputStep(net.mean, net.std)
    step.initialize()
    x = step(mx.nd.array(image[None], dtype="uint8"))
    logits, moved = net(x)[0].asnumpy(), net(x * (1 + 1e-6))[0].asnumpy()
    allowed = 0.5 * max(20 * np.abs(logits - moved).max(), 1e-5 * np.abs(logits).max())
    assert allowed < 0.25  # otherwise the comparison is meaningless
    return allowed


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in list_models()])
def test_compiled_float32_equals_the_plain_network_at_odd_sizes(name):
    mx.random.seed(0)
    net = build(name)
    plain = Segmenter(MXNetRuntime(net))
    compiled = Segmenter(MXNetRuntime(compile_for_inference(net, [mx.cpu()])))
    sizes = SIZES[:3] if name in QUICK else SIZES
    for height, width in sizes:
        image = np.random.RandomState(height * width).randint(0, 256, (height, width, 3)).astype(np.uint8)
        wanted = plain.probabilities(image)
        allowed = tolerance(net, image)
        assert wanted.shape == (5, height, width) and np.isfinite(wanted).all()
        for _ in range(2):
            got = compiled.probabilities(image)
            assert np.abs(got - wanted).max() <= allowed, (name, height, width)
        # classes agree, except where two are about equally probable
        top = np.sort(wanted, axis=0)
        sure = top[-1] - top[-2] > 2 * allowed
        for _ in range(2):
            np.testing.assert_array_equal(compiled(image)[sure], wanted.argmax(axis=0)[sure])


@pytest.mark.parametrize("name", ["fcn", pytest.param("ladderdensenet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("protocol", [Protocol(scales=(0.75, 1.25), flip=True), Protocol(base_size=71),
                                      Protocol(mode="slide", crop_size=(45, 61), flip=True)], ids=str)
def test_scales_flips_and_windows(name, protocol):
    mx.random.seed(0)
    net = build(name)
    image = np.random.RandomState(1).randint(0, 256, (75, 97, 3)).astype(np.uint8)
    wanted = Segmenter(MXNetRuntime(net), protocol).probabilities(image)
    compiled = Segmenter(MXNetRuntime(compile_for_inference(net, [mx.cpu()])), protocol)
    for _ in range(2):
        assert np.abs(compiled.probabilities(image) - wanted).max() <= 2 * tolerance(net, image)
