"""Large arrays in MATLAB files of any version, read one slice at a time and not transposed."""
from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..mat import read_mat

_HDF5_LOCK = threading.RLock()  # HDF5 is not thread-safe


class Stack:
    """Array of images along its last dimension in MATLAB: ``images(:, :, :, k)``.

    MATLAB stores arrays in column-major order. Files of version 5 to 7 have the dimensions that MATLAB shows. HDF5, the
    format of version 7.3, has them in reverse order: (count, channels, width, height). In both cases ``stack[k]`` is
    (height, width) or (height, width, channels), as in MATLAB.

    Args:
        path: the file.
        variable: name of the array in the file.

    Raises:
        DataError: the file has no such array.
        EnvironmentProblem: the package to read it is not installed.
    """

    def __init__(self, path: Path, variable: str):
        variables = read_mat(path)
        if variable not in variables:
            known = sorted(name for name in variables if name[0] not in "_#")
            raise DataError(f"a MATLAB file has no variable {variable}", where=path,
                            received=f"variables {', '.join(known)}",
                            fix="restore the file from the data set's archive")
        self._array = variables[variable]
        self._reversed = not isinstance(variables, dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as in MATLAB: (height, width, [channels,] count)."""
        return tuple(self._array.shape[::-1] if self._reversed else self._array.shape)

    def __len__(self) -> int:
        return self.shape[-1]

    def __getitem__(self, k: int) -> np.ndarray:
        if not self._reversed:
            return np.ascontiguousarray(self._array[..., k])
        with _HDF5_LOCK:
            part = self._array[k]
        return np.ascontiguousarray(part.transpose())  # (c, w, h) -> (h, w, c)


def numbers(path: Path, variable: str) -> np.ndarray:
    """Return a vector of whole numbers in a MATLAB file of any version, int64 (n,).

    Raises:
        DataError: the file has no such vector.
    """
    variables = read_mat(path)
    if variable not in variables:
        raise DataError(f"a MATLAB file has no variable {variable}", where=path,
                        fix="restore the file from the data set's archive")
    return np.asarray(variables[variable]).astype(np.int64).ravel()


def referenced_matrix(file: Any, reference: Any) -> np.ndarray:
    """Return the matrix that a cell of an open HDF5 file refers to, uint8 (H, W)."""
    with _HDF5_LOCK:
        stored = np.asarray(file[reference])
    return np.ascontiguousarray(stored.transpose().astype(np.uint8))
