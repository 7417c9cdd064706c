"""ResNet-18 and -34 with mmsegmentation's deep stem and dilation, against a plain implementation of its blocks."""
import mxnet as mx
import numpy as np
import pytest
from pytorch_cases import weights

from mxnetseg.models import build_model, get_model
from mxnetseg.models._cost import measure
from mxnetseg.models._foreign import renamed
from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.weights.tensors import set_parameters

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
# (stride, dilation) of the stages at output stride 8, 16 and 32, as in its configurations
D8, D16, D32 = ((1, 1), (2, 1), (1, 2), (1, 4)), ((1, 1), (2, 1), (2, 1), (1, 2)), ((1, 1), (2, 1), (2, 1), (2, 1))


def norm_keys(stem, channels):
    return [[f"{stem}.{last}", [channels]] for last in ("weight", "bias", "running_mean", "running_var")]


def keys(depth, deep):
    """Return names and shapes of mmsegmentation's backbone, ResNetV1c if ``deep``, else ResNet."""
    found = []

    def layer(convolution, norm, out, into, size):
        found.extend([[f"{convolution}.weight", [out, into, size, size]], *norm_keys(norm, out)])

    if deep:
        layer("backbone.stem.0", "backbone.stem.1", 32, 3, 3)
        layer("backbone.stem.3", "backbone.stem.4", 32, 32, 3)
        layer("backbone.stem.6", "backbone.stem.7", 64, 32, 3)
    else:
        layer("backbone.conv1", "backbone.bn1", 64, 3, 7)
    channels = 64
    for stage, blocks in enumerate(LAYERS[depth], start=1):
        width = 32 * 2 ** stage
        for block in range(blocks):
            stem = f"backbone.layer{stage}.{block}"
            layer(f"{stem}.conv1", f"{stem}.bn1", width, channels, 3)
            layer(f"{stem}.conv2", f"{stem}.bn2", width, width, 3)
            if channels != width:
                layer(f"{stem}.downsample.0", f"{stem}.downsample.1", width, channels, 1)
            channels = width
    return found


def reference(tensors, x, depth, deep, stages):
    """Return the four feature maps of mmsegmentation's ResNet.

    Only the first convolution of its BasicBlock is dilated, and its dilation is contracted.
    """
    def layer(y, convolution, norm, stride=1, dilation=1):
        weight = mx.nd.array(tensors[f"backbone.{convolution}.weight"])
        size = weight.shape[2]
        y = mx.nd.Convolution(y, weight, no_bias=True, num_filter=weight.shape[0], kernel=(size, size),
                              stride=(stride, stride), dilate=(dilation, dilation), pad=(dilation * (size // 2),) * 2)
        gamma, beta, mean, var = (tensors[f"backbone.{norm}.{k}"].reshape(1, -1, 1, 1)
                                  for k in ("weight", "bias", "running_mean", "running_var"))
        return mx.nd.array((y.asnumpy() - mean) / np.sqrt(var + 1e-5) * gamma + beta)

    if deep:
        y = layer(x, "stem.0", "stem.1", 2).relu()
        y = layer(y, "stem.3", "stem.4").relu()
        y = layer(y, "stem.6", "stem.7").relu()
    else:
        y = layer(x, "conv1", "bn1", 2).relu()
    y = mx.nd.Pooling(y, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    maps = []
    for stage, (stride, dilation) in enumerate(stages, start=1):
        for block in range(LAYERS[depth][stage - 1]):
            stem = f"layer{stage}.{block}"
            step, spacing = (stride, max(dilation // 2, 1)) if block == 0 else (1, dilation)
            z = layer(y, f"{stem}.conv1", f"{stem}.bn1", step, spacing).relu()
            z = layer(z, f"{stem}.conv2", f"{stem}.bn2")
            if f"backbone.{stem}.downsample.0.weight" in tensors:
                y = layer(y, f"{stem}.downsample.0", f"{stem}.downsample.1", step)
            y = (y + z).relu()
        maps.append(y.asnumpy())
    return maps


@pytest.mark.parametrize("model, depth, deep, output_stride, stages", [
    ("pspnet", 18, True, 8, D8), ("deeplabv3plus", 18, True, 8, D8), ("fcn", 18, True, 16, D16),
    ("fcn", 18, True, 32, D32), ("pspnet", 34, True, 8, D8),
    ("pspnet", 18, False, 8, D8), ("deeplabv3plus", 18, False, 8, D8), ("deeplabv3", 18, False, 8, D8),
    ("danet", 18, False, 8, D8), ("fcn", 34, False, 8, D8)])
def test_features_equal_mmsegmentations_with_its_weights(model, depth, deep, output_stride, stages):
    backbone = f"resnet{depth}" + "_v1c" * deep
    net = get_model(model, nclass=19, backbone=backbone, output_stride=output_stride, variant="mmseg")
    case = {"keys": keys(depth, deep), "norm_weight_range": (0.4, 0.9), "skipped": (), "gates": (), "tokens": (),
            "gain": {}}
    tensors = weights(case)
    ours = renamed(net, "mmseg", tensors)
    in_backbone = {name for name in net.named_parameters() if name.startswith("backbone.")}
    assert ours.keys() == in_backbone
    rest = {name: p.data().asnumpy() for name, p in net.named_parameters().items() if name not in in_backbone}
    set_parameters(net, {**ours, **rest}, where=backbone)
    x = mx.nd.array(np.random.RandomState(7).normal(size=(1, 3, 65, 97)))
    for got, wanted in zip(net.backbone(x), reference(tensors, x, depth, deep, stages)):
        assert got.shape == wanted.shape
        assert np.abs(got.asnumpy() - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_only_the_stem_has_other_parameters():
    """The stem is a 7x7 convolution of 64 channels with its norm, or 3x3 convolutions of 32, 32 and 64 channels."""
    for depth, plain in ((18, 11_176_512), (34, 21_284_672)):
        for name, stem in ((f"resnet{depth}", 0), (f"resnet{depth}_v1c", 864 + 64 + 9216 + 64 + 18432 - 9408)):
            net = get_backbone(name)
            net.initialize()
            net(mx.nd.zeros((1, 3, 32, 32)))
            trainable = [p for p in net.collect_params().values() if p.grad_req != "null"]
            assert sum(int(np.prod(p.shape)) for p in trainable) == plain + stem


def test_parameters_of_the_r18_d8_networks():
    """Compared with counts from its configurations: heads of 128 and 64 channels, 12 low-level channels."""
    trunk, norms = 11_195_744, 2 * 128
    aux = 256 * 64 * 9 + 2 * 64 + 64 * 19 + 19
    psp = 4 * (512 * 128 + norms) + (512 + 4 * 128) * 128 * 9 + norms
    separable = 512 * 9 + 2 * 512 + 512 * 128 + norms
    aspp = 2 * (512 * 128 + norms) + 3 * separable + 5 * 128 * 128 * 9 + norms
    fuse = 140 * 9 + 2 * 140 + 140 * 128 + norms + 128 * 9 + 2 * 128 + 128 * 128 + norms
    low = 64 * 12 + 2 * 12
    classify = 128 * 19 + 19
    for name, head in (("pspnet", psp), ("deeplabv3plus", aspp + fuse + low)):
        net = build_model(name, nclass=19, backbone="resnet18_v1c", variant="mmseg", aux=True)
        assert measure(net).count(trainable=True) == trunk + head + classify + aux
