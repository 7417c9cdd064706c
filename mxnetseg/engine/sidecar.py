"""Structure of a checkpoint's sidecar, which is checked once, when it is read.

A sidecar may have been edited by hand. Every element that this library uses is checked here, so that a mistake is
reported with its place (``data.palette[3][1]``), and does not fail later in other code. Unknown elements are kept.
"""
from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..config import Config
from ..errors import CheckpointError, MXNetSegError, short

FORMAT = 1
PARAMS, STATE = ".params", ".state"

_MOST_BYTES = 16 << 20  # of the file, which usually has some 20 KiB
_MOST_LEVELS = 40  # nested lists and objects
_MOST_CLASSES = 255  # of uint8 masks, in which 255 is the ignored label
_MOST_NUMBER = 1 << 15  # among a network's arguments: channels, sizes, numbers of blocks
_LONGEST_NAME = 1000  # characters

# Arguments of get_model() that read files, download, or are given by the code that restores the network.
_NEVER_RECORDED = ("pretrained", "pretrained_base", "pretrained_path", "root", "ctx", "norm", "norm_layer",
                   "norm_kwargs")


class _Violation(Exception):
    """Element that violates a requirement: ``_Violation(path, requirement, value)``."""


def parse(path: Path) -> dict[str, Any]:
    """Return the content of a sidecar, which holds only finite numbers and text that can be printed.

    Raises:
        ValueError: the file does not hold such JSON.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES:,} bytes")

    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number,
                             parse_int=_whole)
    except RecursionError:
        raise ValueError(f"more than {_MOST_LEVELS} nested levels") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected an object: {short(content)}")
    _check_values(content)
    return content


def check(sidecar: Mapping[str, Any], where: Path) -> None:
    """Check every section of a sidecar.

    Args:
        sidecar: the result of :func:`parse`.
        where: the file, for messages.

    Raises:
        CheckpointError: an element is missing or wrong; the message has its place.
    """
    version = sidecar.get("format")
    if _is_whole(version) and version > FORMAT:
        raise CheckpointError("the checkpoint was written by a newer mxnetseg", where=where,
                              received=f"format {version}", fix="update mxnetseg")

    try:
        _check_sections(sidecar)
        Config.from_dict(sidecar["config"])
    except _Violation as violation:
        place, requirement, value = violation.args
        raise CheckpointError(f"the checkpoint's sidecar is damaged: {place}: expected {requirement}", where=where,
                              received=value, fix="correct that element, or copy the file again") from None
    except MXNetSegError as error:
        raise CheckpointError(f"the checkpoint's sidecar is damaged: config: {error.what}", where=where,
                              received=f"{error.where}: {short(error.received)}" if error.where else
                              error.received and short(error.received), fix=error.fix) from None


def _check_sections(sidecar: Mapping[str, Any]) -> None:
    _whole_number(sidecar, "format", 1, FORMAT)
    files = _section(sidecar, "files")
    if not {PARAMS} <= files.keys() <= {PARAMS, STATE}:
        raise _Violation("files", f"{PARAMS} and perhaps {STATE}", short(list(files)))
    for suffix in files:
        entry = _section(files, suffix, "files")
        _text(entry, "sha256", f"files.{suffix}")
        _whole_number(entry, "bytes", 0, 1 << 62, f"files.{suffix}")

    classes = _data(_section(sidecar, "data"))
    _model(_section(sidecar, "model"), classes)

    normalisation = _section(sidecar, "normalisation")
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        for i, value in enumerate(_list(normalisation, key, "normalisation", 3)):
            if not _is_number(value) or abs(value) > 1e6 or value <= least:
                raise _Violation(f"normalisation.{key}[{i}]", "a number" + (" > 0" if key == "std" else ""),
                                 short(value))

    splits = _section(_section(sidecar, "protocol"), "splits", "protocol")
    for key in ("train", "val"):
        _text(splits, key, "protocol.splits")

    _section(sidecar, "config")
    if sidecar.get("metrics") is not None:
        _section(sidecar, "metrics")
    if sidecar.get("wandb") is not None:
        _text(sidecar, "wandb")
    if sidecar.get("contents") is not None:  # older checkpoints do not record their images
        for part, content in _section(sidecar, "contents").items():
            if content is not None:
                _content(content, f"contents.{short(part)[1:-1]}")
    if STATE in files or sidecar.get("progress") is not None:
        _position(sidecar)
    elif sidecar.get("steps_per_epoch") is not None:
        _whole_number(sidecar, "steps_per_epoch", 1, 1 << 40)


def _data(data: Mapping[str, Any]) -> int:
    """Check the section on the classes; return the number of classes."""
    _text(data, "name", "data")
    classes = _list(data, "classes", "data")
    if not 1 <= len(classes) <= _MOST_CLASSES:
        raise _Violation("data.classes", f"1 to {_MOST_CLASSES} names", f"{len(classes)}")
    first: dict[str, int] = {}
    for i, name in enumerate(classes):
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise _Violation(f"data.classes[{i}]", "the name of a class", short(name))
        if first.setdefault(name, i) != i:
            raise _Violation(f"data.classes[{i}]", f"a name other than data.classes[{first[name]}]", short(name))

    for i in range(len(_list(data, "palette", "data", len(classes)))):
        for j, value in enumerate(_list(data["palette"], i, "data.palette", 3)):
            _require(_is_whole(value) and 0 <= value <= 255, f"data.palette[{i}][{j}]", "an integer 0..255", value)
    _whole_number(data, "ignore", 0, 255, "data")
    if data.get("raw_ids") is not None:
        for i, value in enumerate(_list(data, "raw_ids", "data", len(classes))):
            _require(_is_whole(value) and -1 <= value < 1 << 16, f"data.raw_ids[{i}]", "an integer -1..65535", value)
    return len(classes)


def _model(model: Mapping[str, Any], classes: int) -> None:
    """Check the network's name and the types of its arguments; their values are checked by the network's class."""
    _text(model, "name", "model")
    _whole_number(model, "nclass", classes, classes, "model", "the number of data.classes")
    for key, value in model.items():
        if key in _NEVER_RECORDED:
            raise _Violation(f"model.{key}", "an argument that describes the network; a checkpoint never sets this "
                             "one", short(value))
        _argument(value, f"model.{key}")


def _argument(value: Any, place: str, levels: int = 3) -> None:
    if isinstance(value, list) and levels and len(value) <= _LONGEST_NAME:
        for i, item in enumerate(value):
            _argument(item, f"{place}[{i}]", levels - 1)
    elif isinstance(value, dict) and levels:
        for key, item in value.items():
            _argument(item, f"{place}.{key}", levels - 1)
    elif isinstance(value, str):
        _require(len(value) <= _LONGEST_NAME, place, "a short text", value)
    else:
        _require(value is None or isinstance(value, bool) or _is_number(value) and abs(value) <= _MOST_NUMBER, place,
                 f"a number up to {_MOST_NUMBER:,}, a text, a list of these, true, false or null", value)


def _content(content: Any, place: str) -> None:
    """Check the record of a split's images, which an evaluation compares with the images it finds."""
    _require(isinstance(content, dict), place, "an object or null", content)
    for key in ("split", "names"):
        _text(content, key, place)
    _whole_number(content, "images", 0, 1 << 40, place)


