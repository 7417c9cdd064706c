"""The errors of mxnetseg: each says what is wrong, where, what was received and how to mend it."""
from __future__ import annotations

import difflib
import re
import textwrap
from typing import Iterable, Iterator, List, Optional

# C0, DEL and C1, and the marks that reverse the direction of what follows
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LISTED = 40  # names that a message lists, where a command lists them too


class MXNetSegError(Exception):
    """Base of every error a user can cause or mend.

    Args:
        what: one sentence: what is wrong.
        where: file, configuration key, option or data set concerned.
        received: the offending value, as the user wrote it or as it was found.
        fix: what to do about it, ideally a command or a value to paste.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: Optional[object] = None,
                 received: Optional[object] = None, fix: Optional[str] = None):
        self.what, self.where, self.received, self.fix = what, where, received, fix
        super().__init__(what)

    def __str__(self):
        lines = [self.what]
        for label, value in (("where", self.where), ("received", self.received), ("fix", self.fix)):
            if value is not None:
                lines.append(f"  {label + ':':<10}" + str(value).replace("\n", "\n" + " " * 12))
        return "\n".join(lines)

    def __reduce__(self):  # so that an error raised in a worker process arrives whole
        return _rebuild, (type(self), self.what, self.where, self.received, self.fix)


def _rebuild(kind, what, where, received, fix):
    error = kind.__new__(kind)
    MXNetSegError.__init__(error, what, where=where, received=received, fix=fix)
    return error


class UsageError(MXNetSegError):
    """The command, option or argument cannot be meant. Commands exit with 2."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not in its registry: model, backbone, data set, configuration key, ...

    Args:
        kind: what is named, as the message calls it.
        name: as it was given.
        known: all names there are.
        listed_by: the command that lists them; without it, the message lists them itself.
        where: file, key or option that the name comes from.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, listed_by: Optional[str] = None,
                 where: Optional[object] = None):
        known = list(known)
        close = nearest(name, known)
        fix = "did you mean " + " or ".join(map(repr, close)) + "? " if close else ""
        if listed_by and len(known) > _LISTED:
            fix += f"`{listed_by}` lists all {len(known)}"
        else:
            fix += textwrap.fill(f"known: {', '.join(known)}", 110, break_long_words=False, break_on_hyphens=False)
        super().__init__(f"unknown {kind} {short(name)}", where=where, fix=fix)


class ConfigError(UsageError):
    """A configuration value of the wrong type, outside its range, or in conflict with another."""


class DataNotFoundError(UsageError):
    """A data set, list or file is not where it was looked for."""


class DataError(MXNetSegError):
    """A file of a data set is damaged or does not fit: corrupt, wrong mode, size or label."""


class CheckpointError(MXNetSegError):
    """A checkpoint is damaged, incomplete, or belongs to another network."""


class DeviceError(UsageError):
    """A device was asked for that is not there."""


class EnvironmentProblem(MXNetSegError):
    """A package, library or version that is missing or does not fit."""


class TrainingDiverged(MXNetSegError):
    """The loss became NaN or infinite."""


def short(value: object, limit: int = 80) -> str:
    """Return the ``repr`` of a value, cut to ``limit`` characters without building the whole of it.

    The whole can be far larger than the value: a list of one list, taken twice, forty levels deep, is 2^40 entries.
    """
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > limit:
            return text[:limit - 3] + "..."
    return text


def printable(text: str, kept: str = "\n\t") -> str:
    """Return text whose control characters are escaped, except ``kept``: names in files may command a terminal."""
    return _COMMANDS.sub(lambda m: m[0] if m[0] in kept else m[0].encode("unicode_escape").decode(), text)


def reason(error: BaseException) -> str:
    """Return class and first argument of an exception, of which ``str`` could make a text without end."""
    first = error.args[0] if error.args else ""
    return f"{type(error).__name__}: {first if isinstance(first, str) else short(first)}"[:200]


def _pieces(value: object, depth: int = 8) -> Iterator[str]:
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        opening, closing = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
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
    elif isinstance(value, int) and value.bit_length() > 256:  # Python refuses to write thousands of digits
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield repr(value)


def canonical(name: str) -> str:
    """Fold case and separators, so that ``DeepLab-v3+`` and ``deeplabv3plus`` are one name."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower().replace("+", "plus"))


def nearest(name: str, known: Iterable[str], n: int = 3) -> List[str]:
    """The at most ``n`` known names that look most like ``name``, best first."""
    by_canonical = {}
    for k in known:
        by_canonical.setdefault(canonical(k), k)
    wanted = canonical(name)
    close = difflib.get_close_matches(wanted, list(by_canonical), n=n, cutoff=0.6)
    if wanted and len(close) < n:  # a beginning or a part of a name is a near miss too
        close += [k for k in by_canonical if k not in close and (wanted in k or k in wanted)]
    return [by_canonical[k] for k in close[:n]]
