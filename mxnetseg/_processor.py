"""Features of the processor, and the activation of Intel's matrix unit (AMX) for oneDNN.

MXNet's oneDNN 2.4 uses at most AVX-512, unless ``DNNL_MAX_CPU_ISA`` allows more before it first computes. Linux kills
a process that uses the tiles of AMX without permission. With both, bfloat16 is several times as fast as float32. If the
processor or the kernel does not support AMX, nothing changes.

A new program inherits the variable but not the permission (Documentation/arch/x86/xstate.rst: kept by fork, cleared by
exec), so each process asks for it.
"""
from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

_ISA_VARIABLE = "DNNL_MAX_CPU_ISA"
_WITH_AMX, _WITHOUT_AMX = "AVX512_CORE_AMX", "AVX512_CORE_BF16"
_TILES = {"amx_tile", "amx_bf16", "amx_int8"}
# oneDNN 2.4 calls this set avx512_core; it needs all of it for bfloat16
_AVX512_CORE = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# linux/arch/x86: number of the system call, of the request, and of the tiles' state
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the features of the processor, as Linux names them; empty if Linux does not list them."""
    return frozenset(_read_cpuinfo("flags", cpuinfo).split())


def cpu_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the vendor of the processor: ``GenuineIntel``, ``AuthenticAMD``; empty if Linux does not name it."""
    return _read_cpuinfo("vendor_id", cpuinfo)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name under which the processor is sold; empty if Linux does not name it."""
    return _read_cpuinfo("model name", cpuinfo)


def _read_cpuinfo(key: str, cpuinfo: Path) -> str:
    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def has_amx() -> bool:
    """Return whether oneDNN computes on AMX tiles in this process, or will once mxnet is imported.

    Processor and kernel must support it, and ``DNNL_MAX_CPU_ISA`` must allow it. The check asks the kernel for the
    permission, and has no other effect.
    """
    return (sys.platform.startswith("linux") and platform.machine() == "x86_64" and _TILES <= cpu_flags()
            and (_ISA_VARIABLE not in os.environ or _names_amx()) and _ask_for_tiles())


def has_avx512() -> bool:
    """Return whether oneDNN uses AVX-512 in this process: the processor has it, and the environment allows it."""
    limit = os.environ.get(_ISA_VARIABLE, "").upper()
    return _AVX512_CORE <= cpu_flags() and (limit in ("", "ALL", "DEFAULT") or limit.startswith("AVX512_CORE"))


def has_bfloat16() -> bool:
    """Return whether oneDNN computes in bfloat16 in this process, natively or emulated; both need AVX-512."""
    return has_avx512()


def multiplies_bfloat16() -> bool:
    """Return whether bfloat16 is faster than float32: with AMX, or with AVX-512 on AMD's processors.

    On Intel's processors the bfloat16 instructions of AVX-512 are slower than float32: BiSeNet-R18, FCN-R18 and
    PSPNet-R50 at 512 x 512 take 221, 712 and 2700 ms instead of 151, 507 and 1907, on a Xeon without the use of AMX.
    """
    return has_bfloat16() and (has_amx() or "avx512_bf16" in cpu_flags() and cpu_vendor() != "GenuineIntel")


def use_amx() -> bool:
    """Activate AMX for this process, if processor and kernel support it; call it before mxnet is imported.

    A lower ``DNNL_MAX_CPU_ISA`` of the user is kept, so ``DNNL_MAX_CPU_ISA=AVX512_CORE_BF16`` prevents AMX. A value
    that allows AMX, for example inherited from a process that called this function, is lowered if the kernel refuses
    the tiles.

    Returns:
        True if AMX is active.
    """
    on = has_amx()
    if on or _names_amx():
        os.environ[_ISA_VARIABLE] = _WITH_AMX if on else _WITHOUT_AMX
    return on


def _names_amx() -> bool:
    return "AMX" in os.environ.get(_ISA_VARIABLE, "").upper()


def _ask_for_tiles() -> bool:
    try:
        return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0
    except (OSError, AttributeError):
        return False
