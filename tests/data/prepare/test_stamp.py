"""Fingerprints of the sources of outputs."""
import os

import numpy as np
import pytest

from mxnetseg.data.prepare.base import fingerprint


def test_a_file_counts_by_name_size_and_time(tmp_path):
    path = tmp_path / "a.png"
    missing = fingerprint(path)
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 5))
    first = fingerprint(path)
    assert first != missing and first == fingerprint(path) and len(first) == 32
    os.utime(path, ns=(0, 6))
    assert fingerprint(path) != first  # a file system without nanoseconds would see 0 both times
    path.write_bytes(b"123")
    os.utime(path, ns=(0, 5))
    assert fingerprint(path) != first
    (tmp_path / "b").mkdir()
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 5))
    assert fingerprint(path.rename(tmp_path / "b" / "a.png")) == first  # a moved source is the same source


@pytest.mark.parametrize("one, other", [
    (("ab", "c"), ("a", "bc")), ((["a"],), ("a",)), ((1,), ("1",)), ((b"a",), ("a",)),
    ((["cat", "dog"],), (["dog", "cat"],)),
    ((np.arange(9),), (np.arange(1, 10),)), ((), ("",)), (({"a": 1.0},), ({"a": 2.0},)),
])
def test_different_parts_differ(one, other):
    assert fingerprint(*one) == fingerprint(*one) != fingerprint(*other)


def test_tuples_and_lists_are_equal():
    assert fingerprint(("cat", "dog")) == fingerprint(["cat", "dog"])


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})


def test_fingerprints_are_the_same_in_every_version():
    """Another value would make all files of folders prepared before outdated."""
    parts = (24, 32, [["cat", (1.5, 2)]], np.arange(3), b"x", None)
    assert fingerprint(*parts) == "4714c5527a53c8ef74d8b2d8ed4c575d"
