"""Properties of single decoders and backbones, in addition to those of every network (test_life.py)."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.models import get_model
from mxnetseg.models.backbones import get_backbone


@pytest.mark.parametrize("name, strides", [("xception39", (8, 16, 32)), ("eprnet", (8,)),
                                           ("eprnet_light", (8,))])
def test_taps_at_odd_sizes(name, strides):
    for stride in strides:
        backbone = get_backbone(name, output_stride=stride)
        backbone.initialize()
        features = backbone(mx.nd.zeros((1, 3, 75, 97)))
        assert backbone.taps[-1].reduction == stride
        assert [f.shape[1:] for f in features] == [(t.channels, -(-75 // t.reduction), -(-97 // t.reduction))
                                                   for t in backbone.taps]


@pytest.mark.parametrize("name, stride", [("densenet121", 8), ("eprnet", 32), ("xception39", 4)])
def test_unsupported_strides_are_refused(name, stride):
    with pytest.raises(ConfigError, match="output stride"):
        get_backbone(name, output_stride=stride)


@pytest.mark.parametrize("name", ["swiftnet", "semanticfpn", "fapn"])
def test_a_ladder_over_four_taps_refuses_three(name):
    with pytest.raises(ConfigError, match="four taps") as caught:
        get_model(name, backbone="xception39")
    assert "xception39, which has 3" in str(caught.value)


def swiftnet_parameters(taps, channels, nclass, head_conv):
    """Return the trainable parameters of SwiftNet's decoder, counted layer by layer."""
    c1, c2, c3, c4 = taps

    def conv(before, after, kernel=1):
        return kernel * kernel * before * after + 2 * after  # with gamma and beta of the norm
    pyramid = 4 * conv(c4, c4 // 4)
    ladder = conv(c4 + 4 * (c4 // 4), channels) + sum(conv(c, channels) + conv(channels, channels, 3)
                                                      for c in (c1, c2, c3))
    head = conv(channels, min(channels, 256), 3) if head_conv else 0
    classifier = (min(channels, 256) if head_conv else channels) * nclass + nclass
    return pyramid + ladder + head + classifier


@pytest.mark.parametrize("arguments", [{}, {"decoder_channels": 128}, {"decoder_channels": 320},
                                       {"decoder_channels": 128, "head_conv": False}])
def test_parameters_of_swiftnets_decoder(arguments):
    net = get_model("swiftnet", backbone="resnet18", nclass=11, **arguments)
    backbone = {p.name for p in net.backbone.collect_params().values()}
    counted = sum(p.data().size for p in net.collect_params().values()
                  if p.name not in backbone and p.grad_req != "null")
    assert counted == swiftnet_parameters([64, 128, 256, 512], arguments.get("decoder_channels", 256), 11,
                                          arguments.get("head_conv", True))
    assert net(mx.nd.zeros((1, 3, 33, 65)))[0].shape == (1, 11, 33, 65)


@pytest.mark.parametrize("wrong", [0, -1, 128.0, "128"])
def test_channels_of_swiftnets_decoder_are_checked(wrong):
    with pytest.raises(ConfigError, match="decoder_channels must be an integer >= 1"):
        get_model("swiftnet", decoder_channels=wrong)


@pytest.mark.parametrize("name, option", [("swiftnet", "head_conv"), ("fcn", "aux"), ("ovenet", "confidence_mean")])
@pytest.mark.parametrize("wrong", ["no", 0, [False]])
def test_a_yes_or_no_option_takes_nothing_else(name, option, wrong):
    with pytest.raises(ConfigError, match=f"{option} must be true or false"):
        get_model(name, **{option: wrong})


def test_the_paper_variant_of_gffnet_fuses_the_unfused_taps():
    """Compared with section 3.2 in NumPy, on maps of equal size."""
    random = np.random.RandomState(0)
    x = [random.normal(size=(1, 4, 3, 5)).astype("float32") for _ in range(4)]
    g = [random.uniform(size=(1, 4, 3, 5)).astype("float32") for _ in range(4)]
    paper = [(1 + g[i]) * x[i] + (1 - g[i]) * sum(g[j] * x[j] for j in range(4) if j != i) for i in range(4)]
    fused = {}
    for variant in ("paper", "port"):
        net = get_model("gffnet", backbone="resnet18", variant=variant)
        fused[variant] = [f.asnumpy() for f in net._fuse(mx.nd, *([mx.nd.array(v) for v in part] for part in (x, g)))]
    for got, wanted in zip(fused["paper"], paper):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fused["port"][0], paper[0], rtol=1e-4, atol=1e-5)  # the first tap has no predecessor
    assert all(np.abs(fused["port"][i] - paper[i]).max() > 0.1 for i in (1, 2, 3))
    with pytest.raises(UnknownNameError, match="paper"):
        get_model("gffnet", variant="papers")


def test_eprnet_light_by_option_and_by_backbone():
    by_option = get_model("eprnet", light=True)
    by_backbone = get_model("eprnet", backbone="eprnet_light")
    assert {k: p.shape for k, p in by_option.named_parameters().items()} \
        == {k: p.shape for k, p in by_backbone.named_parameters().items()}
    with pytest.raises(ConfigError, match="light form"):
        get_model("eprnet", backbone="resnet18", light=True)


def test_fapn_with_the_operator_gives_the_same_logits(tmp_path):
    composed = get_model("fapn", backbone="resnet18", nclass=5)
    operator = get_model("fapn", backbone="resnet18", nclass=5, operator=True)
    for name, p in composed.named_parameters().items():
        if "offset_" in name:  # their initial zeros would test little
            p.set_data(mx.nd.array(np.random.RandomState(1).normal(0, 0.1, p.shape)))
    composed.save_parameters(str(tmp_path / "same.params"))
    operator.load_parameters(str(tmp_path / "same.params"))
    x = mx.nd.array(np.random.RandomState(0).normal(size=(1, 3, 65, 47)))
    ours, theirs = composed(x)[0].asnumpy(), operator(x)[0].asnumpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
