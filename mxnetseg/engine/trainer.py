"""Training loop, which knows no network and no data set by name."""
from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from ..backends.group import Group
from ..backends.training import TRAINING_BACKENDS, TrainingBackend
from ..config.schema import Config
from ..data.firstlook import refuse_unlabelled
from ..data.loader import Batch
from ..data.shards import Shard
from ..errors import MXNetSegError, TrainingDiverged
from ..metrics import Scores
from ..models import get_model
from ..models.weights.loading import assign
from . import setup
from .bars import epoch_bar, epoch_line, postfix
from .checkpoint import Checkpoint, LoadedCheckpoint, all_finite, model_record, take_normalisation
from .freezing import freeze_backbone
from .interrupt import Interrupt
from .pace import Pace
from .recovery import divergence, save_before_raising, until_error
from .run_files import ForeignRunFiles, RunFiles
from .run_state import (
    Result,
    RunState,
    backends_of,
    check_resumable,
    describe_data,
    extend_backends,
    report_resumption,
    step_seed,
)
from .runs import find_checkpoint
from .scaling import LossScale
from .schedules import LearningRate
from .training_choice import options_of, training_precision
from .validation import validate
from .watch import LabelWatch, warn_of_one_class

log = logging.getLogger(__name__)

_COPIES = 2.0  # seconds; terminal and launcher both send a signal to each process
_LAG = 2  # steps that losses are read late: enough that the devices never idle, few enough to bound memory


