"""Unpickle PyTorch's objects without PyTorch and without calling any function that the pickle names.

The few names that a tensor consists of lead to code of this module, names that only an attack would use are refused,
and every other class becomes an empty shell. Memory and time are bounded by the size of the file.
"""
from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...errors import CheckpointError, short

_BFLOAT16 = "bfloat16"  # NumPy has none

# PyTorch's names -> NumPy's
STORAGE_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "UntypedStorage": "u1", "_UntypedStorage": "u1"}
_DTYPES = {"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": _BFLOAT16, "int64": "i8", "int32": "i4",
           "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?"}

_DICTIONARIES = {("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict"),
                 ("__builtin__", "dict")}

# No checkpoint uses these. They would be harmless shells too, but the user should know that the file is an attack.
_HOSTILE_MODULES = {"os", "posix", "nt", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes",
                    "code", "commands", "webbrowser", "multiprocessing", "asyncio", "pickle", "_pickle", "sys",
                    "signal", "threading", "tempfile", "urllib", "http", "requests"}
_HOSTILE_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile", "globals"}

# A tensor can repeat one number of its storage many times (stride 0). It may have this many elements; a damaged or
# hostile file could ask for more than the memory holds.
_MOST_REPEATED = 1 << 20

# Far above every checkpoint. An instruction of one byte can create an object of 200 bytes, one of five bytes a class.
_MOST_READS, _MOST_CLASSES, _LONGEST_LINE, _MOST_DIMENSIONS = 5_000_000, 1000, 4096, 32


class Shell:
    """Object of a class that is not read: it accepts every call and does nothing."""

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


class Storage(NamedTuple):
    """Numbers that tensors share.

    Attributes:
        dtype: NumPy's name of their type, or ``'bfloat16'``.
        numel: how many.
        load: returns their bytes; None as long as these are not available.
    """

    dtype: str
    numel: int
    load: Callable[[], bytes] | None


class TypeName(NamedTuple):
    """Name of a type of storages or numbers."""

    text: str


class _BoundedFile:
    """A file that bounds the requests of the unpickler, which would reserve memory for any length in an instruction.

    Args:
        file: to read from.
        size: bytes of the whole checkpoint.
    """

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size, self._reads_left = file, size, _MOST_READS

    def read(self, count: int) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ValueError(f"more than {_MOST_READS:,} instructions")
        if count > _LONGEST_LINE and count > self._size - self._file.tell():
            raise EOFError("its end is missing")
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:  # PyTorch writes only class names as lines; a number of this length is slow
            raise ValueError(f"a line of {_LONGEST_LINE} bytes or more")
        return line


def _is_small(key: Any) -> bool:
    """Return whether a key can be hashed quickly: a nested tuple is hashed once for every path through it."""
    items = [key]
    for _ in range(64):
        if not items:
            return True
        item = items.pop()
        if isinstance(item, tuple):
            items += item[:64]
    return False


def _with_small_keys(instruction: bytes, keys: Callable[[list], Iterable]) -> Callable[[Unpickler], None]:
    """Return the code of an instruction that hashes keys, preceded by a check of the keys on the stack."""
    run = pickle._Unpickler.dispatch[instruction[0]]

    def load(self: Unpickler) -> None:
        if not all(map(_is_small, keys(self.stack))):
            raise ValueError("a key of nested tuples")
        run(self)
    return load


def _load_reduce(self: Unpickler) -> None:
    if not isinstance(self.stack[-1], tuple):  # an array would become a million arguments
        raise ValueError("arguments that are no tuple")
    pickle._Unpickler.load_reduce(self)


