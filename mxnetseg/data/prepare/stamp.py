"""Record of the files in a target and their sources, by which a later run finds outdated files.

The stamp is written when a run begins and when it ends. In between, each finished file adds one line to the journal, so
a killed run loses only the files that it was writing.
"""
from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

from ...errors import EnvironmentProblem, UsageError
from ...files import atomic_write

STAMP = ".mxnetseg-prepare.json"
JOURNAL = ".mxnetseg-prepare.journal"
_VERSION = 2  # increase it if a conversion changes, so that older results are not taken as current
_SHOWN = 5  # names in a message


def fingerprint(*parts: Any) -> str:
    """Return a digest of the sources of an output.

    Args:
        parts: paths, which count by name, size and time of the last change, and may be missing; bytes; NumPy arrays; or
            values that JSON can hold.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoding, data = ("bytes", part) if isinstance(part, bytes) else (
            "json", json.dumps(part, sort_keys=True, default=_to_json).encode())
        digest.update(f"{encoding} {len(data)} ".encode() + data)
    return digest.hexdigest()


class Output(NamedTuple):
    """File of the target, in the state in which it was made.

    Attributes:
        origin: fingerprint of its sources.
        state: size and time of the last change; None if the file was left out.
        inode: inode of a hard link, which changes together with its source; else 0.
    """

    origin: str
    state: tuple[int, int] | None
    inode: int = 0

    @classmethod
    def of(cls, path: Path, origin: str) -> Output:
        """Return the current state of a file, which may be left out."""
        found = _stat(path)
        if found is None:
            return cls(origin, None)
        return cls(origin, (found.st_size, found.st_mtime_ns), found.st_ino if found.st_nlink > 1 else 0)

    def is_edited(self, path: Path) -> bool:
        """Return whether the user edited the file. A hard link that changed with its source is not edited."""
        found = _stat(path)
        if found is None or (found.st_size, found.st_mtime_ns) == self.state:
            return False
        return not (found.st_nlink > 1 and found.st_ino == self.inode)


class Stamp:
    """Record of a target, read at the start of a run and written at its end.

    Args:
        target: folder to write.
        preparation: name of the preparation.
        source: folder to read.
        classes: class names, if they depend on the source.

    Attributes:
        outputs: path below the target -> recorded state, for files that are up to date.
        unfinished: files that this run still has to make.
        notes: sentences about changes since the last run.
        remade: outdated files that are made again.
        removed: outdated files that are no longer made.
    """

    def __init__(self, target: Path, preparation: str, source: Path, classes: Sequence[str]):
        self.target = target
        self._now: dict[str, Any] = {"form": _VERSION, "preparation": preparation, "source": str(source.resolve()),
                     "classes": list(classes)}
        self.outputs: dict[str, Output] = {}
        self.notes: list[str] = []
        self.remade: list[str] = []
        self.removed: list[str] = []
        self.unfinished: list[str] = []
        self._lock = threading.Lock()
        self._journal: TextIO | None = None

    def begin(self, origins: dict[str, str], *, force: bool) -> None:
        """Compare the target with the files to make, and remove outdated files. Errors are raised before any removal.

        Args:
            origins: path below the target -> fingerprint, for all files of this run.
            force: make all of them again, and overwrite existing files.

        Raises:
            UsageError: the target holds files of another preparation or source, edited files, or files that no
                preparation has made.
        """
        before, outputs, unfinished = _read(self.target)
        present = {name for name in {*outputs, *unfinished, *origins} if os.path.lexists(self.target / name)}
        known = {*outputs, *unfinished}
        if not (present & known if known else present):  # the last run made nothing, so its record does not matter
            before, outputs, unfinished, known = {}, {}, set(), set()
        self._check_preparation(before, force)

        replaced = [name for name in sorted(unfinished - set(origins)) if name in present]
        self.removed += replaced
        for name, output in outputs.items():
            outdated = output.origin != origins.get(name) or (output.state is None) == (name in present)
            if not outdated and not force:
                self.outputs[name] = output
            elif name in present:
                replaced.append(name)
                if outdated:
                    (self.remade if name in origins else self.removed).append(name)

        foreign_files = sorted(present - known)
        edited = [name for name in replaced if name in outputs and outputs[name].is_edited(self.target / name)]
        self._check_overwriting(edited, foreign_files, force)
        if replaced and not force and before.get("source") != self._now["source"]:
            raise UsageError(
                "the target was made from another source", where=self.target.absolute(),
                received=f"made from {before.get('source')}\nnow {self._now['source']}\n"
                         f"files to make again: {len(self.remade)}, to remove: {len(self.removed)}",
                fix="choose another DST, or use --force to replace its files")
        self._check_classes(before, known | set(origins))

        self.unfinished = [name for name in origins if name not in self.outputs]
        if self.unfinished or replaced:
            self._write(replaced)
            self._remove([*replaced, *foreign_files])

    def note(self, name: str, origin: str) -> bool:
        """Record a file that was made; thread-safe. Return False if it was left out."""
        output = Output.of(self.target / name, origin)
        with self._lock:
            self.outputs[name] = output
            try:
                if self._journal is None:
                    self._journal = open(self.target / JOURNAL, "a", encoding="utf-8")
                self._journal.write(json.dumps([name, *output]) + "\n")
                self._journal.flush()
            except OSError as error:
                raise _unwritable(self.target / JOURNAL, error) from error
        return output.state is not None

    def end(self) -> None:
        """Record that the target is complete."""
        self.unfinished = []
        self._write()

    def close(self) -> None:
        """Close the journal, also after an error."""
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(OSError):  # a full disk, which was reported before
                journal.close()

    # ---- checks ---------------------------------------------------------------------------------

    def _check_preparation(self, before: dict[str, Any], force: bool) -> None:
        if not before or force:
            return
        if "form" not in before:
            raise UsageError(
                "the target's record of the sources of its files is damaged or from an older version",
                where=self.target / STAMP, received=before["damage"],
                fix="choose another DST, or use --force to make all files again; edits are lost")
        if before["preparation"] != self._now["preparation"]:
            raise UsageError(
                "the target holds the result of another preparation", where=self.target.absolute(),
                received=f"made by {before['preparation']!r}, now {self._now['preparation']!r}",
                fix="choose another DST, or use --force to replace its files")

    def _check_overwriting(self, edited: list[str], foreign_files: list[str], force: bool) -> None:
        if edited and not force:
            raise UsageError(
                "the target holds files that were edited and whose sources or classes have changed since",
                where=self.target.absolute(), received=_some(edited),
                fix="move them to a safe place and run again, or use --force to make them again: the edits are lost")
        if foreign_files and not force:
            raise UsageError(
                "the target holds files that this preparation did not make and would overwrite",
                where=self.target.absolute(), received=_some(foreign_files),
                fix="choose another DST, or use --force to overwrite them")

    def _check_classes(self, before: dict[str, Any], known: set[str]) -> None:
        """Note changed classes. Refuse foreign files beside the outputs, whose ids might mean other classes."""
        names, old_names = self._now["classes"], before.get("classes") or []
        if not names or (old_names == names and "form" in before):
            return

        folders = {PurePosixPath(name).parts[0] for name in known if "/" in name}
        foreign_files = sorted({path.relative_to(self.target).as_posix() for folder in folders
                            for path in (self.target / folder).rglob("[!.]*") if path.is_file()} - known)
        if foreign_files:
            raise UsageError(
                "the target holds files of unknown origin, whose class ids may mean other classes",
                where=self.target.absolute(), received=_some(foreign_files),
                fix="choose another DST, or move these files away")
        if old_names:
            self.notes.append(f"classes changed: {', '.join(map(str, old_names))} -> {', '.join(names)}")

    # ---- files ----------------------------------------------------------------------------------

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.target / name
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UsageError("an outdated file cannot be removed", where=path, received=error.strerror,
                                 fix="check the folder's permissions") from error
            with suppress(OSError):  # not empty
                for folder in list(PurePosixPath(name).parents)[:-1]:
                    (self.target / folder).rmdir()

    def _write(self, to_remove: Sequence[str] = ()) -> None:
        """Write the stamp if it has changed, and remove the journal, whose content is then in the stamp.

        Args:
            to_remove: files about to be removed; a later run must know them if this run is killed before.
        """
        content = {**self._now, "outputs": dict(sorted(self.outputs.items())),
                   "unfinished": sorted({*self.unfinished, *to_remove})}
        text, path = json.dumps(content) + "\n", self.target / STAMP
        with suppress(OSError, ValueError):
            if path.read_text(encoding="utf-8") == text:
                text = ""
        if text:
            with atomic_write(path, "w") as stream:
                stream.write(text)

        self.close()
        try:
            (self.target / JOURNAL).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unwritable(self.target / JOURNAL, error) from error


def _read(target: Path) -> tuple[dict[str, Any], dict[str, Output], set[str]]:
    """Read stamp and journal, and return the header, the outputs, and the files that were still to be made.

    The header is empty without a stamp. For an older or damaged stamp it holds only the key ``damage``.
    """
    try:
        content = json.loads((target / STAMP).read_bytes())
        if isinstance(content, dict) and "form" not in content:
            raise ValueError("an older version wrote it, without the sources of files")
        header = {key: content[key] for key in ("form", "preparation", "source", "classes")}
        outputs = {_safe(name): _output(values) for name, values in content["outputs"].items()}
        unfinished = {_safe(name) for name in content["unfinished"]}
        if header["form"] != _VERSION or not isinstance(header["classes"], list):
            raise ValueError(f"form {header['form']!r}, classes {header['classes']!r}"[:200])
    except (FileNotFoundError, NotADirectoryError):
        return {}, {}, set()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        return {"damage": f"{error}" if isinstance(error, ValueError) else repr(error)}, {}, set()

    with suppress(OSError):
        for line in (target / JOURNAL).read_bytes().splitlines():
            with suppress(ValueError, TypeError, ArithmeticError):  # last line of a killed run; its file is made again
                name, *values = json.loads(line)
                outputs[_safe(name)] = _output(values)
    return header, outputs, unfinished - set(outputs)


def _output(values: Sequence[Any]) -> Output:
    origin, state, inode = values
    return Output(str(origin), None if state is None else (int(state[0]), int(state[1])), int(inode))


def _safe(name: str) -> str:
    """Return a path of the stamp if it stays below the target, because files of the stamp may be removed."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r} is outside the target")
    return name


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _some(names: Sequence[str]) -> str:
    return "\n".join([*names[:_SHOWN], *[f"and {len(names) - _SHOWN} more"] * (len(names) > _SHOWN)])


def _unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem("the record of the files made cannot be written", where=path, received=error.strerror,
                              fix="free space on this disk, or check the folder's permissions; then run again: files "
                                  "made so far are kept")


def _file_state(path: Path) -> Any:
    try:
        state = path.stat()
    except OSError:
        return ["missing", path.name]
    return ["file", path.name, state.st_size, state.st_mtime_ns]


def _to_json(value: Any) -> Any:
    """Return a JSON value for a path, a NumPy array or a NumPy number."""
    return {"path": _file_state(value)} if isinstance(value, Path) else {"array": value.tolist()}
