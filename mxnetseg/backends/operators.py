"""The tables of functions that compute MXNet's operators elsewhere, and the reader of their arguments.

A function takes tensors (positional) and the operator's arguments (keywords) that :mod:`.signatures` declares. An
argument that an operator does not have is an error: no argument is ignored silently.
"""
from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import CheckpointError, short
from .signatures import REQUIRED, SIGNATURES, OrNone


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


class OperatorTable(dict[str, Operator]):
    """The functions of one target by MXNet's names of the operators."""

    def operator(self, *names: str, **preset: object) -> Callable:
        """Return a decorator that enters a function for operators.

        Args:
            names: the first name of each operator, as :mod:`.signatures` declares it.
            preset: arguments that the name of the operator fixes.

        Raises:
            ValueError: the function does not take the declared arguments.
        """
        def enter(function):
            keywords = {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()
                        if parameter.kind is parameter.KEYWORD_ONLY}
            for name in names:
                signature = SIGNATURES[name]
                fits = set(keywords) == signature.needed | set(preset) and all(
                    default in (inspect.Parameter.empty, signature.default(key)) for key, default in keywords.items())
                if name in self or not fits:
                    raise ValueError(f"the operator {name} is entered twice, or {function} has other arguments than "
                                     f"{sorted(signature.needed)}, or other defaults")
                for alias, declared in SIGNATURES.items():
                    if declared is signature:
                        self[alias] = Operator(function, preset, signature.ignored)
            return function
        return enter

    def arguments_of(self, name: str, texts: Mapping[str, str], where: str) -> dict[str, object]:
        """Return the arguments for a function of the table as Python values: all that it has no defaults for.

        Args:
            name: a key of the table.
            texts: the arguments as MXNet writes them: ``{"kernel": "(3, 3)", "no_bias": "True"}``.
            where: the node, for messages.

        Raises:
            CheckpointError: an argument that the operator does not have, or a value of the wrong type.
        """
        signature, entry = SIGNATURES[name], self[name]
        for key, text in texts.items():
            if key not in signature.arguments:
                raise CheckpointError(f"an argument of the operator {name} is not supported", where=where,
                                      received=f"{key}={short(text)}",
                                      fix=f"supported: {', '.join(signature.arguments) or 'none'}")
        given = {key: _value(text, signature.arguments[key], f"{where}, argument {key}") for key, text in texts.items()}
        missing = [key for key, default in signature.arguments.items() if default is REQUIRED and key not in given]
        if missing:
            raise CheckpointError(f"the operator {name} lacks arguments", where=where,
                                  received=f"no {', '.join(missing)}", fix="export the network again")
        has_default = {key for key, parameter in inspect.signature(entry.function).parameters.items()
                       if parameter.default is not parameter.empty}
        values = {key: signature.default(key) for key in signature.needed if key not in has_default}
        return {**values, **{key: value for key, value in given.items() if key not in signature.hints}, **entry.preset}


TORCH, ONNX = OperatorTable(), OperatorTable()


def _value(text: str, default: object, where: str) -> object:
    if isinstance(default, OrNone):
        return None if text == "None" else _value(text, default.default, where)
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


# ---- what all targets compute when they convert ---------------------------------------------

def reduced_axes(rank: int, axis: Any, exclude: bool) -> list[int]:
    """Return the axes of a reduction: all by default, or with ``exclude`` all that ``axis`` does not name."""
    if axis is None or axis == ():
        return list(range(rank))
    axes = {i % rank for i in (axis if isinstance(axis, (tuple, list)) else [axis])}
    return sorted(set(range(rank)) - axes if exclude else axes)


def coded_shape(old: Sequence[Any], codes: Sequence[int], reverse: bool = False) -> list[Any]:
    """Return the shape that MXNet's codes describe; one size may be -1, the rest.

    0 copies an axis, -1 is the rest, -2 copies all remaining axes, -3 joins two axes, -4 splits one axis into the two
    sizes that follow, of which one may be -1. ``reverse`` reads both shapes from the right, so that -4 follows its
    sizes. MXNet counts the codes, not the axes, to find the axis of -1: after a split the rest goes to a later axis.

    Args:
        old: the sizes, numbers or objects that are multiplied and divided like them.
        codes: the codes, and new sizes.
        reverse: read from the right.
    """
    if reverse:
        return coded_shape(old[::-1], codes[::-1])[::-1]
    new: list[Any] = []
    at = i = 0
    rest = None
    while i < len(codes):
        code = codes[i]
        if code == -4:
            first, second = codes[i + 1:i + 3]
            new += [old[at] // second if first == -1 else first, old[at] // first if second == -1 else second]
            at, i = at + 1, i + 2
        elif code == -3:
            new.append(old[at] * old[at + 1])
            at += 2
        elif code == -2:
            new += old[at:]
            at = len(old)
        elif code == 0:
            new.append(old[at])
            at += 1
        else:
            rest = i if code == -1 else rest
            new.append(1 if code == -1 else code)
            at += 1
        i += 1
    if rest is not None:
        if rest >= len(new):
            raise unsupported("Reshape", f"shape={tuple(codes)}", "-1 before -4")
        new[rest] = -1
    return new
