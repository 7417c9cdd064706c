"""What the processor can do, and Intel's matrix unit (AMX), which oneDNN uses only where it is told to and Linux asked.

MXNet's oneDNN 2.4 stops at AVX-512 unless ``DNNL_MAX_CPU_ISA`` says more before it first computes, and
Linux kills a process that touches the tiles without having asked for their state. With both, bfloat16 is
several times as fast as float32. Where the processor or the kernel lacks it, nothing happens.

A new program inherits the variable and not the leave (Documentation/arch/x86/xstate.rst: kept by fork, cleared by
exec), so each process asks for itself.
"""
from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import FrozenSet

_ISA_VARIABLE = "DNNL_MAX_CPU_ISA"
_WITH_AMX, _WITHOUT_AMX = "AVX512_CORE_AMX", "AVX512_CORE_BF16"
_TILES = {"amx_tile", "amx_bf16", "amx_int8"}
# what oneDNN 2.4 calls avx512_core, below which it has no bfloat16 at all
_AVX512_CORE = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# linux/arch/x86: the call, the request, and the number of the tiles' state
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> FrozenSet[str]:
    """What the processor can do, in Linux's words; empty where Linux does not say."""
    return frozenset(_said("flags", cpuinfo).split())


def cpu_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Who made the processor, as it says itself: ``GenuineIntel``, ``AuthenticAMD``; empty where Linux does not say."""
    return _said("vendor_id", cpuinfo)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor is sold as; empty where Linux does not say."""
    return _said("model name", cpuinfo)


def _said(key: str, cpuinfo: Path) -> str:
    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def has_amx() -> bool:
    """Whether oneDNN computes on AMX tiles in this process, or will once mxnet is imported: processor and kernel have
    it, and nobody forbids it. Asking the kernel is what allows it, and does nothing else."""
    return (sys.platform.startswith("linux") and platform.machine() == "x86_64" and _TILES <= cpu_flags()
            and (_ISA_VARIABLE not in os.environ or _names_amx()) and _ask_for_tiles())


def has_avx512() -> bool:
    """Whether oneDNN computes with AVX-512 in this process: the processor has it, and nobody forbids it."""
    limit = os.environ.get(_ISA_VARIABLE, "").upper()
    return _AVX512_CORE <= cpu_flags() and (limit in ("", "ALL", "DEFAULT") or limit.startswith("AVX512_CORE"))


def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 in this process, be it emulated: it needs AVX-512."""
    return has_avx512()


def multiplies_bfloat16() -> bool:
    """Whether it multiplies bfloat16 faster than float32: by AMX, or by AVX-512 on AMD's processors.

    AVX-512's instructions for it are slower than float32 on Intel's: BiSeNet-R18, FCN-R18 and PSPNet-R50 at 512 x 512
    in 221, 712 and 2700 ms instead of 151, 507 and 1907, on a Xeon whose AMX was kept off.
    """
    return has_bfloat16() and (has_amx() or "avx512_bf16" in cpu_flags() and cpu_vendor() != "GenuineIntel")


def use_amx() -> bool:
    """Switch AMX on for this process, where processor and kernel have it; call it before mxnet is imported.

    Someone's lower ``DNNL_MAX_CPU_ISA`` is left alone, so ``DNNL_MAX_CPU_ISA=AVX512_CORE_BF16`` keeps AMX off. One that
    allows AMX, be it inherited from a process that called this, is lowered if the kernel refuses the tiles.

    Returns:
        whether it is on now.
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
