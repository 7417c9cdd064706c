"""Where the numbers of a run go: always a local JSON-lines file and a picture, wandb when asked for."""
from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ..files import atomic_write
from ..viz.curves import curves

log = logging.getLogger(__name__)


class RunLog:
    """``<stem>.jsonl``, one row a line: ``{"kind": "step" | "epoch", "step": n, ...}``; ``<stem>_curves.png``.

    A resumed run goes on in the same file; rows from beyond the point of resumption, written before the
    crash, are dropped, and so is a line that the crash cut short.

    Args:
        stem: path without ending.
        resume_step: keep rows up to this step; None starts afresh.
    """

    def __init__(self, stem: Path, *, resume_step: Optional[int] = None):
        self.path = stem.with_name(stem.name + ".jsonl")
        self.picture = stem.with_name(stem.name + "_curves.png")
        kept = [] if resume_step is None else [r for r in read_log(self.path) if r["step"] <= resume_step]
        self._epochs = [r for r in kept if r["kind"] == "epoch"]
        with atomic_write(self.path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # line by line, for `tail -f`

    def step(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of a step."""
        self._append("step", row)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append the numbers of an epoch and draw the curves anew."""
        self._epochs.append(self._append("epoch", row))
        curves(self._epochs, self.picture)

    def _append(self, kind: str, row: Mapping[str, Any]) -> Dict[str, Any]:
        row = {"kind": kind, **row}
        self._file.write(json.dumps(row) + "\n")
        return row

    def close(self) -> None:
        self._file.close()


def read_log(path: Path) -> List[Dict[str, Any]]:
    """The whole rows of a run's log; none if there is no such file."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue  # cut short by a crash
    return rows


class Wandb:
    """Weights & Biases, never an obstacle: whatever fails there is said once and then left alone.

    Offline when there is no login; ``wandb sync FOLDER`` uploads such a run later.

    Args:
        name: the run's name on wandb.
        config: the resolved configuration.
        folder: where wandb may write its own folder.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path):
        self._run = None
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
        for mode in dict.fromkeys((wanted, "offline")):  # a login that does not work is as good as none
            try:
                self._run = wandb.init(project="mxnetseg", name=name, config=dict(config), dir=str(folder), mode=mode)
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
