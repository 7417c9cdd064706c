"""MXNet's ``.params`` files, read and written with NumPy and without MXNet.

``mx.nd.load`` believes what a file says: 24 bytes that announce 2^28 arrays make it allocate 9 GB, and other damage
ends the process. Here every count, length and shape is compared with the size of the file before anything of that size
is allocated. :func:`check_params_file` reads no number of a tensor, :func:`read_arrays` reads all.

All fields are little-endian::

    file     u64 0x112 | u64 reserved | u64 arrays | array ... | u64 names (arrays or 0) | name ...
    name     u64 length | UTF-8
    array    u32 V2 or V3 | i32 storage (0: dense) | shape | context | i32 type | numbers
             u32 V1                                | shape | context | i32 type | numbers
             u32 dimensions | u32 size ...                 | context | i32 type | numbers    (before MXNet 0.11)
    shape    i32 dimensions | i64 size ...
    context  i32 device kind | i32 device number, which the reader ignores

V3 differs from V2 by its meaning alone: NumPy's shapes, where () is a scalar. MXNet reads such files under
``mx.util.np_shape`` only, and the others only without it.
"""
from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import IO, NamedTuple, NoReturn

import numpy as np

from ..errors import CheckpointError, short
from ..files import PathLike, atomic_write, open_regular

MAGIC = (0x112).to_bytes(8, "little")  # how every file begins

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_STORAGES = {1: "row_sparse", 2: "csr"}
_TYPES = {0: ("float32", 4), 1: ("float64", 8), 2: ("float16", 2), 3: ("uint8", 1), 4: ("int32", 4), 5: ("int8", 1),
          6: ("int64", 8), 7: ("bool", 1), 12: ("bfloat16", 2)}  # code -> name, bytes

# Far above every network. They bound the memory of the index, which is larger than what describes it in the file.
_MOST_ARRAYS, _MOST_DIMENSIONS, _LONGEST_NAME = 100_000, 32, 4096


class Tensor(NamedTuple):
    """One array of a file.

    Attributes:
        name: ``''`` in a file without names.
        dtype: NumPy's name of the type, or ``'bfloat16'``.
        shape: sizes.
        offset: position of its first byte in the file; C order, little-endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Index(NamedTuple):
    """The contents of a file.

    Attributes:
        tensors: in the order of the file.
        numpy_shapes: the file must be loaded under ``mx.util.np_shape``.
    """

    tensors: list[Tensor]
    numpy_shapes: bool


def check_params_file(path: PathLike) -> Index:
    """Return the contents of a ``.params`` file after every field was checked against the size of the file.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, or holds what is not read (sparse arrays).
    """
    with open_regular(path, "the weight file", CheckpointError) as file:
        return _Parser(file, path).index()


def read_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.params`` file by name, as they are stored; bfloat16 is converted to float32.

    Raises:
        CheckpointError: the file is missing, unreadable or damaged, or its arrays have no names.
    """
    with open_regular(path, "the weight file", CheckpointError) as file:
        tensors = _Parser(file, path).index().tensors
        arrays = {}
        for tensor in tensors:
            if not tensor.name:
                raise CheckpointError("the arrays of the file have no names", where=path,
                                      received=f"{len(tensors)} arrays",
                                      fix="save them with names: mx.nd.save(PATH, {name: array, ...})")
            stored = np.dtype("u2" if tensor.dtype == "bfloat16" else tensor.dtype).newbyteorder("<")
            size = stored.itemsize * int(np.prod(tensor.shape, dtype=object))  # the parser compared it with the file
            file.seek(tensor.offset)
            data = file.read(size)
            if len(data) != size:  # it was cut since it was checked
                raise CheckpointError("the file is damaged or no MXNet parameter file", where=path,
                                      received=f"array {short(tensor.name)}: the file ends there",
                                      fix="copy or download it again")
            array = np.frombuffer(data, stored).reshape(tensor.shape)
            if tensor.dtype == "bfloat16":  # the upper half of a float32
                array = (array.astype("u4") << 16).view("f4")
            arrays[tensor.name] = array.astype(array.dtype.newbyteorder("="))
    return arrays


