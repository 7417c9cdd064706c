"""Declaring and checking options: what a configuration key may hold, and what is said when it does not.

A section of the configuration is a frozen dataclass derived from :class:`Section`, each field made
with :func:`option`. The field's annotation gives the type and :class:`Option` the rest (range,
choices, unit, documentation), so that checks, error messages and ``mxnetseg config --describe`` all
read the same declaration.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from numbers import Real
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError, UnknownNameError, nearest, short

_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Option:
    """What a key means and which values it takes; see :func:`option` for the fields."""

    doc: str
    unit: Optional[str] = None
    low: Optional[float] = None
    high: Optional[float] = None
    above: Optional[float] = None
    below: Optional[float] = None
    choices: Tuple[Union[str, int], ...] = ()
    null: Optional[str] = None
    spread: bool = False

    def range_text(self) -> str:
        """The allowed range as text, ``''`` where there is none: ``'>= 0, < 1'``."""
        bounds = ((">=", self.low), (">", self.above), ("<=", self.high), ("<", self.below))
        return ", ".join(f"{sign} {bound:.10g}" for sign, bound in bounds if bound is not None)

    def contains(self, number: float) -> bool:
        """Whether ``number`` is finite and inside the range."""
        return (math.isfinite(number)
                and (self.low is None or number >= self.low)
                and (self.above is None or number > self.above)
                and (self.high is None or number <= self.high)
                and (self.below is None or number < self.below))


def option(default: Any, doc: str, *, unit: Optional[str] = None,
           low: Optional[float] = None, high: Optional[float] = None,
           above: Optional[float] = None, below: Optional[float] = None,
           choices: Tuple[Union[str, int], ...] = (),
           null: Optional[str] = None, spread: bool = False) -> Any:
    """Declare one field of a :class:`Section`.

    Args:
        default: value where the key is not given; a mapping or a section class is made anew for each.
        doc: one sentence: what it is.
        unit: ``'pixels'``, ``'epochs'``, ...
        low, high: inclusive bounds of a number, or of each number of a list.
        above, below: exclusive bounds, likewise.
        choices: the only values it may take.
        null: what ``null`` means; every optional field says so.
        spread: a single number stands for all entries of a list of fixed length (``480`` for ``[480, 480]``).
    """
    metadata = {"option": Option(doc, unit, low, high, above, below, tuple(choices), null, spread)}
    if isinstance(default, (dict, type)):
        factory = default if isinstance(default, type) else default.copy
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """Base of every section: checks its own values when it is made, so an invalid one cannot exist."""

    def __post_init__(self):
        for key, (hint, opt) in describe_fields(type(self)).items():
            value = getattr(self, key)
            where = f"{type(self).__name__}.{key}"
            if section_type(hint) is None:
                object.__setattr__(self, key, convert(value, hint, opt, where))
            elif not isinstance(value, hint if is_dataclass(hint) else get_args(hint)):
                raise ConfigError(f"{where} takes an object of class {section_type(hint).__name__}",
                                  received=_show(value))


@lru_cache(maxsize=None)
def describe_fields(section: type) -> Dict[str, Tuple[Any, Option]]:
    """The fields of a section class in order: name -> (type annotation, :class:`Option`)."""
    hints = get_type_hints(section)
    return {f.name: (hints[f.name], f.metadata["option"]) for f in fields(section)}


def section_type(hint: Any) -> Optional[type]:
    """The section class that an annotation means (``Loss`` or ``Optional[Loss]``), or None."""
    for kind in (hint, *get_args(hint)):
        if is_dataclass(kind):
            return kind
    return None


def dotted_keys(section: type, prefix: str = "") -> List[str]:
    """Every key below a section class, dotted, sections before what they contain."""
    keys = []
    for key, (hint, _) in describe_fields(section).items():
        keys.append(prefix + key)
        nested = section_type(hint)
        if nested is not None:
            keys += dotted_keys(nested, f"{prefix}{key}.")
    return keys


def check_mapping(section: type, values: Any, where: Optional[object] = None, *,
                  root: Optional[type] = None, prefix: str = "") -> Dict[str, Any]:
    """Check a partial mapping, as read from a file or a command line, against a section class.

    Args:
        section: the section class that ``values`` belongs to.
        values: mapping of keys to raw values; None is an empty one.
        where: file or option that the values come from, for the message.
        root: class at the top, whose dotted keys are searched for the nearest name (default ``section``).
        prefix: dotted name of ``section`` inside ``root``, with its final dot.

    Returns:
        The same keys with values of the declared types; nested sections stay mappings, so that
        several layers can be merged before anything is built.

    Raises:
        UnknownNameError: a key that does not exist, with the nearest ones.
        ConfigError: a value of the wrong type or outside its range.
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


