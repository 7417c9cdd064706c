"""The table of MXNet's operators, and the reader of their arguments.

An operator is a function of tensors (positional) and arguments (keywords). Its keywords are the names that MXNet
writes, its defaults are MXNet's, and an argument that it does not have is an error: no argument is ignored silently.
The type of the default is the type of the argument; an annotation ``| None`` allows None where the default is a number.
"""
from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import CheckpointError, short


class Operator(NamedTuple):
    """An operator of MXNet.

    Attributes:
        function: computes it. A class is a module that is made with the arguments and called with the tensors, for
            operators that depend on ``train()`` and ``eval()``.
        preset: arguments that the name of the operator fixes.
        ignored: numbers of the inputs that are not used, such as the label of a loss.
    """

    function: Callable[..., Any]
    preset: Mapping[str, object]
    ignored: frozenset[int] = frozenset()

    @property
    def is_module(self) -> bool:
        return inspect.isclass(self.function)


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, ignored: frozenset[int] = frozenset(), **preset: object) -> Callable:
    """Return a decorator that enters a function into :data:`OPERATORS` under MXNet's names of the operator."""
    def enter(function):
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"the operator {name} is entered twice")
            OPERATORS[name] = Operator(function, preset, ignored)
        return function
    return enter


def arguments_of(name: str, texts: Mapping[str, str], where: str) -> dict[str, object]:
    """Return the arguments of an operator as Python values.

    Args:
        name: a key of :data:`OPERATORS`.
        texts: the arguments as MXNet writes them: ``{"kernel": "(3, 3)", "no_bias": "True"}``.
        where: the node, for messages.

    Raises:
        CheckpointError: an argument that the operator does not have, or a value of the wrong type.
    """
    entry = OPERATORS[name]
    known = {key: parameter for key, parameter in inspect.signature(entry.function).parameters.items()
             if parameter.kind is parameter.KEYWORD_ONLY and key not in entry.preset}
    values: dict[str, object] = dict(entry.preset)
    for key, text in texts.items():
        if key not in known:
            raise CheckpointError(f"an argument of the operator {name} is not supported", where=where,
                                  received=f"{key}={short(text)}", fix=f"supported: {', '.join(known) or 'none'}")
        is_optional = str(known[key].annotation).endswith("| None")
        values[key] = None if is_optional and text == "None" else _value(text, known[key].default,
                                                                         f"{where}, argument {key}")
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in values]
    if missing:
        raise CheckpointError(f"the operator {name} lacks arguments", where=where, received=f"no {', '.join(missing)}",
                              fix="export the network again")
    return values


def _value(text: str, default: object, where: str) -> object:
    if isinstance(default, str):
        return text
    if len(text) > 10_000:
        raise CheckpointError("an argument is too long", where=where, received=short(text),
                              fix="export the network again")
    try:
        # older versions write lists without commas at the end, and long integers with an L
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text.replace("L", "")))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if isinstance(default, bool):
        if value not in (0, 1):
            raise CheckpointError("an argument is not True or False", where=where, received=short(text),
                                  fix="export the network again")
        return bool(value)
    if isinstance(default, tuple):
        value = tuple(value) if isinstance(value, (tuple, list)) else (value,) if isinstance(value, int) else value
        if not isinstance(value, tuple) or not all(i is None or isinstance(i, int) for i in value):
            raise CheckpointError("an argument is not a list of whole numbers", where=where, received=short(text),
                                  fix="export the network again")
        return value
    if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
        raise CheckpointError("an argument is not a number", where=where, received=short(text),
                              fix="export the network again")
    return list(value) if isinstance(value, list) else value


def unsupported(name: str, received: str, supported: str) -> CheckpointError:
    """Return the error for a value of an argument that an operator does not support."""
    return CheckpointError(f"a value of the operator {name} is not supported", received=received,
                           fix=f"supported: {supported}")
