"""Read PyTorch's checkpoint files without PyTorch and without executing anything in them.

A PyTorch checkpoint is a pickle, whose instructions may call any function on the reader's machine; see
:mod:`~mxnetseg.models.weights.unpickler` for how it is read safely.

There are two formats: the archive of PyTorch 1.6 and later (a zip file with ``data.pkl``, ``data/0``, ``data/1``, ...),
and the stream before it (five pickles, then the raw storages).
"""
from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from ...errors import CheckpointError, reason, short
from ...files import PathLike, open_regular
from .unpickler import STORAGE_DTYPES, Storage, TypeName, Unpickler, damaged, itemsize, size_number

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the beginning of a stream, from PyTorch's serialization.py


def read_torch(path: PathLike) -> Any:
    """Return the object in a PyTorch checkpoint: dictionaries, lists and numbers unchanged, tensors as arrays.

    Floating-point tensors become float32, except float64 ones. Objects of other classes become instances of
    :class:`~mxnetseg.models.weights.unpickler.Shell`.

    Raises:
        CheckpointError: the file is damaged, is no PyTorch checkpoint, or refers to a function that no checkpoint
            needs.
    """
    path = Path(path)
    with open_regular(path, "the weight file", CheckpointError) as file:
        try:
            if file.read(4) != b"PK\x03\x04":
                return _read_stream(file, path)
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, path)
        except (CheckpointError, OSError):
            raise
        except Exception as error:  # the instructions of a damaged pickle can raise any error
            raise damaged(path, reason(error)) from None


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Any:
    """Read the zip format: ``ROOT/data.pkl``, ``ROOT/byteorder``, ``ROOT/data/KEY``."""
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("a zip file, but no PyTorch checkpoint", where=path,
                              received=", ".join(list(entries)[:5])[:200],
                              fix="unpack it and give the weight file in it")
    root = pickles[0].split("/")[0]
    if f"{root}/constants.pkl" in entries:
        raise CheckpointError("a TorchScript program, not a checkpoint", where=path,
                              fix="on a machine with PyTorch: torch.save(torch.jit.load(PATH).state_dict(), NEW)")
    total = unread = path.stat().st_size

    def read(name: str) -> bytes:
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > total:
            raise damaged(path, f"{short(name)} is compressed, which PyTorch never does")
        nonlocal unread
        unread -= info.file_size  # entries of a damaged archive can overlap
        if unread < 0:
            raise damaged(path, "its entries together are larger than the file")
        return archive.read(info)

    byteorder = read(f"{root}/byteorder").decode("ascii") if f"{root}/byteorder" in entries else "little"
    if byteorder not in ("little", "big"):
        raise damaged(path, f"byte order {byteorder!r:.20}")
    loaded: dict[str, bytes] = {}

    def storage(reference: tuple) -> Storage:
        _, storage_type, key, _, numel = reference
        name = f"{root}/data/{_key(key)}"
        if name not in entries:
            raise damaged(path, f"{name[:80]} is missing")

        def load() -> bytes:
            if name not in loaded:
                loaded[name] = read(name)
            return loaded[name]
        return Storage(_storage_dtype(storage_type, path), size_number(numel), load)

    return Unpickler(BytesIO(read(pickles[0])), storage=storage, size=total, byteorder=byteorder, where=path).load()


def _read_stream(file: IO[bytes], path: Path) -> Any:
    """Read the format before PyTorch 1.6: magic number, protocol, system, object, keys of storages, storages.

    The storages come last, so the object is read twice: the first time for their sizes.
    """
    total = path.stat().st_size

    def unpickled(storage: Callable[[tuple], Storage] | None = None) -> Any:
        return Unpickler(file, storage=storage, size=total, byteorder="little", where=path).load()

    file.seek(0)
    if file.read(1) != pickle.PROTO:
        raise damaged(path, "its first byte is wrong")
    file.seek(0)
    if unpickled() != _MAGIC:
        raise damaged(path, "a pickle, but not PyTorch's")
    if unpickled() != _PROTOCOL:
        raise damaged(path, "an unknown protocol")
    unpickled()  # describes the machine that wrote the file; storages are little-endian on all machines
    start = file.tell()

    sizes: dict[str, tuple[str, int]] = {}
    data: dict[str, bytes] = {}

    def storage(reference: tuple) -> Storage:
        _, storage_type, key, _, numel, *view = reference
        dtype = _storage_dtype(storage_type, path)
        sizes[_key(key)] = dtype, size_number(numel)
        begin, count = ((size_number(view[0][1]), size_number(view[0][2])) if view and view[0] is not None
                        else (0, numel))
        if begin + count > numel:
            raise damaged(path, "a storage reaches beyond the one that holds it")
        width = itemsize(dtype)

        def load() -> bytes:
            return data[key][begin * width:(begin + count) * width]
        return Storage(dtype, count, load if key in data else None)

    unpickled(storage)
    for key in unpickled():
        dtype, numel = sizes[_key(key)]
        stored, length = int.from_bytes(file.read(8), "little"), numel * itemsize(dtype)
        if stored != numel:
            raise damaged(path, f"storage {short(key, 40)} holds {stored} numbers, not {numel}")
        if length > total - file.tell():
            raise damaged(path, "its end is missing")
        data[key] = file.read(length)
    if sizes.keys() - data.keys():
        raise damaged(path, "a storage is missing")

    file.seek(start)
    return unpickled(storage)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{short(key, 40)} as the name of a storage")
    return key


def _storage_dtype(storage_type: Any, path: Path) -> str:
    if not isinstance(storage_type, TypeName) or storage_type.text not in STORAGE_DTYPES:
        name = (f"{storage_type.__module__}.{storage_type.__name__}"[:80] if isinstance(storage_type, type)
                else short(storage_type))
        raise CheckpointError("the file holds tensors of a type that cannot be read", where=path, received=name,
                              fix="save it as float32: {k: v.float() for k, v in state_dict.items()}")
    return STORAGE_DTYPES[storage_type.text]