def _position(sidecar: Mapping[str, Any]) -> None:
    """Check the position that a run resumes from."""
    progress = _section(sidecar, "progress")
    steps = _whole_number(sidecar, "steps_per_epoch", 1, 1 << 40)
    _whole_number(progress, "epoch", 0, 1 << 31, "progress")
    _whole_number(progress, "batch", 0, steps, "progress", "an integer up to steps_per_epoch")
    for key in ("loss_sum", "seconds"):
        _require(_is_number(progress.get(key)), f"progress.{key}", "a number", progress.get(key))
    best, epoch = progress.get("best"), progress.get("best_epoch")
    _require(best is None or _is_number(best), "progress.best", "a number or null", best)
    _require(epoch is None or _is_whole(epoch) and epoch >= 0, "progress.best_epoch", "an integer >= 0 or null", epoch)
    _only(progress, ("epoch", "batch", "best", "best_epoch", "loss_sum", "seconds"), "progress")

    if sidecar.get("loss_scale") is not None:
        scale = _section(sidecar, "loss_scale")
        value = scale.get("value")
        _require(_is_number(value) and value > 0, "loss_scale.value", "a number > 0", value)
        _whole_number(scale, "good_steps", 0, 1 << 40, "loss_scale")
        _only(scale, ("value", "good_steps"), "loss_scale")


# ---- elements ---------------------------------------------------------------------------------------

def _section(parent: Mapping[str, Any], key: str, place: str = "") -> Mapping[str, Any]:
    return _element(parent, key, place, lambda value: isinstance(value, dict), "an object")


def _list(parent: Any, key: Any, place: str, length: int | None = None) -> list[Any]:
    return _element(parent, key, place, lambda value: isinstance(value, list) and length in (None, len(value)),
                    "a list" if length is None else f"a list of {length}")


def _text(parent: Mapping[str, Any], key: str, place: str = "") -> str:
    return _element(parent, key, place, lambda value: isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME,
                    f"a text of 1 to {_LONGEST_NAME} characters")


def _whole_number(parent: Mapping[str, Any], key: str, least: int, most: int, place: str = "",
                  requirement: str = "") -> int:
    return _element(parent, key, place, lambda value: _is_whole(value) and least <= value <= most,
                    requirement or f"an integer {least} to {most}")


def _element(parent: Any, key: Any, place: str, is_valid: Callable[[Any], bool], requirement: str) -> Any:
    path = f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}" if place else key
    if isinstance(parent, dict) and key not in parent:
        raise _Violation(path, requirement, "nothing: it is missing")
    _require(is_valid(parent[key]), path, requirement, parent[key])
    return parent[key]


def _only(section: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in section:
        _require(key in known, f"{place}.{short(key)[1:-1]}", f"only {', '.join(known)}", section[key])


def _require(holds: bool, place: str, requirement: str, value: Any) -> None:
    if not holds:
        raise _Violation(place, requirement, short(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:  # JSON silently takes the last one
            raise ValueError(f"{short(key)} is given twice in one object")
        content[key] = value
    return content


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _whole(digits: str) -> int:
    if len(digits) > 20:  # Python is slow at converting very many digits
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _check_values(value: Any, place: str = "", levels: int = _MOST_LEVELS) -> None:
    """Refuse infinite numbers (``1e999``), lone surrogates, and deep nesting."""
    if levels == 0:
        raise ValueError(f"more than {_MOST_LEVELS} nested levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place[1:]}: a number beyond the range of float64")

    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{place[1:]}: a lone surrogate, which is half a character") from None
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_values(item, f"{place}[{i}]", levels - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, ".a key", levels - 1)
            _check_values(item, f"{place}.{key}", levels - 1)
