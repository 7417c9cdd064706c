"""PyTorch's checkpoint files, read without PyTorch and without running anything that is in them.

A PyTorch checkpoint is a pickle, a program whose instructions may call any function on the reader's machine. Here
that program runs in a cell: of all names it can ask for, the few that a tensor consists of lead to code of this
module, names that only an attack would ask for are refused, and every other class becomes an empty shell.

Two formats: the archive of PyTorch 1.6 and later (a zip file with ``data.pkl``, ``data/0``, ``data/1``, ...),
and the stream before it (five pickles, then the raw storages).
"""
from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple

import numpy as np

from ...errors import CheckpointError, reason, short
from ...files import open_regular

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how the stream begins, after PyTorch's serialization.py
_BFLOAT16 = "bfloat16"  # NumPy has none

_STORAGES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
             "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
             "BoolStorage": "?", "UntypedStorage": "u1", "_UntypedStorage": "u1"}
_DTYPES = {"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": _BFLOAT16, "int64": "i8", "int32": "i4",
           "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?"}

_DICTIONARIES = {("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict"),
                 ("__builtin__", "dict")}

# No checkpoint has a use for these. They would be harmless shells too, but who meets them should know.
_HOSTILE_MODULES = {"os", "posix", "nt", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes",
                    "code", "commands", "webbrowser", "multiprocessing", "asyncio", "pickle", "_pickle", "sys",
                    "signal", "threading", "tempfile", "urllib", "http", "requests"}
_HOSTILE_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile", "globals"}

# A tensor can show one number of its storage many times (stride 0). Up to here it may; a damaged or a hostile
# file could ask for more than there is memory.
_SPREAD = 1 << 20

# Far above every checkpoint. An instruction of one byte can make an object of 200 bytes, one of five bytes a class.
_MOST_READS, _MOST_CLASSES, _LONGEST_LINE, _MOST_DIMENSIONS = 5_000_000, 1000, 4096, 32


def read_torch(path: str | Path) -> Any:
    """The object in a PyTorch checkpoint: dictionaries, lists and numbers as they are, tensors as arrays.

    Floating-point tensors come as float32, float64 ones as float64. Objects of other classes are instances of
    :class:`Shell`.

    Raises:
        CheckpointError: the file is damaged, no PyTorch checkpoint, or asks for a function that no checkpoint needs.
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
        except Exception as error:  # the broken instructions of a damaged pickle can lead to any exception
            raise _damaged(path, reason(error)) from None


class Shell:
    """Placeholder for an object of a class that is not read: it accepts everything and does nothing."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return Shell()

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    extend = add = update = append


class _Storage(NamedTuple):
    """Bytes that tensors share, and how to read them."""

    dtype: str
    numel: int
    load: Callable[[], bytes] | None  # None: not available yet


