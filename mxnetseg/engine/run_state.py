"""Position of a training run, and the parts of a sidecar that a training writes and reads."""
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.schema import Config
from ..data.base import SegDataset
from ..errors import ConfigError
from ..metrics import Scores
from .checkpoint import Checkpoint, LoadedCheckpoint
from .evaluator import check_classes, contents, warn_of_other_images
from .recovery import warn_of_a_jump
from .schedules import LearningRate

log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Everything besides tensors that a resumed run needs to continue as if it had never stopped.

    It is the section ``progress`` of a sidecar, so the names of its attributes are part of the file format.

    Attributes:
        epoch: completed epochs.
        batch: completed batches of the current epoch.
        best: highest validation mIoU so far, None before the first validation.
        best_epoch: number of completed epochs when ``best`` was reached.
        loss_sum: sum of the losses of the completed batches of the current epoch.
        seconds: training time, all resumptions together.
    """

    epoch: int = 0
    batch: int = 0
    best: float | None = None
    best_epoch: int | None = None
    loss_sum: float = 0.0
    seconds: float = 0.0

    def steps_done(self, steps_per_epoch: int) -> int:
        """Return the number of completed steps of the run."""
        return self.epoch * steps_per_epoch + self.batch


@dataclass(frozen=True)
class Result:
    """Outcome of a training run.

    Attributes:
        last: the last checkpoint.
        best: the best checkpoint, None if there was no validation.
        scores: scores of the last validation, None if there was none.
        run_state: position at which the run stopped.
        signal: number of the signal that stopped it, None if it ran to its end.
    """

    last: Checkpoint
    best: Checkpoint | None
    scores: Scores | None
    run_state: RunState
    signal: int | None = None


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Return a 31-bit random seed for one step of a run with ``seed``, in one of its processes."""
    return int(np.random.SeedSequence([seed, step], spawn_key=(rank,) if rank else ()).generate_state(1)[0] >> 1)


def backends_of(sidecar: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a sidecar's record of which backend computed which epochs; older runs were trained in MXNet."""
    progress = sidecar["progress"]
    last = progress["epoch"] + (progress["batch"] > 0)
    return sidecar.get("backends") or ([{"backend": "mxnet", "first_epoch": 1, "last_epoch": last}] if last else [])


def extend_backends(earlier: Sequence[Mapping[str, Any]], backend: str, *, first: int,
                    last: int) -> list[dict[str, Any]]:
    """Return a sidecar's record of which backend computed which epochs, with the epochs of this process.

    An epoch that was interrupted and resumed in another backend belongs to both.

    Args:
        earlier: the record so far.
        backend: the name of this process's backend.
        first, last: the numbers of its epochs, from 1.
    """
    record = [dict(entry) for entry in earlier]
    if record and record[-1]["backend"] == backend:
        first = record.pop()["first_epoch"]
    return [*record, {"backend": backend, "first_epoch": first, "last_epoch": last}]


def describe_data(net, config: Config, train_set: SegDataset, val_set: SegDataset | None) -> dict[str, Any]:
    """Return the sections of a sidecar that describe the network's input and the data it was trained on."""
    return {
        "data": train_set.info(),
        "normalisation": {"mean": list(net.mean), "std": list(net.std)},
        "protocol": {"splits": {"train": config.data.train_split, "val": config.data.val_split}},
        "contents": {"train": contents(train_set), "val": val_set and contents(val_set)},
    }


def check_resumable(loaded: LoadedCheckpoint, source: Checkpoint, train_set: SegDataset, val_set: SegDataset | None,
                    steps_per_epoch: int) -> None:
    """Refuse to resume a run with other classes or another number of steps; warn if its images have changed.

    Args:
        loaded: the checkpoint to resume from.
        source: the file it was read from, for messages.
        train_set: the training split of the resumed run.
        val_set: its validation split, None without validation.
        steps_per_epoch: its number of steps.

    Raises:
        CheckpointError: the classes differ.
        ConfigError: the number of steps of an epoch differs.
    """
    sidecar = loaded.sidecar
    check_classes(sidecar["data"]["classes"], train_set, where=source.path)

    for dataset in filter(None, (train_set, val_set)):
        warn_of_other_images(sidecar, dataset, where=source.path)

    if sidecar["steps_per_epoch"] != steps_per_epoch:
        raise ConfigError("an epoch of the resumed run has a different number of steps", where=source.path,
                          received=f"{sidecar['steps_per_epoch']} then, {steps_per_epoch} now",
                          fix="resume with the data set and train.batch_size that the run was started with")


def report_resumption(loaded: LoadedCheckpoint, source: Checkpoint, state: RunState, rate: LearningRate) -> None:
    """Log the position a run resumes from, and warn if the configuration makes its learning rate jump there.

    Args:
        loaded: the checkpoint to resume from.
        source: the file it was read from.
        state: the position of the run.
        rate: the schedule of the resumed run.
    """
    log.info("resumed from %s: epoch %d, batch %d", source.path, state.epoch + 1, state.batch)

    before = Config.from_dict(loaded.sidecar["config"], where=source.sidecar_path)
    steps = state.steps_done(rate.steps_per_epoch)
    if steps and state.epoch < rate.epochs:
        warn_of_a_jump(LearningRate(before.schedule, before.optimizer.lr, rate.steps_per_epoch, before.train.epochs),
                       rate, steps)
