"""Structure of a checkpoint's sidecar, which is checked once, when it is read.

A sidecar may have been edited by hand. Every element that this library uses is checked here, so that a mistake is
reported with its place (``data.palette[3][1]``), and does not fail later in other code. Unknown elements are kept.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._description import (
    LONGEST_NAME,
    MOST_BYTES,
    Violation,
    check_data,
    check_normalisation,
    get_list,
    get_section,
    get_text,
    get_whole,
    is_number,
    is_whole,
    parse_object,
    require,
)
from ..config import Config
from ..errors import CheckpointError, MXNetSegError, short

FORMAT = 1
PARAMS, STATE = ".params", ".state"
BEST = "_best"  # ends the stem of a run's best checkpoint

_MOST_NUMBER = 1 << 15  # among a network's arguments: channels, sizes, numbers of blocks

# Arguments of get_model() that read files, download, or are given by the code that restores the network.
_NEVER_RECORDED = ("pretrained", "pretrained_base", "pretrained_path", "root", "ctx", "norm", "norm_layer",
                   "norm_kwargs")


def parse(path: Path) -> dict[str, Any]:
    """Return the content of a sidecar, which holds only finite numbers and text that can be printed.

    Raises:
        ValueError: the file does not hold such JSON.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return parse_object(file.read(MOST_BYTES + 1))


def check(sidecar: Mapping[str, Any], where: object, *, has_files: bool = True) -> None:
    """Check every section of a sidecar.

    Args:
        sidecar: the result of :func:`parse`.
        where: the file, for messages.
        has_files: the sidecar is a checkpoint's, which names its files; an exported network's does not.

    Raises:
        CheckpointError: an element is missing or wrong; the message has its place.
    """
    version = sidecar.get("format")
    if is_whole(version) and version > FORMAT:
        raise CheckpointError("the checkpoint was written by a newer mxnetseg", where=where,
                              received=f"format {version}", fix="update mxnetseg")

    try:
        _check_sections(sidecar, has_files)
        Config.from_dict(sidecar["config"])
    except Violation as violation:
        place, requirement, value = violation.args
        raise CheckpointError(f"the checkpoint's sidecar is damaged: {place}: expected {requirement}", where=where,
                              received=value, fix="correct that element, or copy the file again") from None
    except MXNetSegError as error:
        raise CheckpointError(f"the checkpoint's sidecar is damaged: config: {error.what}", where=where,
                              received=f"{error.where}: {short(error.received)}" if error.where else
                              error.received and short(error.received), fix=error.fix) from None


def _check_sections(sidecar: Mapping[str, Any], has_files: bool) -> None:
    get_whole(sidecar, "format", 1, FORMAT)
    files = get_section(sidecar, "files") if has_files else {}
    if has_files and not {PARAMS} <= files.keys() <= {PARAMS, STATE}:
        raise Violation("files", f"{PARAMS} and perhaps {STATE}", short(list(files)))
    for suffix in files:
        entry = get_section(files, suffix, "files")
        get_text(entry, "sha256", f"files.{suffix}")
        get_whole(entry, "bytes", 0, 1 << 62, f"files.{suffix}")

    classes = check_data(get_section(sidecar, "data"))
    _model(get_section(sidecar, "model"), classes)
    check_normalisation(get_section(sidecar, "normalisation"))
    splits = get_section(get_section(sidecar, "protocol"), "splits", "protocol")
    for key in ("train", "val"):
        get_text(splits, key, "protocol.splits")

    get_section(sidecar, "config")
    if sidecar.get("metrics") is not None:
        get_section(sidecar, "metrics")
    if sidecar.get("wandb") is not None:
        get_text(sidecar, "wandb")
    if sidecar.get("class_weights") is not None:
        for i, weight in enumerate(get_list(sidecar, "class_weights", "", classes)):
            require(is_number(weight) and weight >= 0, f"class_weights[{i}]", "a number >= 0", weight)
    if sidecar.get("contents") is not None:  # older checkpoints do not record their images
        for part, content in get_section(sidecar, "contents").items():
            if content is not None:
                _content(content, f"contents.{short(part)[1:-1]}")
    if STATE in files or sidecar.get("progress") is not None:
        _position(sidecar)
    elif sidecar.get("steps_per_epoch") is not None:
        get_whole(sidecar, "steps_per_epoch", 1, 1 << 40)


def _model(model: Mapping[str, Any], classes: int) -> None:
    """Check the network's name and the types of its arguments; their values are checked by the network's class."""
    get_text(model, "name", "model")
    get_whole(model, "nclass", classes, classes, "model", "the number of data.classes")
    for key, value in model.items():
        if key in _NEVER_RECORDED:
            raise Violation(f"model.{key}", "an argument that describes the network; a checkpoint never sets this "
                            "one", short(value))
        _argument(value, f"model.{key}")


def _argument(value: Any, place: str, levels: int = 3) -> None:
    if isinstance(value, list) and levels and len(value) <= LONGEST_NAME:
        for i, item in enumerate(value):
            _argument(item, f"{place}[{i}]", levels - 1)
    elif isinstance(value, dict) and levels:
        for key, item in value.items():
            _argument(item, f"{place}.{key}", levels - 1)
    elif isinstance(value, str):
        require(len(value) <= LONGEST_NAME, place, "a short text", value)
    else:
        require(value is None or isinstance(value, bool) or is_number(value) and abs(value) <= _MOST_NUMBER, place,
                f"a number up to {_MOST_NUMBER:,}, a text, a list of these, true, false or null", value)


def _content(content: Any, place: str) -> None:
    """Check the record of a split's images, which an evaluation compares with the images it finds."""
    require(isinstance(content, dict), place, "an object or null", content)
    for key in ("split", "names"):
        get_text(content, key, place)
    get_whole(content, "images", 0, 1 << 40, place)


def _position(sidecar: Mapping[str, Any]) -> None:
    """Check the position that a run resumes from."""
    progress = get_section(sidecar, "progress")
    steps = get_whole(sidecar, "steps_per_epoch", 1, 1 << 40)
    get_whole(progress, "epoch", 0, 1 << 31, "progress")
    get_whole(progress, "batch", 0, steps, "progress", "an integer up to steps_per_epoch")
    for key in ("loss_sum", "seconds"):
        require(is_number(progress.get(key)), f"progress.{key}", "a number", progress.get(key))
    best, epoch = progress.get("best"), progress.get("best_epoch")
    require(best is None or is_number(best), "progress.best", "a number or null", best)
    require(epoch is None or is_whole(epoch) and epoch >= 0, "progress.best_epoch", "an integer >= 0 or null", epoch)
    _only(progress, ("epoch", "batch", "best", "best_epoch", "loss_sum", "seconds"), "progress")

    entries = get_list(sidecar, "backends", "") if sidecar.get("backends") is not None else []
    for i in range(len(entries)):
        entry = get_section(entries, i, "backends")
        get_text(entry, "backend", f"backends[{i}]")
        first = get_whole(entry, "first_epoch", 1, 1 << 31, f"backends[{i}]")
        get_whole(entry, "last_epoch", first, 1 << 31, f"backends[{i}]")

    if sidecar.get("loss_scale") is not None:
        scale = get_section(sidecar, "loss_scale")
        value = scale.get("value")
        require(is_number(value) and value > 0, "loss_scale.value", "a number > 0", value)
        get_whole(scale, "good_steps", 0, 1 << 40, "loss_scale")
        _only(scale, ("value", "good_steps"), "loss_scale")


def _only(section: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in section:
        require(key in known, f"{place}.{short(key)[1:-1]}", f"only {', '.join(known)}", section[key])
