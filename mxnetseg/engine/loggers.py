"""Log of a run in files beside its checkpoint: JSON lines, a table of the epochs, and a plot of the curves.

No failure of a log stops a training: it is reported once, and so is its end.
"""
from __future__ import annotations

import csv
import errno
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import atomic_write, sweep
from ..viz.curves import curves

log = logging.getLogger(__name__)


class RunLog:
    """Log of a run in ``<stem>.jsonl``, one row per line; its epochs in ``<stem>.csv`` and ``<stem>_curves.png``.

    A row is ``{"kind": "step" | "epoch", "step": n, ...}``. A resumed run appends to the file; rows after the point of
    resumption, which were written before a crash, are dropped, and so is a line that the crash cut short. Rows that
    cannot be written because the disk is full are kept in memory and written with a later one.

    Args:
        stem: path without its ending.
        resume_step: keep the rows up to this step; None starts an empty log.

    Attributes:
        path: the log.
        table_path: the table of the epochs.
        curves_path: the plot.
    """

    def __init__(self, stem: Path, *, resume_step: int | None = None):
        self.path, self.table_path, self.curves_path = self.paths(stem)

        kept = [] if resume_step is None else [r for r in read_log(self.path) if r["step"] <= resume_step]
        self._epochs = [r for r in kept if r["kind"] == "epoch"]
        for path in (self.path, self.table_path, self.curves_path):
            sweep(path)
        with atomic_write(self.path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)

        self._file = open(self.path, "ab", buffering=0)  # `tail -f` shows a row at once
        self._unwritten = b""
        self._log_health, self._curves_health = _Health("the log", self.path), _Health("the curves", self.curves_path)
        self._table_health = _Health("the table of the epochs", self.table_path)

    @staticmethod
    def paths(stem: Path) -> tuple[Path, Path, Path]:
        """Return the paths of log, table and plot."""
        return tuple(stem.with_name(stem.name + end) for end in (".jsonl", ".csv", "_curves.png"))  # type: ignore

    def step(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of a step."""
        self._append({"kind": "step", **row})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of an epoch; :meth:`draw` shows them."""
        row = {"kind": "epoch", **row}
        self._epochs.append(row)
        self._append(row)

    def draw(self) -> None:
        """Write the table of the epochs and plot the curves again."""
        title = self.path.with_suffix("").name
        for write, health in ((self._write_table, self._table_health),
                              (lambda: curves(self._epochs, self.curves_path, title=title), self._curves_health)):
            try:
                write()
            except Exception as error:  # matplotlib raises many kinds
                health.failed(error)
            else:
                health.works()

    def _write_table(self) -> None:
        """Write one row per epoch; a value that an epoch does not have is empty."""
        columns = dict.fromkeys(key for row in self._epochs for key in row if key != "kind")
        with atomic_write(self.table_path, "w") as file:
            writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._epochs)

    def _append(self, row: Mapping[str, Any]) -> None:
        self._unwritten += json.dumps(row).encode() + b"\n"
        try:
            self._write()
        except OSError as error:
            self._log_health.failed(error)
        else:
            self._log_health.works()

    def _write(self) -> None:
        """Append all pending rows, or none of them."""
        end = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(self._unwritten) != len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(end)  # remove half a row, which would damage the next one
            raise
        self._unwritten = b""

    def close(self) -> None:
        """Write the pending rows, and close the file."""
        if self._unwritten and not self._file.closed:
            try:
                self._write()
            except OSError as error:
                log.warning("%d rows of the log are lost (%s): %s", self._unwritten.count(b"\n"), error.strerror,
                            self.path)
        self._file.close()


class _Health:
    """Reporter that warns once when a file cannot be written, and once when it can be written again."""

    def __init__(self, name: str, path: Path):
        self._name, self._path, self._is_failing = name, path, False

    def failed(self, error: Exception) -> None:
        if not self._is_failing:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("%s cannot be written (%s); training continues: %s", self._name, reason, self._path)
        self._is_failing = True

    def works(self) -> None:
        if self._is_failing:
            log.warning("%s can be written again: %s", self._name, self._path)
        self._is_failing = False


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log, without broken ones, of which it warns; no rows if there is no file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError("the run's log cannot be read", where=path, received=error.strerror,
                         fix="check its permissions, or move it away to start a new log") from None

    rows, broken = [], []
    last = lines.pop()  # empty, or cut short by a crash
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            row = json.loads(line)
            if not _is_row(row):
                raise ValueError(line)
            rows.append(row)
        except (ValueError, RecursionError):
            if line is not last:
                broken.append(number)

    if broken:
        shown = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        log.warning("%d broken rows of the log are left out (line %s): %s", len(broken), shown, path)
    return rows


def _is_row(row: Any) -> bool:
    return (isinstance(row, dict) and row.get("kind") in ("step", "epoch") and type(row.get("step")) is int
            and all(value is None or isinstance(value, (int, float, str)) for value in row.values()))