class _Bounded:
    """A file for the unpickler, which would reserve memory for any length that an instruction names.

    Args:
        size: bytes of the whole file.
    """

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size, self._left = file, size, _MOST_READS

    def read(self, count: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {_MOST_READS:,} instructions")
        if count > _LONGEST_LINE and count > self._size - self._file.tell():
            raise EOFError("its end is missing")
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:  # PyTorch writes names of classes only; as a number, it would take long
            raise ValueError(f"a line of {_LONGEST_LINE} bytes or more")
        return line


def _is_small(key: Any) -> bool:
    """Return whether a key can be hashed quickly: that takes time for each way through a nested tuple."""
    items = [key]
    for _ in range(64):
        if not items:
            return True
        item = items.pop()
        if isinstance(item, tuple):
            items += item[:64]
    return False


def _with_small_keys(instruction: bytes, keys: Callable[[list], Iterable]) -> Callable[[_Unpickler], None]:
    """Return the code of an instruction that hashes keys, with a check of the keys on the stack before it."""
    run = pickle._Unpickler.dispatch[instruction[0]]

    def load(self: _Unpickler) -> None:
        if not all(map(_is_small, keys(self.stack))):
            raise ValueError("a key of nested tuples")
        run(self)
    return load


def _load_reduce(self: _Unpickler) -> None:
    if not isinstance(self.stack[-1], tuple):  # an array would become a million arguments
        raise ValueError("arguments that are no tuple")
    pickle._Unpickler.load_reduce(self)


class _Unpickler(pickle._Unpickler):
    """The cell. Uses Python's unpickler written in Python: the C one allocates the memory that an instruction asks for.

    Args:
        file: to read from; exactly one pickle is consumed.
        storage: how to get the storage that a persistent id names.
        size: bytes of the whole file.
        where: the file, for messages.
    """

    dispatch = {
        **pickle._Unpickler.dispatch,
        # State is what objects of other classes are set from; ours need none. So BUILD changes nothing at all.
        pickle.BUILD[0]: lambda self: self.stack.pop(),
        pickle.FRAME[0]: lambda self: self.read(8),  # how much to read ahead: nothing
        pickle.BYTEARRAY8[0]: lambda self: self.append(bytearray(self.read(int.from_bytes(self.read(8), "little")))),
        pickle.REDUCE[0]: _load_reduce,
        pickle.SETITEM[0]: _with_small_keys(pickle.SETITEM, lambda stack: stack[-2:-1]),
        pickle.SETITEMS[0]: _with_small_keys(pickle.SETITEMS, lambda stack: stack[::2]),
        pickle.DICT[0]: _with_small_keys(pickle.DICT, lambda stack: stack[::2]),
        pickle.ADDITEMS[0]: _with_small_keys(pickle.ADDITEMS, lambda stack: stack),
        pickle.FROZENSET[0]: _with_small_keys(pickle.FROZENSET, lambda stack: stack),
    }

    def __init__(self, file: IO[bytes], *, storage: Callable[[tuple], _Storage] | None, size: int, byteorder: str,
                 where: Path):
        super().__init__(_Bounded(file, size), encoding="utf-8", errors="replace")
        self._shells: dict[tuple[str, str], type] = {}
        self._storage, self._where, self._byteorder = storage, where, byteorder
        self._left = 8 * size + (1 << 26)  # bytes that all tensors together may take

    def persistent_load(self, pid):
        if self._storage is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise _damaged(self._where, f"a reference that is none to a storage: {short(pid, 60)}")
        return self._storage(pid)

    def find_class(self, module: str, name: str):
        if (module, name) in _DICTIONARIES:
            return _ordered
        if module == "torch" or module.startswith("torch."):
            rebuild = {"_rebuild_tensor": self._tensor, "_rebuild_tensor_v2": self._tensor,
                       "_rebuild_tensor_v3": self._tensor_of, "_rebuild_parameter": _first,
                       "_rebuild_parameter_with_state": _first, "_rebuild_from_type_v2": _rebuild_from_type}.get(name)
            if rebuild is not None:
                return rebuild
            if name in _STORAGES or (module == "torch" and name in _DTYPES):
                return _Name(name)
        top = module.split(".", 1)[0]
        if top in _HOSTILE_MODULES or top in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS:
            raise CheckpointError("the file asks to run a function that no checkpoint needs; nothing was run",
                                  where=self._where, received=f"{module}.{name}"[:80],
                                  fix="do not load this file with other programs either; get it from its source again")
        if (module, name) not in self._shells:
            if len(self._shells) == _MOST_CLASSES:
                raise _damaged(self._where, f"more than {_MOST_CLASSES} classes")
            self._shells[module, name] = type(name, (Shell,), {"__module__": module})
        return self._shells[module, name]

    def _tensor_of(self, storage, offset, size, stride, requires_grad, hooks, dtype, *_):
        return self._tensor(storage._replace(dtype=_DTYPES[dtype.text],
                                             numel=storage.numel // _itemsize(_DTYPES[dtype.text])),
                            offset, size, stride)

    def _tensor(self, storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_) -> np.ndarray:
        """A tensor over a storage, as an array of its own or a view."""
        if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
            raise ValueError(f"{len(size)} sizes and {len(stride)} strides")
        shape, steps = [_whole(n) for n in size], [_whole(n) for n in stride]
        count = 1
        for n in shape:
            count *= n
        last = _whole(offset) + sum((n - 1) * step for n, step in zip(shape, steps)) if count else 0
        if last >= storage.numel and count or count > max(storage.numel, _SPREAD):
            raise _damaged(self._where, f"a tensor of {short(shape)} in a storage of {storage.numel}")
        self._left -= count * 4
        if self._left < 0:
            raise _damaged(self._where, "its tensors together are many times larger than the file")
        if storage.load is None or not count:
            return np.zeros(shape if storage.load else 0, np.float32)
        data = storage.load()
        if len(data) < storage.numel * _itemsize(storage.dtype):
            raise _damaged(self._where, f"a storage of {storage.numel} numbers has {len(data)} bytes")
        kind = "u2" if storage.dtype == _BFLOAT16 else storage.dtype
        flat = np.frombuffer(data, np.dtype(kind).newbyteorder(self._byteorder), count=storage.numel)
        array = np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * flat.itemsize for s in steps])
        if storage.dtype == _BFLOAT16:  # the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype("f4" if kind == "f2" else array.dtype.newbyteorder("="), copy=False)


class _Name(NamedTuple):
    """The name of a type of storage or number."""

    text: str


def _ordered(*args) -> OrderedDict:
    """A dictionary; a default's factory is left out."""
    pairs = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 and _is_small(pair[0]) for pair in pairs):
        raise ValueError("a dictionary of what is no pairs, or of keys of nested tuples")
    return OrderedDict(pairs)


def _first(value, *_):
    """Return the tensor that a parameter is made from."""
    return value


