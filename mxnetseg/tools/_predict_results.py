"""Manifest of a folder of predictions, by which a second run skips what is complete, and its ``shares.csv``.

The manifest ``predictions.jsonl`` begins with a line that describes the run: checkpoint, protocol, classes. Each
further line describes an image or a video that is complete, or one that failed. A line is written after the files that
it names, so a killed run leaves a manifest that is true; at most its last line is cut off, and that is dropped.

A shard writes ``predictions-2-of-4.jsonl`` and ``shares-2-of-4.csv``. ``mxnetseg merge`` joins them.
"""
from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..data.shards import WHOLE, Shard
from ..engine.lock import Holder, RunLock
from ..errors import DataError, MXNetSegError, UsageError, reason
from ..files import atomic_write, open_regular, sweep

FORMAT = 1
MANIFEST, TABLE = "predictions", "shares"
_MOST_BYTES = 1 << 31
_NOT_COMPARED = ("checkpoint",)  # of the settings: a path; the content counts


class Manifest(NamedTuple):
    """Content of a manifest.

    Attributes:
        header: of the run.
        entries: name -> description of its results.
        failures: name -> what is wrong with it.
    """

    header: dict[str, Any]
    entries: dict[str, dict[str, Any]]
    failures: dict[str, dict[str, Any]]

    @property
    def shard(self) -> Shard:
        """The part of the inputs that it is about."""
        return Shard(*self.header["shard"])


def file_of(folder: Path, stem: str, suffix: str, shard: Shard) -> Path:
    """Return a file of a shard: ``STEM.SUFFIX``, or ``STEM-2-of-4.SUFFIX``."""
    part = "" if shard.count == 1 else f"-{shard.index + 1}-of-{shard.count}"
    return folder / f"{stem}{part}{suffix}"


