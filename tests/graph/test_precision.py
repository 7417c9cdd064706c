"""The forms of a network for inference give its logits: exactly in float32, its classes in the others."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mxnetseg import _processor
from mxnetseg.engine.inference import Protocol, Segmenter
from mxnetseg.errors import ConfigError, UsageError
from mxnetseg.graph import precision
from mxnetseg.graph.precision import PRECISIONS, Fused, calibration_pictures, choose_precision, fused
from mxnetseg.models._base import SegModel
from mxnetseg.nn.blocks import ConvModule2d
from mxnetseg.nn.resize import resize
from mxnetseg.tools import main

CPU = [mx.cpu()]
AVX512 = "avx512f avx512bw avx512dq avx512vl"


class Colours(SegModel):
    """Tells the strongest of three colours, over two convolutions, a concatenation and a resize."""

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


def picture(height, width, seed=0):
    blocks = np.random.RandomState(seed).randint(0, 256, (-(-height // 8), -(-width // 8), 3)).astype("uint8")
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind,agreement", [
    ("float32", 1.0), pytest.param("bfloat16", 0.95, marks=pytest.mark.bfloat16), ("int8", 0.95)])
def test_every_precision_sees_the_same_classes(kind, agreement, mixed):
    net = network(mixed)
    form = fused(net, CPU, kind, calibration=[picture(40, 48, seed) for seed in range(3)])
    assert form.precision == kind
    for size in ((40, 48), (33, 57), (40, 48), (40, 48)):
        one, other = (Segmenter(n, CPU)(picture(*size, seed=9)).asnumpy() for n in (net, form))
        assert len(np.unique(one)) == 3
        assert (one == other).mean() >= agreement  # one of 30 patches may be a tie


def test_float32_is_equal_to_rounding_with_scales_windows_and_mirror():
    net, image = network(), picture(48, 64)
    protocol = Protocol(mode="slide", crop_size=(32, 32), scales=(0.75, 1.0), flip=True, batch=2)
    one, other = (Segmenter(n, CPU, protocol).probabilities(image).asnumpy() for n in (net, fused(net, CPU)))
    np.testing.assert_allclose(other, one, atol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_holds_its_weights_so():
    graph = Fused(network(), "bfloat16", CPU).graph
    kinds = {name: str(p.dtype) for name, p in graph.collect_params().items() if name.endswith("conv0_weight")}
    assert kinds and all("bfloat16" in kind for kind in kinds.values()), kinds


def test_int8_holds_back_what_costs_accuracy(monkeypatch):
    net, pictures = network(), [picture(40, 48, seed) for seed in range(3)]
    monkeypatch.setattr(precision, "AGREEMENT", 0.0)
    assert Fused(net, "int8", CPU, calibration=pictures).kept == ()
    monkeypatch.setattr(precision, "AGREEMENT", 1.1)  # nobody is as good as that
    form = Fused(net, "int8", CPU, calibration=pictures)
    assert len(form.kept) == 3
    x = mx.nd.random.normal(shape=(1, 3, 32, 32))
    np.testing.assert_allclose(form(x)[0].asnumpy(), net(x)[0].asnumpy(), atol=1e-5)


def test_int8_without_pictures_is_refused():
    with pytest.raises(UsageError, match="real pictures"):
        fused(network(), CPU, "int8")


def test_plain_is_the_network_itself():
    net = network()
    assert fused(net, CPU, "plain") is net


def test_training_the_network_afterwards_does_not_reach_the_form():
    net = network()
    form, x = fused(net, CPU), mx.nd.random.normal(shape=(1, 3, 16, 16))
    before = form(x)[0].asnumpy()
    net.head.weight.set_data(net.head.weight.data() * 0)
    np.testing.assert_array_equal(form(x)[0].asnumpy(), before)


def test_two_contexts_give_the_same():
    contexts = [mx.cpu(0), mx.cpu(1)]
    net, x = network(), mx.nd.random.normal(shape=(1, 3, 16, 16))
    form = fused(net, contexts)
    one, other = (form(x.as_in_context(context))[0].asnumpy() for context in contexts)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("flags,vendor,isa,wanted", [
    ("avx2", "AuthenticAMD", "", "float32"), (AVX512, "AuthenticAMD", "", "float32"),
    (f"{AVX512} avx512_bf16", "AuthenticAMD", "", "bfloat16"), (f"{AVX512} avx512_bf16", "GenuineIntel", "", "float32"),
    (f"{AVX512} avx512_bf16", "AuthenticAMD", "AVX2", "float32"),
    (f"{AVX512} avx512_bf16 amx_tile amx_bf16 amx_int8", "GenuineIntel", "AVX512_CORE_AMX", "bfloat16")])
def test_auto_takes_what_the_processor_is_fast_in(monkeypatch, flags, vendor, isa, wanted):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(_processor, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(_processor, "_ask_for_tiles", lambda: True)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    assert choose_precision("auto", CPU).precision == wanted
    assert choose_precision("auto", [mx.gpu(0)]).precision == "float16"


@pytest.mark.parametrize("asked,context", [("float16", mx.cpu()), ("int8", mx.gpu()), ("bfloat16", mx.gpu()),
                                           ("float8", mx.cpu())])
def test_what_a_device_cannot_is_refused(asked, context):
    with pytest.raises(ConfigError) as error:
        choose_precision(asked, [context])
    assert error.value.received and error.value.fix


@pytest.mark.parametrize("flags,isa", [("avx2", ""), (AVX512, "AVX2"), ("", "")])
def test_bfloat16_is_refused_where_it_cannot_be_computed(monkeypatch, flags, isa):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    with pytest.raises(ConfigError, match="AVX-512") as error:
        choose_precision("bfloat16", CPU)
    assert error.value.fix == "float32, or auto"
    with pytest.raises(ConfigError) as error:
        choose_precision("float16", CPU)
    assert "bfloat16" not in error.value.fix


def test_bfloat16_is_emulated_where_asked_for(monkeypatch):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(AVX512.split()))
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    assert choose_precision("bfloat16", CPU).precision == "bfloat16"


@pytest.mark.bfloat16
def test_what_the_processor_says_is_what_mxnet_can():
    """One tiny convolution in it; where has_bfloat16() says no, the marker leaves this test out."""
    graph = Fused(network(), "bfloat16", CPU)
    assert np.isfinite(graph(mx.nd.ones((1, 3, 16, 16)))[0].asnumpy()).all()


def test_calibration_pictures_are_spread_over_the_split():
    class Data(list):
        def __getitem__(self, i):
            return type("Sample", (), {"image": i})
    assert calibration_pictures(Data(range(101)), 3) == [0, 50, 100]
    assert calibration_pictures(Data(range(2))) == [0, 1]


def test_the_commands_offer_what_there_is(capsys):
    for command in ("eval", "predict"):
        assert main.main([command, "--help"]) == 0
        assert "{" + ",".join(PRECISIONS) + "}" in "".join(capsys.readouterr().out.split())
