"""Parts of a training run, built from its configuration: data, loader, loss, first weights, and the run's name."""
from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from ..backends.mxnet_step import Step
from ..config.schema import Config
from ..data import get_dataset
from ..data.base import SegDataset
from ..data.decoding import Decoding
from ..data.findings import log_weights
from ..data.firstlook import class_frequency
from ..data.loader import Loader
from ..data.recipes import make_transform
from ..data.shards import WHOLE, Shard
from ..errors import ConfigError
from ..losses import Mining
from ..models._taps import untrained_taps
from ..models.weights.loading import assign
from .checkpoint import Checkpoint, LoadedCheckpoint, take_normalisation
from .runs import new_stem

log = logging.getLogger(__name__)


def open_training_set(config: Config) -> SegDataset:
    """Return the training split."""
    data = config.data
    return get_dataset(data.name, split=data.train_split, root=data.root, decoding=Decoding.of(data))


def open_validation_set(config: Config, train_set: SegDataset) -> SegDataset:
    """Return the validation split.

    Raises:
        ConfigError: its classes are not those of the training split.
    """
    data = config.data
    dataset = get_dataset(data.name, split=data.val_split, root=data.root, decoding=Decoding.of(data))
    if dataset.classes != train_set.classes:
        raise ConfigError("the training and validation splits have different classes", where="data",
                          received=f"{train_set.nclass} and {dataset.nclass}")
    return dataset


def make_loader(config: Config, train_set: SegDataset, devices: int, shard: Shard = WHOLE) -> Loader:
    """Return the loader of training batches.

    Args:
        config: the configuration.
        train_set: the training split.
        devices: number of devices that each batch is split across, in all processes together.
        shard: part of each batch that this process reads.

    Raises:
        ConfigError: the batch cannot be split evenly across devices and micro-batches.
    """
    data, train = config.data, config.train
    parts = devices * train.accumulate

    if train.batch_size % parts:
        accumulate = f", train.accumulate {train.accumulate}" if train.accumulate > 1 else ""
        raise ConfigError("the batch cannot be split evenly across the devices", where="train.batch_size",
                          received=f"{train.batch_size} images, {devices} devices{accumulate}",
                          fix=f"a multiple of {parts}: --batch-size {-(-train.batch_size // parts) * parts}")

    return Loader(train_set, batch_size=train.batch_size, transform=make_transform(data), seed=train.seed,
                  workers=data.workers, timeout=data.timeout, shard=shard)


def check_batch(config: Config, net, devices: int) -> None:
    """Refuse crops too small for the network, and a batch so small that batch norm would silently return zeros.

    Crops that leave weights untrained are warned of: windows of their size, or images no larger, do not use these.

    Raises:
        ConfigError: as above.
    """
    crop, smallest = list(config.data.crop_size), net.smallest_side
    if min(crop) < smallest:
        raise ConfigError(f"{net.backbone_name} reads images of at least {smallest} pixels a side",
                          where="data.crop_size", received=crop, fix=f"--crop {-(-smallest // 32) * 32}, or larger")

    train, norm = config.train, config.model.norm
    images_at_once = train.batch_size // train.accumulate // (devices if norm == "bn" else 1)
    if norm not in ("gn", "frozen") and images_at_once < net.needs_batch:
        raise ConfigError(f"{net.model_name} normalises a feature map of 1 x 1, which needs at least "
                          f"{net.needs_batch} images at once", where="train.batch_size",
                          received=f"{train.batch_size} on {devices} devices with norm {norm}",
                          fix="a larger --batch-size, or --set model.norm=gn")

    untrained = untrained_taps(net, crop)
    if untrained and config.eval.mode == "whole":
        enough = [max(sides) for sides in zip(*untrained.values())]
        first, others = next(iter(untrained)), len(untrained) - 1
        log.warning("crops of %d x %d are too small to train all weights of %s%s: some only ever meet the padding. "
                    "Images larger than the crops use them, and may be predicted badly. To train them: crops of about "
                    "%d x %d (data.crop_size); to do without them: --set eval.mode=slide", *crop, first,
                    f" and of {others} other layer{'s' * (others > 1)}" if others else "", *enough)


