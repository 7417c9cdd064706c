"""Registry of names, which knows the place of each thing and imports it on first use."""
from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .errors import UnknownNameError, canonical


class Registry:
    """Table of names without regard to case and separators, with aliases; errors suggest the nearest names.

    Args:
        noun: how messages call a registered thing: ``'model'``.
        entries: canonical spelling -> ``'package.module:attribute'``.
        aliases: other spelling -> canonical spelling.
        listed_by: the command that lists the names.
    """

    def __init__(self, noun: str, entries: Mapping[str, str], aliases: Mapping[str, str] | None = None, *,
                 listed_by: str | None = None):
        self.noun, self.listed_by = noun, listed_by
        self._entries: dict[str, str] = dict(entries)
        self.aliases: dict[str, str] = dict(aliases or {})
        self._lookup = {canonical(a): n for a, n in self.aliases.items()}
        self._lookup.update({canonical(n): n for n in self._entries})

    def names(self) -> list[str]:
        """Return the canonical names, sorted."""
        return sorted(self._entries)

    def resolve(self, name: str) -> str:
        """Return the canonical spelling of ``name``.

        Raises:
            UnknownNameError: the name is unknown; the message has the nearest ones.
        """
        try:
            return self._lookup[canonical(name)]
        except KeyError:
            raise UnknownNameError(self.noun, name, [*self.names(), *self.aliases],
                                   listed_by=self.listed_by) from None

    def get(self, name: str) -> Any:
        """Return the registered thing, which is imported now if necessary."""
        module, attribute = self._entries[self.resolve(name)].split(":")
        return getattr(import_module(module), attribute)
