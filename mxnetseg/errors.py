"""Errors of mxnetseg. Each states the violation, where it is, what was received, and the fix.

=============================  ====  =============================================================
class                          exit  raised for
=============================  ====  =============================================================
``MXNetSegError``              1     base of all errors below
├─ ``UsageError``              2     a command, option or argument that cannot be carried out
│  ├─ ``UnknownNameError``     2     a name that is not registered: model, data set, key, ...
│  ├─ ``ConfigError``          2     an invalid configuration value, or contradicting values
│  ├─ ``DataNotFoundError``    2     a data set, list or file that is not where it was searched
│  └─ ``DeviceError``          2     a device that is not present or cannot be used
├─ ``DataError``               1     a file of a data set that is damaged or does not fit
├─ ``CheckpointError``         1     a checkpoint that is damaged, incomplete or of another network
├─ ``EnvironmentProblem``      1     a package, library, version or disk that does not fit
├─ ``ProcessLost``             75    a process of a run that died, hangs or cannot be reached
└─ ``TrainingDiverged``        1     a loss, gradient or parameter that became NaN or infinite
=============================  ====  =============================================================

``exit`` is the exit code of a command that ends with the error. To handle every error of the library::

    try:
        prediction = predictor(file)
    except MXNetSegError as error:
        print(error.what, error.where, error.received, error.fix)
"""
from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

# C0, DEL and C1, and the marks that reverse the direction of what follows
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LISTED = 40  # names that a message lists at most, if there is a command that lists them


class MXNetSegError(Exception):
    """Base of every error that a user can cause or fix.

    Args:
        what: the violation, in one sentence.
        where: the file, configuration key, option or data set.
        received: the offending value, as the user wrote it or as it was found.
        fix: a remedy, if possible a command or a value to paste.

    Attributes:
        what, where, received, fix: as given.
        exit_code: exit code of a command that ends with the error.

    Example:
        >>> from mxnetseg import MXNetSegError, get_dataset
        >>> try:
        ...     get_dataset("camvit")
        ... except MXNetSegError as error:
        ...     print(error.what, "|", error.fix.split("?")[0])
        unknown data set 'camvit' | did you mean 'camvid' or 'camvidfull'
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object | None = None,
                 received: object | None = None, fix: str | None = None):
        self.what, self.where, self.received, self.fix = what, where, received, fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for label, value in (("where", self.where), ("received", self.received), ("fix", self.fix)):
            if value is not None:
                lines.append(f"  {label + ':':<10}" + str(value).replace("\n", "\n" + " " * 12))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:  # so that an error of a worker process arrives with all its parts
        return _rebuild, (type(self), self.what, self.where, self.received, self.fix)


def _rebuild(error_class: type[MXNetSegError], what: str, where: object, received: object,
             fix: str | None) -> MXNetSegError:
    error = error_class.__new__(error_class)
    MXNetSegError.__init__(error, what, where=where, received=received, fix=fix)
    return error


class UsageError(MXNetSegError):
    """Command, option or argument that cannot be carried out. Commands exit with 2."""

    exit_code = 2


class UnknownNameError(UsageError):
    """Name that is not registered: of a model, backbone, data set, configuration key, ...

    Args:
        noun: how the message calls the named thing.
        name: the unknown name.
        known: all known names.
        listed_by: the command that lists the known names; without it, the message lists them.
        where: file, key or option that the name comes from.
    """

    def __init__(self, noun: str, name: str, known: Iterable[str], *, listed_by: str | None = None,
                 where: object | None = None):
        known = list(known)
        close = nearest(name, known)
        fix = "did you mean " + " or ".join(map(repr, close)) + "? " if close else ""
        if listed_by and len(known) > _LISTED:
            fix += f"`{listed_by}` lists all"
        else:
            fix += textwrap.fill(f"known: {', '.join(known)}", 110, break_long_words=False, break_on_hyphens=False)
        super().__init__(f"unknown {noun} {short(name)}", where=where, fix=fix)


class ConfigError(UsageError):
    """Configuration value of the wrong type, outside its range, or in contradiction to another value."""


class DataNotFoundError(UsageError):
    """Data set, list or file that is not where it was searched."""


class DataError(MXNetSegError):
    """File of a data set that is corrupt, or has a wrong mode, size or label."""


class CheckpointError(MXNetSegError):
    """Checkpoint that is damaged, incomplete, or belongs to another network."""


class DeviceError(UsageError):
    """Device that is not present or cannot be used."""


class EnvironmentProblem(MXNetSegError):
    """Package, library or version that is missing or does not fit, or a disk that is full."""


class ProcessLost(MXNetSegError):
    """Process of a run that died, hangs or cannot be reached. The run may be resumed (75 is EX_TEMPFAIL)."""

    exit_code = 75


class TrainingDiverged(MXNetSegError):
    """Training whose loss, gradients or parameters became NaN or infinite."""


def short(value: object, limit: int = 80) -> str:
    """Return the ``repr`` of a value, cut to ``limit`` characters, without building the whole text.

    The whole text can be far larger than the value: a list that holds one list twice, and so on for forty levels,
    prints as 2^40 entries.
    """
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > limit:
            return text[:limit - 3] + "..."
    return text


def printable(text: str, kept: str = "\n\t") -> str:
    """Return text with escaped control characters, except ``kept``; names in files may hold terminal commands."""
    return _COMMANDS.sub(lambda m: m[0] if m[0] in kept else m[0].encode("unicode_escape").decode(), text)


def reason(error: BaseException) -> str:
    """Return class and first argument of an exception, at most 200 characters; its ``str`` could be endless."""
    first = error.args[0] if error.args else ""
    return f"{type(error).__name__}: {first if isinstance(first, str) else short(first)}"[:200]


def _pieces(value: object, depth: int = 8) -> Iterator[str]:
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        opening, closing = ("[", "]") if isinstance(value, list) else ("{", "}")
        if isinstance(value, tuple):
            opening, closing = "(", ")"
        yield opening
        for i, item in enumerate(value if depth else ()):
            yield ", " if i else ""
            yield from _pieces(item, depth - 1)
            if isinstance(value, dict):
                yield ": "
                yield from _pieces(value[item], depth - 1)
        yield ("" if depth or not value else "...") + closing
    elif isinstance(value, (str, bytes)):
        yield repr(value[:1000])
    elif isinstance(value, int) and value.bit_length() > 256:  # Python refuses to print thousands of digits
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield repr(value)


def canonical(name: str) -> str:
    """Return a name without case and separators, so that ``DeepLab-v3+`` and ``deeplabv3plus`` are equal."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower().replace("+", "plus"))


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return at most ``n`` known names that are similar to ``name``, the most similar first."""
    by_canonical: dict[str, str] = {}
    for k in known:
        by_canonical.setdefault(canonical(k), k)
    wanted = canonical(name)
    close = difflib.get_close_matches(wanted, list(by_canonical), n=n, cutoff=0.6)
    if wanted and len(close) < n:  # a part of a name is similar, too
        close += [k for k in by_canonical if k not in close and (wanted in k or k in wanted)]
    return [by_canonical[k] for k in close[:n]]
