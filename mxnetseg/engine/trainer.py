"""Training, from top to bottom. It knows no network and no data set by name."""
from __future__ import annotations

import logging
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd
from tqdm import tqdm

from ..config.schema import Config
from ..data import get_dataset
from ..data.base import SegDataset
from ..data.decoding import Decoding
from ..data.firstlook import refuse_unlabelled
from ..data.loader import Batch, Loader
from ..data.recipes import make_transform
from ..errors import ConfigError, MXNetSegError, TrainingDiverged
from ..graph.precision import choose_precision, fused
from ..losses import Mining, global_backward
from ..metrics import Scores
from ..models import get_model
from ..models.weights.loading import assign
from .checkpoint import (
    BEST,
    Checkpoint,
    Contents,
    all_finite,
    find_checkpoint,
    finite,
    model_record,
    new_stem,
    take_normalisation,
)
from .contexts import to_device
from .evaluator import check_classes, contents, evaluate, warn_of_other_images
from .inference import Protocol, Segmenter
from .interrupt import Interrupt
from .lock import RunLock
from .loggers import RunLog, Wandb
from .optimizers import get_states, make_trainer, set_states
from .pace import Pace
from .recovery import clear_leftovers, save_before_raising, until_error, warn_of_a_jump
from .scaling import LossScale
from .schedules import LearningRate
from .step import Divisors, Step, TrainingGraph
from .watch import LabelWatch, warn_of_one_class

log = logging.getLogger(__name__)

_LAG = 2  # steps the device may be behind: enough to be never idle, little enough to bound memory

# one remaining time, that of the run, is in the postfix; tqdm's own is of the epoch
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"

# a global batch on the devices, in turns: [turn][device] -> (images, labels)
Shares = List[List[Tuple[mx.nd.NDArray, mx.nd.NDArray]]]


