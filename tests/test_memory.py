"""Freed memory is kept, if the C library supports it and the environment allows it; and the size of the memory."""
import ctypes
import os
import platform
import subprocess
import sys

import pytest

from mxnetseg._memory import VARIABLE, keep_freed_memory, total_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


@glibc
def test_glibc_accepts_the_settings():
    assert keep_freed_memory()


def test_another_c_library_is_not_changed(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not keep_freed_memory()


def test_it_can_be_prevented(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("glibc was called"))
    assert not keep_freed_memory()


@glibc
@pytest.mark.parametrize("kept", [True, False])
def test_an_array_reuses_the_memory_of_the_previous_one(kept):
    """Count the pages that the system provides for 20 arrays of 64 MiB, one after the other.

    MXNet frees arrays a little late, so two or three of them exist at once.
    """
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
    # inside a container the group has its name from outside, but it is the root
    ("4:memory:/docker/1a2b\n", {"memory/memory.limit_in_bytes": str(5 * GIB)}, 5),
    ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 16), ("", {}, 16)])
def test_a_container_may_have_less_than_the_machine(tmp_path, monkeypatch, groups, limits, expected):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 * GIB // 4096}.__getitem__)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    assert total_memory(tmp_path) == expected * GIB


def test_a_system_that_does_not_report_its_memory(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert total_memory(tmp_path) is None
