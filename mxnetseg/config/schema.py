"""The schema: every configuration key with its default, type, range, unit and meaning.

This is the one place where defaults live. The files in ``configs/`` hold only what differs from them.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import wrap
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import yaml

from ..errors import ConfigError, short
from ..files import atomic_write
from .options import Section, build, check_mapping, describe_fields, option, section_type, type_text


@dataclass(frozen=True)
class Model(Section):
    """The network."""

    name: str = option("fcn", "network; `mxnetseg models` lists them")
    backbone: Optional[str] = option(None, "feature extractor", null="the network's own default")
    output_stride: Optional[int] = option(
        None, "input size over the size of the deepest features", choices=(8, 16, 32),
        null="the network's own default")
    aux: bool = option(True, "train with an auxiliary head, where the network has one")
    norm: str = option(
        "auto", "normalisation layer; auto is syncbn on several devices and bn on one",
        choices=("auto", "bn", "syncbn", "gn"))
    pretrained_base: bool = option(False, "start the backbone from published ImageNet weights")
    pretrained_path: Optional[str] = option(
        None, "file of backbone weights to start from", null="look in the cache, then at the mirrors")
    options: Dict[str, Any] = option({}, "keyword arguments that only this network takes; it checks them")


@dataclass(frozen=True)
class Data(Section):
    """The data set and how its images are augmented for training."""

    name: str = option("sample", "data set, or folder:PATH or list:PATH; `mxnetseg datasets` lists them")
    root: Optional[str] = option(None, "folder of the data set", null="$MXNETSEG_DATA, then ./dataset")
    train_split: str = option("train", "split to train on")
    val_split: str = option("val", "split to validate on")
    scale_to_8bit: Optional[Tuple[float, float]] = option(
        None, "for images of more than 8 bits: the values that become 0 and 255, the same in all images and bands",
        null="such images are refused, unless scale_percentiles is given")
    scale_percentiles: Optional[Tuple[float, float]] = option(
        None, "percentiles that become 0 and 255, of each band of each image by itself", unit="per cent", low=0,
        high=100, null="no stretching")
    bands: Optional[Tuple[int, int, int]] = option(
        None, "the bands that become red, green and blue, counted from 1; those of further pages count on", low=1,
        null="images have 1 or 3 bands, and what is transparent is refused")
    base_size: int = option(
        288, "long side that an image is scaled to before `scale` applies", unit="pixels", low=8)
    crop_size: Tuple[int, int] = option(
        (192, 288), "height and width of the crops that the network is trained on",
        unit="pixels", low=8, spread=True)
    scale: Tuple[float, float] = option(
        (0.5, 2.0), "lowest and highest random factor on base_size", above=0, high=10)
    recipe: Optional[str] = option(
        None, "augment as one of the sources does; sets scale and all keys from flip to cutout by itself",
        choices=("mxnetseg", "flattenet", "sfnet", "ovenet"), null="as the following keys say")
    flip: bool = option(True, "mirror every second image")
    blur: bool = option(True, "blur every second image by a radius of up to one pixel")
    jitter: float = option(
        0.0, "strength of random changes of brightness, contrast, saturation and hue; 0 is none",
        low=0, high=1)
    photometric: bool = option(
        False, "distort brightness, contrast, saturation and hue as SSD does, each in every second image")
    cat_max_ratio: float = option(
        1.0, "a crop where one class covers a larger share is drawn again, ten times at most; 1 is none",
        above=0, high=1)
    class_uniform: float = option(
        0.0, "share of the crops that are placed on a class drawn evenly from those of the image", low=0, high=1)
    rotation: float = option(0.0, "turn by up to so much to either side; 0 is none", unit="degrees", low=0, high=180)
    cutout: float = option(
        0.0, "share of the crop's height and width that an ignored grey box covers at most; 0 is none",
        low=0, high=1)
    workers: int = option(2, "threads that read and augment images", low=1, high=256)
    timeout: float = option(120.0, "time to wait for one image before reading counts as hung", unit="seconds", above=0)


@dataclass(frozen=True)
class Ohem(Section):
    """Online hard example mining: only badly predicted pixels count."""

    thresh: float = option(0.7, "a pixel counts if its true class has a lower probability", above=0, high=1)
    min_kept: int = option(100000, "at least so many pixels of a batch (mmseg: of an image) count",
                           unit="pixels", low=1)
    form: str = option("flattenet", "whose reading of the rule",  # mxnetseg.losses.Mining says how they differ
                       choices=("flattenet", "hrnet", "mmseg", "ccnet"))


@dataclass(frozen=True)
class Loss(Section):
    """The loss: a weighted sum of losses over the valid pixels of the whole batch, cross-entropy by default."""

    ce: float = option(1.0, "weight of the cross-entropy", low=0)
    focal: float = option(0.0, "weight of the focal loss", low=0)
    dice: float = option(0.0, "weight of the dice loss", low=0)
    lovasz: float = option(0.0, "weight of the Lovász-softmax", low=0)
    focal_gamma: float = option(2.0, "how little the focal loss counts a sure pixel", low=0)
    aux_weight: float = option(0.5, "weight of the auxiliary head's loss", low=0)
    class_weights: Optional[Tuple[float, ...]] = option(
        None, "weight of each class in cross-entropy and focal loss, in the data set's order", low=0, null="all 1")
    label_smoothing: float = option(
        0.0, "share of the cross-entropy's target that is spread over all classes", low=0, below=1)
    ohem: Optional[Ohem] = option(None, "mine hard pixels for the cross-entropy", null="every pixel counts")


@dataclass(frozen=True)
class Optimizer(Section):
    """The optimiser."""

    name: str = option("sgd", "optimiser", choices=("sgd", "nag", "adam", "adamw"))
    lr: float = option(0.01, "learning rate of the backbone at its highest", above=0)
    momentum: float = option(0.9, "momentum of sgd and nag", low=0, below=1)
    weight_decay: float = option(1e-4, "weight decay", low=0)
    head_lr_mult: float = option(1.0, "learning rate outside the backbone, over `lr`", low=0)
    decay_norm_and_bias: bool = option(True, "decay normalisation parameters and biases too")
    beta1: float = option(0.9, "decay of adam's first moment", low=0, below=1)
    beta2: float = option(0.999, "decay of adam's second moment", low=0, below=1)


@dataclass(frozen=True)
class Schedule(Section):
    """How the learning rate changes, step by step."""

    name: str = option("poly", "shape", choices=("poly", "cosine", "step", "linear", "constant"))
    power: float = option(0.9, "exponent of poly", above=0)
    target_lr: float = option(0.0, "learning rate at the end; for poly, cosine and linear", low=0)
    step_epochs: Optional[Tuple[int, ...]] = option(
        None, "epochs at which step multiplies the rate by step_factor",
        unit="epochs", low=1, null="no steps")
    step_factor: float = option(0.5, "factor of each step", above=0, high=1)
    warmup_epochs: float = option(0.0, "time over which the rate rises to `lr` first", unit="epochs", low=0)
    warmup_factor: float = option(0.1, "where warm-up begins, over `lr`", low=0, high=1)


@dataclass(frozen=True)
class Train(Section):
    """The training run."""

    epochs: int = option(30, "passes over the training split", unit="epochs", low=1)
    batch_size: int = option(8, "images of one step, over all devices together", unit="images", low=1)
    accumulate: int = option(
        1, "compute a batch in so many turns: their gradients add up to those of the whole, in less memory", low=1)
    precision: str = option(
        "float32", "what convolutions compute in; auto is what the device is fast in",
        choices=("auto", "float32", "bfloat16", "float16"))
    val_every: int = option(1, "validate after so many epochs; 0 is only at the end", unit="epochs", low=0)
    save_every: int = option(1, "write the last checkpoint after so many epochs", unit="epochs", low=1)
    log_every: int = option(10, "write a log row after so many steps", unit="steps", low=1)
    seed: int = option(0, "seed of initial weights, order and augmentation", low=0, high=2**31 - 1)
    init_from: Optional[str] = option(
        None, "checkpoint to fine-tune from; tensors of another shape are skipped and listed",
        null="random weights")


@dataclass(frozen=True)
class Eval(Section):
    """Evaluation, at the end of training and by `mxnetseg eval`."""

    mode: str = option("whole", "whole images at once, or a sliding window of crop_size",
                       choices=("whole", "slide"))
    base_size: Optional[int] = option(
        None, "long side that an image is scaled to", unit="pixels", low=8, null="the image's own size")
    crop_size: Optional[Tuple[int, int]] = option(
        None, "height and width of the sliding window",
        unit="pixels", low=8, spread=True, null="data.crop_size")
    stride: float = option(2 / 3, "step of the sliding window, over crop_size", above=0, high=1)
    scales: Tuple[float, ...] = option(
        (1.0,), "factors on base_size that are averaged over", above=0, high=10)
    flip: bool = option(False, "average over the mirrored image too")
    ms_scales: Tuple[float, ...] = option(
        (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "what --ms puts for scales; it sets flip as well",
        above=0, high=10)
    batch: int = option(1, "images or windows that a device computes at once", low=1)


# arguments of every network, which model.options would override in silence -> where they belong
_NOT_OPTIONS = {
    **{key: f"set model.{key}" for key in ("name", "backbone", "output_stride", "aux", "norm", "pretrained_base")},
    "pretrained": "set model.pretrained_base", "root": "set model.pretrained_path",
    "nclass": "leave it out: the data set has its number of classes", "ctx": "leave it out: --ctx names the devices",
    "norm_layer": "set model.norm", "norm_kwargs": "set model.norm",
}


@dataclass(frozen=True)
class Config(Section):
    """A whole configuration. Immutable; :meth:`replace` gives a changed copy.

    Raises:
        ConfigError: a value of the wrong type or outside its range, or two that contradict each other.
    """

    model: Model = option(Model, "the network")
    data: Data = option(Data, "the data set and its augmentation")
    loss: Loss = option(Loss, "the loss")
    optimizer: Optimizer = option(Optimizer, "the optimiser")
    schedule: Schedule = option(Schedule, "the learning rate over time")
    train: Train = option(Train, "the training run")
    eval: Eval = option(Eval, "evaluation")

    def __post_init__(self):
        super().__post_init__()
        for problem, fix in self._contradictions():
            raise ConfigError(problem, fix=fix)

    def _contradictions(self):
        """Pairs (what contradicts what, how to mend it), over values that are each valid alone."""
        low, high = self.data.scale
        if low > high:
            yield f"data.scale runs from {low:g} down to {high:g}", f"data.scale: [{high:g}, {low:g}]"
        for key in ("scale_to_8bit", "scale_percentiles"):
            low, high = getattr(self.data, key) or (0, 1)
            if low >= high:
                yield f"data.{key} runs from {low:g} to {high:g}", f"data.{key}: [LOW, HIGH], where LOW is below HIGH"
        if self.data.scale_to_8bit and self.data.scale_percentiles:
            yield ("data.scale_to_8bit and data.scale_percentiles are both given, and each says how values are scaled",
                   "leave one out, or set it to null")
        if self.data.recipe is not None:
            plain = Data()
            own = [key for key in ("scale", "flip", "blur", "jitter", "photometric", "cat_max_ratio", "class_uniform",
                                   "rotation", "cutout") if getattr(self.data, key) != getattr(plain, key)]
            if own:
                yield (f"data.recipe {self.data.recipe} sets data.{', data.'.join(own)} itself",
                       "leave out data.recipe, or these keys; where another file gives them, give their defaults: " +
                       ", ".join(f"data.{key}={_inline(getattr(plain, key))}" for key in own))
        for key in sorted({*_NOT_OPTIONS} & {*self.model.options}):
            yield f"model.options.{key} is no option of one network", _NOT_OPTIONS[key]
        loss = self.loss
        if not (loss.ce or loss.focal or loss.dice or loss.lovasz):
            yield "every loss has weight 0", "give one of loss.ce, loss.focal, loss.dice and loss.lovasz a weight"
        if not loss.ce and (loss.ohem or loss.label_smoothing):
            yield ("loss.ohem and loss.label_smoothing belong to the cross-entropy, but loss.ce is 0",
                   "loss.ohem: null and loss.label_smoothing: 0, or give loss.ce a weight")
        if loss.class_weights and not (loss.ce or loss.focal):
            yield ("loss.class_weights belongs to cross-entropy and focal loss, but loss.ce and loss.focal are 0",
                   "loss.class_weights: null, or give one of them a weight")
        schedule, rising = self.schedule, sorted(set(self.schedule.step_epochs or ()))
        if schedule.name == "step" and not rising:
            yield ("schedule.name is step, but schedule.step_epochs is null",
                   "name the epochs, for example schedule.step_epochs: [10, 20]")
        if rising != list(schedule.step_epochs or ()):
            yield (f"schedule.step_epochs does not rise: {short(list(schedule.step_epochs), 200)}",
                   f"schedule.step_epochs: {short(rising, 200)}")
        if schedule.warmup_epochs >= self.train.epochs:
            yield (f"schedule.warmup_epochs ({schedule.warmup_epochs:g}) leaves nothing of "
                   f"train.epochs ({self.train.epochs})", "lower the first or raise the second")
        if schedule.target_lr > self.optimizer.lr:
            yield (f"schedule.target_lr ({schedule.target_lr:g}) is above "
                   f"optimizer.lr ({self.optimizer.lr:g})",
                   "the rate falls from optimizer.lr to schedule.target_lr; lower the second")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: Optional[object] = None) -> "Config":
        """The configuration that a nested mapping means; what it leaves out keeps its default.

        Args:
            values: as :meth:`to_dict` returns it, or a part of that.
            where: file that the mapping was read from, for messages.
        """
        try:
            return build(cls, check_mapping(cls, values, where))
        except ConfigError as error:
            error.where = error.where or where
            raise

    def to_dict(self) -> Dict[str, Any]:
        """Nested plain mappings and lists, fit for JSON and YAML; ``from_dict`` reads them back."""
        return _plain(self)

    def replace(self, changes: Mapping[str, Any], *, where: Optional[object] = None) -> "Config":
        """A copy with other values: ``config.replace({'train.epochs': 3, 'loss.ohem.thresh': 0.6})``.

        Args:
            changes: dotted key -> new value.
            where: what asked for the change, for messages.
        """
        values = self.to_dict()
        for key, value in changes.items():
            values = merge(values, check_mapping(Config, nested(key, value), where))
        return Config.from_dict(values, where=where)

    def to_yaml(self) -> str:
        """All keys with their values, as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True)

    def dump(self, path: Union[str, Path]) -> None:
        """Write all keys to a YAML file, atomically: a reader sees the old file or the whole new one."""
        with atomic_write(path, "w") as file:
            file.write(self.to_yaml())

    def describe(self) -> str:
        """All keys with their values, meaning, type, range and unit, as a YAML file that reads back."""
        return "\n".join(_describe(self, indent=0)).strip() + "\n"


