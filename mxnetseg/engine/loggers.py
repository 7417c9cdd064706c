"""Where the numbers of a run go: always a local JSON-lines file and a picture, wandb when asked for.

None of them is worth an epoch: what cannot be written while a run trains is said once, and so is when it works again.
"""
from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ..errors import UsageError
from ..files import atomic_write, sweep
from ..viz.curves import curves

log = logging.getLogger(__name__)


class RunLog:
    """``<stem>.jsonl``, one row a line: ``{"kind": "step" | "epoch", "step": n, ...}``; ``<stem>_curves.png``.

    A resumed run goes on in the same file; rows from beyond the point of resumption, written before the
    crash, are dropped, and so is a line that the crash cut short. Rows that find no room on the disk are kept in
    memory and written with a later one.

    Args:
        stem: path without ending.
        resume_step: keep rows up to this step; None starts afresh.
    """

    def __init__(self, stem: Path, *, resume_step: Optional[int] = None):
        self.path = stem.with_name(stem.name + ".jsonl")
        self.picture = stem.with_name(stem.name + "_curves.png")
        kept = [] if resume_step is None else [r for r in read_log(self.path) if r["step"] <= resume_step]
        self._epochs = [r for r in kept if r["kind"] == "epoch"]
        for path in (self.path, self.picture):
            sweep(path)
        with atomic_write(self.path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self._file = open(self.path, "ab", buffering=0)  # a row is in the file at once: for `tail -f`
        self._unwritten = b""
        self._log_health, self._curves_health = _Health("the log", self.path), _Health("the curves", self.picture)

    def step(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of a step."""
        self._append({"kind": "step", **row})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of an epoch; see :meth:`draw`."""
        row = {"kind": "epoch", **row}
        self._epochs.append(row)
        self._append(row)

    def draw(self) -> None:
        """Draw the curves anew."""
        try:
            curves(self._epochs, self.picture)
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
        """Append all rows that are due, or none of them."""
        end = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(self._unwritten) != len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(end)  # half a row would spoil the next one
            raise
        self._unwritten = b""

    def close(self) -> None:
        if self._unwritten and not self._file.closed:
            try:
                self._write()
            except OSError as error:
                log.warning("%d rows of the log are lost (%s): %s", self._unwritten.count(b"\n"), error.strerror,
                            self.path)
        self._file.close()


class _Health:
    """Says once that a file cannot be written, and once that it can be again."""

    def __init__(self, name: str, path: Path):
        self._name, self._path, self._ill = name, path, False

    def failed(self, error: Exception) -> None:
        if not self._ill:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("%s cannot be written (%s); training goes on: %s", self._name, reason, self._path)
        self._ill = True

    def works(self) -> None:
        if self._ill:
            log.warning("%s can be written again: %s", self._name, self._path)
        self._ill = False


def read_log(path: Path) -> List[Dict[str, Any]]:
    """Return the rows of a run's log, none if there is no such file; warn of broken ones, and leave them out.

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
    """Weights & Biases, never an obstacle: whatever fails there is said once and then left alone.

    Offline when there is no login; ``wandb sync FOLDER`` uploads such a run later.

    Args:
        name: the run's name on wandb.
        config: the resolved configuration.
        folder: where wandb may write its own folder.
        run_id: wandb's id of the run to continue; None starts a new one there.

    Attributes:
        run_id: wandb's id of this run, None if there is none.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, *, run_id: Optional[str] = None):
        self._run, self.run_id = None, run_id
        try:
            import wandb
        except ImportError:
            log.warning("wandb is not installed; training goes on without it. To have it: pip install wandb")
            return
        except Exception as error:  # so does a broken installation, with anything
            return self._give_up(error)
        try:
            wanted = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        except Exception as error:  # wandb raises many kinds; none of them may stop a training run
            return self._give_up(error)
        known = {} if run_id is None else {"id": run_id, "resume": "allow"}
        for mode in dict.fromkeys((wanted, "offline")):  # a login that does not work is as good as none
            try:
                self._run = wandb.init(project="mxnetseg", name=name, config=dict(config), dir=str(folder), mode=mode,
                                       **known)
                self.run_id = getattr(self._run, "id", None) or run_id
            except Exception as error:
                self._give_up(error)
                continue
            if mode == "offline":
                log.info("wandb runs offline, for lack of a login or a network; `wandb sync` uploads the run later")
            return

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row of numbers."""
        if self._run is not None:
            try:
                self._run.log({k: v for k, v in row.items() if k != "kind"})
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("wandb failed (%s: %s); training goes on", type(error).__name__, error)
        self._run = None