def write_arrays(path: PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a ``.params`` file that ``mx.nd.load`` reads (version V2 of the format).

    Args:
        path: the file to write.
        arrays: name -> array of at least one dimension.

    Raises:
        CheckpointError: an array or a name that the format does not have.
    """
    codes = {name: code for code, (name, _) in _TYPES.items() if name != "bfloat16"}
    parts = [MAGIC, struct.pack("<QQ", 0, len(arrays))]
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.name not in codes or array.ndim == 0 or array.size == 0:
            raise CheckpointError("an array cannot be written to a .params file", where=f"{path}: {short(name)}",
                                  received=f"{array.dtype.name} of shape {array.shape}",
                                  fix=f"an array that is not empty, of at least one dimension and of a type of "
                                      f"{', '.join(codes)}")
        parts += [struct.pack(f"<Iii{array.ndim}q", _V2, 0, array.ndim, *array.shape),
                  struct.pack("<iii", 1, 0, codes[array.dtype.name]),  # 1: a CPU
                  array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()]
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode("utf-8")
        if not 0 < len(encoded) <= _LONGEST_NAME or "\0" in name:
            raise CheckpointError("a name cannot be written to a .params file", where=path, received=short(name),
                                  fix=f"a name of 1 to {_LONGEST_NAME} bytes without zero bytes")
        parts += [struct.pack("<Q", len(encoded)), encoded]
    with atomic_write(path) as stream:
        stream.writelines(parts)


class _Parser:
    """Reads the fields of one open file in their order."""

    def __init__(self, file: IO[bytes], path: PathLike):
        self.file, self.path = file, path
        self.size = file.seek(0, 2)
        self.place = file.seek(0)
        self.reading = "the header"  # for messages

    def index(self) -> Index:
        if self._take(8) != MAGIC:
            self._damaged("it does not begin like one")
        self._take(8)  # reserved
        count = self._count("arrays", 25)  # bytes of the shortest array, a scalar

        tensors, versions = [], set()
        for i in range(count):
            self.reading = f"array {i + 1} of {count}"
            magic, tensor = self._array()
            tensors.append(tensor)
            versions.add(magic == _V3)
        if len(versions) > 1:
            self._damaged("arrays with and without NumPy's shapes")

        self.reading = "the list of names"
        named = self._count("names", 8)
        if named not in (0, count):
            self._damaged(f"{named} names of {count} arrays")
        names = self._names(named) or [""] * count
        if self.place != self.size:
            self._damaged(f"{self.size - self.place:,} bytes follow the end")
        return Index([t._replace(name=name) for t, name in zip(tensors, names)], versions == {True})

    def _array(self) -> tuple[int, Tensor]:
        magic, = self._numbers("I")
        if magic in (_V2, _V3):
            storage, = self._numbers("i")
            if storage in _STORAGES:
                raise CheckpointError("the file holds sparse arrays, which are not read", where=self.path,
                                      received=f"{self.reading} is of storage type {_STORAGES[storage]}",
                                      fix="save it dense: mx.nd.save(PATH, {name: array.tostype('default'), ...})")
            if storage != 0:
                self._damaged(f"storage type {storage}")
        if magic in (_V1, _V2, _V3):
            dimensions, = self._numbers("i")
            size_code = "q"
        else:
            dimensions, size_code = magic, "I"
        if not (magic != _V3) <= dimensions <= _MOST_DIMENSIONS:
            self._damaged(f"{dimensions} dimensions")
        shape = self._numbers(f"{dimensions}{size_code}")

        _, _, code = self._numbers("iii")
        if code not in _TYPES:
            self._damaged(f"type {code} of numbers")
        dtype, length = _TYPES[code]
        for size in shape:
            if not 0 <= size < 1 << 63:
                self._damaged(f"shape {short(shape)}")
            length *= size
        if length > self.size - self.place:
            self._damaged(f"shape {short(shape)} of {dtype} takes {short(length)} bytes; "
                          f"{self.size - self.place:,} are left")
        tensor = Tensor("", dtype, shape, self.place)
        self.place = self.file.seek(length, 1)
        return magic, tensor

    def _names(self, count: int) -> list[str]:
        names: dict[str, None] = {}
        for i in range(count):
            self.reading = f"name {i + 1} of {count}"
            length, = self._numbers("Q")
            if length > _LONGEST_NAME:
                self._damaged(f"a name of {length:,} bytes")
            try:
                name = self._take(length).decode("utf-8")
            except UnicodeDecodeError:
                self._damaged("a name that is not UTF-8")
            if "\0" in name:  # MXNet cuts the name off there
                self._damaged(f"the name {short(name)} holds a zero byte")
            if name in names:  # the last one would win
                self._damaged(f"the name {short(name)} is given twice")
            names[name] = None
        return list(names)

    def _count(self, what: str, least: int) -> int:
        """Read a number of things that take ``least`` bytes each or more."""
        count, = self._numbers("Q")
        rest = self.size - self.place
        if count > rest // least:
            self._damaged(f"it announces {count:,} {what}; {rest:,} bytes are left")
        if count > _MOST_ARRAYS:
            raise CheckpointError("the file holds too many arrays", where=self.path,
                                  received=f"{count:,}; {_MOST_ARRAYS:,} are read at most",
                                  fix="split it, or give a file with the network's parameters only")
        return count

    def _numbers(self, codes: str) -> tuple[int, ...]:
        numbers = struct.Struct("<" + codes)
        return numbers.unpack(self._take(numbers.size))

    def _take(self, count: int) -> bytes:
        if count > self.size - self.place:
            self._damaged("the file ends there")
        data = self.file.read(count)
        self.place += count
        if len(data) != count:  # it was cut while it was read
            self._damaged("the file ends there")
        return data

    def _damaged(self, violation: str) -> NoReturn:
        raise CheckpointError("the file is damaged or no MXNet parameter file", where=self.path,
                              received=f"{self.reading}, byte {self.place:,}: {violation}",
                              fix="copy or download it again")