@dataclass
class Progress:
    """Where a run stands: all that, beside tensors, a resumed run needs to go on as if never stopped."""

    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the epoch after them
    best: Optional[float] = None
    best_epoch: Optional[int] = None
    loss_sum: float = 0.0  # of the batches done of this epoch
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a run ended with.

    Attributes:
        last, best: checkpoints; ``best`` is None if nothing was validated.
        scores: of the last validation, None if there was none.
        progress: where it stopped.
        signal: number of the signal that stopped it, None if it ran to its end.
    """

    last: Checkpoint
    best: Optional[Checkpoint]
    scores: Optional[Scores]
    progress: Progress
    signal: Optional[int] = None


class Trainer:
    """One training run. Its files are locked from construction to the end of :meth:`fit`, or to :meth:`close`.

    Args:
        config: the resolved configuration.
        contexts: data-parallel devices; the batch is dealt out evenly among them.
        folder: where checkpoints go, ``weights/``; this run's are in ``folder/<model>/``.
        wandb: name of the run on wandb, None for no wandb.
        resume: the checkpoint to go on from.
        validate: False trains without validation.
        quiet: no progress bars.

    Raises:
        UsageError, DataError, CheckpointError: before anything is computed, where possible. Another process that
            trains the run to resume is a UsageError.
    """

    def __init__(self, config: Config, contexts: Sequence[mx.Context], *, folder: Path = Path("weights"),
                 wandb: Optional[str] = None, resume: Optional[Checkpoint] = None, validate: bool = True,
                 quiet: bool = False):
        self._cleanup = ExitStack()
        try:
            self._set_up(config, contexts, Path(folder), wandb, resume, validate, quiet)
        except BaseException:
            self.close()
            raise

    def _set_up(self, config: Config, contexts: Sequence[mx.Context], folder: Path, wandb: Optional[str],
                resume: Optional[Checkpoint], validate: bool, quiet: bool) -> None:
        self.config, self.contexts = config, list(contexts)
        self._no_bar = quiet or not sys.stderr.isatty()  # in a file a bar is only noise
        if resume is not None:
            self._cleanup.callback(RunLock(resume.path).release)
        contents = resume.read(state=True) if resume is not None else None

        self.train_set = get_dataset(config.data.name, split=config.data.train_split, root=config.data.root,
                                     decoding=Decoding.of(config.data))
        self.val_set = self._validation_set() if validate else None
        self.loader = self._make_loader()
        refuse_unlabelled(self.train_set, timeout=config.data.timeout)
        self._labels = LabelWatch(self.train_set.classes, len(self.loader))

        mx.random.seed(config.train.seed)
        self.model_record = model_record(config.model, self.train_set.nclass)
        self.net = get_model(**self.model_record, norm=config.model.norm, ctx=self.contexts,
                             pretrained_base=config.model.pretrained_base and resume is None,
                             root=config.model.pretrained_path)
        self._check_batch()
        if resume is not None:
            take_normalisation(self.net, contents.sidecar)
        elif config.train.init_from:
            self._fine_tune(find_checkpoint(config.train.init_from, folder))
        self.precision, _ = choose_precision(config.train.precision, self.contexts, where="train.precision")
        self._step = self._make_step()
        self._graph = TrainingGraph(self._step, self.contexts, self.precision)
        self._divisors = Divisors(self._step) if config.train.accumulate > 1 else None
        self._scale = LossScale() if self.precision == "float16" else None
        self.optimizer = make_trainer(self.net, config.optimizer, accumulate=config.train.accumulate > 1)
        self.rate = LearningRate(config.schedule, config.optimizer.lr, len(self.loader), config.train.epochs)

        self.progress = Progress()
        self.scores: Optional[Scores] = None
        self._metrics: Optional[Dict[str, Any]] = None  # of the last validation before a resumption
        self.last = resume or Checkpoint(self._new_path(folder))
        self.best = Checkpoint(self.last.path.with_name(self.last.stem + BEST + ".params"))
        if resume is None:
            self._cleanup.callback(RunLock(self.last.path).release)
        else:
            self._restore(contents)
            clear_leftovers(self.last, self.best)
        config.dump(self.last.path.with_suffix(".yaml"))
        resumed_at = None if resume is None else self._steps_done()
        self.run_log = RunLog(self.last.path.with_suffix(""), resume_step=resumed_at)
        self._cleanup.callback(self.run_log.close)
        self._wandb_id = contents.sidecar.get("wandb") if contents else None
        self.wandb = None
        if wandb:
            self.wandb = Wandb(wandb, config.to_dict(), self.last.path.parent, run_id=self._wandb_id)
            self._wandb_id = self.wandb.run_id
            self._cleanup.callback(self.wandb.close)
        self._began_at = self._steps_done()
        self._pace, self._latest_loss = Pace(config.train.epochs * len(self.loader)), None

    def close(self) -> None:
        """Close the log and wandb, and unlock the run. :meth:`fit` does it at its end."""
        self._cleanup.close()

    # ---- the run --------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train to the end, or to a signal; the last state is saved either way.

        Raises:
            TrainingDiverged: the loss is no longer finite. The last good checkpoint stays.
            MXNetSegError: data cannot be read. The state is saved before, and the error says how to resume.
        """
        log.info("%s", self._describe())
        with self._cleanup, Interrupt() as interrupt:
            while not self._finished() and interrupt.received is None:
                self._train_epoch(interrupt)
                if interrupt.received is None:
                    self._end_epoch()
            if not self._finished():
                self._save_last()
        best = self.best if self.best.has_sidecar() else None
        return Result(self.last, best, self.scores, self.progress, None if self._finished() else interrupt.received)

    def _finished(self) -> bool:
        return self.progress.epoch >= self.config.train.epochs

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """The rest of the current epoch, or until a signal."""
        p, config = self.progress, self.config
        pending: Deque[Tuple[int, mx.nd.NDArray]] = deque()
        failures: List[Exception] = []
        began, seconds_before = time.time(), p.seconds
        with tqdm(total=len(self.loader), initial=p.batch, disable=self._no_bar, leave=False, dynamic_ncols=True,
                  desc=f"epoch {p.epoch + 1}/{config.train.epochs}", bar_format=_BAR) as bar:
            batches = self.loader.epoch(p.epoch, start_batch=p.batch)
            dealt = until_error(map(self._deal, batches), failures)
            try:
                shares = next(dealt, None)
                while shares is not None and interrupt.received is None:
                    step = self._steps_done()
                    self.optimizer.set_learning_rate(self.rate(step))
                    # dropout must not depend on what was computed before: a resumed run draws the same
                    mx.random.seed(_mix(config.train.seed, step))
                    pending.append((step, self._backward(shares)))
                    shares = next(dealt, None)  # read, and sent to the devices, while they compute
                    self._update()
                    p.batch += 1
                    if len(pending) > _LAG:
                        self._note_loss(*pending.popleft())
                    p.seconds = seconds_before + time.time() - began
                    self._pace.note(self._steps_done())
                    bar.set_postfix_str(self._postfix(bar.format_dict["rate"]), refresh=False)
                    bar.update()
            finally:
                batches.close()
            while pending:
                self._note_loss(*pending.popleft())
            mx.nd.waitall()  # running statistics, which are validated and saved next, move behind the engine's back
        if failures:
            raise self._save_before_raising(failures[0])

    def _backward(self, batch: Shares) -> mx.nd.NDArray:
        """The gradients of one global batch; its loss, (1,), not waited for."""
        if self._divisors is None:
            return self._turn(batch[0])
        self.net.collect_params().zero_grad()
        divisors = self._divisors([labels for shares in batch for _, labels in shares])
        return mx.nd.add_n(*[self._turn(shares, micro_batches=len(batch), divisors=divisors) for shares in batch])

    def _turn(self, shares, **of_batch) -> mx.nd.NDArray:
        with autograd.record():
            parts = self._graph(shares)
        return global_backward(parts, self._step.loss.weights, scale=self._scale.value if self._scale else 1.0,
                               **of_batch)

    def _update(self) -> None:
        """Move the parameters; not by scaled gradients of which one is infinite."""
        self.optimizer.allreduce_grads()
        if self._scale is None:
            self.optimizer.update(1)
            return
        gradients = [p.list_grad()[0] for p in self.net.collect_params().values() if p.grad_req != "null"]
        good = finite(gradients)
        if good:
            self.optimizer.update(self._scale.value)
        self._scale.follow(good)
        if self._scale.lost:
            raise self._diverged("the gradients are infinite however small the loss is scaled")

    def _end_epoch(self) -> None:
        """Validate, save, and only then report: what merely informs cannot lose the epoch."""
        try:
            row = self._score_epoch()
        except (MXNetSegError, OSError) as error:
            raise self._save_before_raising(error) from error
        # A run that is killed before it has saved drops this row when it resumes; one that is missing would stay so.
        self.run_log.epoch(row)
        self._save_epoch(row.get("val_miou"))
        self._report_epoch(row)

    def _score_epoch(self) -> Dict[str, Any]:
        """The epoch's row for the log, with the scores of a validation if one is due. Nothing counts as done yet."""
        p, config = self.progress, self.config
        row = {"step": self._steps_done(), "epoch": p.epoch + 1, "lr": self.rate(self._steps_done() - 1),
               "train_loss": p.loss_sum / len(self.loader), "seconds": round(p.seconds, 1)}
        every = config.train.val_every
        final = p.epoch + 1 == config.train.epochs
        if self.val_set is not None and (final or (every and (p.epoch + 1) % every == 0)):
            self.scores = self._validate()
            numbers = {"val_pa": self.scores.pixel_accuracy, "val_mpa": self.scores.mean_accuracy,
                       "val_miou": self.scores.miou}
            # NaN where no pixel of the split counts: that is neither a number to log nor a best score
            row.update({key: value for key, value in numbers.items() if np.isfinite(value)})
        return row

    def _save_epoch(self, miou: Optional[float]) -> None:
        """Count the epoch as done and write the checkpoints that are due.

        Args:
            miou: of this epoch's validation, None without one.
        """
        p, config = self.progress, self.config
        p.epoch, p.batch, p.loss_sum = p.epoch + 1, 0, 0.0
        if miou is not None and miou > (-1 if p.best is None else p.best):
            p.best, p.best_epoch = miou, p.epoch
            self._refuse_if_not_finite()
            self.best.write(self.net, self._record())  # before the last one, which says that it is there
        if self._finished() or p.epoch % config.train.save_every == 0:
            self._save_last()

    def _report_epoch(self, row: Dict[str, Any]) -> None:
        """Show an epoch that is done."""
        self.run_log.draw()
        if self.wandb:
            self.wandb.log(row)
        percent = {"val_pa": "val PA", "val_miou": "val mIoU"}
        log.info("epoch %d/%d: train loss %.4g, learning rate %.2g%s", row["epoch"], self.config.train.epochs,
                 row["train_loss"], row["lr"], "".join(
                     f", {name} {100 * row[key]:.2f} %" for key, name in percent.items() if key in row))
        self._labels.end_epoch()
        if self._finished() and self.scores is not None:
            warn_of_one_class(self.scores)

    def _save_before_raising(self, error: Exception) -> MXNetSegError:
        def save():
            if self._steps_done() > self._began_at:
                self._save_last()
        return save_before_raising(error, save, self.last, self.contexts)

    def _validate(self) -> Scores:
        """Score the validation split on whole pictures, by the configuration's protocol."""
        def bar(items, count):
            return tqdm(items, total=count, desc="validate", unit="img", leave=False, disable=self._no_bar,
                        dynamic_ncols=True)
        # a copy of its own: what inference does to the layout of weights would slow training down
        segmenter = Segmenter(fused(self.net, self.contexts), self.contexts, Protocol.of(self.config))
        data = self.config.data
        matrix, _ = evaluate(segmenter, self.val_set, workers=data.workers, timeout=data.timeout, progress=bar)
        return matrix.result(self.val_set.classes)

    # ---- the loss's numbers -----------------------------------------------------------------------

    def _note_loss(self, step: int, loss: mx.nd.NDArray) -> None:
        """Read the loss of an earlier step, log it, and stop if it is no number."""
        value = float(loss.asnumpy()[0])
        if not np.isfinite(value):
            raise self._diverged(f"the loss of step {step + 1} is {value}")
        self.progress.loss_sum += value
        self._latest_loss = value
        if (step + 1) % self.config.train.log_every == 0:
            row = {"step": step + 1, "epoch": self.progress.epoch + 1, "loss": value, "lr": self.rate(step)}
            self.run_log.step(row)
            if self.wandb:
                self.wandb.log(row)

    def _refuse_if_not_finite(self) -> None:
        if not all_finite(self.net):
            raise self._diverged("a parameter is no longer finite")

    def _diverged(self, what: str) -> TrainingDiverged:
        good = [str(c.path) for c in (self.last, self.best) if c.has_sidecar()]
        return TrainingDiverged(
            f"training diverged: {what}",
            where=f"epoch {self.progress.epoch + 1}, learning rate {self.optimizer.learning_rate:.3g}",
            received="last good checkpoints:\n" + "\n".join(good) if good else "no checkpoint was written yet",
            fix="lower optimizer.lr, add schedule.warmup_epochs, and look at the log " + str(self.run_log.path))

    def _postfix(self, steps_per_second: Optional[float]) -> str:
        """The bar's numbers, as far as they are known."""
        left = self._pace.seconds_left()
        return ", ".join(
            ([] if self._latest_loss is None else [f"loss {self._latest_loss:.3f}"]) +
            [f"lr {self.optimizer.learning_rate:.2g}"] +
            ([f"{steps_per_second * self.config.train.batch_size:.1f} img/s"] if steps_per_second else []) +
            ([] if left is None else [f"{tqdm.format_interval(left)} left"]))

    # ---- data to devices --------------------------------------------------------------------------

    def _deal(self, batch: Batch) -> Shares:
        """The global batch in equal shares, one on each context in each turn."""
        self._labels.note(batch.masks)
        turns = self.config.train.accumulate
        share = len(batch.images) // (turns * len(self.contexts))
        starts = iter(range(0, len(batch.images), share))
        return [[tuple(to_device(array[start:start + share], context) for array in (batch.images, batch.masks))
                 for context, start in zip(self.contexts, starts)] for _ in range(turns)]

    # ---- setting up -------------------------------------------------------------------------------

    def _validation_set(self) -> SegDataset:
        data = self.config.data
        dataset = get_dataset(data.name, split=data.val_split, root=data.root, decoding=Decoding.of(data))
        if dataset.classes != self.train_set.classes:
            raise ConfigError("the training and validation splits have different classes", where="data",
                              received=f"{self.train_set.nclass} and {dataset.nclass}")
        return dataset

    def _make_loader(self) -> Loader:
        data, train = self.config.data, self.config.train
        shares = len(self.contexts) * train.accumulate
        if train.batch_size % shares:
            turns = f", train.accumulate {train.accumulate}" if train.accumulate > 1 else ""
            raise ConfigError("the batch cannot be dealt out evenly among the devices", where="train.batch_size",
                              received=f"{train.batch_size} images, {len(self.contexts)} devices{turns}",
                              fix=f"a multiple of {shares}: --batch-size {-(-train.batch_size // shares) * shares}")
        return Loader(self.train_set, batch_size=train.batch_size, transform=make_transform(data), seed=train.seed,
                      workers=data.workers, timeout=data.timeout)

    def _check_batch(self) -> None:
        """Refuse crops that the network cannot read, and a batch for which batch norm would silently give zeros."""
        crop, smallest = list(self.config.data.crop_size), self.net.smallest_side
        if min(crop) < smallest:
            raise ConfigError(f"{self.net.backbone_name} reads images of at least {smallest} pixels a side",
                              where="data.crop_size", received=crop, fix=f"--crop {-(-smallest // 32) * 32}, or larger")
        train, norm = self.config.train, self.config.model.norm
        seen = train.batch_size // train.accumulate // (len(self.contexts) if norm == "bn" else 1)
        if norm != "gn" and seen < self.net.needs_batch:
            raise ConfigError(f"{self.net.model_name} normalises a map of one place, which needs at least "
                              f"{self.net.needs_batch} images at once", where="train.batch_size",
                              received=f"{train.batch_size} on {len(self.contexts)} devices with norm {norm}",
                              fix="a larger --batch-size, or --set model.norm=gn")

    def _make_step(self) -> Step:
        config = self.config.loss
        shares = len(self.contexts) * self.config.train.accumulate
        mining = config.ohem and Mining.of(config.ohem.form, thresh=config.ohem.thresh,
                                           min_kept=config.ohem.min_kept).with_quota(shares)
        loss = self.net.loss(aux_weight=config.aux_weight, class_weights=config.class_weights,
                             label_smoothing=config.label_smoothing, mining=mining, ce=config.ce, focal=config.focal,
                             focal_gamma=config.focal_gamma, dice=config.dice, lovasz=config.lovasz)
        loss.initialize(ctx=self.contexts)
        step = Step(self.net, loss)
        step.input.initialize(ctx=self.contexts)
        return step

    def _new_path(self, folder: Path) -> Path:
        folder = folder / self.net.model_name
        return folder / (new_stem(folder, self.net.model_name, self.net.backbone_name, self.train_set.name)
                         + ".params")

    def _fine_tune(self, source: Checkpoint) -> None:
        contents = source.read()
        take_normalisation(self.net, contents.sidecar)
        skipped = assign(self.net, contents.params, where=source.path, skip=True)
        log.info("fine-tuning from %s: %d tensors loaded, %d skipped%s", source.path,
                 len(self.net.named_parameters()) - len([s for s in skipped if s.name in
                                                         self.net.named_parameters()]),
                 len(skipped), "".join(f"\n  {s.name}: {s.reason}" for s in skipped))

    def _describe(self) -> str:
        c = self.config
        count = sum(int(np.prod(p.shape)) for p in self.net.named_parameters().values())
        return (f"{self.net.model_name} on {self.net.backbone_name}, {count / 1e6:.2f} M parameters; "
                f"{self.train_set.name} {c.data.train_split}: {len(self.train_set)} images, "
                f"{self.train_set.nclass} classes; batch {c.train.batch_size} on "
                f"{', '.join(map(str, self.contexts))} in {self.precision}; "
                f"epochs {self.progress.epoch + 1} to {c.train.epochs} of {len(self.loader)} steps; "
                f"checkpoints {self.last.path}")

    # ---- saving and going on ----------------------------------------------------------------------

    def _steps_done(self) -> int:
        return self.progress.epoch * len(self.loader) + self.progress.batch

    def _record(self) -> Dict[str, Any]:
        """The sidecar: all that others need to use these parameters."""
        return {
            "model": self.model_record,
            "data": self.train_set.info(),
            "normalisation": {"mean": list(self.net.mean), "std": list(self.net.std)},
            "protocol": {"splits": {"train": self.config.data.train_split, "val": self.config.data.val_split}},
            "contents": {"train": contents(self.train_set), "val": self.val_set and contents(self.val_set)},
            "metrics": self.scores.to_dict() if self.scores else self._metrics,
            "progress": vars(self.progress).copy(),
            "steps_per_epoch": len(self.loader),
            "loss_scale": vars(self._scale).copy() if self._scale else None,
            "wandb": self._wandb_id,
            "config": self.config.to_dict(),
        }

    def _save_last(self) -> None:
        self._refuse_if_not_finite()
        self.last.write(self.net, self._record(), get_states(self.optimizer, self.net))

    def _restore(self, contents: Contents) -> None:
        """Take over parameters, optimiser and position from the contents of the checkpoint ``self.last``."""
        sidecar = contents.sidecar
        check_classes(sidecar["data"]["classes"], self.train_set, where=self.last.path)
        for dataset in filter(None, (self.train_set, self.val_set)):
            warn_of_other_images(sidecar, dataset, where=self.last.path)
        if sidecar["steps_per_epoch"] != len(self.loader):
            raise ConfigError("an epoch of the resumed run has another number of steps", where=self.last.path,
                              received=f"{sidecar['steps_per_epoch']} then, {len(self.loader)} now",
                              fix="resume with the data set and train.batch_size the run was started with")
        assign(self.net, contents.params, where=self.last.path)
        set_states(self.optimizer, self.net, contents.state, self.contexts, where=self.last.path)
        self.progress = Progress(**sidecar["progress"])
        if self._scale and sidecar.get("loss_scale"):
            self._scale = LossScale(**sidecar["loss_scale"])
        self._metrics = sidecar["metrics"]
        log.info("resumed from %s: epoch %d, batch %d", self.last.path, self.progress.epoch + 1, self.progress.batch)
        before = Config.from_dict(sidecar["config"], where=self.last.sidecar_path)
        if self._steps_done() and not self._finished():
            warn_of_a_jump(LearningRate(before.schedule, before.optimizer.lr, len(self.loader), before.train.epochs),
                           self.rate, self._steps_done())


def _mix(seed: int, step: int) -> int:
    """A 31-bit seed for one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0] >> 1)
