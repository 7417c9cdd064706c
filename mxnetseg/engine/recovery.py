"""What lets a run survive an error, a kill and a change of its schedule."""
from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence, TypeVar

import mxnet as mx

from ..errors import CheckpointError, EnvironmentProblem, MXNetSegError
from ..files import sweep
from .checkpoint import Checkpoint
from .schedules import LearningRate

log = logging.getLogger(__name__)

T = TypeVar("T")


def until_error(items: Iterable[T], failures: list[Exception]) -> Iterator[T]:
    """Yield the items; an error of the library or the system ends them, and is appended to ``failures``.

    It arrives while a step is being computed, which has to be finished before anything is saved.
    """
    try:
        yield from items
    except (MXNetSegError, OSError) as error:
        failures.append(error)


def save_before_raising(error: Exception, save: Callable[[], None], last: Checkpoint,
                        contexts: Sequence[mx.Context]) -> MXNetSegError:
    """Save the state of a run that an error of its data ends; return the error with the way to resume in its fix.

    Args:
        error: what the data raised.
        save: writes ``last``.
        last: the run's last checkpoint, which may not exist yet.
        contexts: the run's devices.
    """
    if not isinstance(error, MXNetSegError):
        error = EnvironmentProblem("the data cannot be read", where=getattr(error, "filename", None),
                                   received=f"{type(error).__name__}: {error}", fix="check the disk or network share")
    advice = [error.fix] if error.fix else []
    try:
        save()
    except (MXNetSegError, OSError) as problem:
        advice.append(f"the state could not be saved: {problem}")
    if last.has_sidecar():
        advice.append(f"when the data can be read again, resume: {resume_command(last.path, contexts)}")
    error.fix = "\n".join(advice) or None
    return error


def resume_command(path: Path, contexts: Sequence[mx.Context]) -> str:
    """Return the command that resumes a run on the same devices."""
    devices = " ".join("cpu" if c.device_type == "cpu" else str(c.device_id) for c in contexts)
    return f"mxnetseg train --resume {shlex.quote(str(path))} --ctx {devices}"


def warn_of_a_jump(before: LearningRate, now: LearningRate, steps_done: int) -> None:
    """Say that the learning rate does not continue where it was, because the configuration has changed.

    Args:
        before, now: the schedules of the run until now and from now on.
        steps_done: more than 0.
    """
    if before(steps_done - 1) != now(steps_done - 1):
        log.warning("the learning rate jumps from %.3g to %.3g at step %d: the schedule was lr %g over %d epochs and "
                    "is now lr %g over %d", before(steps_done - 1), now(steps_done), steps_done + 1, before.lr,
                    before.epochs, now.lr, now.epochs)


def clear_leftovers(last: Checkpoint, best: Checkpoint) -> None:
    """Remove what a killed process has left of a run's files; the run must be locked."""
    for checkpoint in (last, best):
        with suppress(CheckpointError):
            checkpoint.recover()
    sweep(last.path.with_suffix(".yaml"))