def nested(dotted: str, value: Any) -> Dict[str, Any]:
    """``('a.b', 1)`` -> ``{'a': {'b': 1}}``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Dict[str, Any]:
    """``below`` with ``above`` laid over it: mappings are merged key by key, all else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value
    return merged


def _plain(value: Any) -> Any:
    """Sections as mappings, tuples as lists; everything else as it is."""
    if isinstance(value, Section):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _describe(section: Section, indent: int) -> List[str]:
    """Lines for one section: each key's comment above it; an optional section that is off, commented out."""
    lines, margin = [], "  " * indent
    for key, (hint, opt) in describe_fields(type(section)).items():
        value, kind = getattr(section, key), section_type(hint)
        if kind is None:
            comment = f"{margin}# "
            lines += wrap(f"{opt.doc} ({type_text(hint, opt)})", 100,
                          initial_indent=comment, subsequent_indent=comment)
            lines.append(f"{margin}{key}: {_inline(value)}")
            continue
        lines += [""] if indent == 0 else []
        lines.append(f"{margin}# {opt.doc}" + ("" if kind is hint else f", or null: {opt.null}"))
        if value is None:
            lines += [f"{margin}{key}: null"] + [f"{margin}# {line}" for line in _describe(kind(), 1)]
        else:
            lines += [f"{margin}{key}:"] + _describe(value, indent + 1)
    return lines


def _inline(value: Any) -> str:
    """A value as YAML on one line, without the end mark that YAML puts after a lone scalar."""
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6).strip()
    return text[:-len("...")].strip() if text.endswith("\n...") else text
