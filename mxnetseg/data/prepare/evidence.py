"""Facts about a source by which preparations recognise their format, without reading all of it."""
from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import DataError, MXNetSegError
from ..listing import list_files
from .base import folders, read_json

_SEARCH_DEPTH = 4  # levels of folders below the source
_JSON_FILES = 16  # files that are read to recognise a format


class JsonOutline(NamedTuple):
    """Outermost structure of a JSON file.

    Attributes:
        path: the file.
        types: key -> name of the type of its value, if the file holds an object; otherwise empty.
    """

    path: Path
    types: dict[str, str]


def json_outlines(source: Path) -> list[JsonOutline]:
    """Return the structure of at most 16 JSON files of a source, spread evenly; damaged files are left out."""
    paths = [source] if source.is_file() and source.suffix.lower() == ".json" else list_files(source, (".json",))
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _JSON_FILES), dtype=int))]
    found = []
    for path in chosen:
        state = path.stat() if path.exists() else None
        types = _types(path, state.st_size, state.st_mtime_ns) if state else None
        if types is not None:
            found.append(JsonOutline(path, dict(types)))
    return found


@lru_cache(maxsize=256)
def _types(path: Path, size: int, time: int) -> tuple[tuple[str, str], ...] | None:
    """Return the keys and types of a file; size and time of the last change identify its content."""
    try:
        content: Any = read_json(path)
    except MXNetSegError:
        return None
    items = content.items() if isinstance(content, dict) else ()
    return tuple((key, type(value).__name__) for key, value in items)


def only_folder(source: Path, *parts: str) -> Path | None:
    """Return the folder at or below the source that holds all ``parts``, or None without one.

    Raises:
        DataError: there are several, which are several data sets.
    """
    found = [folder for folder in folders(source, _SEARCH_DEPTH) if all((folder / part).exists() for part in parts)]
    if len(found) > 1:
        raise DataError("the source holds several data sets", where=source.absolute(),
                        received="\n".join(str(folder) for folder in found[:5]),
                        fix="give the folder of one of them as SRC")
    return found[0] if found else None


def count_files(folder: Path, suffixes: Sequence[str]) -> int:
    """Return the number of files of these suffixes in a folder, without its subfolders."""
    with os.scandir(folder) as entries:
        return sum(os.path.splitext(entry.name)[1].lower() in suffixes for entry in entries)
