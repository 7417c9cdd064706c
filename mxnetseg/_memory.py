"""Memory: its size, and a setting that keeps freed memory for the next array instead of returning it to the system.

By default glibc takes every large array anew from the system, which provides its pages one by one, zeroed, while all
threads wait for one lock. It also gives each thread its own heap, which holds no array above 64 MiB. MXNet on a CPU
allocates an array for each result of an operator outside a static graph, and a decoder does so for every image: without
the setting, the sum of two maps of 40 million numbers takes 110 ms instead of 16.
"""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "MXNETSEG_KEEP_MEMORY"
ASSUMED_MEMORY = 8 << 30  # bytes, if a machine does not report its memory
# from malloc.h: one heap for all threads, no array directly from the system, memory kept at the end of the heap
_SETTINGS = ((-8, 1), (-4, 0), (-1, 1 << 30))  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 1 GiB of freed memory; return whether it will. ``MXNETSEG_KEEP_MEMORY=0`` prevents it.

    Call it before other threads are started. :mod:`._compat` calls it when mxnet is imported.
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in _SETTINGS])


def give_back_freed_memory() -> None:
    """Return free memory to the system, after something large was freed that is not needed again."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def total_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may use, the lower of machine and container; None if they are not known.

    Args:
        root: root of the file system in which Linux describes control groups (man 7 cgroups, both versions).
    """
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        known = []
    return min([*known, *_limits(root)], default=None)


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of this process's control group and its parents; a container sees its own group as the root."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            innermost = top / group.lstrip("/")
            for folder in (innermost, *innermost.parents):
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
