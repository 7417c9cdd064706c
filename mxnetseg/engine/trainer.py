"""Training, from top to bottom. It knows no network and no data set by name."""
from __future__ import annotations

import logging
import sys
import time
from collections import deque
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
from ..data.loader import Batch, Loader
from ..data.recipes import make_transform
from ..errors import ConfigError, TrainingDiverged
from ..losses import Mining, global_backward
from ..metrics import Scores
from ..models import get_model
from .checkpoint import (
    BEST,
    Checkpoint,
    all_finite,
    find_checkpoint,
    finite,
    model_record,
    new_stem,
    take_normalisation,
)
from .contexts import to_device
from .evaluator import check_classes, evaluate
from .inference import Protocol, Segmenter
from .interrupt import Interrupt
from .loggers import RunLog, Wandb
from .optimizers import get_states, make_trainer, set_states
from .precision import choose_precision, fused
from .scaling import LossScale
from .schedules import LearningRate
from .step import Divisors, Step, TrainingGraph

log = logging.getLogger(__name__)

_LAG = 2  # steps the device may be behind: enough to be never idle, little enough to bound memory

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
    """One training run.

    Args:
        config: the resolved configuration.
        contexts: data-parallel devices; the batch is dealt out evenly among them.
        folder: where checkpoints go, ``weights/``; this run's are in ``folder/<model>/``.
        wandb: name of the run on wandb, None for no wandb.
        resume: the checkpoint to go on from.
        validate: False trains without validation.
        quiet: no progress bars.

    Raises:
        UsageError, DataError, CheckpointError: before anything is computed, where possible.
    """

    def __init__(self, config: Config, contexts: Sequence[mx.Context], *, folder: Path = Path("weights"),
                 wandb: Optional[str] = None, resume: Optional[Checkpoint] = None, validate: bool = True,
                 quiet: bool = False):
        self.config, self.contexts = config, list(contexts)
        self._no_bar = quiet or not sys.stderr.isatty()  # in a file a bar is only noise
        sidecar = resume.read_sidecar() if resume is not None else None

        self.train_set = get_dataset(config.data.name, split=config.data.train_split, root=config.data.root,
                                     decoding=Decoding.of(config.data))
        self.val_set = self._validation_set() if validate else None
        self.loader = self._make_loader()

        mx.random.seed(config.train.seed)
        self.model_record = model_record(config.model, self.train_set.nclass)
        self.net = get_model(**self.model_record, norm=config.model.norm, ctx=self.contexts,
                             pretrained_base=config.model.pretrained_base and resume is None,
                             root=config.model.pretrained_path)
        self._check_batch()
        if resume is not None:
            take_normalisation(self.net, sidecar)
        elif config.train.init_from:
            self._fine_tune(find_checkpoint(config.train.init_from, Path(folder)))
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
        self.last = resume or Checkpoint(self._new_path(Path(folder)))
        self.best = Checkpoint(self.last.path.with_name(self.last.stem + BEST + ".params"))
        if resume is not None:
            self._restore(sidecar)
        config.dump(self.last.path.with_suffix(".yaml"))
        resumed_at = None if resume is None else self._steps_done()
        self.run_log = RunLog(self.last.path.with_suffix(""), resume_step=resumed_at)
        self.wandb = Wandb(wandb, config.to_dict(), self.last.path.parent) if wandb else None

    # ---- the run --------------------------------------------------------------------------------

    def fit(self) -> Result:
        """Train to the end, or to a signal; the last state is saved either way.

        Raises:
            TrainingDiverged: the loss is no longer finite. The last good checkpoint stays.
        """
        log.info("%s", self._describe())
        with Interrupt() as interrupt:
            try:
                while not self._finished() and interrupt.received is None:
                    self._train_epoch(interrupt)
                    if interrupt.received is None:
                        self._end_epoch()
                if not self._finished():
                    self._save_last()
            finally:
                self.run_log.close()
                if self.wandb:
                    self.wandb.close()
        best = self.best if self.best.has_sidecar() else None
        return Result(self.last, best, self.scores, self.progress, None if self._finished() else interrupt.received)

    def _finished(self) -> bool:
        return self.progress.epoch >= self.config.train.epochs

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """The rest of the current epoch, or until a signal."""
        p, config = self.progress, self.config
        pending: Deque[Tuple[int, mx.nd.NDArray]] = deque()
        began, seconds_before = time.time(), p.seconds
        with tqdm(total=len(self.loader), initial=p.batch, disable=self._no_bar, unit="batch", leave=False,
                  dynamic_ncols=True, desc=f"epoch {p.epoch + 1}/{config.train.epochs}") as bar:
            batches = self.loader.epoch(p.epoch, start_batch=p.batch)
            dealt = map(self._deal, batches)
            try:
                shares, done = next(dealt, None), 0
                while shares is not None and interrupt.received is None:
                    step = self._steps_done()
                    self.optimizer.set_learning_rate(self.rate(step))
                    # dropout must not depend on what was computed before: a resumed run draws the same
                    mx.random.seed(_mix(config.train.seed, step))
                    pending.append((step, self._backward(shares)))
                    shares = next(dealt, None)  # read, and sent to the devices, while they compute
                    self._update()
                    done, p.batch = done + 1, p.batch + 1
                    if len(pending) > _LAG:
                        self._note_loss(*pending.popleft())
                    elapsed = time.time() - began
                    p.seconds = seconds_before + elapsed
                    bar.update()
                    bar.set_postfix_str(self._postfix(done, elapsed), refresh=False)
            finally:
                batches.close()
            while pending:
                self._note_loss(*pending.popleft())
            mx.nd.waitall()  # running statistics, which are validated and saved next, move behind the engine's back

    def _backward(self, batch: Shares) -> mx.nd.NDArray:
        """The gradients of one global batch; its loss, (1,), not waited for."""
        if self._divisors is None:
            return self._turn(batch[0])
        self.net.collect_params().zero_grad()
        divisors = self._divisors([labels for shares in batch for _, labels in shares])
        return mx.nd.add_n(*[self._turn(shares, turns=len(batch), divisors=divisors) for shares in batch])

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
        """Validate, log, and save what an epoch has brought."""
        p, config = self.progress, self.config
        row = {"step": self._steps_done(), "epoch": p.epoch + 1, "lr": self.rate(self._steps_done() - 1),
               "train_loss": p.loss_sum / len(self.loader), "seconds": round(p.seconds, 1)}
        p.epoch, p.batch, p.loss_sum = p.epoch + 1, 0, 0.0
        final = p.epoch == config.train.epochs
        every = config.train.val_every
        if self.val_set is not None and (final or (every and p.epoch % every == 0)):
            self.scores = self._validate()
            numbers = {"val_pa": self.scores.pixel_accuracy, "val_mpa": self.scores.mean_accuracy,
                       "val_miou": self.scores.miou}
            # NaN where no pixel of the split counts: that is neither a number to log nor a best score
            row.update({key: value for key, value in numbers.items() if np.isfinite(value)})
            if self.scores.miou > (-1 if p.best is None else p.best):
                p.best, p.best_epoch = self.scores.miou, p.epoch
                self._refuse_if_not_finite()
                self.best.write(self.net, self._record())
        self.run_log.epoch(row)
        if self.wandb:
            self.wandb.log(row)
        log.info("epoch %d/%d: %s", p.epoch, config.train.epochs, "  ".join(
            f"{k} {v:.4g}" for k, v in row.items() if k in ("train_loss", "lr", "val_pa", "val_miou")))
        if final or p.epoch % config.train.save_every == 0:
            self._save_last()

    def _validate(self) -> Scores:
        """Score the validation split on whole pictures, by the configuration's protocol."""
        def bar(items, count):
            return tqdm(items, total=count, desc="validate", unit="img", leave=False, disable=self._no_bar,
                        dynamic_ncols=True)
        # a copy of its own: what inference does to the layout of weights would slow training down
        segmenter = Segmenter(fused(self.net, self.contexts), self.contexts, Protocol.of(self.config))
        matrix, _ = evaluate(segmenter, self.val_set, workers=self.config.data.workers, progress=bar)
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

    def _postfix(self, done: int, elapsed: float) -> str:
        loss = getattr(self, "_latest_loss", float("nan"))
        speed = done * self.config.train.batch_size / max(elapsed, 1e-9)
        left = (self.config.train.epochs * len(self.loader) - self._steps_done()) * elapsed / done
        return f"loss {loss:.3f}, lr {self.optimizer.learning_rate:.2g}, {speed:.1f} img/s, " \
               f"{time.strftime('%H:%M:%S', time.gmtime(left))} left"

    # ---- data to devices --------------------------------------------------------------------------

    def _deal(self, batch: Batch) -> Shares:
        """The global batch in equal shares, one on each context in each turn."""
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
                      workers=data.workers)

    def _check_batch(self) -> None:
        """Refuse a batch on which this network's batch norm would silently give zeros."""
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
                                           min_kept=config.ohem.min_kept).share(shares)
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
        take_normalisation(self.net, source.read_sidecar())
        skipped = source.load_into(self.net, skip=True)
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
            "metrics": self.scores.to_dict() if self.scores else self._metrics,
            "progress": vars(self.progress).copy(),
            "steps_per_epoch": len(self.loader),
            "loss_scale": vars(self._scale).copy() if self._scale else None,
            "config": self.config.to_dict(),
        }

    def _save_last(self) -> None:
        self._refuse_if_not_finite()
        self.last.write(self.net, self._record(), get_states(self.optimizer, self.net))

    def _restore(self, sidecar: Dict[str, Any]) -> None:
        """Take over parameters, optimiser and position from the checkpoint ``self.last``."""
        check_classes(sidecar["data"]["classes"], self.train_set, where=self.last.path)
        if sidecar["steps_per_epoch"] != len(self.loader):
            raise ConfigError("an epoch of the resumed run has another number of steps", where=self.last.path,
                              received=f"{sidecar['steps_per_epoch']} then, {len(self.loader)} now",
                              fix="resume with the data set and train.batch_size the run was started with")
        self.last.load_into(self.net)
        set_states(self.optimizer, self.net, self.last.read_state(), self.contexts, where=self.last.path)
        self.progress = Progress(**sidecar["progress"])
        if self._scale and sidecar.get("loss_scale"):
            self._scale = LossScale(**sidecar["loss_scale"])
        self._metrics = sidecar["metrics"]
        log.info("resumed from %s: epoch %d, batch %d", self.last.path, self.progress.epoch + 1, self.progress.batch)


def _mix(seed: int, step: int) -> int:
    """A 31-bit seed for one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0] >> 1)