def _unknown_key(dotted: str, known: List[str], where: Optional[object]) -> UnknownNameError:
    """The error for an unknown key; a misplaced one, ``train.lr``, leads to ``optimizer.lr``."""
    last = str(dotted).rsplit(".", 1)[-1]
    error = UnknownNameError("configuration key", dotted, known, where=where)
    by_last = [k for k in known if k.rsplit(".", 1)[-1] == last]
    close = by_last or nearest(dotted, known)
    found = "did you mean " + " or ".join(map(repr, close)) + "? " if close else ""
    error.fix = f"{found}`mxnetseg config --describe` lists the {len(known)} keys"
    return error


def build(section: type, values: Mapping[str, Any]) -> Any:
    """Make a section object from a mapping that :func:`check_mapping` returned; the rest are defaults."""
    made = {}
    for key, value in values.items():
        nested = section_type(describe_fields(section)[key][0])
        made[key] = build(nested, value) if nested is not None and value is not None else value
    return section(**made)


def convert(value: Any, hint: Any, opt: Option, key: str, where: Optional[object] = None) -> Any:
    """``value`` as the annotated type ``hint``, or a :class:`ConfigError` naming type, unit and range.

    Only conversions that lose nothing are made: 3 for 3.0, 1e3 for 1000, a list for a tuple.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union:  # only Optional[X] is declared anywhere
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
        raise _wrong(_KIND_NAMES[hint], value, opt, key, where)
    return value


def _is_plain(value: Any, levels: int = 40) -> bool:
    """Return whether JSON can hold a value, so that a sidecar can."""
    if isinstance(value, (list, tuple, Mapping)):
        names, items = (value, value.values()) if isinstance(value, Mapping) else ((), value)
        return levels > 0 and all(isinstance(n, str) for n in names) and all(_is_plain(v, levels - 1) for v in items)
    return value is None or isinstance(value, (str, int)) or isinstance(value, float) and math.isfinite(value)


def _convert_list(value, args, opt, key, where):
    """A list or tuple as Tuple[X, ...] (any length but 0) or Tuple[X, X] (exactly two)."""
    item, length = args[0], None if args[-1] is Ellipsis else len(args)
    if opt.spread and isinstance(value, Real) and not isinstance(value, bool):
        value = [value] * length
    if not isinstance(value, (list, tuple)) or (len(value) != length if length else not value):
        raise _wrong(_type_text(args), value, opt, key, where)
    return tuple(convert(v, item, opt, f"{key}[{i}]", where) for i, v in enumerate(value))


def _type_text(args: Tuple[Any, ...]) -> str:
    """What a list of these entries is called in a message."""
    plural = {int: "whole numbers", float: "numbers", str: "texts"}[args[0]]
    return f"a list of {plural}" if args[-1] is Ellipsis else f"a list of {len(args)} {plural}"


def type_text(hint: Any, opt: Option) -> str:
    """The allowed values of a field in words: ``'a number, >= 0, epochs, or null: no limit'``."""
    optional = get_origin(hint) is Union
    if optional:
        hint = get_args(hint)[0]
    if opt.choices:
        text = " | ".join(map(str, opt.choices))
    elif get_origin(hint) is tuple:
        text = _type_text(get_args(hint)) + (" or one number for all" if opt.spread else "")
    else:
        text = _KIND_NAMES.get(hint, "a mapping")
    parts = [text, opt.range_text(), opt.unit]
    if optional:
        parts.append(f"or null: {opt.null}")
    return ", ".join(p for p in parts if p)


def _wrong(expected: str, value: Any, opt: Option, key: str, where: Optional[object]) -> ConfigError:
    """The one message for a value that does not fit."""
    if opt.choices:
        expected = "one of " + ", ".join(map(str, opt.choices))
    close = nearest(value, opt.choices, n=1) if isinstance(value, str) and opt.choices else []
    details = ", ".join(p for p in (expected, opt.range_text(), opt.unit) if p)
    fix = f"did you mean {close[0]!r}?" if close else f"it means: {opt.doc}"
    return ConfigError(f"configuration key {key!r} takes {details}",
                       where=where, received=_show(value), fix=fix)


def _show(value: Any) -> str:
    """A value with its type, which the value alone often hides: 0.1 and '0.1'."""
    return f"{short(value, 200)} ({type(value).__name__})"
