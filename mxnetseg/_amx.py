"""Intel's matrix unit (AMX), which oneDNN uses only where it is told to and Linux was asked.

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
