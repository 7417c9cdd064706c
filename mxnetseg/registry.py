"""Names to things, lazily: a registry knows where each thing lives and imports it on first use."""
from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, List, Mapping, Optional

from .errors import UnknownNameError, canonical


class Registry:
    """A table of names, case- and separator-insensitive, with aliases and did-you-mean.

    Args:
        kind: what is registered, as the error message calls it: ``'model'``.
        entries: canonical spelling -> ``'package.module:attribute'``.
        aliases: other spelling -> canonical spelling.
        listed_by: the command that lists the names.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], aliases: Optional[Mapping[str, str]] = None, *,
                 listed_by: Optional[str] = None):
        self.kind, self.listed_by = kind, listed_by
        self._entries: Dict[str, str] = dict(entries)
        self.aliases: Dict[str, str] = dict(aliases or {})
        self._lookup = {canonical(a): n for a, n in self.aliases.items()}
        self._lookup.update({canonical(n): n for n in self._entries})

    def names(self) -> List[str]:
        """Canonical names, sorted."""
        return sorted(self._entries)

    def resolve(self, name: str) -> str:
        """The canonical spelling of ``name``.

        Raises:
            UnknownNameError: no such name; the message carries the nearest ones.
        """
        try:
            return self._lookup[canonical(name)]
        except KeyError:
            raise UnknownNameError(self.kind, name, [*self.names(), *self.aliases],
                                   listed_by=self.listed_by) from None

    def get(self, name: str) -> Any:
        """The registered thing itself, imported now if it was not yet."""
        module, attribute = self._entries[self.resolve(name)].split(":")
        return getattr(import_module(module), attribute)