class Trainer:
    """One training run, or the part of one process in it. Its files are locked from construction to the end of
    :meth:`fit`, or to :meth:`close`.

    Args:
        config: the resolved configuration.
        devices: data-parallel devices of this process, in the backend's terms (MXNet: contexts); each batch is split
            evenly across them and those of the other processes. :func:`~.training_choice.choose_training` returns them.
        backend: name of the library that computes the steps, see :mod:`mxnetseg.backends.training`.
        folder: folder of all checkpoints, ``weights/``; those of this run go to ``folder/<model>/``.
        wandb: name of the run on wandb, None to train without wandb.
        tensorboard: log to TensorBoard, too.
        resume: the checkpoint to resume from.
        validate: False trains without validation.
        quiet: show no progress bars.
        group: the processes of the run, see :func:`~.group.join_group`; None: this one alone. Rank 0 writes the files.

    Raises:
        UsageError, DataError, CheckpointError: before anything is computed, where possible. It is a UsageError if
            another process is training the run to resume.
    """

    def __init__(self, config: Config, devices: Sequence[Any], *, backend: str = "mxnet", quiet: bool = False,
                 folder: Path = Path("weights"), wandb: str | None = None, tensorboard: bool = False,
                 resume: Checkpoint | None = None, validate: bool = True, group: Group | None = None):
        self.config, self.devices, self._backend_name = config, list(devices), TRAINING_BACKENDS.resolve(backend)
        self.group = group or Group()
        self._shard = Shard(self.group.rank, self.group.size)  # of each batch, and of the validation split
        self._files = RunFiles() if self.group.is_main else ForeignRunFiles()
        # in a log file a bar is only noise
        self._hides_bars = quiet or not self.group.is_main or not sys.stderr.isatty()
        self._cleanup = ExitStack()
        try:
            if resume is not None:
                self._cleanup.callback(self._files.lock(resume.path))
            loaded = resume.read(state=True) if resume is not None else None
            self._open_data(validate)
            self.group.agree(lambda: setup.facts(self.train_set, self.val_set, loaded))
            self._build(Path(folder), resume, loaded)
            self._open_checkpoints(Path(folder), resume, loaded)
            self._open_logs(wandb, tensorboard, loaded)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the logs, and unlock the run. :meth:`fit` does so at its end."""
        self._cleanup.close()

    # ---- setting up ---------------------------------------------------------------------------------

    def _open_data(self, validate: bool) -> None:
        config = self.config
        self.train_set = setup.open_training_set(config)
        self.val_set = setup.open_validation_set(config, self.train_set) if validate else None
        self.device_count = len(self.devices) * self.group.size
        self.loader = setup.make_loader(config, self.train_set, self.device_count, self._shard)
        refuse_unlabelled(self.train_set, timeout=config.data.timeout)
        self._labels = LabelWatch(self.train_set.classes, len(self.loader), self.group.sum_arrays)

    def _build(self, folder: Path, resume: Checkpoint | None, loaded: LoadedCheckpoint | None) -> None:
        """Build the network with its first values, the backend that trains it, and the schedule."""
        config = self.config
        make_backend = TRAINING_BACKENDS.get(self._backend_name)
        self.contexts = self.devices if make_backend.trains_in_place else [mx.cpu()]  # where the network lies

        mx.random.seed(config.train.seed)
        self.model_record = model_record(config.model, self.train_set.nclass)
        self.net = get_model(**self.model_record, norm=config.model.norm, ctx=self.contexts,
                             pretrained_base=config.model.pretrained_base and loaded is None,
                             root=config.model.pretrained_path)
        setup.check_batch(config, self.net, self.device_count)
        if loaded is not None:
            check_resumable(loaded, resume, self.train_set, self.val_set, len(self.loader))
            take_normalisation(self.net, loaded.sidecar)
            assign(self.net, loaded.params, where=resume.path)
        elif config.train.init_from:
            setup.load_initial_weights(self.net, find_checkpoint(config.train.init_from, folder))

        self.precision = training_precision(self._backend_name, config.train.precision, self.devices)
        self._scale = LossScale() if self.precision == "float16" else None
        self.class_weights = setup.class_weights(config, self.train_set, loaded)
        step = setup.make_step(config, self.net, self.contexts, self.device_count, class_weights=self.class_weights)
        self._frozen = freeze_backbone(self.net, config, loaded)
        self._make_backend = partial(make_backend, step, config, self.devices, self.precision, self.group)
        self.backend: TrainingBackend = self._make_backend()
        self._cleanup.callback(lambda: self.backend.close())
        self.rate = LearningRate(config.schedule, config.optimizer.lr, len(self.loader), config.train.epochs)

    def _open_checkpoints(self, folder: Path, resume: Checkpoint | None, loaded: LoadedCheckpoint | None) -> None:
        """Name the checkpoints of the run; restore its state if it is resumed."""
        self.run_state = RunState()
        self.scores: Scores | None = None
        self._resumed_metrics: dict[str, Any] | None = None  # of the last validation before the resumption
        self._earlier_backends: list[dict[str, Any]] = []

        path = resume.path if resume else self.group.broadcast(
            str(setup.new_checkpoint(folder, self.net, self.train_set).path) if self.group.is_main else None)
        self._files.open_checkpoints(Path(path))
        self.last, self.best = self._files.last, self._files.best
        if resume is None:
            self._cleanup.callback(self._files.lock(self.last.path))
        else:
            self._restore(loaded)
            self._files.clear_leftovers()

        self._files.write_config(self.config)
        self._first_step = self._steps_done()

    def _open_logs(self, wandb: str | None, tensorboard: bool, loaded: LoadedCheckpoint | None) -> None:
        resume_step = None if loaded is None else self._first_step
        self.run_log = self._files.open_log(resume_step)
        self._cleanup.callback(self.run_log.close)
        self.trackers = self._files.open_trackers(self.config, wandb=wandb, tensorboard=tensorboard,
                                                  loaded=loaded, resume_step=resume_step)
        self._cleanup.callback(self.trackers.close)

        self._pace = Pace(self.config.train.epochs * len(self.loader))
        self._latest_loss: float | None = None

    # ---- the run ------------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train to the end, or until a signal arrives at any process; the last state is saved either way.

        Raises:
            TrainingDiverged: the loss is no longer finite. The last good checkpoint stays.
            MXNetSegError: data cannot be read. The state is saved first, and the error says how to resume.
        """
        log.info("%s", setup.describe(self.config, self.net, self.train_set, self.devices, self.precision,
                                first_epoch=self.run_state.epoch + 1, steps_per_epoch=len(self.loader),
                                checkpoint=self.last, backend=self._backend_name, processes=self.group.size))
        with self._cleanup, Interrupt(self.group.request_stop, patience=_COPIES if self.group.size > 1 else 0.0):
            while not self._is_finished() and self._train_epoch():
                self._end_epoch()
            if not self._is_finished():
                self._save_last()

        best = self.best if self.best.has_sidecar() else None
        signal = None if self._is_finished() else self.group.stop_signal
        return Result(self.last, best, self.scores, self.run_state, signal)

    def _train_epoch(self) -> bool:
        """Train to the end of the current epoch, or until a signal arrives; return False in the latter case."""
        state, config = self.run_state, self.config
        if self._frozen and self._frozen.ends_at(state.epoch):
            self.backend, self._frozen = self._frozen.thaw(self.backend, self._make_backend), None

        pending: deque[tuple[int, Any]] = deque()  # losses that have not been read
        failures: list[Exception] = []
        began, seconds_before = time.time(), state.seconds

        with epoch_bar(state.epoch + 1, config.train.epochs, first=state.batch, total=len(self.loader),
                       hidden=self._hides_bars) as bar:
            batches = self.loader.epoch(state.epoch, start_batch=state.batch)
            on_devices = until_error(map(self._to_devices, batches), failures)
            try:
                batch = next(on_devices, None)
                while batch is not None and self.group.proceeds():
                    pending.append((self._steps_done(), self._backward(batch)))
                    batch = next(on_devices, None)  # read, and sent to the devices, while they compute
                    self._update()

                    state.batch += 1
                    if len(pending) > _LAG:
                        self._note_loss(*pending.popleft())
                    state.seconds = seconds_before + time.time() - began
                    self._pace.note(self._steps_done())
                    bar.set_postfix_str(self._postfix(bar.format_dict["rate"]), refresh=False)
                    bar.update()
            finally:
                batches.close()

            if failures and self.group.size > 1:  # the others wait for this process in a step
                raise self._save_before_raising(failures[0])
            while pending:
                self._note_loss(*pending.popleft())
            self.backend.synchronise()  # the network is validated and saved next

        if failures:
            raise self._save_before_raising(failures[0])
        return self.group.proceeds()

    def _end_epoch(self) -> None:
        """Validate, save, and only then report, so that a failing report cannot lose the epoch."""
        try:
            row = self._score_epoch()
        except (MXNetSegError, OSError) as error:
            raise self._save_before_raising(error) from error
        # Logged before the checkpoint is saved: a run killed in between drops the row when it resumes, but a row
        # that was never written would stay missing.
        self.run_log.epoch(row)
        self._save_epoch(row.get("val_miou"))
        self._report_epoch(row)

    # ---- one step -----------------------------------------------------------------------------------

    def _to_devices(self, batch: Batch) -> Any:
        """Send a global batch to the devices."""
        self._labels.note(batch.masks)
        return self.backend.send(batch.images, batch.masks)

    def _backward(self, batch: Any) -> Any:
        """Compute the gradients of one global batch; return its loss without waiting for it."""
        # dropout must not depend on earlier steps, so that a resumed run draws the same masks
        seed = step_seed(self.config.train.seed, self._steps_done(), self.group.rank)
        return self.backend.backward(batch, seed=seed, loss_scale=self._scale.value if self._scale else 1.0)

    def _update(self) -> None:
        """Update the parameters; with loss scaling, only if all gradients are finite."""
        is_finite = self.backend.update(self._rate(), loss_scale=self._scale.value if self._scale else None)
        if self._scale is not None:
            self._scale.follow(is_finite)
            if self._scale.lost:
                raise self._diverged("the gradients are infinite however small the loss is scaled")

    def _note_loss(self, step: int, loss: Any) -> None:
        """Read the loss of an earlier step, log it, and stop the run if it is not finite."""
        value = self.backend.read(loss)
        if not np.isfinite(value):
            raise self._diverged(f"the loss of step {step + 1} is {value}")

        self.run_state.loss_sum += value
        self._latest_loss = value
        if (step + 1) % self.config.train.log_every == 0:
            row = {"step": step + 1, "epoch": self.run_state.epoch + 1, "loss": value, "lr": self.rate(step)}
            self.run_log.step(row)
            self.trackers.log(row)

    # ---- the end of an epoch ------------------------------------------------------------------------

    def _score_epoch(self) -> dict[str, Any]:
        """Return the epoch's row for the log, with scores if a validation is due. The epoch is not yet completed."""
        state, config = self.run_state, self.config
        row = {"step": self._steps_done(), "epoch": state.epoch + 1, "lr": self.rate(self._steps_done() - 1),
               "train_loss": state.loss_sum / len(self.loader), "seconds": round(state.seconds, 1)}

        every, number = config.train.val_every, state.epoch + 1
        if self.val_set is not None and (number == config.train.epochs or (every and number % every == 0)):
            self.scores = validate(self.backend.runtime(), config, self.val_set, self.group,
                                   hide_bar=self._hides_bars,
                                   observer=self.trackers.watch(self.val_set, self._shard))
            row.update(self.scores.log_row())
        return row

    def _save_epoch(self, miou: float | None) -> None:
        """Count the epoch as completed, and write the checkpoints that are due.

        Args:
            miou: of this epoch's validation, None without one.
        """
        state = self.run_state
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
        if miou is not None and miou > (-1 if state.best is None else state.best):
            state.best, state.best_epoch = miou, state.epoch
            self._refuse_if_not_finite()
            self.best.write(self.net, self._record())  # before the last checkpoint, which records its score
        if self._is_finished() or state.epoch % self.config.train.save_every == 0:
            self._save_last()

    def _report_epoch(self, row: dict[str, Any]) -> None:
        """Show a completed epoch."""
        self.run_log.draw()
        self.trackers.log(row)
        log.info("%s", epoch_line(row, self.config.train.epochs))
        self._labels.end_epoch()
        if self._is_finished() and self.scores is not None:
            warn_of_one_class(self.scores)

    # ---- saving and resuming ------------------------------------------------------------------------

    def _record(self) -> dict[str, Any]:
        """Return the content of the sidecar: everything that others need in order to use these parameters."""
        return {
            "model": self.model_record,
            **describe_data(self.net, self.config, self.train_set, self.val_set),
            "metrics": self.scores.to_dict() if self.scores else self._resumed_metrics,
            "progress": vars(self.run_state).copy(),
            "steps_per_epoch": len(self.loader),
            "class_weights": self.class_weights,
            "loss_scale": vars(self._scale).copy() if self._scale else None,
            "backends": self._backends(),
            "wandb": self.trackers.wandb_id,
            "config": self.config.to_dict(),
        }

    def _backends(self) -> list[dict[str, Any]]:
        """Return which backend computed which epochs."""
        if self._steps_done() == self._first_step:
            return self._earlier_backends
        first, state = self._first_step // len(self.loader) + 1, self.run_state
        return extend_backends(self._earlier_backends, self._backend_name, first=first,
                               last=state.epoch + (state.batch > 0))

    def _save_last(self) -> None:
        self._refuse_if_not_finite()
        self.last.write(self.net, self._record(), self.backend.get_state())

    def _save_before_raising(self, error: Exception) -> MXNetSegError:
        def save():
            # several processes share a state at the end of an epoch only
            if self._steps_done() > self._first_step and self.group.size == 1:
                self._save_last()
        return save_before_raising(error, save, self.last, options_of(self._backend_name, self.devices))

    def _restore(self, loaded: LoadedCheckpoint) -> None:
        """Restore the optimiser and the position from the checkpoint; the network has its parameters already."""
        state = {name: tensor.asnumpy() for name, tensor in loaded.state.items()}
        self.backend.set_state(state, where=self.last.path)

        self.run_state = RunState(**loaded.sidecar["progress"])
        if self._scale and loaded.sidecar.get("loss_scale"):
            self._scale = LossScale(**loaded.sidecar["loss_scale"])
        self._resumed_metrics = loaded.sidecar["metrics"]
        self._earlier_backends = backends_of(loaded.sidecar)
        report_resumption(loaded, self.last, self.run_state, self.rate)

    # ---- where the run stands -----------------------------------------------------------------------

    def _steps_done(self) -> int:
        return self.run_state.steps_done(len(self.loader))

    def _rate(self) -> float:
        """Return the learning rate of the current step."""
        return self.rate(self._steps_done())

    def _is_finished(self) -> bool:
        return self.run_state.epoch >= self.config.train.epochs

    def _postfix(self, steps_per_second: float | None) -> str:
        """Return the numbers of the progress bar, as far as they are known."""
        return postfix(
            loss=self._latest_loss, rate=self._rate(),
            images_per_second=steps_per_second and steps_per_second * self.config.train.batch_size,
            seconds_remaining=self._pace.seconds_remaining())

    def _refuse_if_not_finite(self) -> None:
        if not all_finite(self.net):
            raise self._diverged("a parameter is no longer finite")

    def _diverged(self, what: str) -> TrainingDiverged:
        return divergence(what, epoch=self.run_state.epoch + 1, rate=self._rate(),
                          checkpoints=(self.last, self.best), log_file=self.run_log.path)
