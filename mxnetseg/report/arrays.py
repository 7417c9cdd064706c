"""Arrays in a file of NumPy that may be damaged or come from elsewhere, and the checks of what they hold."""
from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import open_regular

_MOST_BYTES = 1 << 30


def read_arrays(path: Path, what: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays from an ``.npz`` file of at most a GiB.

    Args:
        path: the file.
        what: what it should be, for messages.
        names: of the arrays; None: all.

    Raises:
        DataError: there is no such file.
        ValueError: the arrays are too large. A damaged file raises errors of many other kinds.
    """
    with open_regular(path, what, DataError) as stream:
        with zipfile.ZipFile(stream) as archive:
            require(sum(entry.file_size for entry in archive.infolist()) <= _MOST_BYTES, "fewer bytes")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (arrays.files if names is None else names)}


def require(holds: bool, expected: str) -> None:
    """Raise a ValueError that names what is expected, unless it holds."""
    if not holds:
        raise ValueError(f"expected {expected}")
