"""Contradictions of a configuration: values that are each valid alone, but not together."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import short
from .options import inline

if TYPE_CHECKING:
    from .schema import Config

# arguments of every network, which model.options would silently override -> where they belong
_NOT_OPTIONS = {
    **{key: f"set model.{key}" for key in ("name", "backbone", "output_stride", "aux", "norm", "pretrained_base")},
    "pretrained": "set model.pretrained_base", "root": "set model.pretrained_path",
    "nclass": "leave it out: the data set has its number of classes", "ctx": "leave it out: --ctx names the devices",
    "norm_layer": "set model.norm", "norm_kwargs": "set model.norm",
}


def contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """Yield pairs (contradiction, fix) of values that are each valid alone."""
    yield from _of_data(config)
    yield from _of_model_and_loss(config)
    yield from _of_schedule(config)
    train = config.train
    if train.freeze_backbone_epochs and not (config.model.pretrained_base or train.init_from):
        yield ("train.freeze_backbone_epochs would freeze a backbone of random weights",
               "start from trained ones: model.pretrained_base=true, or train.init_from=CHECKPOINT")


def _of_data(config: Config) -> Iterator[tuple[str, str]]:
    low, high = config.data.scale
    if low > high:
        yield f"data.scale runs from {low:g} down to {high:g}", f"data.scale: [{high:g}, {low:g}]"
    for key in ("scale_to_8bit", "scale_percentiles"):
        low, high = getattr(config.data, key) or (0, 1)
        if low >= high:
            yield f"data.{key} runs from {low:g} to {high:g}", f"data.{key}: [LOW, HIGH], where LOW is below HIGH"

    if config.data.scale_to_8bit and config.data.scale_percentiles:
        yield ("data.scale_to_8bit and data.scale_percentiles are both given, but only one can scale the values",
               "leave one out, or set it to null")

    if config.data.recipe is not None:
        defaults = type(config.data)()
        keys = ("scale", "flip", "blur", "jitter", "photometric", "cat_max_ratio", "class_uniform", "rotation",
                "cutout")
        set_too = [key for key in keys if getattr(config.data, key) != getattr(defaults, key)]
        if set_too:
            yield (f"data.recipe {config.data.recipe} sets data.{', data.'.join(set_too)} itself",
                   "leave out data.recipe or these keys; if another file sets them, set them to their defaults: " +
                   ", ".join(f"data.{key}={inline(getattr(defaults, key))}" for key in set_too))


def _of_model_and_loss(config: Config) -> Iterator[tuple[str, str]]:
    for key in sorted({*_NOT_OPTIONS} & {*config.model.options}):
        yield f"model.options.{key} is an argument of every network", _NOT_OPTIONS[key]

    loss = config.loss
    if not (loss.ce or loss.focal or loss.dice or loss.lovasz):
        yield "every loss has weight 0", "give one of loss.ce, loss.focal, loss.dice and loss.lovasz a weight"
    if not loss.ce and (loss.ohem or loss.label_smoothing):
        yield ("loss.ohem and loss.label_smoothing belong to the cross-entropy, but loss.ce is 0",
               "loss.ohem: null and loss.label_smoothing: 0, or give loss.ce a weight")
    for key in ("class_weights", "class_weights_log"):
        if getattr(loss, key) and not (loss.ce or loss.focal):
            yield (f"loss.{key} belongs to cross-entropy and focal loss, but loss.ce and loss.focal are 0",
                   f"loss.{key}: null, or give one of them a weight")
    if loss.class_weights and loss.class_weights_log:
        yield ("loss.class_weights and loss.class_weights_log both give the class weights",
               "set one of them to null: loss.class_weights=null, or loss.class_weights_log=null")


def _of_schedule(config: Config) -> Iterator[tuple[str, str]]:
    schedule, epochs = config.schedule, list(config.schedule.step_epochs or ())
    rising = sorted(set(epochs))
    if schedule.name == "step" and not rising:
        yield ("schedule.name is step, but schedule.step_epochs is null",
               "name the epochs, for example schedule.step_epochs: [10, 20]")
    if rising != epochs:
        yield (f"schedule.step_epochs does not rise: {short(epochs, 200)}",
               f"schedule.step_epochs: {short(rising, 200)}")

    if schedule.warmup_epochs >= config.train.epochs:
        yield (f"schedule.warmup_epochs ({schedule.warmup_epochs:g}) leaves nothing of "
               f"train.epochs ({config.train.epochs})", "lower the first, or raise the second")
    if schedule.target_lr > config.optimizer.lr:
        yield (f"schedule.target_lr ({schedule.target_lr:g}) is above "
               f"optimizer.lr ({config.optimizer.lr:g})",
               "lower schedule.target_lr: the rate falls from optimizer.lr to it")
