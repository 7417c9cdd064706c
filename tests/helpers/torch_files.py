"""Write PyTorch checkpoints without PyTorch, opcode by opcode, sound ones and hostile ones."""
import struct
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
            "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}


class Call(NamedTuple):
    """An object made by calling ``module.name(*arguments)``; with ``state`` and ``items`` set afterwards."""

    module: str
    name: str
    arguments: tuple = ()
    state: object = None
    items: dict = None


class Global(NamedTuple):
    """``module.name`` itself."""

    module: str
    name: str


class Storage(NamedTuple):
    """Numbers that tensors share. ``storage_class``: PyTorch's; ``numel``: their number according to the pickle."""

    key: str
    array: np.ndarray
    storage_class: str = None
    numel: int = None


class Tensor(NamedTuple):
    """A tensor over a storage; strides and offset count numbers."""

    storage: Storage
    size: tuple
    stride: tuple
    offset: int = 0


def tensor(key, array, storage_class=None):
    """Return a tensor with its own storage."""
    array = np.array(array, order="C")  # keeps 0 dimensions
    strides = [s // array.itemsize for s in array.strides]
    return Tensor(Storage(key, array.reshape(-1), storage_class), array.shape, tuple(strides))


def state_dict(arrays):
    """Return arrays by name as a state dictionary of tensors."""
    return OrderedDict((name, tensor(str(i), array)) for i, (name, array) in enumerate(arrays.items()))


def dumps(value, storages, *, legacy=False):
    """Return one pickle, protocol 2, and add the storages it refers to to ``storages``: key -> array."""
    out = [b"\x80\x02"]

    def save(v):
        if v is None or isinstance(v, bool):
            out.append({None: b"N", True: b"\x88", False: b"\x89"}[v])
        elif isinstance(v, Global):
            out.append(f"c{v.module}\n{v.name}\n".encode())
        elif isinstance(v, Call):
            save(Global(v.module, v.name))
            save(tuple(v.arguments))
            out.append(b"R")
            if v.items is not None:
                out.append(b"(")
                for pair in v.items.items():
                    save(pair[0])
                    save(pair[1])
                out.append(b"u")
            if v.state is not None:
                save(v.state)
                out.append(b"b")
        elif isinstance(v, Storage):
            storages[v.key] = v.array
            storage_class = v.storage_class or STORAGES[v.array.dtype.str[1:]]
            numel = v.array.size if v.numel is None else v.numel
            save(("storage", Global("torch", storage_class), v.key, "cpu", numel, *([None] if legacy else [])))
            out.append(b"Q")
        elif isinstance(v, Tensor):
            save(Call("torch._utils", "_rebuild_tensor_v2", (
                v.storage, v.offset, tuple(v.size), tuple(v.stride), False, Call("collections", "OrderedDict"))))
        elif isinstance(v, (bool, int)):
            size = max(1, (v.bit_length() + 8) // 8)
            out.append(b"\x8a" + bytes([size]) + v.to_bytes(size, "little", signed=True))
        elif isinstance(v, float):
            out.append(b"G" + struct.pack(">d", v))
        elif isinstance(v, str):
            out.append(b"X" + struct.pack("<I", len(v.encode())) + v.encode())
        elif isinstance(v, OrderedDict):
            save(Call("collections", "OrderedDict", items=dict(v), state={"_metadata": {}}))
        elif isinstance(v, dict):
            out.append(b"}(")
            for pair in v.items():
                save(pair[0])
                save(pair[1])
            out.append(b"u")
        elif isinstance(v, (list, tuple)):
            out.append(b"](" if isinstance(v, list) else b"(")
            for item in v:
                save(item)
            out.append(b"e" if isinstance(v, list) else b"t")
        else:
            raise TypeError(type(v))
    save(value)
    return b"".join([*out, b"."])


def write_zip(path, value, *, byteorder="little", root="archive", compress=False, leave_out=()):
    """Write the format of PyTorch 1.6 and later. ``leave_out``: entries below the root that are not written."""
    storages = {}
    entries = {"data.pkl": dumps(value, storages), "byteorder": byteorder.encode(), "version": b"3\n"}
    order = {"little": "<", "big": ">"}.get(byteorder, "<")
    entries.update({f"data/{key}": array.astype(array.dtype.newbyteorder(order)).tobytes()
                    for key, array in storages.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            if name not in leave_out:
                archive.writestr(f"{root}/{name}", data)
    return path


def write_stream(path, value, *, magic=0x1950A86A20F9469CFC6C, protocol=1001, sizes=()):
    """Write the format before PyTorch 1.6. ``sizes``: key -> another length than the storage has."""
    storages = {}
    body = dumps(value, storages, legacy=True)
    with open(path, "wb") as file:
        for header in (magic, protocol, {"little_endian": True, "protocol_version": protocol}):
            file.write(dumps(header, {}))
        file.write(body + dumps(list(storages), {}))
        for key, array in storages.items():
            file.write(struct.pack("<q", dict(sizes).get(key, array.size)) + array.tobytes())
    return path


WRITERS = {"zip": write_zip, "stream": write_stream}
