"""Freed memory is kept, where the C library is one that can be asked to, and nobody forbids it."""
import ctypes
import os
import platform
import subprocess
import sys

import pytest

from mxnetseg._memory import VARIABLE, keep_freed_memory, total_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")


@glibc
def test_glibc_takes_the_numbers():
    assert keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not keep_freed_memory()


def test_it_can_be_forbidden(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("glibc was asked"))
    assert not keep_freed_memory()


@glibc
@pytest.mark.parametrize("kept", [True, False])
def test_an_array_gets_the_memory_of_the_one_before(kept):
    """Seen by the pages that the system must hand out for 20 arrays of 64 MiB, one after the other. (MXNet frees them a
    little late, so there are two or three.)"""
    code = """
import resource, mxnetseg, mxnet as mx
def one():
    mx.nd.ones((16, 1024, 1024)).wait_to_read()
    mx.nd.waitall()
for _ in range(5):
    one()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    one()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, VARIABLE: "1" if kept else "0"})
    pages = 20 * (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert (int(done.stdout) < pages / 2) is kept, done.stderr


GIB = 1 << 30


@pytest.mark.parametrize("groups, limits, expected", [
    ("0::/\n", {"memory.max": "max"}, 16), ("0::/\n", {"memory.max": "4294967296"}, 4),
    ("0::/user/job\n", {"user/job/memory.max": "max", "user/memory.max": str(3 * GIB)}, 3),
    ("9:cpu:/job\n4:memory:/job\n", {"memory/job/memory.limit_in_bytes": str(2 * GIB),
                                     "cpu/job/memory.limit_in_bytes": "1"}, 2),
    # seen from inside of a container: named as outside, but there it is the outermost
    ("4:memory:/docker/1a2b\n", {"memory/memory.limit_in_bytes": str(5 * GIB)}, 5),
    ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 16), ("", {}, 16)])
def test_a_container_has_less_than_the_machine(tmp_path, monkeypatch, groups, limits, expected):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 * GIB // 4096}.__getitem__)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    assert total_memory(tmp_path) == expected * GIB


def test_a_system_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert total_memory(tmp_path) is None
