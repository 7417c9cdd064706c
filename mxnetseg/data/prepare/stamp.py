"""What a target holds and what each of its files was made from: by it a later run sees what is out of date.

The stamp is written when a run begins and when it ends. In between each file that is made becomes one line of the
journal, so that a run that is killed loses no more than the files it was writing.
"""
from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Iterable, NamedTuple, Sequence

from ...errors import EnvironmentProblem, UsageError
from ...files import atomic_write

STAMP = ".mxnetseg-prepare.json"
JOURNAL = ".mxnetseg-prepare.journal"
_FORM = 2  # raise it if a conversion changes, so that older results are not taken for current ones
_SHOWN = 5


def fingerprint(*parts: Any) -> str:
    """Digest of everything an output is made from.

    Args:
        parts: a path counts by its name, size and time of the last change, and may be missing; anything else must be
            bytes, a NumPy array, or what JSON can hold.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        kind, data = ("bytes", part) if isinstance(part, bytes) else (
            "json", json.dumps(part, sort_keys=True, default=_plain).encode())
        digest.update(f"{kind} {len(data)} ".encode() + data)
    return digest.hexdigest()


class Output(NamedTuple):
    """One file of the target, as it was when it was made.

    Attributes:
        origin: fingerprint of what it was made from.
        state: size and time of the last change; None if it was left out.
        inode: of a file that is a hard link, which changes when its source does; else 0.
    """

    origin: str
    state: tuple[int, int] | None
    inode: int = 0

    @classmethod
    def of(cls, path: Path, origin: str) -> Output:
        """Return the present state of a file, which may be left out."""
        found = _stat(path)
        if found is None:
            return cls(origin, None)
        return cls(origin, (found.st_size, found.st_mtime_ns), found.st_ino if found.st_nlink > 1 else 0)

    def edited(self, path: Path) -> bool:
        """Return whether a file was changed since it was made. A hard link changes with its source: that is none."""
        found = _stat(path)
        if found is None or (found.st_size, found.st_mtime_ns) == self.state:
            return False
        return not (found.st_nlink > 1 and found.st_ino == self.inode)


class Stamp:
    """Record of a target, as a run finds it and leaves it.

    Args:
        target: folder to write.
        preparation: its name.
        source: folder that is read.
        classes: class names, if they depend on the source.

    Attributes:
        outputs: path below the target -> the file as it was made, of the files that are up to date.
        unfinished: files of this run that are still to be made.
        notes: sentences about what has changed since the last run.
        remade, removed: outdated files that are made again, and those that are made no more.
    """

    def __init__(self, target: Path, preparation: str, source: Path, classes: Sequence[str]):
        self.target = target
        self._now = {"form": _FORM, "preparation": preparation, "source": str(source.resolve()),
                     "classes": list(classes)}
        self.outputs: dict[str, Output] = {}
        self.notes: list[str] = []
        self.remade: list[str] = []
        self.removed: list[str] = []
        self.unfinished: list[str] = []
        self._lock, self._journal = threading.Lock(), None

    def begin(self, origins: dict[str, str], *, force: bool) -> None:
        """Compare the target with what is to be made, and remove what is out of date. Refuse before that.

        Args:
            origins: path below the target -> fingerprint, of all files of this run.
            force: make all of them again, and overwrite what is in their place.

        Raises:
            UsageError: the target holds files of another preparation or source, files that were edited since, or
                files that no preparation has made.
        """
        before, outputs, unfinished = _read(self.target)
        present = {name for name in {*outputs, *unfinished, *origins} if os.path.lexists(self.target / name)}
        known = {*outputs, *unfinished}
        if not (present & known if known else present):  # a run that made nothing binds nobody
            before, outputs, unfinished, known = {}, {}, set(), set()
        self._check_kinship(before, force)

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
        strangers = sorted(present - known)
        edited = [name for name in replaced if name in outputs and outputs[name].edited(self.target / name)]
        self._check_losses(edited, strangers, force)
        if replaced and not force and before.get("source") != self._now["source"]:
            raise UsageError(
                "the target was made from another source", where=self.target.absolute(),
                received=f"made from {before.get('source')}\nnow {self._now['source']}\n"
                         f"to be made again: {len(self.remade)}, to be removed: {len(self.removed)}",
                fix="choose another DST, or --force to replace what is there")
        self._check_classes(before, known | set(origins))

        self.unfinished = [name for name in origins if name not in self.outputs]
        if self.unfinished or replaced:
            self._write(replaced)
            self._remove([*replaced, *strangers])

    def note(self, name: str, origin: str) -> bool:
        """Record that a file is made, from any thread. Return False if it was left out."""
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
        """Record that the target is whole."""
        self.unfinished = []
        self._write()

    def close(self) -> None:
        """Close the journal, however the run ended."""
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(OSError):  # a full disk, which has been reported
                journal.close()

    # ---- refusals -------------------------------------------------------------------------------

    def _check_kinship(self, before: dict[str, Any], force: bool) -> None:
        if not before or force:
            return
        if "form" not in before:
            raise UsageError(
                "the target's record of what each file was made from is damaged, or of an older version",
                where=self.target / STAMP, received=before["damage"],
                fix="choose another DST, or --force to make all files again; changes made by hand are lost")
        if before["preparation"] != self._now["preparation"]:
            raise UsageError(
                "the target holds the result of another preparation", where=self.target.absolute(),
                received=f"made by {before['preparation']!r}, now {self._now['preparation']!r}",
                fix="choose another DST, or --force to replace what is there")

    def _check_losses(self, edited: list[str], strangers: list[str], force: bool) -> None:
        if edited and not force:
            raise UsageError(
                "the target holds files that were edited and whose sources or classes have changed since",
                where=self.target.absolute(), received=_some(edited),
                fix="move them to a safe place and run again, or --force to make them again: the edits are lost")
        if strangers and not force:
            raise UsageError(
                "the target holds files that this preparation did not make and would overwrite",
                where=self.target.absolute(), received=_some(strangers),
                fix="choose another DST, or --force to overwrite them")

    def _check_classes(self, before: dict[str, Any], known: set[str]) -> None:
        """Note other classes. Refuse files beside the outputs whose ids would mean something else from now on."""
        names, had = self._now["classes"], before.get("classes") or []
        if not names or (had == names and "form" in before):
            return
        folders = {PurePosixPath(name).parts[0] for name in known if "/" in name}
        strangers = sorted({path.relative_to(self.target).as_posix() for folder in folders
                            for path in (self.target / folder).rglob("[!.]*") if path.is_file()} - known)
        if strangers:
            raise UsageError(
                "the target holds files of unknown origin, whose class ids need not be those of this preparation",
                where=self.target.absolute(), received=_some(strangers),
                fix="choose another DST, or move these files away")
        if had:
            self.notes.append(f"classes changed: {', '.join(map(str, had))} -> {', '.join(names)}")

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

    def _write(self, doomed: Sequence[str] = ()) -> None:
        """Write the stamp, unless it is there already; what the journal holds is then part of it.

        Args:
            doomed: files about to be removed, which a later run must know if this one is killed before.
        """
        content = {**self._now, "outputs": dict(sorted(self.outputs.items())),
                   "unfinished": sorted({*self.unfinished, *doomed})}
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
    """Read stamp and journal: header, outputs, and files that were to be made.

    The header is empty without a stamp; of an older or damaged one it is the damage alone.
    """
    try:
        content = json.loads((target / STAMP).read_bytes())
        if isinstance(content, dict) and "form" not in content:
            raise ValueError("an older version wrote it, which kept no origins")
        header = {key: content[key] for key in ("form", "preparation", "source", "classes")}
        outputs = {_safe(name): _output(values) for name, values in content["outputs"].items()}
        unfinished = {_safe(name) for name in content["unfinished"]}
        if header["form"] != _FORM or not isinstance(header["classes"], list):
            raise ValueError(f"form {header['form']!r}, classes {header['classes']!r}"[:200])
    except (FileNotFoundError, NotADirectoryError):
        return {}, {}, set()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        return {"damage": f"{error}" if isinstance(error, ValueError) else repr(error)}, {}, set()
    with suppress(OSError):
        for line in (target / JOURNAL).read_bytes().splitlines():
            with suppress(ValueError, TypeError, ArithmeticError):  # a killed run's last line: the file is made again
                name, *values = json.loads(line)
                outputs[_safe(name)] = _output(values)
    return header, outputs, unfinished - set(outputs)


def _output(values: Sequence[Any]) -> Output:
    origin, state, inode = values
    return Output(str(origin), None if state is None else (int(state[0]), int(state[1])), int(inode))


def _safe(name: str) -> str:
    """Return a path of the stamp, which removes files, if it stays below the target."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r} leaves the target")
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
                              fix="make room on that disk, or check the folder's permissions; then run again: what "
                                  "is made is kept")


def _file_state(path: Path) -> Any:
    try:
        state = path.stat()
    except OSError:
        return ["missing", path.name]
    return ["file", path.name, state.st_size, state.st_mtime_ns]


def _plain(value: Any) -> Any:
    """JSON's form of a path, or of a NumPy array or number."""
    return {"path": _file_state(value)} if isinstance(value, Path) else {"array": value.tolist()}