def class_weights(config: Config, train_set: SegDataset, loaded: LoadedCheckpoint | None) -> Sequence[float] | None:
    """Return the weight of each class in the loss, None if all are 1.

    Weights that follow from the training masks are computed once for a run: a resumed run takes the recorded ones.

    Args:
        config: the configuration.
        train_set: the training split, whose masks are read if they are needed.
        loaded: the checkpoint to resume from.
    """
    section, c = config.loss, config.loss.class_weights_log
    if c is None:
        return section.class_weights
    if loaded is not None and Config.from_dict(loaded.sidecar["config"]).loss.class_weights_log == c:
        recorded = loaded.sidecar.get("class_weights")
        if recorded is not None:
            return recorded

    log.info("counting the labelled pixels of %d training masks for loss.class_weights_log", len(train_set))
    weights = log_weights(class_frequency(train_set, timeout=config.data.timeout), c).tolist()
    log.info("class weights: %s", ", ".join(f"{name} {weight:.4g}" for name, weight in zip(train_set.classes, weights)))
    return weights


def make_step(config: Config, net, contexts: list[mx.Context], devices: int, *,
              class_weights: Sequence[float] | None = None) -> Step:
    """Return the network with its input step and loss, all of it initialised on ``contexts``.

    Args:
        config: the configuration.
        net: the network.
        contexts: where it is initialised.
        devices: number of devices that each batch is split across.
        class_weights: the result of :func:`class_weights`; default ``loss.class_weights``.
    """
    section = config.loss
    if class_weights is None:
        class_weights = section.class_weights
    mining = None
    if section.ohem:
        mining = Mining.of(section.ohem.form, thresh=section.ohem.thresh, min_kept=section.ohem.min_kept)
        mining = mining.with_quota(devices * config.train.accumulate)

    loss = net.loss(aux_weight=section.aux_weight, class_weights=class_weights,
                    label_smoothing=section.label_smoothing, mining=mining, ce=section.ce, focal=section.focal,
                    focal_gamma=section.focal_gamma, dice=section.dice, lovasz=section.lovasz)
    loss.initialize(ctx=contexts)

    step = Step(net, loss)
    step.input.initialize(ctx=contexts)
    return step


def load_initial_weights(net, source: Checkpoint) -> None:
    """Start from the weights of another run; tensors of a different shape are skipped and logged."""
    loaded = source.read()
    take_normalisation(net, loaded.sidecar)
    skipped = assign(net, loaded.params, where=source.path, skip=True)

    names = net.named_parameters()
    log.info("fine-tuning from %s: %d tensors loaded, %d skipped%s", source.path,
             len(names) - len([s for s in skipped if s.name in names]), len(skipped),
             "".join(f"\n  {s.name}: {s.reason}" for s in skipped))


def facts(train_set: SegDataset, val_set: SegDataset | None, resumed: LoadedCheckpoint | None) -> dict[str, Any]:
    """Return what all processes of a run must have in common: their images and their order, and the checkpoint."""
    def images(dataset: SegDataset) -> str:
        names = "\n".join(dataset.pair(index).name for index in range(len(dataset)))
        return f"{len(dataset)} images, SHA-256 {sha256(names.encode('utf-8', 'surrogateescape')).hexdigest()}"

    return {"training split": images(train_set), "validation split": val_set and images(val_set),
            "resumed checkpoint": resumed and [resumed.sidecar["progress"], resumed.sidecar["files"]]}


def new_checkpoint(folder: Path, net, train_set: SegDataset) -> Checkpoint:
    """Return the checkpoint of a new run, with a name that no other run has taken."""
    folder = folder / net.model_name
    stem = new_stem(folder, net.model_name, net.backbone_name, train_set.name)
    return Checkpoint(folder / f"{stem}.params")


def describe(config: Config, net, train_set: SegDataset, devices: Sequence[Any], precision: str, *, first_epoch: int,
             steps_per_epoch: int, checkpoint: Checkpoint, backend: str, processes: int) -> str:
    """Return one line on what will be trained, on what and for how long."""
    parameters = sum(int(np.prod(p.shape)) for p in net.named_parameters().values())
    return (f"{net.model_name} on {net.backbone_name}, {parameters / 1e6:.2f} M parameters; "
            f"{train_set.name} {config.data.train_split}: {len(train_set)} images, {train_set.nclass} classes; "
            f"batch {config.train.batch_size} on {', '.join(map(str, devices))} in {precision} "
            f"({backend}{f', {processes} processes' if processes > 1 else ''}); "
            f"epochs {first_epoch} to {config.train.epochs}, {_count(steps_per_epoch, 'step')} each; "
            f"checkpoints {checkpoint.path}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
