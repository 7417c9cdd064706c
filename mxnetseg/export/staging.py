"""Exports that appear complete or not at all."""
from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError
from ..files import check_writable, explained

try:
    import fcntl
except ImportError:  # Windows: folders that killed processes have left stay
    fcntl = None

_STAGE = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextmanager
def staged(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Create a temporary folder, whose files or folders ``names`` are moved to ``folder`` if the block succeeds.

    If the block raises or is interrupted, nothing is left, not even folders that were created for it. A killed process
    leaves its temporary folder; the next export to ``folder`` deletes it.

    Args:
        folder: where the results belong; created if it is missing.
        names: the results, which the block has to create.

    Raises:
        UsageError: a result exists already, or the folder cannot be written to.
        EnvironmentProblem: the disk is full.
    """
    existing = [folder / name for name in names if os.path.lexists(folder / name)]
    if existing:
        raise UsageError("the export exists already", where=existing[0], fix="choose another name, or delete it first")
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    stage, lock = None, None
    moved: list[Path] = []
    try:
        check_writable(folder)
        _sweep(folder)
        stage, lock = _create(folder)
        yield stage
        for name in names:
            if os.path.lexists(folder / name):  # written meanwhile by another process
                raise UsageError("the export exists already", where=folder / name,
                                 fix="choose another name, or delete it first")
            os.rename(stage / name, folder / name)
            moved.append(folder / name)
        shutil.rmtree(stage)
    except BaseException as error:  # KeyboardInterrupt, too
        for path in (stage, *moved):
            _remove(path)
        for parent in created:
            with suppress(OSError):  # not empty: another process uses it
                parent.rmdir()
        if isinstance(error, OSError):
            raise explained(error, folder / names[0]) from error
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _create(folder: Path) -> tuple[Path, int | None]:
    """Create a temporary folder; return it, and the descriptor that holds its lock until it is closed."""
    while True:
        stage = folder / f".{uuid.uuid4().hex[:16]}.tmp"
        stage.mkdir()
        lock = _lock(stage, wait=True)
        if stage.exists():  # no other process has taken it for a leftover before it was locked
            return stage, lock
        if lock is not None:
            os.close(lock)


def _sweep(folder: Path) -> None:
    """Delete temporary folders of killed processes, which no process locks any more."""
    for leftover in folder.iterdir() if fcntl is not None else ():
        if _STAGE.fullmatch(leftover.name) and leftover.is_dir() and not leftover.is_symlink():
            lock = _lock(leftover)
            if lock is not None:
                shutil.rmtree(leftover, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Return a descriptor that locks a folder; None if another process does, or the file system has no locks.

    Args:
        wait: until the other process, which looks for leftovers, has released it.
    """
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return descriptor
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None


def _remove(path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
