"""Older formats of a configuration: MXNetSeg's flat ``config.yml``, and wandb's export of a run.

Both can be used wherever a configuration file can. This module alone translates their keys.

The learning rate has to be converted. MXNetSeg's loss is a mean over the valid pixels of each device, the gradients of
the devices are summed, and its trainer then divides by the batch size once more. With f = devices / batch, its
optimiser saw f times the gradient of the mean loss, which is minimised here. For SGD

    w <- w - lr (f g + wd w)  =  w - (f lr) (g + (wd / f) w),      hence  lr' = f lr,  wd' = wd / f.

Adam cancels the factor, so that only wd' = wd / f remains.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError, UnknownNameError, canonical, short
from .schema import merge, nested

# keys of MXNetSeg's config.yml, and those that its trainer added for wandb
_KEYS = ("model_name", "backbone", "dilate", "aux", "aux_weight", "norm", "norm_layer", "backbone_init", "resume",
         "data_name", "crop_size", "base_size", "lr", "lr_mult", "target_lr", "wd", "momentum", "optimizer",
         "lr_scheduler", "poly", "step", "adam", "epochs", "bs_train", "bs_val", "ctx", "num_train", "num_valid",
         "criterion", "start_time", "best_epoch")
_NESTED = {"backbone_init": ("manner", "backbone_ckpt", "prior_classes"), "poly": ("power",),
           "step": ("step_factor", "step_epoch"), "adam": ("adam_beta1", "adam_beta2")}
_TELLTALE = ("model_name", "data_name", "bs_train", "lr_scheduler")  # a configuration of mxnetseg has no such section
_NORMS = {"sbn": "auto", "syncbn": "auto", "bn": "bn", "gn": "gn"}  # auto is syncbn on several devices
_WITH_STRIDE = ("fcn", "fcnresnet", "deeplabv3", "deeplabv3plus", "deeplabv3plusr", "canetv2")
_CITY_SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
_SCALES = {"cityscapes": _CITY_SCALES, "citys": _CITY_SCALES, "citycoarse": _CITY_SCALES, "camvid": _CITY_SCALES,
           "gatech": (0.5, 0.8, 1.0, 1.2, 1.4)}
_TRAINVAL = {("cityscapes", 3475), ("citys", 3475)}  # the size shows which split a run was trained on


def unwrap_wandb(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{key: value}`` for wandb's ``{key: {desc, value}}``, and any other content unchanged."""
    rest = {key: value for key, value in content.items() if key not in ("wandb_version", "_wandb")}
    wrapped = rest and all(isinstance(v, Mapping) and "value" in v and set(v) <= {"desc", "value"}
                           for v in rest.values())
    return {key: value["value"] for key, value in rest.items()} if wrapped else dict(content)


def is_flat(content: Mapping[str, Any]) -> bool:
    """Return whether a file has MXNetSeg's format, with all keys on one level."""
    return any(key in content for key in _TELLTALE)


def from_mxnetseg(flat: Mapping[str, Any], where: object | None = None) -> tuple[dict[str, Any], list[str]]:
    """Translate a flat configuration.

    Args:
        flat: the keys of MXNetSeg's ``config.yml``; ``ctx``, which only exports have, gives the number of devices.
        where: the file that they come from, for messages.

    Returns:
        nested values for :meth:`~mxnetseg.config.Config.from_dict`, not yet checked; and notes, one per line, on
        values that differ from those in the file.

    Raises:
        UnknownNameError: MXNetSeg does not have such a key.
        ConfigError: a value has no counterpart.
    """
    _check_keys(flat, where)
    values: dict[str, Any] = {}
    notes: list[str] = []

    def put(key: str, value: Any) -> None:
        nonlocal values
        values = merge(values, nested(key, value))

    def carry(key: str, *path: str, convert: Callable[[Any], Any] = lambda x: x) -> None:
        found: Any = flat
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            put(key, convert(found))

    data = canonical(flat.get("data_name", ""))
    carry("model.name", "model_name", convert=canonical)
    carry("model.backbone", "backbone")
    carry("data.name", "data_name", convert=canonical)
    for key, path in {
        "data.crop_size": ("crop_size",), "data.base_size": ("base_size",), "train.epochs": ("epochs",),
        "train.batch_size": ("bs_train",), "optimizer.name": ("optimizer",), "optimizer.momentum": ("momentum",),
        "optimizer.head_lr_mult": ("lr_mult",), "schedule.name": ("lr_scheduler",), "schedule.power": ("poly", "power"),
        "optimizer.beta1": ("adam", "adam_beta1"), "optimizer.beta2": ("adam", "adam_beta2"),
        "model.pretrained_path": ("backbone_init", "backbone_ckpt"), "train.init_from": ("resume",),
    }.items():
        carry(key, *path)
    if flat.get("lr_scheduler") == "step":
        carry("schedule.step_epochs", "step", "step_epoch")
        carry("schedule.step_factor", "step", "step_factor")
    _network(flat, put, notes, where)
    _rate(flat, put, notes, where)
    put("data.recipe", "mxnetseg")
    if any(data == name and flat.get("num_train") == size for name, size in _TRAINVAL):
        put("data.train_split", "trainval")
    # MXNetSeg scores windows of images that are resized to base_size
    put("eval.mode", "slide")
    carry("eval.base_size", "base_size")
    if data in _SCALES:
        put("eval.ms_scales", list(_SCALES[data]))
    return values, notes


