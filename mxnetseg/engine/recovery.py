"""Saving, reporting and cleaning up around the end of a run: errors of its data, divergence, a kill, a new schedule."""
from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..errors import CheckpointError, EnvironmentProblem, MXNetSegError, TrainingDiverged
from ..files import sweep
from .checkpoint import Checkpoint
from .schedules import LearningRate

log = logging.getLogger(__name__)

T = TypeVar("T")


def until_error(items: Iterable[T], failures: list[Exception]) -> Iterator[T]:
    """Yield the items; an error of the library or the system ends them, and is appended to ``failures``.

    The error arrives while a step is being computed, which has to be finished before anything is saved.
    """
    try:
        yield from items
    except (MXNetSegError, OSError) as error:
        failures.append(error)


def save_before_raising(error: Exception, save: Callable[[], None], last: Checkpoint, options: str) -> MXNetSegError:
    """Save the state of a run that an error of its data ends; return the error with the way to resume in its fix.

    Args:
        error: the error of the data.
        save: writes ``last``.
        last: the run's last checkpoint, which may not exist yet.
        options: those that choose the run's devices and backend.
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
        advice.append(f"when the data can be read again, resume: {resume_command(last.path, options)}")
    error.fix = "\n".join(advice) or None
    return error


def resume_command(path: Path, options: str) -> str:
    """Return the command that resumes a run with some options."""
    return f"mxnetseg train --resume {shlex.quote(str(path))} {options}"


def divergence(what: str, *, epoch: int, rate: float, checkpoints: Sequence[Checkpoint],
               log_file: Path) -> TrainingDiverged:
    """Return the error of a run that diverged.

    Args:
        what: the number that is no longer finite.
        epoch: number of the epoch, from 1.
        rate: the learning rate.
        checkpoints: the run's checkpoints, which may not exist yet.
        log_file: the run's log.
    """
    written = [str(checkpoint.path) for checkpoint in checkpoints if checkpoint.has_sidecar()]
    return TrainingDiverged(
        f"training diverged: {what}", where=f"epoch {epoch}, learning rate {rate:.3g}",
        received="last good checkpoints:\n" + "\n".join(written) if written else "no checkpoint was written yet",
        fix=f"lower optimizer.lr, add schedule.warmup_epochs, and look at the log {log_file}")


def warn_of_a_jump(before: LearningRate, now: LearningRate, steps_done: int) -> None:
    """Warn if the learning rate does not continue where it was, because the configuration has changed.

    Args:
        before: the schedule of the run so far.
        now: its schedule from now on.
        steps_done: completed steps, more than 0.
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
