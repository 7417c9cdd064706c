"""Declaration and check of options: the values of a configuration key, and the errors for other values.

A section of the configuration is a frozen dataclass derived from :class:`Section`, whose fields are made with
:func:`option`. The annotation of a field gives its type, and :class:`Option` the rest (range, choices, unit,
documentation), so that checks, error messages and ``mxnetseg config --describe`` all read the same declaration.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from numbers import Real
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import ConfigError, UnknownNameError, nearest, short

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Option:
    """Meaning and values of a key; see :func:`option` for the attributes."""

    doc: str
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str | int, ...] = ()
    null: str | None = None
    spread: bool = False

    def range_text(self) -> str:
        """Return the allowed range as text, for example ``'>= 0, < 1'``; ``''`` if there is none."""
        bounds = ((">=", self.low), (">", self.above), ("<=", self.high), ("<", self.below))
        return ", ".join(f"{sign} {bound:.10g}" for sign, bound in bounds if bound is not None)

    def contains(self, number: float) -> bool:
        """Return whether ``number`` is finite and inside the range."""
        return (math.isfinite(number)
                and (self.low is None or number >= self.low)
                and (self.above is None or number > self.above)
                and (self.high is None or number <= self.high)
                and (self.below is None or number < self.below))


def option(default: Any, doc: str, *, unit: str | None = None,
           low: float | None = None, high: float | None = None,
           above: float | None = None, below: float | None = None,
           choices: tuple[str | int, ...] = (),
           null: str | None = None, spread: bool = False) -> Any:
    """Declare one field of a :class:`Section`.

    Args:
        default: value if the key is not given; a mapping is copied, a section class is called.
        doc: one clause on its meaning.
        unit: ``'pixels'``, ``'epochs'``, ...
        low, high: inclusive bounds of a number, or of each number of a list.
        above, below: exclusive bounds, likewise.
        choices: the only values it may take.
        null: meaning of ``null``; every optional field has this.
        spread: a single number sets all entries of a list of fixed length (``480`` for ``[480, 480]``).
    """
    metadata = {"option": Option(doc, unit, low, high, above, below, tuple(choices), null, spread)}
    if isinstance(default, (dict, type)):
        factory = default if isinstance(default, type) else default.copy
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """Base of every section. It checks its values when it is created, so an invalid section cannot exist."""

    def __post_init__(self) -> None:
        for key, (hint, opt) in describe_fields(type(self)).items():  # type: ignore[arg-type]
            value = getattr(self, key)
            where = f"{type(self).__name__}.{key}"
            section_class = section_type(hint)
            if section_class is None:
                object.__setattr__(self, key, convert(value, hint, opt, where))
            elif not isinstance(value, hint if isinstance(hint, type) else get_args(hint)):
                raise ConfigError(f"{where} must be an object of class {section_class.__name__}",
                                  received=_show(value))


def show_changes(section: Section) -> str:
    """Return a section as its class and the keys that differ from their defaults: ``Config(train.epochs=3)``."""
    return f"{type(section).__name__}({', '.join(_changes(section)) or 'defaults'})"


def _changes(section: Section, prefix: str = "") -> Iterator[str]:
    defaults = type(section)()
    for f in fields(section):
        value, default = getattr(section, f.name), getattr(defaults, f.name)
        if isinstance(value, Section) and default is not None:
            yield from _changes(value, f"{prefix}{f.name}.")
        elif value != default:
            yield f"{prefix}{f.name}={value!r}"


@cache
def describe_fields(section: type) -> dict[str, tuple[Any, Option]]:
    """Return the fields of a section class in order: name -> (type annotation, :class:`Option`)."""
    hints = get_type_hints(section)
    return {f.name: (hints[f.name], f.metadata["option"]) for f in fields(section)}


def section_type(hint: Any) -> type | None:
    """Return the section class of an annotation (``Loss`` or ``Optional[Loss]``), None if it has no such class."""
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    return None


def dotted_keys(section: type, prefix: str = "") -> list[str]:
    """Return every key below a section class, dotted, a section before its own keys."""
    keys = []
    for key, (hint, _) in describe_fields(section).items():
        keys.append(prefix + key)
        nested = section_type(hint)
        if nested is not None:
            keys += dotted_keys(nested, f"{prefix}{key}.")
    return keys


def check_mapping(section: type, values: Any, where: object | None = None, *,
                  root: type | None = None, prefix: str = "") -> dict[str, Any]:
    """Check a partial mapping, as read from a file or a command line, against a section class.

    Args:
        section: the section class that ``values`` belongs to.
        values: mapping of keys to raw values; None is an empty mapping.
        where: file or option that the values come from, for the message.
        root: class of the whole configuration, among whose keys the nearest name is searched; default ``section``.
        prefix: dotted name of ``section`` inside ``root``, with its final dot.

    Returns:
        the same keys with values of the declared types. Nested sections stay mappings, so that several layers can be
        merged before a section is built.

    Raises:
        UnknownNameError: a key does not exist; the message has the nearest ones.
        ConfigError: a value has the wrong type, or is outside its range.
    """
    root = root or section
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        name = f"section '{prefix[:-1]}'" if prefix else "the configuration"
        raise ConfigError(f"{name} must be a mapping of keys to values", where=where, received=_show(values))

    known = describe_fields(section)
    checked = {}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            raise _unknown_key(dotted, dotted_keys(root), where)
        hint, opt = known[key]
        nested = section_type(hint)
        if nested is None:
            checked[key] = convert(value, hint, opt, dotted, where)
        elif value is None and nested is not hint:  # Optional[section]: null switches it off
            checked[key] = None
        else:
            checked[key] = check_mapping(nested, value, where, root=root, prefix=f"{dotted}.")
    return checked


def _unknown_key(dotted: str, known: list[str], where: object | None) -> UnknownNameError:
    """Return the error for an unknown key; for a misplaced one, ``train.lr``, it suggests ``optimizer.lr``."""
    last = str(dotted).rsplit(".", 1)[-1]
    error = UnknownNameError("configuration key", dotted, known, where=where)
    by_last = [k for k in known if k.rsplit(".", 1)[-1] == last]
    close = by_last or nearest(dotted, known)
    found = "did you mean " + " or ".join(map(repr, close)) + "? " if close else ""
    error.fix = f"{found}`mxnetseg config --describe` lists the {len(known)} keys"
    return error


def build(section: type, values: Mapping[str, Any]) -> Any:
    """Return a section from a mapping that :func:`check_mapping` returned; other keys have their defaults."""
    made = {}
    for key, value in values.items():
        nested = section_type(describe_fields(section)[key][0])
        made[key] = build(nested, value) if nested is not None and value is not None else value
    return section(**made)


def convert(value: Any, hint: Any, opt: Option, key: str, where: object | None = None) -> Any:
    """Return ``value`` as the annotated type ``hint``.

    Only lossless conversions are made: 3.0 to 3, 1000 to 1e3, a list to a tuple.

    Raises:
        ConfigError: the value does not fit; the message names type, unit and range.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union:  # the schema has no other unions than Optional[X]
        return None if value is None else convert(value, args[0], opt, key, where)
    if origin is tuple:
        return _convert_list(value, args, opt, key, where)
    if origin is dict:
        if isinstance(value, Mapping) and _is_plain(value):
            return dict(value)
        raise _wrong("a mapping of names to values: text, finite numbers, true, false, null, lists and mappings",
                     value, opt, key, where)

    if isinstance(value, Real) and not isinstance(value, bool):
        if hint is float:
            value = math.inf if isinstance(value, int) and value.bit_length() > 1023 else float(value)
        elif hint is int and math.isfinite(value) and value == int(value):
            value = int(value)
    fits = type(value) is hint
    if fits and opt.choices:
        fits = value in opt.choices
    elif fits and hint in (int, float):
        fits = opt.contains(value)
    if not fits:
        raise _wrong(_TYPE_NAMES[hint], value, opt, key, where)
    return value


