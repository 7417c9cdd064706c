"""Files: atomic writing, checksums, checks before reading, and the folder that mxnetseg keeps."""
from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Union

from .errors import EnvironmentProblem, MXNetSegError, UsageError

PathLike = Union[str, "os.PathLike[str]"]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_CANNOT_SYNC_A_FOLDER = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}

_PREFIX_LENGTH = 18  # characters of the name of a temporary file that belong to its target
_TRIAL_BYTES = 1 << 16  # more than fits into the last, partly used block of a file

HOME_VARIABLE = "MXNETSEG_HOME"


def home() -> Path:
    """Return the folder that mxnetseg keeps between runs: ``$MXNETSEG_HOME`` or ``~/.mxnetseg``."""
    return expand(os.environ.get(HOME_VARIABLE) or "~/.mxnetseg")


def expand(path: PathLike) -> Path:
    """Return a path in which a leading ``~`` is replaced by the home folder; ``~name`` of an unknown user stays."""
    return Path(os.path.expanduser(path))


def no_file(path: PathLike) -> str | None:
    """Return why a path is not a regular file, as a predicate ("is a folder"); None if it is one.

    Check it before reading: a pipe, socket or device could keep its reader waiting for ever.
    """
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "is a folder"
    return "is not a regular file" if os.path.exists(path) else "is not there"


@contextmanager
def open_regular(path: PathLike, what: str, error_class: type[MXNetSegError]) -> Iterator[IO[bytes]]:
    """Open a regular file for reading, and turn an OSError in the ``with`` block into an error of the library.

    Args:
        path: the file.
        what: role of the file, for messages: ``'the weight file'``.
        error_class: class of the error.

    Raises:
        MXNetSegError: of class ``error_class``; the file is missing, not a regular file, or cannot be read.
    """
    problem = no_file(path)
    if problem is not None:
        raise error_class(f"{what} {problem}", where=path, fix="check the path")
    try:
        with open(path, "rb") as stream:
            yield stream
    except OSError as error:
        raise error_class(f"{what} cannot be read", where=path, received=error.strerror or error,
                          fix="check its permissions and the disk") from None


@contextmanager
def atomic_write(path: PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open ``path`` for writing, so that neither readers nor a crash can see half a file.

        with atomic_write("scores.json", "w") as stream:
            json.dump(scores, stream)

    The ``with`` block writes to a temporary file in the same folder. If the block succeeds, that file is flushed to the
    disk and renamed to ``path``; if it raises, or is interrupted, the temporary file is removed and an older ``path``
    stays unchanged. Missing parent folders are created; a symbolic link is followed, as by ``open``.

    Args:
        path: the file to write.
        mode: ``'wb'`` for bytes or ``'w'`` for text (UTF-8, line ends as written).

    Yields:
        the open temporary file. The ``with`` statement closes it.

    Raises:
        UsageError: the mode is another one, ``path`` is a folder, or its folder cannot be created or written to.
        EnvironmentProblem: the disk is full, or the quota is used up.
    """
    if mode not in ("wb", "w"):
        raise UsageError("atomic_write writes whole files only", where=path, received=f"mode={mode!r}",
                         fix="mode='wb' for bytes, mode='w' for text")

    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise UsageError("a file cannot be written where a folder is", where=target,
                         fix="name a file inside that folder")

    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f"{_temporary_prefix(target)}{uuid.uuid4().hex[:16]}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        stream = _create(temporary, mode)
    except OSError as error:
        raise explained(error, target) from error

    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # KeyboardInterrupt, too, must leave no temporary file
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise explained(error, target) from error
        raise
    _sync_folder(folder)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path with the same suffix, for a library that writes files by their names.

    If the ``with`` block succeeds, the file there is flushed to the disk and renamed to ``path``; otherwise it is
    removed. See :func:`atomic_write`.

    Raises:
        UsageError: the folder of ``path`` cannot be created.
    """
    target = os.path.realpath(path)
    folder, suffix = os.path.dirname(target), os.path.splitext(target)[1]
    temporary = Path(folder, f"{_temporary_prefix(target)}{uuid.uuid4().hex[:16]}.tmp{suffix}")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise explained(error, target) from error
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(folder)


def check_writable(folder: PathLike) -> None:
    """Create a folder and write a file to it on trial, before a long computation whose results go there.

    Raises:
        UsageError: the folder cannot be created or written to.
        EnvironmentProblem: the disk is full.
    """
    trial = Path(folder) / f".{uuid.uuid4().hex}.trial"
    with atomic_write(trial) as stream:
        stream.write(bytes(_TRIAL_BYTES))
    trial.unlink()


def sweep(*paths: PathLike) -> None:
    """Delete the temporary files of ``paths`` that killed processes have left; each folder is read once.

    Call it only while no other process can be writing them.
    """
    prefixes: dict[str, set[str]] = {}
    for path in paths:
        target = os.path.realpath(path)
        prefixes.setdefault(os.path.dirname(target), set()).add(_temporary_prefix(target))
    for folder, wanted in prefixes.items():
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[:_PREFIX_LENGTH] in wanted and ".tmp" in entry.name:
                    with suppress(OSError):
                        os.unlink(entry.path)


def _temporary_prefix(target: str) -> str:
    # A digest of the name, because a long name with a suffix would exceed what the file system allows.
    return f".{hashlib.sha256(os.fsencode(os.path.basename(target))).hexdigest()[:16]}."


def sha256(path: PathLike) -> str:
    """Return the SHA-256 checksum of a file as 64 hexadecimal digits; read 1 MiB at a time."""
    with open(path, "rb") as stream:
        return sha256_of(stream)


def sha256_of(stream: IO[bytes]) -> str:
    """Return the SHA-256 checksum of the rest of an open file, as :func:`sha256` does."""
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def explained(error: OSError, target: PathLike) -> MXNetSegError:
    """Return the error, with its fix, for a file that cannot be created."""
    if error.errno in _DISK_FULL:
        return EnvironmentProblem("the disk is full: the file was not written", where=target,
                                  received=error.strerror, fix="make room on that disk")
    return UsageError("no file can be written there", where=target, received=error.strerror,
                      fix="check the folder's permissions, or choose another folder")


def _create(path: str, mode: str) -> IO:
    # Not tempfile.mkstemp, which ignores the umask: only the owner could read its files.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    if mode == "wb":
        return open(descriptor, "wb")
    return open(descriptor, "w", encoding="utf-8", newline="")


def _sync_folder(folder: str) -> None:
    """Flush the renaming, which is stored in the folder, to the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems do not offer this, nor do folders that one may write to but not read.
        # The new file is nevertheless complete and in its place.
        if error.errno not in _CANNOT_SYNC_A_FOLDER:
            raise
