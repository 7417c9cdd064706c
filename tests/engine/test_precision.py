"""The choice of a precision: what each value means on each device, and which values are refused."""
import mxnet as mx
import pytest

from mxnetseg import _processor
from mxnetseg._precisions import PRECISIONS
from mxnetseg.engine.precision import calibration_images, choose_precision
from mxnetseg.errors import ConfigError
from mxnetseg.graph.precision_phase import PRECISION_PASSES
from mxnetseg.tools import main

CPU = [mx.cpu()]
AVX512 = "avx512f avx512bw avx512dq avx512vl"


@pytest.mark.parametrize("flags,vendor,isa,wanted", [
    ("avx2", "AuthenticAMD", "", "float32"), (AVX512, "AuthenticAMD", "", "float32"),
    (f"{AVX512} avx512_bf16", "AuthenticAMD", "", "bfloat16"), (f"{AVX512} avx512_bf16", "GenuineIntel", "", "float32"),
    (f"{AVX512} avx512_bf16", "AuthenticAMD", "AVX2", "float32"),
    (f"{AVX512} avx512_bf16 amx_tile amx_bf16 amx_int8", "GenuineIntel", "AVX512_CORE_AMX", "bfloat16")])
def test_auto_is_the_fastest_precision_of_the_processor(monkeypatch, flags, vendor, isa, wanted):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(_processor, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(_processor, "_ask_for_tiles", lambda: True)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    assert choose_precision("auto", CPU).precision == wanted
    assert choose_precision("auto", [mx.gpu(0)]).precision == "float16"


@pytest.mark.parametrize("requested,context", [("float16", mx.cpu()), ("int8", mx.gpu()), ("bfloat16", mx.gpu()),
                                           ("float8", mx.cpu())])
def test_a_precision_that_a_device_cannot_compute_is_refused(requested, context):
    with pytest.raises(ConfigError) as error:
        choose_precision(requested, [context])
    assert error.value.received and error.value.fix


@pytest.mark.parametrize("flags,isa", [("avx2", ""), (AVX512, "AVX2"), ("", "")])
def test_bfloat16_is_refused_on_processors_that_cannot_compute_it(monkeypatch, flags, isa):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", isa)
    with pytest.raises(ConfigError, match="AVX-512") as error:
        choose_precision("bfloat16", CPU)
    assert error.value.fix == "float32, or auto"
    with pytest.raises(ConfigError) as error:
        choose_precision("float16", CPU)
    assert "bfloat16" not in error.value.fix


def test_bfloat16_is_emulated_on_request(monkeypatch):
    monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(AVX512.split()))
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    assert choose_precision("bfloat16", CPU).precision == "bfloat16"


def test_calibration_images_are_spread_over_the_split():
    class Data(list):
        def __getitem__(self, i):
            return type("Sample", (), {"image": i})
    assert calibration_images(Data(range(101)), 3) == [0, 50, 100]
    assert calibration_images(Data(range(2))) == [0, 1]


def test_the_commands_offer_all_precisions(capsys):
    for command in ("eval", "predict"):
        assert main.main([command, "--help"]) == 0
        assert "{" + ",".join(PRECISIONS) + "}" in "".join(capsys.readouterr().out.split())


def test_every_precision_that_is_offered_can_be_compiled():
    assert set(PRECISIONS) == {"auto", "plain", *PRECISION_PASSES}