def _network(flat, put, notes, where) -> None:
    """Translate stride, auxiliary head, norm and first weights."""
    model = canonical(flat.get("model_name", ""))
    if "dilate" in flat and model in _WITH_STRIDE and "resnet" in str(flat.get("backbone", "resnet")):
        put("model.output_stride", 8 if flat["dilate"] else 32)

    aux = bool(flat.get("aux"))
    put("model.aux", aux)
    if aux:
        put("loss.aux_weight", 1.0)
        notes.append(f"aux_weight {short(flat.get('aux_weight'))} had no effect: MXNetSeg adds each auxiliary loss "
                     "with weight 1, so loss.aux_weight is 1")

    norm = flat.get("norm", flat.get("norm_layer"))
    if norm is not None:
        if str(norm).lower() not in _NORMS:
            raise ConfigError("MXNetSeg has no such normalisation layer", where=where, received=short(norm),
                              fix="one of SyncBN, BN, GN")
        put("model.norm", _NORMS[str(norm).lower()])

    manner = (flat.get("backbone_init") or {}).get("manner")
    if manner not in (None, "cls"):
        raise ConfigError("a backbone taken from another segmentation network has no counterpart here", where=where,
                          received=f"backbone_init.manner: {short(manner)}",
                          fix="set it to cls, and name the checkpoint to start from in train.init_from")
    put("model.pretrained_base", manner == "cls")


def _rate(flat, put, notes, where) -> None:
    """Translate learning rate and weight decay; see the docstring of this module."""
    devices, batch = _devices(flat.get("ctx"), where), flat.get("bs_train", 8)
    for key, value in {**{k: flat.get(k, 0) for k in ("lr", "wd", "target_lr")}, "bs_train": batch}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or \
                not (key == "bs_train") <= value < math.inf:
            raise ConfigError(f"configuration key {key!r} must be a number", where=where, received=short(value))

    factor = devices / batch
    adam = flat.get("optimizer") == "adam"
    if adam:
        put("schedule.name", "constant")
        notes.append("MXNetSeg never changes Adam's learning rate: schedule.name is constant")

    for key, own_key, scale in (("lr", "optimizer.lr", 1.0 if adam else factor),
                             ("target_lr", "schedule.target_lr", 1.0 if adam else factor),
                             ("wd", "optimizer.weight_decay", 1 / factor)):
        if key in flat:
            value = flat[key] * scale
            put(own_key, float(f"{value:.12g}"))
            if value != flat[key]:
                notes.append(f"{key} {flat[key]:g} acted as {value:g}: "
                             f"f = {devices} devices / {batch} images per batch")

    if "lr" in flat and "ctx" not in flat:
        notes.append("the file does not give the number of devices: 1 is assumed; on n devices lr was n times as "
                     "large, wd an n-th")


def _devices(ctx: Any, where: object | None) -> int:
    """Return the number of devices in ``[gpu(0), gpu(1)]``, a list or one text."""
    if ctx is None:
        return 1
    count = len(re.findall(r"[cg]pu\(\d+\)", ctx)) if isinstance(ctx, str) else len(ctx) if isinstance(ctx, list) else 0
    if not count:
        raise ConfigError("ctx must be a list of devices", where=where, received=short(ctx),
                          fix="for example ctx: [gpu(0), gpu(1)]")
    return count


def _check_keys(flat: Mapping[str, Any], where: object | None) -> None:
    for key, value in flat.items():
        if key not in _KEYS:
            raise UnknownNameError("key of MXNetSeg's config.yml", key, _KEYS, where=where)
        if key in ("model_name", "data_name") and not isinstance(value, (str, type(None))):
            raise ConfigError(f"configuration key {key!r} must be text", where=where, received=short(value))
        if key in _NESTED and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"configuration key {key!r} must be a mapping", where=where, received=short(value))
            for name in value:
                if name not in _NESTED[key]:
                    known = [f"{key}.{other}" for other in _NESTED[key]]
                    raise UnknownNameError("key of MXNetSeg's config.yml", f"{key}.{name}", known, where=where)
