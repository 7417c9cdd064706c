"""Logs of a run: always a local JSON-lines file and a plot of its curves, and wandb on request.

No failure of a log stops a training: it is reported once, and so is its end.
"""
from __future__ import annotations

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
    """Log of a run in ``<stem>.jsonl``, one row per line, and its curves in ``<stem>_curves.png``.

    A row is ``{"kind": "step" | "epoch", "step": n, ...}``. A resumed run appends to the file; rows after the point of
    resumption, which were written before a crash, are dropped, and so is a line that the crash cut short. Rows that
    cannot be written because the disk is full are kept in memory and written with a later one.

    Args:
        stem: path without its ending.
        resume_step: keep the rows up to this step; None starts an empty log.

    Attributes:
        path: the log.
        curves_path: the plot.
    """

    def __init__(self, stem: Path, *, resume_step: int | None = None):
        self.path, self.curves_path = self.paths(stem)

        kept = [] if resume_step is None else [r for r in read_log(self.path) if r["step"] <= resume_step]
        self._epochs = [r for r in kept if r["kind"] == "epoch"]
        for path in (self.path, self.curves_path):
            sweep(path)
        with atomic_write(self.path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)

        self._file = open(self.path, "ab", buffering=0)  # `tail -f` shows a row at once
        self._unwritten = b""
        self._log_health, self._curves_health = _Health("the log", self.path), _Health("the curves", self.curves_path)

    @staticmethod
    def paths(stem: Path) -> tuple[Path, Path]:
        """Return the paths of log and plot."""
        return stem.with_name(stem.name + ".jsonl"), stem.with_name(stem.name + "_curves.png")

    def step(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of a step."""
        self._append({"kind": "step", **row})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of an epoch; :meth:`draw` plots them."""
        row = {"kind": "epoch", **row}
        self._epochs.append(row)
        self._append(row)

    def draw(self) -> None:
        """Plot the curves again."""
        try:
            curves(self._epochs, self.curves_path)
        except Exception as error:  # matplotlib raises many kinds
            self._curves_health.failed(error)
        else:
            self._curves_health.works()

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


class Wandb:
    """Log on Weights & Biases. Its first error is reported, and then wandb is not used any more.

    It is offline if there is no login; ``wandb sync FOLDER`` uploads such a run later.

    Args:
        name: name of the run on wandb.
        config: the resolved configuration.
        folder: folder in which wandb creates its own.
        run_id: wandb's id of the run to continue; None starts a new one there.

    Attributes:
        run_id: wandb's id of this run, None if there is none.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, *, run_id: str | None = None):
        self._run, self.run_id = None, run_id
        try:
            import wandb
        except ImportError:
            log.warning("wandb is not installed; training continues without it. To install it: pip install wandb")
            return
        except Exception as error:  # a broken installation raises many kinds
            return self._give_up(error)
        try:
            wanted = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        except Exception as error:  # wandb raises many kinds; none of them may stop a training
            return self._give_up(error)

        known = {} if run_id is None else {"id": run_id, "resume": "allow"}
        for mode in dict.fromkeys((wanted, "offline")):  # offline if the login does not work
            try:
                self._run = wandb.init(project="mxnetseg", name=name, config=dict(config), dir=str(folder), mode=mode,
                                       **known)
                self.run_id = getattr(self._run, "id", None) or run_id
            except Exception as error:
                self._give_up(error)
                continue
            if mode == "offline":
                log.info("wandb runs offline, because there is no login or no network; `wandb sync` uploads the "
                         "run later")
            return

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row of numbers."""
        if self._run is not None:
            try:
                self._run.log({k: v for k, v in row.items() if k != "kind"})
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """Finish the run on wandb."""
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("wandb failed (%s: %s); training continues", type(error).__name__, error)
        self._run = None