def _rebuild_from_type(rebuild, kind, args, state):
    """A tensor of a subclass, or with attributes: the tensor alone. What is no tensor stays a shell."""
    return rebuild(*args)


def _whole(n) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 1 << 63:
        raise ValueError(f"{short(n, 40)} as a size")
    return n


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{short(key, 40)} as the name of a storage")
    return key


def _itemsize(dtype: str) -> int:
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _damaged(path: Path, received: str) -> CheckpointError:
    return CheckpointError("the file is damaged or no PyTorch checkpoint", where=path, received=received,
                           fix="copy or download it again")


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Any:
    """The zip format: ``ROOT/data.pkl``, ``ROOT/byteorder``, ``ROOT/data/KEY``."""
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("a zip file, but no PyTorch checkpoint", where=path,
                              received=", ".join(list(entries)[:5])[:200],
                              fix="unpack it and give the weight file in it")
    root = pickles[0].split("/")[0]
    if f"{root}/constants.pkl" in entries:
        raise CheckpointError("a TorchScript program, not a checkpoint", where=path,
                              fix="where PyTorch is at hand: torch.save(torch.jit.load(PATH).state_dict(), NEW)")
    total = left = path.stat().st_size

    def read(name: str) -> bytes:
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > total:
            raise _damaged(path, f"{short(name)} is compressed, which PyTorch never does")
        nonlocal left
        left -= info.file_size  # entries of a damaged archive can lie over one another
        if left < 0:
            raise _damaged(path, "its entries together are larger than the file")
        return archive.read(info)

    byteorder = read(f"{root}/byteorder").decode("ascii") if f"{root}/byteorder" in entries else "little"
    if byteorder not in ("little", "big"):
        raise _damaged(path, f"byte order {byteorder!r:.20}")
    loaded: dict[str, bytes] = {}

    def storage(pid: tuple) -> _Storage:
        _, kind, key, _, numel = pid
        name = f"{root}/data/{_key(key)}"
        if name not in entries:
            raise _damaged(path, f"{name[:80]} is missing")

        def load() -> bytes:
            if name not in loaded:
                loaded[name] = read(name)
            return loaded[name]
        return _Storage(_storage_dtype(kind, path), _whole(numel), load)

    return _Unpickler(BytesIO(read(pickles[0])), storage=storage, size=total, byteorder=byteorder, where=path).load()


def _read_stream(file: IO[bytes], path: Path) -> Any:
    """The format before PyTorch 1.6: magic number, protocol, system, object, keys of storages, storages.

    The storages come last, so the object is read twice: first for their sizes.
    """
    total = path.stat().st_size

    def unpickled(storage=None):
        return _Unpickler(file, storage=storage, size=total, byteorder="little", where=path).load()

    file.seek(0)
    if file.read(1) != pickle.PROTO:
        raise _damaged(path, "it begins like none")
    file.seek(0)
    if unpickled() != _MAGIC:
        raise _damaged(path, "a pickle, but not PyTorch's")
    if unpickled() != _PROTOCOL:
        raise _damaged(path, "a protocol that is not known")
    unpickled()  # byte order of the machine that wrote it; storages are always little-endian
    start = file.tell()
    sizes: dict[str, tuple[str, int]] = {}
    data: dict[str, bytes] = {}

    def storage(pid: tuple) -> _Storage:
        _, kind, key, _, numel, *view = pid
        dtype = _storage_dtype(kind, path)
        sizes[_key(key)] = dtype, _whole(numel)
        begin, count = (_whole(view[0][1]), _whole(view[0][2])) if view and view[0] is not None else (0, numel)
        if begin + count > numel:
            raise _damaged(path, "a storage reaches beyond the one that holds it")
        width = _itemsize(dtype)

        def load() -> bytes:
            return data[key][begin * width:(begin + count) * width]
        return _Storage(dtype, count, load if key in data else None)

    unpickled(storage)
    for key in unpickled():
        dtype, numel = sizes[_key(key)]
        stored, length = int.from_bytes(file.read(8), "little"), numel * _itemsize(dtype)
        if stored != numel:
            raise _damaged(path, f"storage {short(key, 40)} holds {stored} numbers, not {numel}")
        if length > total - file.tell():
            raise _damaged(path, "its end is missing")
        data[key] = file.read(length)
    if sizes.keys() - data.keys():
        raise _damaged(path, "a storage is missing")
    file.seek(start)
    return unpickled(storage)


def _storage_dtype(kind: Any, path: Path) -> str:
    if not isinstance(kind, _Name) or kind.text not in _STORAGES:
        name = f"{kind.__module__}.{kind.__name__}"[:80] if isinstance(kind, type) else short(kind)
        raise CheckpointError("the file holds tensors of a type that is not read", where=path, received=name,
                              fix="save it as float32: {k: v.float() for k, v in state_dict.items()}")
    return _STORAGES[kind.text]
