"""Files ``.safetensors`` and ``.npz``: sound ones are read, damaged and hostile ones are refused with little memory."""
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from mxnetseg.errors import CheckpointError
from mxnetseg.models.weights.tensors import read_tensors


def safetensors_of(header, data=b"", *, length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(first, last, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize("data, words", [
    (safetensors_of(b"{}", length=1 << 60), "a header of"),
    (safetensors_of(b"{" + b" " * (17 << 20) + b"}"), "are read at most"),
    (safetensors_of(b'{"a":' * 100_000), "RecursionError"),
    (safetensors_of(b'{"a":' + b"[" * 100_000), "RecursionError"),
    (safetensors_of({"t": entry(0, 8, [int("9" * 19)])}, bytes(8)), "whole number"),
    (safetensors_of(b'{"t": ' + b"9" * 5000 + b"}"), "5,000 digits"),
    (safetensors_of(b'{"t": NaN}'), "NaN"),
    (safetensors_of(b"[]"), "AttributeError|TypeError"),
    (safetensors_of({"t": entry(0, 8, [1 << 40])}, bytes(8)), "does not take"),
    (safetensors_of({"t": entry(0, 8, [1 << 32, 1 << 32])}, bytes(8)), "does not take"),
    (safetensors_of({"t": entry(0, 8, [True, 2])}, bytes(8)), "whole number"),
    (safetensors_of({"t": entry(0, 8, [2.0])}, bytes(8)), "whole number"),
    (safetensors_of({"t": entry(0, 8, [1] * 33 + [2])}, bytes(8)), "has the shape"),
    (safetensors_of({"t": entry(0, 8, "ab")}, bytes(8)), "has the shape"),
    (safetensors_of({"t": entry(0, 8, [2], "F8_E4M3")}, bytes(8)), "F8_E4M3"),
    (safetensors_of({"t": entry(0, 8, [2], ["F32"])}, bytes(8)), "unhashable"),
    (safetensors_of({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)), "'b' begins at byte 4"),
    (safetensors_of({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, bytes(20)), "'b' begins at byte 12"),
    (safetensors_of({"a": entry(0, 8, [2])}, bytes(9)), "take 8 bytes; 9 are there"),
    (safetensors_of({"a": entry(0, 8, [2])}, bytes(7)), "take 8 bytes; 7 are there"),
    (safetensors_of(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": 1}', bytes(8)), "given twice"),
], ids=lambda value: value if isinstance(value, str) else "file")
def test_hostile_safetensors(tmp_path, data, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="damaged") as caught:
            read_tensors(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert any(word in caught.value.received for word in words.split("|")), caught.value
    assert len(str(caught.value)) < 600 + len(str(path)) and peak < 64 << 20


def test_empty_and_scalar_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_of({"s": entry(0, 4, []), "e": entry(4, 4, [0, 3]), "t": entry(4, 12, [2])},
                                    np.array([1, 2, 3], "f4").tobytes()))
    found = read_tensors(path)
    assert found["s"] == 1 and found["e"].shape == (0, 3) and found["t"].tolist() == [2, 3]


def npy(shape, dtype="<f4", data=b"", fortran=False):
    text = repr({"descr": dtype, "fortran_order": fortran, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize("content, words", [
    (npy((1 << 40,), data=bytes(8)), "is not 8 bytes"),
    (npy((1 << 32, 1 << 32), data=bytes(8)), "is not 8 bytes"),
    (npy((-2,), data=bytes(8)), "is not 8 bytes"),
    (npy((1,) * 70, data=bytes(4)), "ValueError"),
    (npy((1,), "|O", b"\x80\x04N."), "not numbers"),
    # NumPy 2.4 refuses the type itself
    (npy((1,), "<U1000000000", bytes(4)), ("not numbers", "not a valid dtype")),
    (npy((1,), "<M8[s]", bytes(8)), "not numbers"),
    (b"\x93NUMPY\x02\x00" + b"\xff" * 4, "no array of numbers"),
    (b"hello", "ValueError"),
    (np.zeros(80 << 20, "i1").tobytes(), "announces"),
], ids=lambda value: value if isinstance(value, str) else "file")
def test_hostile_npz(tmp_path, content, words):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", content)
    content = None
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="damaged") as caught:
            read_tensors(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    words = words if isinstance(words, tuple) else (words,)
    assert any(text in caught.value.received for text in words), caught.value
    assert len(str(caught.value)) < 600 + len(str(path)) and peak < 8 << 20


def test_npz_of_both_orders_and_kinds(tmp_path):
    arrays = {"c": np.arange(6, dtype="f4").reshape(2, 3), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
              "big": np.arange(3, dtype=">i4"), "scalar": np.float32(3), "empty": np.zeros((0, 2), "f4")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = read_tensors(tmp_path / "x.npz")
        assert found.keys() == arrays.keys() and all(np.array_equal(found[k], arrays[k]) for k in arrays)