def names_digest(names: Iterable[str]) -> str:
    """Return a checksum of names in their order."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


class ResultFolder:
    """The manifest and the table of a run, kept up to date image by image. Use it in a ``with`` statement.

    Args:
        folder: of the results.
        settings: what the results depend on, fit for JSON.
        classes: names of the classes.
        inputs: name -> file of all inputs, those of other shards included.
        shard: the part of the inputs that this run computes.

    Raises:
        UsageError: another process writes there.
        DataError: an earlier manifest is damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], classes: Sequence[str], inputs: Mapping[str, Path],
                 shard: Shard = WHOLE):
        self.folder, self.shard = folder, shard
        self._numbers = {name: i for i, name in enumerate(inputs)}
        self._sources, names = inputs, list(inputs)
        self.names = [names[i] for i in shard.indices(len(names))]
        self.path = file_of(folder, MANIFEST, ".jsonl", shard)
        header = {"format": FORMAT, "settings": dict(settings), "classes": list(classes), "shard": list(shard),
                  "inputs": {"count": len(inputs), "names": names_digest(inputs)}}
        self._lock = ExitStack()
        self._lock.enter_context(lock(folder, shard))
        try:
            sweep(self.path, file_of(folder, TABLE, ".csv", shard))  # of a killed run
            entries = self._keep(read_manifest(self.path), header) if self.path.exists() else {}
            self.manifest = Manifest(header, entries, {})
            self._write()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> ResultFolder:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._write()  # in the order of the inputs
        finally:
            self._lock.close()

    def is_complete(self, name: str, wanted: Iterable[Path], **conditions: Any) -> bool:
        """Return whether the results of an input are there.

        Args:
            name: of its results.
            wanted: files that are to be there.
            conditions: values that its entry must have.
        """
        entry = self.manifest.entries.get(name)
        if entry is None or any(entry.get(key) != value for key, value in conditions.items()):
            return False
        if entry["source"] != _identity(self._sources[name]):
            return False
        names = [path.relative_to(self.folder).as_posix() for path in wanted]
        return all(name in entry["files"] and _size(self.folder / name) == entry["files"][name] for name in names)

    def add(self, name: str, identity: Mapping[str, Any], size: tuple[int, int], fractions: Iterable[float],
            files: Iterable[Path], **details: Any) -> None:
        """Record an input that is complete, after its files were written.

        Args:
            name: of its results.
            identity: of its source when it was read, see :meth:`identity`.
            size: (height, width) in pixels.
            fractions: of the pixels of each class.
            files: that were written.
            details: more, fit for JSON.
        """
        entry = {"name": name, "number": self._numbers[name], "source": dict(identity), "width": size[1],
                 "height": size[0], "fractions": [round(float(f), 9) for f in fractions],
                 "files": {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in files}, **details}
        self.manifest.entries[name] = entry
        self._append(self.path, _line(entry))
        self._append(file_of(self.folder, TABLE, ".csv", self.shard), _row(entry))

    def fail(self, name: str, error: MXNetSegError) -> None:
        """Record an input that cannot be predicted."""
        failure = {"failed": name, "number": self._numbers[name], "path": str(self._sources[name]),
                   "error": error.what, "received": None if error.received is None else str(error.received),
                   "fix": error.fix}
        self.manifest.failures[name] = failure
        self.manifest.entries.pop(name, None)
        self._append(self.path, _line(failure))

    def identity(self, name: str) -> dict[str, Any]:
        """Return by what a changed source is noticed: path, bytes and time of the last change."""
        return _identity(self._sources[name])

    def document(self) -> dict[str, Any]:
        """Return the results of this run's inputs, fit for JSON."""
        entries = [self.manifest.entries[name] for name in self.names if name in self.manifest.entries]
        return document(self.manifest.header, entries, self.manifest.failures.values())

    def _keep(self, old: Manifest, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the entries of an earlier manifest that are still valid. Report others."""
        changed = differences(old.header, header)
        if not changed:
            return {name: entry for name, entry in old.entries.items()
                    if self.shard.count == 1 or self._numbers.get(name) == entry["number"]}
        print(f"results in {self.folder} are of other settings and are computed again:", *changed, sep="\n  ")
        left = len(old.entries.keys() - set(self.names))
        if left:
            print(f"  {left} results of other images stay there, and are not listed any more")
        return {}

    def _write(self) -> None:
        known = [self.manifest.entries[name] for name in self._numbers if name in self.manifest.entries]
        others = [entry for name, entry in self.manifest.entries.items() if name not in self._numbers]
        write_results(self.folder, self.manifest.header, [*known, *others], self.manifest.failures.values())

    def _append(self, path: Path, text: str) -> None:
        with open(path, "ab", buffering=0) as stream:
            data = text.encode("utf-8", "backslashreplace")
            if stream.write(data) != len(data):
                os.truncate(path, path.stat().st_size)
                raise DataError("a result could not be recorded", where=path, fix="make room on that disk")


def write_results(folder: Path, header: Mapping[str, Any], entries: Iterable[Mapping[str, Any]],
                  failures: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest and its table as a whole."""
    shard, entries = Shard(*header["shard"]), list(entries)
    with atomic_write(file_of(folder, MANIFEST, ".jsonl", shard), "w") as stream:
        stream.write(_line(header) + "".join(map(_line, entries)) + "".join(map(_line, failures)))
    columns = ["image", "width", "height", *header["classes"]]
    with atomic_write(file_of(folder, TABLE, ".csv", shard)) as table:
        text = _csv(columns) + "".join(map(_row, entries))
        table.write(text.encode("utf-8", "backslashreplace"))


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest; a last line that is cut off is left out.

    Raises:
        UsageError: it was written by a newer version.
        DataError: it is damaged.
    """
    with open_regular(path, "the list of results", DataError) as stream:
        text = stream.read(_MOST_BYTES).decode("utf-8", "replace")
    lines = text[:text.rfind("\n") + 1].splitlines()
    number = 1
    try:
        header, *others = [json.loads(line) for line in lines]
        if isinstance(header["format"], int) and header["format"] > FORMAT:
            raise UsageError("the results were written by a newer mxnetseg", where=path,
                             received=f"format {header['format']}", fix="update mxnetseg, or choose another --out")
        _check_header(header)
        manifest = Manifest(header, {}, {})
        for line in others:
            number += 1
            if "failed" in line:
                manifest.failures[_text(line["failed"])] = line
            else:
                _check_entry(line, len(header["classes"]))
                manifest.entries[line["name"]] = line
                manifest.failures.pop(line["name"], None)
    except MXNetSegError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError("the list of results is damaged", where=path,
                        received=f"line {number}: {reason(error)}",
                        fix="remove it; what it lists is computed again") from None
    return manifest


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the settings in which two headers differ, with both values; the classes, too."""
    changed = [f"{key}: {old['settings'].get(key)} -> {value}" for key, value in new["settings"].items()
               if key not in _NOT_COMPARED and old["settings"].get(key) != value]
    if any(text.startswith("sha256:") for text in changed):
        changed.insert(0, f"checkpoint: {old['settings'].get('checkpoint')} -> {new['settings'].get('checkpoint')}")
    if old["classes"] != new["classes"]:
        changed.append(f"classes: {', '.join(old['classes'])} -> {', '.join(new['classes'])}")
    return changed


def document(header: Mapping[str, Any], entries: Iterable[Mapping[str, Any]],
             failures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return results for other programs, fit for JSON."""
    classes = header["classes"]
    return {"format": FORMAT, **header["settings"], "classes": classes, "unit": "fractions of 1",
            "results": [{**{key: value for key, value in entry.items() if key != "fractions"},
                         "fractions": dict(zip(classes, entry["fractions"]))} for entry in entries],
            "failures": list(failures)}


@contextmanager
def lock(folder: Path, shard: Shard = WHOLE) -> Iterator[None]:
    """Keep other processes from writing the same manifest.

    Raises:
        UsageError: another process writes it.
    """
    held = RunLock(file_of(folder, MANIFEST, ".jsonl", shard), _in_use)
    try:
        yield
    finally:
        held.release()


def report_problems(entries: Iterable[Mapping[str, Any]], failures: Iterable[Mapping[str, Any]]) -> int:
    """Print what is wrong with the inputs, each fix once; return the exit code: 1 if there is anything."""
    lines = [f"{entry['source']['path']}: {entry['problem']}" for entry in entries if entry.get("problem")]
    failed = list(failures)
    if failed:
        lines.append("not predicted:")
    fixes: dict[str, None] = {}
    for failure in failed:
        fixes.update({failure["fix"]: None} if failure.get("fix") else {})
        received = f"\n  received: {failure['received']}" if failure["received"] else ""
        lines.append(f"{failure['path']}: {failure['error']}{received}")
    lines += ["fix: " + fix.replace("\n", "\n     ") for fix in fixes]
    if lines:
        print("\n".join(lines), file=sys.stderr)
    return 1 if lines else 0


# ---- lines ----------------------------------------------------------------------------------


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"


def _row(entry: Mapping[str, Any]) -> str:
    return _csv([entry["name"], entry["width"], entry["height"], *(f"{100 * f:.4f}" for f in entry["fractions"])])


def _csv(cells: Sequence[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()


def _check_header(header: Any) -> None:
    shard = header["shard"]
    valid = (isinstance(header["settings"], dict) and isinstance(header["classes"], list) and len(shard) == 2
             and all(map(_is_count, [*shard, header["inputs"]["count"]])) and shard[0] < shard[1])
    if not valid or not all(isinstance(name, str) for name in header["classes"]):
        raise ValueError("not a header of results")
    _text(header["inputs"]["names"])


def _check_entry(entry: Any, nclass: int) -> None:
    sizes, fractions = entry["files"].values(), entry["fractions"]
    numbers = [entry["number"], entry["width"], entry["height"], *sizes]
    if not all(map(_is_count, numbers)) or len(fractions) != nclass or \
            not all(isinstance(f, (int, float)) and 0 <= f <= 1 for f in fractions) or \
            any(os.path.isabs(name) or ".." in name.split("/") for name in [entry["name"], *entry["files"]]):
        raise ValueError("not a result")
    _text(entry["source"]["path"])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _identity(file: Path) -> dict[str, Any]:
    try:
        status = os.stat(file)
    except OSError:
        return {"path": str(file.absolute()), "bytes": None, "changed_ns": None}
    return {"path": str(file.absolute()), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _in_use(path: Path, by: Holder) -> UsageError:
    return UsageError("another process writes predictions there", where=path.parent, received=by,
                      fix="wait until it ends; choose another folder (--out); or divide the images among several "
                          "processes: --shard 1/2 and --shard 2/2")