class Unpickler(pickle._Unpickler):
    """Unpickler of the standard library with restricted names, instructions and sizes.

    It derives from the one written in Python, because the one in C reserves as much memory as an instruction asks for.

    Args:
        file: to read from; exactly one pickle is consumed.
        storage: returns the storage of a persistent id; None if the pickle must not refer to one.
        size: bytes of the whole checkpoint.
        byteorder: of the storages, ``'little'`` or ``'big'``.
        where: the file, for messages.
    """

    dispatch = {
        **pickle._Unpickler.dispatch,
        # BUILD sets the state of objects of other classes. Shells need none, so it only drops the state.
        pickle.BUILD[0]: lambda self: self.stack.pop(),
        pickle.FRAME[0]: lambda self: self.read(8),  # a length to read ahead, which is skipped
        pickle.BYTEARRAY8[0]: lambda self: self.append(bytearray(self.read(int.from_bytes(self.read(8), "little")))),
        pickle.REDUCE[0]: _load_reduce,
        pickle.SETITEM[0]: _with_small_keys(pickle.SETITEM, lambda stack: stack[-2:-1]),
        pickle.SETITEMS[0]: _with_small_keys(pickle.SETITEMS, lambda stack: stack[::2]),
        pickle.DICT[0]: _with_small_keys(pickle.DICT, lambda stack: stack[::2]),
        pickle.ADDITEMS[0]: _with_small_keys(pickle.ADDITEMS, lambda stack: stack),
        pickle.FROZENSET[0]: _with_small_keys(pickle.FROZENSET, lambda stack: stack),
    }

    def __init__(self, file: IO[bytes], *, storage: Callable[[tuple], Storage] | None, size: int, byteorder: str,
                 where: Path):
        super().__init__(_BoundedFile(file, size), encoding="utf-8", errors="replace")
        self._shells: dict[tuple[str, str], type] = {}
        self._storage, self._where, self._byteorder = storage, where, byteorder
        self._bytes_left = 8 * size + (1 << 26)  # that all tensors together may take

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a persistent id refers to."""
        if self._storage is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise damaged(self._where, f"a reference that is not to a storage: {short(pid, 60)}")
        return self._storage(pid)

    def find_class(self, module: str, name: str) -> Any:
        """Return code of this module for the names of tensors, and a shell for other classes.

        Raises:
            CheckpointError: only an attack would refer to that name, or the file refers to too many.
        """
        if (module, name) in _DICTIONARIES:
            return _ordered
        if module == "torch" or module.startswith("torch."):
            rebuild = {"_rebuild_tensor": self._tensor, "_rebuild_tensor_v2": self._tensor,
                       "_rebuild_tensor_v3": self._tensor_of_dtype, "_rebuild_parameter": _first,
                       "_rebuild_parameter_with_state": _first, "_rebuild_from_type_v2": _rebuild_from_type}.get(name)
            if rebuild is not None:
                return rebuild
            if name in STORAGE_DTYPES or (module == "torch" and name in _DTYPES):
                return TypeName(name)

        package = module.split(".", 1)[0]
        if package in _HOSTILE_MODULES or package in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS:
            raise CheckpointError("the file asks to run a function that no checkpoint needs; nothing was run",
                                  where=self._where, received=f"{module}.{name}"[:80],
                                  fix="do not load this file with other programs either; get it from its source again")

        if (module, name) not in self._shells:
            if len(self._shells) == _MOST_CLASSES:
                raise damaged(self._where, f"more than {_MOST_CLASSES} classes")
            self._shells[module, name] = type(name, (Shell,), {"__module__": module})
        return self._shells[module, name]

    def _tensor_of_dtype(self, storage, offset, size, stride, requires_grad, hooks, dtype, *_):
        dtype = _DTYPES[dtype.text]
        return self._tensor(storage._replace(dtype=dtype, numel=storage.numel // itemsize(dtype)), offset, size, stride)

    def _tensor(self, storage: Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_) -> np.ndarray:
        """Return a tensor over a storage as an array, a view where possible."""
        if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
            raise ValueError(f"{len(size)} sizes and {len(stride)} strides")
        shape, steps = [size_number(n) for n in size], [size_number(n) for n in stride]
        count = 1
        for n in shape:
            count *= n

        last = size_number(offset) + sum((n - 1) * step for n, step in zip(shape, steps)) if count else 0
        if last >= storage.numel and count or count > max(storage.numel, _MOST_REPEATED):
            raise damaged(self._where, f"a tensor of {short(shape)} in a storage of {storage.numel}")
        self._bytes_left -= count * 4
        if self._bytes_left < 0:
            raise damaged(self._where, "its tensors together are many times larger than the file")

        if storage.load is None or not count:
            return np.zeros(shape if storage.load else 0, np.float32)
        data = storage.load()
        if len(data) < storage.numel * itemsize(storage.dtype):
            raise damaged(self._where, f"a storage of {storage.numel} numbers has {len(data)} bytes")

        dtype = "u2" if storage.dtype == _BFLOAT16 else storage.dtype
        flat = np.frombuffer(data, np.dtype(dtype).newbyteorder(self._byteorder), count=storage.numel)
        array = np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * flat.itemsize for s in steps])
        if storage.dtype == _BFLOAT16:  # the upper half of a float32
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype("f4" if dtype == "f2" else array.dtype.newbyteorder("="), copy=False)


def _ordered(*args) -> OrderedDict:
    """Return a dictionary of the given pairs, without the factory of a default."""
    pairs = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 and _is_small(pair[0]) for pair in pairs):
        raise ValueError("a dictionary from something else than pairs, or with keys of nested tuples")
    return OrderedDict(pairs)


def _first(value, *_):
    """Return the tensor of a parameter."""
    return value


def _rebuild_from_type(rebuild, tensor_class, args, state):
    """Return only the tensor of a subclass, or of one with attributes. An object that is no tensor stays a shell."""
    return rebuild(*args)


def size_number(n: Any) -> int:
    """Return a size, stride or offset.

    Raises:
        ValueError: it is not a whole number of 0 .. 2^63 - 1.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 1 << 63:
        raise ValueError(f"{short(n, 40)} as a size")
    return n


def itemsize(dtype: str) -> int:
    """Return the bytes of one number of a type."""
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def damaged(path: Path, received: str) -> CheckpointError:
    """Return the error for a damaged file."""
    return CheckpointError("the file is damaged or no PyTorch checkpoint", where=path, received=received,
                           fix="copy or download it again")
