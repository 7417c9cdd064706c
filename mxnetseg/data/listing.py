"""Lists of files: the files below a folder, and the lines of a text file that names them."""
from __future__ import annotations

import heapq
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError, DataNotFoundError
from ..files import PathLike, no_file


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files below ``folder`` at any depth with one of the ``suffixes``, sorted.

    Hidden files, whose names begin with a dot, are left out, such as ``.DS_Store`` and the ``._x.jpg`` that macOS
    writes beside ``x.jpg``. Links to folders are followed, except links back to a folder above them. Each folder is
    entered once, so that a circle of links ends and no file is listed twice. A folder that several paths reach is
    listed under its own path if it lies below ``folder``, otherwise under the first link.

    A broken link is listed like a file if its name has one of the suffixes: reading it reports its name.

    Raises:
        DataNotFoundError: any other link is broken; it may have pointed to a folder of images.
        DataError: a folder below ``folder`` cannot be read.
    """
    found: list[tuple[str, ...]] = []
    entered = set()
    folders: list[tuple[tuple[str, ...], str]] = [((), os.path.realpath(folder))]
    links: list[tuple[tuple[str, ...], str]] = []  # a heap, so that the order does not depend on the disk
    while folders or links:
        parts, real = folders.pop() if folders else heapq.heappop(links)
        if real in entered:
            continue
        entered.add(real)

        for entry in _entries(folder, parts, real):
            below = (*parts, entry.name)
            if entry.is_dir(follow_symlinks=False):
                folders.append((below, entry.path))
            elif entry.is_symlink() and os.path.isdir(entry.path):
                target = os.path.realpath(entry.path)
                if os.path.commonpath([target, real]) != target:  # otherwise it leads back to a folder above it
                    heapq.heappush(links, (below, target))
            elif os.path.splitext(entry.name)[1].lower() in suffixes:
                found.append(below)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                raise DataNotFoundError("a link leads nowhere", where=folder.joinpath(*below),
                                        received=f"-> {os.readlink(entry.path)}",
                                        fix="restore its target, or remove the link")
    return [folder.joinpath(*parts) for parts in sorted(found)]


def _entries(folder: Path, parts: tuple[str, ...], real: str) -> Iterator[os.DirEntry]:
    """Yield the entries of a folder that are not hidden; none if ``folder`` itself does not exist."""
    try:
        with os.scandir(real) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        if parts or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise DataError("a folder cannot be read", where=folder.joinpath(*parts), received=error.strerror,
                            fix="check its permissions and the disk, or remove it") from error


def read_list(path: PathLike) -> list[str]:
    """Return the lines of a list file that are not blank, stripped.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is not text, has no lines, or is not a regular file.
    """
    problem = no_file(path)
    if problem not in (None, "is not there"):
        raise DataError(f"a list of files {problem}", where=path, fix="save it as a text file, one entry per line")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataNotFoundError("a list of files is missing", where=path,
                                fix="restore the list; it belongs to the data set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("a list of files cannot be read", where=path, received=error,
                        fix="save it as plain UTF-8 text, one entry per line") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError("a list of files is empty", where=path, fix="write one entry per line")
    return lines


def is_plain(path: str) -> bool:
    """Return whether a path, with slashes, stays below the folder that it starts from."""
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def inside(root: PathLike, path: str) -> str | None:
    """Convert a path from a list to a plain path below ``root``; None if it leaves ``root``.

    Args:
        root: folder of the data set.
        path: absolute or below the root, with slashes of Unix or Windows; ``..`` is allowed.
    """
    path = path.replace("\\", "/")
    if not is_plain(path):
        start = os.path.abspath(root)
        path = os.path.relpath(os.path.join(start, path), start)
    return path if is_plain(path) and path != os.curdir else None


def nfc(name: str) -> str:
    """Return a name with accented letters as single characters (NFC): older Macs write letter and accent (NFD)."""
    return unicodedata.normalize("NFC", name)
