"""The description of a network: JSON that is read with suspicion, and the elements that every description has.

The sidecar of a checkpoint (:mod:`mxnetseg.engine.sidecar`) and the record in an exported network
(:mod:`mxnetseg.backends.package`) hold the same sections. Both may have been edited by hand.
"""
from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .errors import short

MOST_BYTES = 16 << 20  # of the JSON, which usually has some 20 KiB
LONGEST_NAME = 1000  # characters

_MOST_LEVELS = 40  # nested lists and objects
_MOST_CLASSES = 255  # of uint8 masks, in which 255 is the ignored label


class Violation(Exception):
    """Element that violates a requirement: ``Violation(path, requirement, value)``."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object, which holds only finite numbers and text that can be printed.

    Raises:
        ValueError: the bytes are not such JSON.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")

    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number,
                             parse_int=_whole)
    except RecursionError:
        raise ValueError(f"more than {_MOST_LEVELS} nested levels") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected an object: {short(content)}")
    _check_values(content)
    return content


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


# ---- sections -------------------------------------------------------------------------------


def check_data(data: Mapping[str, Any]) -> int:
    """Check the section on the classes; return the number of classes."""
    get_text(data, "name", "data")
    classes = get_list(data, "classes", "data")
    if not 1 <= len(classes) <= _MOST_CLASSES:
        raise Violation("data.classes", f"1 to {_MOST_CLASSES} names", f"{len(classes)}")
    first: dict[str, int] = {}
    for i, name in enumerate(classes):
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
            raise Violation(f"data.classes[{i}]", "the name of a class", short(name))
        if first.setdefault(name, i) != i:
            raise Violation(f"data.classes[{i}]", f"a name other than data.classes[{first[name]}]", short(name))

    for i in range(len(get_list(data, "palette", "data", len(classes)))):
        for j, value in enumerate(get_list(data["palette"], i, "data.palette", 3)):
            require(is_whole(value) and 0 <= value <= 255, f"data.palette[{i}][{j}]", "an integer 0..255", value)
    get_whole(data, "ignore", 0, 255, "data")
    if data.get("raw_ids") is not None:
        for i, value in enumerate(get_list(data, "raw_ids", "data", len(classes))):
            require(is_whole(value) and -1 <= value < 1 << 16, f"data.raw_ids[{i}]", "an integer -1..65535", value)
    return len(classes)


def check_normalisation(normalisation: Mapping[str, Any]) -> None:
    """Check mean and standard deviation."""
    for key, least in (("mean", -math.inf), ("std", 0.0)):
        for i, value in enumerate(get_list(normalisation, key, "normalisation", 3)):
            if not is_number(value) or abs(value) > 1e6 or value <= least:
                raise Violation(f"normalisation.{key}[{i}]", "a number" + (" > 0" if key == "std" else ""),
                                short(value))


# ---- elements -------------------------------------------------------------------------------


def get_section(parent: Any, key: Any, place: str = "") -> Mapping[str, Any]:
    """Return an object; ``place`` is the path of its parent, for the message."""
    return _element(parent, key, place, lambda value: isinstance(value, dict), "an object")


def get_list(parent: Any, key: Any, place: str, length: int | None = None) -> list[Any]:
    """Return a list, of the given length if there is one."""
    return _element(parent, key, place, lambda value: isinstance(value, list) and length in (None, len(value)),
                    "a list" if length is None else f"a list of {length}")


def get_text(parent: Mapping[str, Any], key: str, place: str = "") -> str:
    """Return a text that is not empty."""
    return _element(parent, key, place, lambda value: isinstance(value, str) and 0 < len(value) <= LONGEST_NAME,
                    f"a text of 1 to {LONGEST_NAME} characters")


def get_whole(parent: Mapping[str, Any], key: str, least: int, most: int, place: str = "",
              requirement: str = "") -> int:
    """Return a whole number in a range."""
    return _element(parent, key, place, lambda value: is_whole(value) and least <= value <= most,
                    requirement or f"an integer {least} to {most}")


def _element(parent: Any, key: Any, place: str, is_valid: Callable[[Any], bool], requirement: str) -> Any:
    path = f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}" if place else key
    if isinstance(parent, dict) and key not in parent:
        raise Violation(path, requirement, "nothing: it is missing")
    require(is_valid(parent[key]), path, requirement, parent[key])
    return parent[key]


def require(holds: bool, place: str, requirement: str, value: Any) -> None:
    """Raise a :class:`Violation` unless the requirement holds."""
    if not holds:
        raise Violation(place, requirement, short(value))


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is an integer or a float, and no bool."""
    return is_whole(value) or isinstance(value, float)