def _is_plain(value: Any, levels: int = 40) -> bool:
    """Return whether JSON can hold a value, so that a sidecar can."""
    if isinstance(value, (list, tuple, Mapping)):
        names, items = (value, value.values()) if isinstance(value, Mapping) else ((), value)
        return levels > 0 and all(isinstance(n, str) for n in names) and all(_is_plain(v, levels - 1) for v in items)
    return value is None or isinstance(value, (str, int)) or isinstance(value, float) and math.isfinite(value)


def _convert_list(value, args, opt, key, where):
    """Return a list or tuple as Tuple[X, ...] (any length but 0) or Tuple[X, X] (exactly two)."""
    item, length = args[0], None if args[-1] is Ellipsis else len(args)
    if opt.spread and isinstance(value, Real) and not isinstance(value, bool):
        value = [value] * length
    if not isinstance(value, (list, tuple)) or (len(value) != length if length else not value):
        raise _wrong(_type_text(args), value, opt, key, where)
    return tuple(convert(v, item, opt, f"{key}[{i}]", where) for i, v in enumerate(value))


def _type_text(args: tuple[Any, ...]) -> str:
    """Return how a message calls a list of these entries."""
    plural = {int: "whole numbers", float: "numbers", str: "texts"}[args[0]]
    return f"a list of {plural}" if args[-1] is Ellipsis else f"a list of {len(args)} {plural}"


def type_text(hint: Any, opt: Option) -> str:
    """Return the allowed values of a field in words: ``'a number, >= 0, epochs, or null: no limit'``."""
    optional = get_origin(hint) is Union
    if optional:
        hint = get_args(hint)[0]
    if opt.choices:
        text = " | ".join(map(str, opt.choices))
    elif get_origin(hint) is tuple:
        text = _type_text(get_args(hint)) + (" or one number for all" if opt.spread else "")
    else:
        text = _TYPE_NAMES.get(hint, "a mapping")

    parts = [text, opt.range_text(), opt.unit]
    if optional:
        parts.append(f"or null: {opt.null}")
    return ", ".join(p for p in parts if p)


def _wrong(expected: str, value: Any, opt: Option, key: str, where: object | None) -> ConfigError:
    """Return the error for a value that does not fit."""
    if opt.choices:
        expected = "one of " + ", ".join(map(str, opt.choices))
    close = nearest(value, map(str, opt.choices), n=1) if isinstance(value, str) and opt.choices else []
    details = ", ".join(p for p in (expected, opt.range_text(), opt.unit) if p)
    fix = f"did you mean {close[0]!r}?" if close else f"it means: {opt.doc}"
    return ConfigError(f"configuration key {key!r} must be {details}",
                       where=where, received=_show(value), fix=fix)


def _show(value: Any) -> str:
    """Return a value with its type, which the value alone may not show: 0.1 and '0.1'."""
    return f"{short(value, 200)} ({type(value).__name__})"


def plain(value: Any) -> Any:
    """Return sections as mappings, tuples as lists, and other values unchanged."""
    if isinstance(value, Section):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def inline(value: Any) -> str:
    """Return a value as YAML on one line, without the end mark that YAML puts after a lone scalar."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6).strip()
    return text[:-len("...")].strip() if text.endswith("\n...") else text
