"""Advisory lock that lets one process train a run; the kernel frees it however the process ends."""
from __future__ import annotations

import json
import logging
import os
import platform
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..files import explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)

SUFFIX = ".lock"
_ATTEMPTS, _PAUSE = 5, 0.05  # because holder() locks for a moment, too; seconds


class Holder(NamedTuple):
    """Process that holds a lock, as it describes itself in the lock file."""

    pid: object
    host: object
    since: object

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


_UNKNOWN = Holder("(unknown)", "an unknown host", "an unknown time")


class RunLock:
    """Lock on the files of a run, held from construction to :meth:`release`.

    The lock is ``flock`` on ``<stem>.lock`` beside the checkpoint. The file describes the holder and is deleted on
    release; a killed process leaves the file, but not the lock. Child processes do not inherit the lock. If
    the system (Windows) or the file system offers no locks, a warning says so, and the run continues without.

    Args:
        checkpoint: the run's ``.params`` file, existing or to be written; or another file that one process writes.
        in_use: returns the error for a file that another process has locked.

    Raises:
        UsageError: another process holds it, or no file can be created there.
        EnvironmentProblem: the disk is full.
    """

    def __init__(self, checkpoint: Path, in_use: Callable[[Path, Holder], UsageError] | None = None):
        self.path = checkpoint.with_suffix(SUFFIX)
        self._descriptor: int | None = None
        if fcntl is None:
            log.warning("this system has no file locks: make sure that no other process writes %s", checkpoint)
            return
        for attempt in range(_ATTEMPTS):
            if self._try():
                _held.add(self)
                return
            time.sleep(_PAUSE * (attempt + 1))
        raise (in_use or active_error)(checkpoint, holder(self.path) or _UNKNOWN)

    def _try(self) -> bool:
        """Lock the file; return False if another process holds it, or has just deleted it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise explained(error, self.path) from error

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            self.path.unlink()
            log.warning("the file system offers no locks (%s): make sure that no other process writes %s",
                        error.strerror, self.path.with_suffix(""))
            return True

        self._descriptor = descriptor
        now = datetime.now().astimezone().isoformat(" ", timespec="seconds")
        with suppress(OSError):  # the disk may be full; the lock holds without a description
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(Holder(os.getpid(), platform.node(), now)._asdict()).encode())
        return True

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.unlink(self.path)  # before the lock is released: afterwards it may be the file of the next holder
            self._forget()

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)

    def __del__(self):
        self.release()


def holder(path: Path) -> Holder | None:
    """Return the process that holds the lock file ``path``, None if there is no such process."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return Holder(**json.loads(os.read(descriptor, 4096)))
            except (ValueError, TypeError):
                return _UNKNOWN
        finally:
            os.close(descriptor)
    return None


def active_error(checkpoint: Path, by: Holder) -> UsageError:
    """Return the error for a run that another process is training."""
    return UsageError(
        "this run is being trained by another process", where=checkpoint, received=by,
        fix=f"wait until it ends, or stop it so that it saves (kill {by.pid} on {by.host}), then repeat the command; "
            "to start another run beside it, leave out --resume")


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    """Close a forked child's copies of the lock files, which would keep the locks."""
    for lock in list(_held):
        if lock._descriptor is not None:
            lock._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
