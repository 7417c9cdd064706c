"""Features of the processor; AMX is activated if and only if processor and kernel support it."""
import ctypes
import platform
import sys

import pytest

from mxnetseg import _processor

AVX512 = "avx512f avx512bw avx512dq avx512vl"


@pytest.fixture
def machine(monkeypatch):
    """Function that makes a Linux machine with the given processor and kernel."""
    asked = []

    def make(flags="amx_tile amx_bf16 amx_int8 avx512f", answer=0, system="linux", architecture="x86_64",
             vendor="AuthenticAMD"):
        class Library:
            def syscall(self, *arguments):
                asked.append(arguments)
                return answer
        monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        monkeypatch.setattr(_processor, "cpu_flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr(_processor, "cpu_vendor", lambda: vendor)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: architecture)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
        return asked
    return make


def test_amx_is_activated_if_processor_and_kernel_support_it(machine):
    asked = machine()
    assert _processor.has_amx()  # before the import of mxnet, which calls use_amx()
    assert _processor.use_amx() and _processor.has_amx()
    assert _processor.os.environ["DNNL_MAX_CPU_ISA"] == "AVX512_CORE_AMX" and set(asked) == {(158, 0x1023, 18)}


@pytest.mark.parametrize("lack", [{"flags": "avx512f avx512_bf16"}, {"flags": "amx_tile amx_bf16"}, {"answer": -1},
                                  {"system": "darwin"}, {"architecture": "aarch64"}])
def test_otherwise_amx_is_not_activated(machine, lack):
    machine(**lack)
    assert not _processor.use_amx() and not _processor.has_amx()


@pytest.mark.parametrize("flags, limit, has, multiplies", [
    ("avx2", "", False, False), (AVX512, "", True, False), (f"{AVX512} avx512_bf16", "", True, True),
    (f"{AVX512} avx512_bf16", "ALL", True, True), (f"{AVX512} avx512_bf16", "avx512_core_vnni", True, True),
    (f"{AVX512} avx512_bf16", "AVX2", False, False), ("avx512f avx512_bf16", "", False, False)])
def test_bfloat16_needs_avx512_and_the_permission_to_use_it(machine, monkeypatch, flags, limit, has, multiplies):
    machine(flags)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", limit)
    assert (_processor.has_avx512(), _processor.has_bfloat16(), _processor.multiplies_bfloat16()) \
        == (has, has, multiplies)


def test_bfloat16_is_not_faster_with_intels_avx512_alone(machine, monkeypatch):
    machine(f"{AVX512} avx512_bf16 amx_tile amx_bf16 amx_int8", vendor="GenuineIntel")
    assert _processor.has_bfloat16() and _processor.multiplies_bfloat16()
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert _processor.has_bfloat16() and not _processor.multiplies_bfloat16()


def test_a_new_program_asks_again(machine, monkeypatch):
    """A new program inherits the variable but not the permission, without which Linux ends it with SIGILL."""
    asked = machine()
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert _processor.use_amx() and asked == [(158, 0x1023, 18)]
    machine(answer=-1)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "avx512_core_amx")
    assert not _processor.use_amx() and not _processor.has_amx()
    assert _processor.os.environ["DNNL_MAX_CPU_ISA"] == "AVX512_CORE_BF16"


def test_the_users_limit_is_kept(machine, monkeypatch):
    asked = machine()
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert not _processor.use_amx() and not _processor.has_amx() and asked == []


def test_a_missing_c_library_is_no_error(machine, monkeypatch):
    machine()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("no libc")))
    assert not _processor.use_amx()


def test_the_processor_is_read_from_linux(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 143\nmodel name\t: Xeon: 8481\n"
                    "flags\t\t: fpu amx_tile avx512_bf16\n")
    assert _processor.cpu_flags(file) == {"fpu", "amx_tile", "avx512_bf16"}
    assert _processor.cpu_vendor(file) == "GenuineIntel" and _processor.cpu_model(file) == "Xeon: 8481"
    assert _processor.cpu_flags(tmp_path / "none") == frozenset() and _processor.cpu_vendor(tmp_path / "none") == ""
