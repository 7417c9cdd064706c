"""Memory: how much there is, and that what was freed is kept for the next array instead of going back to the system.

By default glibc takes every large array afresh from the system, which hands out its pages one by one, zeroed, while
all threads wait for one lock, and gives each thread a heap of its own that holds no array above 64 MiB. MXNet on a CPU
asks for an array whenever an operator outside a static graph has a result, and a decoder does for every picture: the
sum of two maps of 40 million numbers then takes 110 ms instead of 16.
"""
from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Iterator, Optional

VARIABLE = "MXNETSEG_KEEP_MEMORY"
# of malloc.h: one heap for all threads; no array straight from the system; as much is kept at the heap's end
_SETTINGS = ((-8, 1), (-4, 0), (-1, 1 << 30))  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 1 GiB of freed memory, and whether it will; ``MXNETSEG_KEEP_MEMORY=0`` prevents it.

    It serves best before other threads have begun. :mod:`._compat` calls it when mxnet is imported.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, with habits of its own
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in _SETTINGS])


def give_back_freed_memory() -> None:
    """Let the system have all that is free now, for when something large is gone that will not come again."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def total_memory(root: Path = Path("/")) -> Optional[int]:
    """Bytes that this process may use in all: the machine's, or its container's if that has less; None if nobody says.

    Args:
        root: of the file system in which Linux describes control groups (man 7 cgroups, both versions).
    """
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        known = []
    return min([*known, *_limits(root)], default=None)


def _limits(root: Path) -> Iterator[int]:
    """Of this process's control group and all that it lies in. A container sees its own as the outermost."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            inner = top / group.lstrip("/")
            for folder in (inner, *inner.parents):
                if not folder.is_relative_to(top):
                    break
                limit = _text(folder / name).strip()
                if limit.isdigit():
                    yield int(limit)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
