"""YAML in the subset and the sense that configurations need; other YAML is refused with its line.

PyYAML reads YAML 1.1, where ``1e-2`` is text because it has no dot, ``12:30`` is 750, ``2024-01-01`` is a date, and the
last of two equal keys wins. Here ``1e-2`` is a number, times and dates are text, and equal keys are a mistake.

Files are read up to fixed bounds, because a few lines of aliases can expand to 10^9 values, and some mistakes would
take much memory or minutes before they are found.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import ConfigError, reason, short

MOST_BYTES = 1 << 20  # of a file; the largest configurations, exports of wandb, have some 10 KiB
_MOST_NODES, _MOST_CHARACTERS, _MOST_LEVELS, _MOST_DIGITS = 20_000, 4 << 20, 40, 40  # after expansion of aliases

_TAG = "tag:yaml.org,2002:"
_READ = ("null", "bool", "int", "float", "str", "seq", "map")


def parse(text: str, where: object) -> Any:
    """Return YAML text as plain values.

    Args:
        text: YAML.
        where: the file or option that the text comes from, for messages.

    Raises:
        ConfigError: the text is not YAML, or exceeds a bound; the message has line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark and isinstance(where, Path) else ""
        problem = getattr(error, "problem", None) or str(error)
        what = "this YAML is not supported" if isinstance(error, _Refused) else "this is not valid YAML"
        raise ConfigError(what, where=f"{where}{line}", received=problem[:300],
                          fix=getattr(error, "note", None)) from None
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:  # PyYAML does not check
        raise ConfigError("this is not valid YAML", where=where, received=reason(error)) from None


class _Refused(yaml.constructor.ConstructorError):
    """YAML that is ambiguous, or that no configuration needs."""


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, changed as the docstring of this module says."""

    def __init__(self, stream):
        super().__init__(stream)
        self._levels = self._nodes = self._characters = 0

    # ---- text to nodes: bounds -----------------------------------------------------------------

    def get_single_node(self):
        """Return the document without wandb's own section in its exports, in which keys are numbers."""
        node = super().get_single_node()
        if isinstance(node, yaml.MappingNode):
            node.value = [(key, value) for key, value in node.value if key.value != "_wandb"]
        return node

    def compose_node(self, parent, index):
        event = self.peek_event()
        before = self._nodes, self._characters
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            _refuse(event, f"more than {_MOST_LEVELS} nested levels",
                    "a configuration has three; look for a bracket that is not closed")
        node = super().compose_node(parent, index)
        self._levels -= 1

        if isinstance(event, yaml.AliasEvent):
            if not hasattr(node, "expanded"):
                _refuse(event, f"the alias *{short(event.anchor)[1:-1]} stands inside what it stands for")
            self._nodes += node.expanded[0]
            self._characters += node.expanded[1]
        else:
            self._nodes += 1
            self._characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
            node.expanded = self._nodes - before[0], self._characters - before[1]
        if self._nodes > _MOST_NODES or self._characters > _MOST_CHARACTERS:
            _refuse(event, f"more than {_MOST_NODES:,} values or {_MOST_CHARACTERS:,} characters, aliases expanded",
                    "write out the values that are needed, without aliases (*NAME)")
        return node

    def resolve(self, kind, value, implicit):
        tag = super().resolve(kind, value, implicit)
        if kind is yaml.ScalarNode and implicit[0] and (tag == _TAG + "timestamp" or tag in (
                _TAG + "int", _TAG + "float") and ":" in value):
            return _TAG + "str"
        return tag

    # ---- nodes to values -----------------------------------------------------------------------

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError):  # PyYAML converts without a check
            _refuse(node, f"{short(node.value)} is no {node.tag.rsplit(':', 1)[-1][:20]}")

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _TAG + "merge":
                _refuse(key_node, "merge keys (<<) are not supported", "use _base_: FILE to inherit the keys of a file")
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                _refuse(key_node, f"key {short(key)} is not text", "put it in quotes if it is a name")
            if key in seen:
                _refuse(key_node, f"key {short(key)} is given twice, first in line {seen[key]}", "remove one of them")
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node):
        text = self.construct_scalar(node)
        digits = text.replace("_", "").lstrip("+-")
        if len(digits) > _MOST_DIGITS:
            _refuse(node, f"a whole number of {len(digits):,} digits, more than {_MOST_DIGITS}",
                    "give a smaller number, or put it in quotes if it is text")
        if re.fullmatch("0[0-7]+", digits) and int(digits) != int(digits, 8):
            _refuse(node, f"{text} can be read as {int(digits)}, as {int(digits, 8)} (base 8) or as text",
                    f"write {int(digits)}, {int(digits, 8)} or '{text}'")
        return super().construct_yaml_int(node)

    def construct_yaml_str(self, node):
        text = self.construct_scalar(node)
        found = re.search("[\0\ud800-\udfff]", text)
        if found:
            _refuse(node, f"text with the character {ascii(found[0])}, which no file name or other name can hold")
        return text


_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_Loader.yaml_constructors = {_TAG + name: _Loader.yaml_constructors[_TAG + name] for name in _READ}
_Loader.yaml_constructors[None] = _Loader.construct_undefined
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)
_Loader.add_constructor(_TAG + "str", _Loader.construct_yaml_str)


def _refuse(place: yaml.Node | yaml.Event, problem: str, note: str | None = None) -> NoReturn:
    """Raise a YAML error that knows its line and how to fix it."""
    raise _Refused(problem=problem, problem_mark=place.start_mark, note=note)
