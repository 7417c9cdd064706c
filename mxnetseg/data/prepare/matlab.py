"""Large arrays in MATLAB files of either kind, one slice at a time and the right way up."""
from __future__ import annotations

import threading
from pathlib import Path
from typing import Tuple

import numpy as np

from ...errors import DataError
from ..mat import read_mat

_ONE_AT_A_TIME = threading.RLock()  # HDF5 is not safe in threads


class Stack:
    """An array of pictures whose last dimension, in MATLAB, counts them: ``images(:, :, :, k)``.

    MATLAB stores the first dimension closest together. A file of version 5 to 7 is read as MATLAB shows it; HDF5,
    the form of version 7.3, shows all dimensions in reverse: (count, channels, width, height). Either way
    ``stack[k]`` is (height, width) or (height, width, channels), as MATLAB would show it.

    Args:
        path: the file.
        variable: its array.

    Raises:
        DataError: the file holds no such array.
        EnvironmentProblem: the package to read it is not installed.
    """

    def __init__(self, path: Path, variable: str):
        variables = read_mat(path)
        if variable not in variables:
            known = sorted(name for name in variables if name[0] not in "_#")
            raise DataError(f"a MATLAB file holds no {variable}", where=path, received=f"variables {', '.join(known)}",
                            fix="restore the file from the data set's archive")
        self._array = variables[variable]
        self._reversed = not isinstance(variables, dict)

    @property
    def shape(self) -> Tuple[int, ...]:
        """As MATLAB would show it: (height, width, [channels,] count)."""
        return tuple(self._array.shape[::-1] if self._reversed else self._array.shape)

    def __len__(self) -> int:
        return self.shape[-1]

    def __getitem__(self, k: int) -> np.ndarray:
        if not self._reversed:
            return np.ascontiguousarray(self._array[..., k])
        with _ONE_AT_A_TIME:
            part = self._array[k]
        return np.ascontiguousarray(part.transpose())  # of all dimensions: (c, w, h) -> (h, w, c)


def numbers(path: Path, variable: str) -> np.ndarray:
    """The whole numbers of a vector in a MATLAB file of either kind, int64 (n,).

    Raises:
        DataError: the file holds no such vector.
    """
    variables = read_mat(path)
    if variable not in variables:
        raise DataError(f"a MATLAB file holds no {variable}", where=path,
                        fix="restore the file from the data set's archive")
    return np.asarray(variables[variable]).astype(np.int64).ravel()


def referred(file, reference) -> np.ndarray:
    """The matrix that a cell of an open HDF5 file refers to, the right way up: uint8 (H, W)."""
    with _ONE_AT_A_TIME:
        stored = np.asarray(file[reference])
    return np.ascontiguousarray(stored.transpose().astype(np.uint8))
