"""Masks in MATLAB files. Reading them needs SciPy, or h5py for files of version 7.3."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .._compat import import_optional
from ..errors import DataError, DataNotFoundError

_HDF5 = b"MATLAB 7.3"  # first bytes of a file of version 7.3
_RESTORE = "restore the file from the data set's archive"


def read_mat(path: Path) -> dict[str, Any] | Any:
    """Read the variables of a MATLAB file by name.

    A file of version 7.3 is HDF5; it is returned as an open ``h5py.File``, read-only, whose arrays have their
    dimensions in reverse order.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is empty, damaged or not a MATLAB file.
        EnvironmentProblem: the package that reads it is not installed.
    """
    start = _start_of(path)
    reader = import_optional("h5py" if start == _HDF5 else "scipy.io", "this MATLAB file", where=path,
                             fix="pip install 'mxnetseg[prepare]'")
    try:
        if start == _HDF5:
            return reader.File(path, "r")
        return reader.loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # SciPy raises ValueError, TypeError, zlib.error, MatReadError, ...
        raise DataError("a MATLAB file cannot be decoded: it is damaged, truncated or not a MATLAB file",
                        where=path, received=f"{path.stat().st_size} bytes ({error})", fix=_RESTORE) from error


def read_mat_mask(path: Path, *, variable: str, field: str = "") -> np.ndarray:
    """Read the label ids in a MATLAB file of version 5 to 7: uint8 (H, W).

    Args:
        path: the file.
        variable: name of the variable.
        field: name of the field, if the variable is a struct.

    Raises:
        DataError: see :func:`read_mat`; or the variable is missing, is not a matrix, or holds other values than
            whole numbers from 0 to 255.
    """
    if _start_of(path) == _HDF5:
        raise DataError("a mask is a MATLAB file of version 7.3, whose matrices are stored transposed", where=path,
                        fix="take the data set's own file, or save the mask as PNG")
    variables = read_mat(path)
    inside = f"{variable}.{field}" if field else variable
    try:
        array = np.asarray(getattr(variables[variable], field) if field else variables[variable])
    except (KeyError, AttributeError):
        known = sorted(name for name in variables if not name.startswith("__"))
        raise DataError(f"a MATLAB file holds no {inside}", where=path, received=f"variables {', '.join(known)}",
                        fix=_RESTORE) from None
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not array.size:
        raise DataError(f"{inside} in a MATLAB file is not a matrix of label ids", where=path,
                        received=f"{array.dtype} array of shape {array.shape}", fix=_RESTORE)

    with np.errstate(invalid="ignore"):  # NaN is found below
        ids = array.astype(np.uint8)
    if not np.array_equal(ids, array):
        raise DataError(f"{inside} in a MATLAB file holds values that are not 8-bit label ids", where=path,
                        received=f"values {array.min()}..{array.max()}",
                        fix="label ids are whole numbers from 0 to 255: " + _RESTORE)
    return ids


def _start_of(path: Path) -> bytes:
    """Read the first bytes of a file, which show its version."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(len(_HDF5))
    except FileNotFoundError:
        raise DataNotFoundError("a file is missing: no such MATLAB file", where=path, fix=_RESTORE) from None
    except OSError as error:
        raise DataError("a MATLAB file cannot be read", where=path, received=error,
                        fix="check the file's permissions and the disk") from error
    if not start:
        raise DataError("a MATLAB file is empty", where=path, received="0 bytes", fix=_RESTORE)
    return start
