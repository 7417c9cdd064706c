"""The files ``.safetensors`` and ``.npz``: named tensors beside a description of them.

A description is believed only where the size of the file bears it out, before anything of that size is allocated.
"""
from __future__ import annotations

import json
import math
import zipfile
from typing import IO, Any

import numpy as np

from ...errors import CheckpointError, reason, short
from ...files import PathLike, open_regular

_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
                "I8": "i1", "U8": "u1", "BOOL": "?"}
_LONGEST_HEADER = 16 << 20  # bytes; JSON takes some twenty times that in memory. 1000 tensors need 0.1 MiB
_MOST_DIMENSIONS = 32  # what NumPy 1 can hold

# Compressed numbers may become so many times larger than the file. Deflate reaches 1000 with zeros.
_MOST_EXPANSION, _ALWAYS_ALLOWED = 20, 64 << 20


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Return the tensors of a ``.safetensors`` file; bfloat16 ones, which NumPy does not have, as float32.

    The format is eight bytes with the length of a JSON header, the header, and the numbers; the package of that
    name would be one more to install, and its NumPy side has no bfloat16.

    Raises:
        CheckpointError: the file is missing, unreadable or damaged.
    """
    with open_regular(path, "the weight file", CheckpointError) as file:
        try:
            return _safetensors(file)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged("safetensors", path, error) from None


def _safetensors(file: IO[bytes]) -> dict[str, np.ndarray]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes; {_LONGEST_HEADER:,} are read at most")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique, parse_int=_int,
                        parse_constant=_no_constant)
    header.pop("__metadata__", None)

    places = sorted((*_place(name, entry), name) for name, entry in header.items())
    end = 0
    for first, last, name in places:
        if first != end:
            raise ValueError(f"{short(name)} begins at byte {short(first)} of the numbers, not at {end:,}")
        end = last
    if end != size - 8 - length:
        raise ValueError(f"the tensors take {short(end)} bytes; {size - 8 - length:,} are there")

    data = file.read(end)
    tensors = {}
    for first, _, name in places:
        entry = header[name]
        array = np.frombuffer(data, _SAFETENSORS[entry["dtype"]], count=math.prod(entry["shape"]),
                              offset=first).reshape(entry["shape"])
        tensors[name] = (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array
    return {name: tensors[name] for name in header}


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Return first byte and end of a tensor, which its type and shape must fill."""
    first, last = entry["data_offsets"]
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype not in _SAFETENSORS:
        raise ValueError(f"{short(name)} is of type {short(dtype)}")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{short(name)} has the shape {short(shape)}")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in (first, last, *shape)):
        raise ValueError(f"{short(name)} has a size or place that is no whole number >= 0: {short(entry)}")
    if last - first != math.prod(shape) * np.dtype(_SAFETENSORS[dtype]).itemsize:
        raise ValueError(f"{short(name)} of type {dtype} and shape {short(shape)} does not take {last - first:,} bytes")
    return first, last


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{short(next(name for name in found if names.count(name) > 1))} is given twice")
    return found


def _int(digits: str) -> int:
    if len(digits) > 20:  # of 64 bits; reading very many digits takes long
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npz`` file of ``numpy.savez`` or ``numpy.savez_compressed``.

    ``numpy.load`` would allocate what an array's header asks for, however little follows it.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, or holds what is no numbers.
    """
    with open_regular(path, "the weight file", CheckpointError) as file:
        size = file.seek(0, 2)
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len({member.filename for member in members}) != len(members):
                    raise ValueError("two members of one name")
                total = sum(member.file_size for member in members)
                if total > _ALWAYS_ALLOWED + _MOST_EXPANSION * size:
                    raise ValueError(f"it announces {total:,} bytes of arrays in {size:,} of file")
                return {member.filename[:-4] if member.filename.endswith(".npy") else member.filename:
                        _npy(archive, member) for member in members}
        except OSError:
            raise
        except Exception as error:  # zlib, lzma and bz2 each have their own
            raise _damaged("npz", path, error) from None


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):  # later ones are for arrays of structures
            raise ValueError(f"{short(member.filename)} is no array of numbers")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"{short(member.filename)} holds {short(dtype)}, not numbers")
        data = file.read()
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"{short(member.filename)}: shape {short(shape)} of {dtype} is not {len(data):,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _damaged(ending: str, path: PathLike, error: Exception) -> CheckpointError:
    return CheckpointError(f"the file is damaged or no .{ending} file", where=path, received=reason(error),
                           fix="copy or download it again")
