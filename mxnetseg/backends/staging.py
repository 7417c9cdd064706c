"""Exports that appear complete or not at all."""
from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError
from ..files import check_writable, explained


@contextmanager
def staged(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Create a temporary folder, whose files or folders ``names`` are moved to ``folder`` if the block succeeds.

    If the block raises or is interrupted, nothing is left, not even folders that were created for it.

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
    stage = folder / f".{uuid.uuid4().hex[:16]}.tmp"
    moved: list[Path] = []
    try:
        check_writable(folder)
        stage.mkdir()
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
