"""Schema of the configuration: every key with its default, type, range, unit and meaning.

This is the only place of the defaults. The files in ``configs/`` hold only the values that differ from them.
The hints of the sections are evaluated on Python 3.9, so they have the form ``Optional[X]``, not ``X | None``.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Dict, Mapping, Optional, Tuple

import yaml

from .._precisions import TRAINING_PRECISIONS
from ..errors import ConfigError
from ..files import atomic_write
from .contradictions import contradictions
from .options import (
    Section,
    build,
    check_mapping,
    describe_fields,
    inline,
    option,
    plain,
    section_type,
    show_changes,
    type_text,
)


@dataclass(frozen=True)
class Model(Section):
    """Network and its first weights."""

    name: str = option("fcn", "network; `mxnetseg models` lists them")
    backbone: Optional[str] = option(None, "feature extractor", null="the network's own default")
    output_stride: Optional[int] = option(
        None, "height of the input divided by the height of the deepest feature map", choices=(8, 16, 32),
        null="the network's own default")
    aux: bool = option(True, "train with auxiliary heads, if the network has any")
    norm: str = option(
        "auto", "normalisation layer; auto is syncbn on several devices and bn on one; frozen is batch norm that "
        "normalises with its running statistics in training, too, and keeps them",
        choices=("auto", "bn", "syncbn", "gn", "frozen"))
    pretrained_base: bool = option(False, "start the backbone from published ImageNet weights")
    pretrained_path: Optional[str] = option(
        None, "file of ImageNet weights of the backbone", null="use the cache, or download the file")
    options: Dict[str, Any] = option({}, "further keyword arguments of this network, which checks them")


@dataclass(frozen=True)
class Data(Section):
    """Data set, decoding of its images, and their augmentation for training."""

    name: str = option("sample", "data set, folder:PATH or list:PATH; `mxnetseg datasets` lists the data sets")
    root: Optional[str] = option(None, "folder of the data set", null="$MXNETSEG_DATA, then ./dataset")
    train_split: str = option("train", "split to train on")
    val_split: str = option("val", "split to validate on")
    scale_to_8bit: Optional[Tuple[float, float]] = option(
        None, "for images of more than 8 bits: the values that are mapped to 0 and 255, in all images and bands",
        null="such images are refused, unless scale_percentiles is given")
    scale_percentiles: Optional[Tuple[float, float]] = option(
        None, "percentiles that are mapped to 0 and 255, computed for each band of each image", unit="percent", low=0,
        high=100, null="no stretching")
    bands: Optional[Tuple[int, int, int]] = option(
        None, "numbers of the bands to use as red, green and blue, from 1 and on across the pages of a file", low=1,
        null="images have 1 or 3 bands, and transparent pixels are refused")
    base_size: int = option(
        288, "long side that an image is resized to before `scale` is applied", unit="pixels", low=8)
    crop_size: Tuple[int, int] = option(
        (192, 288), "height and width of the training crops",
        unit="pixels", low=8, spread=True)
    scale: Tuple[float, float] = option(
        (0.5, 2.0), "lowest and highest factor on base_size, which is drawn at random", above=0, high=10)
    recipe: Optional[str] = option(
        None, "augmentation of a published code, which sets scale and all keys from flip to cutout",
        choices=("mxnetseg", "flattenet", "sfnet", "ovenet"), null="the following keys apply")
    flip: bool = option(True, "flip images horizontally, with probability 0.5")
    blur: bool = option(True, "blur images by a radius of up to one pixel, with probability 0.5")
    jitter: float = option(
        0.0, "strength of random changes of brightness, contrast, saturation and hue; 0 is off",
        low=0, high=1)
    photometric: bool = option(
        False, "distort brightness, contrast, saturation and hue as SSD does, each with probability 0.5")
    cat_max_ratio: float = option(
        1.0, "largest fraction of a crop that one class may cover; other crops are drawn again, at most ten times; "
        "1 is off",
        above=0, high=1)
    class_uniform: float = option(
        0.0, "fraction of the crops that are placed on a class of the image, all classes being equally likely",
        low=0, high=1)
    rotation: float = option(
        0.0, "largest rotation to either side, which is drawn at random; 0 is off", unit="degrees", low=0, high=180)
    cutout: float = option(
        0.0, "largest height and width of an ignored grey box, as a fraction of the crop; 0 is off",
        low=0, high=1)
    workers: int = option(2, "threads that read and augment images", low=1, high=256)
    timeout: float = option(
        120.0, "longest time to read one image; after it, reading counts as hung", unit="seconds", above=0)


@dataclass(frozen=True)
class Ohem(Section):
    """Online hard example mining: only badly predicted pixels contribute to the loss."""

    thresh: float = option(0.7, "a pixel contributes if the probability of its class is lower", above=0, high=1)
    min_kept: int = option(100000, "lowest number of contributing pixels per batch; with mmseg, per image",
                           unit="pixels", low=1)
    form: str = option("flattenet", "published variant of the rule",  # mxnetseg.losses.Mining describes them
                       choices=("flattenet", "hrnet", "mmseg", "ccnet"))


@dataclass(frozen=True)
class Loss(Section):
    """Loss: a weighted sum of losses over the valid pixels of the whole batch, by default the cross-entropy."""

    ce: float = option(1.0, "weight of the cross-entropy", low=0)
    focal: float = option(0.0, "weight of the focal loss", low=0)
    dice: float = option(0.0, "weight of the dice loss", low=0)
    lovasz: float = option(0.0, "weight of the Lovász-softmax", low=0)
    focal_gamma: float = option(
        2.0, "focusing parameter of the focal loss: higher values down-weight easy pixels more", low=0)
    aux_weight: float = option(0.5, "weight of the loss of each auxiliary head", low=0)
    class_weights: Optional[Tuple[float, ...]] = option(
        None, "weight of each class in cross-entropy and focal loss, in the data set's order", low=0, null="all 1")
    class_weights_log: Optional[float] = option(
        None, "c of the class weights 1 / ln(c + f), where f is the class's fraction of the labelled training pixels, "
        "which are counted before the first step; ENet: 1.02", above=1, null="class_weights applies")
    label_smoothing: float = option(
        0.0, "fraction of the target of the cross-entropy that is spread over all classes", low=0, below=1)
    ohem: Optional[Ohem] = option(None, "mine hard pixels for the cross-entropy", null="every pixel contributes")


@dataclass(frozen=True)
class Optimizer(Section):
    """Optimiser and its settings."""

    name: str = option("sgd", "optimiser", choices=("sgd", "nag", "adam", "adamw"))
    lr: float = option(0.01, "learning rate of the backbone, the highest of the schedule", above=0)
    momentum: float = option(0.9, "momentum of sgd and nag", low=0, below=1)
    weight_decay: float = option(1e-4, "weight decay", low=0)
    head_lr_mult: float = option(1.0, "factor on the learning rate of all layers outside the backbone", low=0)
    clip_norm: Optional[float] = option(
        None, "largest norm of all gradients together; larger gradients are scaled down to it", above=0,
        null="gradients are not clipped")
    decay_norm_and_bias: bool = option(True, "apply weight decay to normalisation parameters and biases, too")
    beta1: float = option(0.9, "decay of adam's first moment", low=0, below=1)
    beta2: float = option(0.999, "decay of adam's second moment", low=0, below=1)


@dataclass(frozen=True)
class Schedule(Section):
    """Learning rate over the steps of the run."""

    name: str = option("poly", "shape", choices=("poly", "cosine", "step", "linear", "constant"))
    power: float = option(0.9, "exponent of poly", above=0)
    target_lr: float = option(0.0, "learning rate at the end of poly, cosine and linear", low=0)
    step_epochs: Optional[Tuple[int, ...]] = option(
        None, "epochs after which step multiplies the rate by step_factor",
        unit="epochs", low=1, null="no steps")
    step_factor: float = option(0.5, "factor of each step", above=0, high=1)
    warmup_epochs: float = option(0.0, "length of the warm-up, in which the rate rises to `lr`", unit="epochs", low=0)
    warmup_factor: float = option(0.1, "rate at the start of the warm-up, as a fraction of `lr`", low=0, high=1)


@dataclass(frozen=True)
class Train(Section):
    """Training run: its length, batches, precision, saving and logging."""

    epochs: int = option(30, "passes over the training split", unit="epochs", low=1)
    batch_size: int = option(8, "images per step, on all devices together", unit="images", low=1)
    accumulate: int = option(
        1, "number of micro-batches per batch; their gradients add up to those of the batch, in less memory", low=1)
    precision: str = option(
        "float32", "precision of convolutions; auto is a fast one of the device",
        choices=TRAINING_PRECISIONS)
    ema: float = option(
        0.0, "decay of an exponential moving average of the weights, which is validated and saved in their place; in "
        "the first steps it is lower; 0 is off", low=0, below=1)
    freeze_backbone_epochs: int = option(
        0, "first epochs in which the backbone keeps its values, its norm statistics too; as many as `epochs` freeze "
        "it for the whole run; 0 is never", unit="epochs", low=0)
    compile: bool = option(False, "compile the training step; for the backend torch only")
    deterministic: bool = option(False, "use only operators that repeat their results on GPUs, which is slower")
    val_every: int = option(
        1, "epochs from one validation to the next; 0 validates only at the end", unit="epochs", low=0)
    save_every: int = option(1, "epochs from one write of the last checkpoint to the next", unit="epochs", low=1)
    log_every: int = option(10, "steps from one row of the log to the next", unit="steps", low=1)
    seed: int = option(0, "random seed of initial weights, order of images, and augmentation", low=0, high=2**31 - 1)
    start_timeout: float = option(
        300.0, "longest time until all processes of a run have started", unit="seconds", low=1, high=86400)
    step_timeout: float = option(
        600.0, "longest time without progress, after which a run of several processes ends", unit="seconds", low=5,
        high=86400)
    init_from: Optional[str] = option(
        None, "checkpoint to fine-tune from; tensors of a different shape are skipped and listed",
        null="random weights")


@dataclass(frozen=True)
class Eval(Section):
    """Evaluation during training and by `mxnetseg eval`."""

    mode: str = option("whole", "predict whole images, or slide a window of crop_size over them",
                       choices=("whole", "slide"))
    base_size: Optional[int] = option(
        None, "long side that an image is resized to", unit="pixels", low=8, null="no resizing")
    crop_size: Optional[Tuple[int, int]] = option(
        None, "height and width of the sliding window",
        unit="pixels", low=8, spread=True, null="data.crop_size")
    stride: float = option(2 / 3, "step of the sliding window, as a fraction of crop_size", above=0, high=1)
    scales: Tuple[float, ...] = option(
        (1.0,), "factors on the size of the image, over which predictions are averaged", above=0, high=10)
    flip: bool = option(False, "average over the flipped image, too")
    ms_scales: Tuple[float, ...] = option(
        (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "the scales that the option --ms selects, together with flip",
        above=0, high=10)
    batch: int = option(1, "images or windows per forward pass of a device", low=1)
    size_divisor: Optional[int] = option(
        32, "extend whole images by their last row and column until their sides leave the remainders of data.crop_size "
        "when divided by it", unit="pixels", low=2, high=64, null="no extension")


@dataclass(frozen=True)
class Config(Section):
    """Complete configuration. It is immutable; :meth:`replace` returns a changed copy.

    >>> from mxnetseg.config import Config
    >>> Config().replace({"train.epochs": 3}).train.epochs
    3

    Raises:
        ConfigError: a value of the wrong type or outside its range, or two values that contradict each other.
    """

    model: Model = option(Model, "the network")
    data: Data = option(Data, "the data set and its augmentation")
    loss: Loss = option(Loss, "the loss")
    optimizer: Optimizer = option(Optimizer, "the optimiser")
    schedule: Schedule = option(Schedule, "the learning rate over the steps")
    train: Train = option(Train, "the training run")
    eval: Eval = option(Eval, "evaluation")
    __repr__ = show_changes  # all keys together fill a screen

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem, fix in contradictions(self):
            raise ConfigError(problem, fix=fix)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: object | None = None) -> Config:
        """Return the configuration of a nested mapping; keys that it leaves out keep their defaults.

        Args:
            values: the result of :meth:`to_dict`, or a part of it.
            where: file that the mapping was read from, for messages.
        """
        try:
            return build(cls, check_mapping(cls, values, where))
        except ConfigError as error:
            error.where = error.where or where
            raise

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain mappings and lists, fit for JSON and YAML; ``from_dict`` reads them back."""
        return plain(self)

    def replace(self, changes: Mapping[str, Any], *, where: object | None = None) -> Config:
        """Return a copy with other values: ``config.replace({'train.epochs': 3, 'loss.ohem.thresh': 0.6})``.

        Args:
            changes: dotted key -> new value.
            where: option or file that asks for the change, for messages.
        """
        values = self.to_dict()
        for key, value in changes.items():
            values = merge(values, check_mapping(Config, nested(key, value), where))
        return Config.from_dict(values, where=where)

    def to_yaml(self) -> str:
        """Return all keys with their values, as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True)

    def dump(self, path: str | Path) -> None:
        """Write all keys to a YAML file, atomically: a reader sees the old file or the whole new one."""
        with atomic_write(path, "w") as file:
            file.write(self.to_yaml())

    def describe(self, section: str | None = None) -> str:
        """Return a YAML file of all keys with their values, and comments on meaning, type, range and unit.

        Args:
            section: only the keys of this section.
        """
        lines = _describe(self, indent=0)
        if section is not None:
            keys = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
            first = lines.index(f"{section}:")
            lines = lines[first - 1:next((number - 1 for number in keys if number > first), None)]
        return "\n".join(lines).strip() + "\n"


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Return nested mappings for a dotted key: ``{'a': {'b': 1}}`` for ``('a.b', 1)``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted keys: ``{'a.b': 1}`` for ``{'a': {'b': 1}}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return found


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` updated by ``above``: mappings are merged key by key, other values are replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _describe(section: Section, indent: int, width: int = 100) -> list[str]:
    """Return the lines of one section: a comment above each key; an optional section that is off is commented out."""
    lines, margin = [], "  " * indent
    for key, (hint, opt) in describe_fields(type(section)).items():  # type: ignore[arg-type]
        value, nested_type = getattr(section, key), section_type(hint)
        if nested_type is None:
            comment = f"{margin}# "
            lines += wrap(f"{opt.doc} ({type_text(hint, opt)})", width,
                          initial_indent=comment, subsequent_indent=comment)
            lines.append(f"{margin}{key}: {inline(value)}")
            continue

        lines += [""] if indent == 0 else []
        lines.append(f"{margin}# {opt.doc}" + ("" if nested_type is hint else f", or null: {opt.null}"))
        if value is None:
            commented_out = _describe(nested_type(), 1, width - len(margin) - 2)
            lines += [f"{margin}{key}: null"] + [f"{margin}# {line}" for line in commented_out]
        else:
            lines += [f"{margin}{key}:"] + _describe(value, indent + 1, width)
    return lines
