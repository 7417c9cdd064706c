"""What the processor can do, and Intel's matrix unit (AMX), which oneDNN uses only where it is told to and Linux asked.

MXNet's oneDNN 2.4 stops at AVX-512 unless ``DNNL_MAX_CPU_ISA`` says more before it first computes, and
Linux kills a process that touches the tiles without having asked for their state. With both, bfloat16 is
several times as fast as float32. Where the processor or the kernel lacks it, nothing happens.
"""
from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import FrozenSet

_ISA_VARIABLE = "DNNL_MAX_CPU_ISA"
_TILES = {"amx_tile", "amx_bf16", "amx_int8"}
# what oneDNN 2.4 calls avx512_core, below which it has no bfloat16 at all
_AVX512_CORE = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# linux/arch/x86: the call, the request, and the number of the tiles' state
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> FrozenSet[str]:
    """What the processor can do, in Linux's words; empty where Linux does not say."""
    try:
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def has_amx() -> bool:
    """Whether oneDNN computes on AMX tiles in this process: :func:`use_amx` has switched it on, or the user has."""
    return _TILES <= cpu_flags() and "AMX" in os.environ.get(_ISA_VARIABLE, "").upper()


def has_avx512() -> bool:
    """Whether oneDNN computes with AVX-512 in this process: the processor has it, and nobody forbids it."""
    limit = os.environ.get(_ISA_VARIABLE, "").upper()
    return _AVX512_CORE <= cpu_flags() and (limit in ("", "ALL", "DEFAULT") or limit.startswith("AVX512_CORE"))


def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 in this process, be it emulated: it needs AVX-512."""
    return has_avx512()


def multiplies_bfloat16() -> bool:
    """Whether it has instructions for bfloat16, which make it faster than float32."""
    return has_bfloat16() and (has_amx() or "avx512_bf16" in cpu_flags())


def use_amx() -> bool:
    """Switch AMX on for this process, where processor and kernel have it; call it before mxnet is imported.

    Someone's own ``DNNL_MAX_CPU_ISA`` is left alone, so ``DNNL_MAX_CPU_ISA=AVX512_CORE_BF16`` keeps AMX off.

    Returns:
        whether it is on now by this call.
    """
    if _ISA_VARIABLE in os.environ or not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    if not _TILES <= cpu_flags() or not _ask_for_tiles():
        return False
    os.environ[_ISA_VARIABLE] = "AVX512_CORE_AMX"
    return True


def _ask_for_tiles() -> bool:
    try:
        return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0
    except (OSError, AttributeError):
        return False
