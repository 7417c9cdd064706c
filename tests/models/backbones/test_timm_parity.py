"""Features of backbones against those of timm's classifiers, with weights converted as ImageNet weights are."""
import mxnet as mx
import pytest
from pytorch_cases import assert_golden, input_image, read, weights

from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.backbones.hrnet import HRNetV2
from mxnetseg.models.weights.tensors import set_parameters

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
MOBILE = ["blocks.1", "blocks.2", "blocks.4", "blocks.6"]
BRANCHES = ["branch0", "branch1", "branch2", "branch3"]
QUICK = ("resnet18-tv_in1k_64x96", "resnet18-tv_in1k_97x129", "resnet18-tv_in1k_os8_96x128",
         "resnet50d-gluon_in1k_os8_96x128", "mobilenetv2_100-ra_in1k_64x96", "mobilenetv3_large_100-ra_in1k_64x96")


def load(backbone, case):
    """Return the backbone with the case's weights."""
    backbone.initialize()
    backbone(input_image(case))  # infers the shapes
    set_parameters(backbone, backbone.convert(weights(case), pytorch=True), where=case["name"])
    return backbone


def cases(*rows):
    return pytest.mark.parametrize("name, backbone, stride", [
        pytest.param(*row, marks=() if row[0] in QUICK else pytest.mark.slow) for row in rows])


@cases(("resnet18-tv_in1k_64x96", "resnet18", 32), ("resnet18-tv_in1k_97x129", "resnet18", 32),
       ("resnet18-tv_in1k_os8_96x128", "resnet18", 8), ("resnet34-tv_in1k_64x96", "resnet34", 32),
       ("resnet50-tv_in1k_64x96", "resnet50_v1b", 32), ("resnet50-gluon_in1k_64x96", "resnet50_v1b", 32),
       ("resnet50-gluon_in1k_os8_96x128", "resnet50_v1b", 8), ("resnet50c-gluon_in1k_64x96", "resnet50_v1c", 32),
       ("resnet50c-gluon_in1k_os16_96x128", "resnet50_v1c", 16),
       ("resnet50c-gluon_in1k_os8_96x128", "resnet50_v1c", 8), ("resnet50d-gluon_in1k_64x96", "resnet50_v1d", 32),
       ("resnet50d-gluon_in1k_97x129", "resnet50_v1d", 32), ("resnet50d-gluon_in1k_os8_96x128", "resnet50_v1d", 8),
       ("resnet50s-gluon_in1k_64x96", "resnet50", 32), ("resnet101-gluon_in1k_64x96", "resnet101_v1b", 32),
       ("resnet101d-gluon_in1k_64x96", "resnet101_v1d", 32), ("resnet101s-gluon_in1k_64x96", "resnet101", 32),
       ("resnet101s-gluon_in1k_97x129", "resnet101", 32), ("resnet101s-gluon_in1k_os8_96x128", "resnet101", 8),
       ("resnet152s-gluon_in1k_64x96", "resnet152", 32), ("ecaresnet50d-miil_in1k_64x96", "ecaresnet50_v1d", 32))
def test_resnets(name, backbone, stride):
    case = read(f"timm_{name}")
    net = load(get_backbone(backbone, output_stride=stride), case)
    assert case["model"] in net.timm_names
    assert_golden(f"timm_{name}", case, dict(zip(LAYERS, net(input_image(case)))))


@cases(("mobilenetv2_100-ra_in1k_64x96", "mobilenet_v2_1_0", 32),
       ("mobilenetv3_large_100-ra_in1k_64x96", "mobilenet_v3_large", 32))
def test_mobilenets(name, backbone, stride):
    case = read(f"timm_{name}")
    net = load(get_backbone(backbone, output_stride=stride), case)
    assert case["model"] in net.timm_names
    assert_golden(f"timm_{name}", case, dict(zip(MOBILE, net(input_image(case)))))


@pytest.mark.slow
def test_densenet():
    case = read("timm_densenet121-tv_in1k_64x96")
    net = load(get_backbone("densenet121"), case)
    names = ["features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"]
    assert_golden(case["name"], case, dict(zip(names, net(input_image(case)))))


@pytest.mark.slow
@pytest.mark.parametrize("name, arguments", [
    ("timm_hrnet_w18-ms_in1k_64x96", {"width": 18}), ("timm_hrnet_w48-ms_in1k_64x96", {"width": 48}),
    ("timm_hrnet_w18_small_v2-gluon_in1k_64x96", {"width": 18, "modules": (1, 3, 2), "blocks": 2}),
])
def test_hrnets_for_classification(name, arguments):
    case = read(name)
    net = load(HRNetV2(nearest=True, **arguments), case)
    assert net.timm_names == (case["model"],)
    assert_golden(name, case, dict(zip(BRANCHES, net(input_image(case)))))


@pytest.mark.slow
def test_tensorflows_xception():
    case = read("timm_xception65-tf_in1k_64x96")
    net = load(get_backbone("xception65_tf"), case)
    seen = {}

    def watch(block, third, name):  # the input of its third separable convolution
        list(block.rep._children.values())[third].register_forward_pre_hook(
            lambda _, inputs: seen.__setitem__(f"blocks.{name}.stack.act3", inputs[0]))

    for block, third, name in ((net.block1, 6, 0), (net.block2, 6, 1), (net.block3, 7, 2), (net.block20, 7, 19)):
        watch(block, third, name)
    seen["blocks.20"] = net(input_image(case))[-1]
    assert len(seen) == 5
    assert_golden(case["name"], case, seen)


@pytest.mark.slow
def test_vision_transformer_with_its_class_token():
    case = read("timm_vit_base_patch16_384-augreg_in21k_ft_in1k_64x96")
    net = load(get_backbone("vit_base_16", output_stride=16, options={"grid": (4, 6), "class_token": True}), case)
    blocks = list(net.blocks._children.values())
    seen = {}
    for number in (2, 5, 8, 11):
        # the class token comes first in timm
        blocks[number].register_forward_hook(lambda _, inputs, tokens, name=f"blocks.{number}": seen.__setitem__(
            name, mx.nd.concat(tokens[:, -1:], tokens[:, :-1], dim=1)))
    taps = net(input_image(case))
    assert_golden(case["name"], case, seen)
    for tap, tokens in zip(taps, seen.values()):
        grid = tokens[:, 1:].reshape((1, 4, 6, -1)).transpose((0, 3, 1, 2))
        assert (tap == grid).asnumpy().all()
