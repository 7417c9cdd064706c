"""The files of a run, at the process that writes them and at the others."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..config.schema import Config
from .checkpoint import Checkpoint, LoadedCheckpoint
from .lock import RunLock
from .loggers import RunLog
from .recovery import clear_leftovers
from .sidecar import BEST
from .trackers import Trackers


class RunFiles:
    """Checkpoints, configuration and logs of a run, at the process that writes them.

    Attributes:
        last: the last checkpoint.
        best: the best checkpoint.
    """

    last: Checkpoint
    best: Checkpoint

    def lock(self, path: Path) -> Callable[[], None]:
        """Lock the run of a checkpoint; return the function that unlocks it."""
        return RunLock(path).release

    def open_checkpoints(self, path: Path) -> None:
        """Name the checkpoints of the run.

        Args:
            path: the ``.params`` file of the last one.
        """
        self.last = Checkpoint(path)
        self.best = Checkpoint(path.with_name(self.last.stem + BEST + ".params"))

    def clear_leftovers(self) -> None:
        """Remove what a killed process has left; the run must be locked."""
        clear_leftovers(self.last, self.best)

    def write_config(self, config: Config) -> None:
        """Write the configuration of the run."""
        config.dump(self.last.path.with_suffix(".yaml"))

    def open_log(self, resume_step: int | None) -> RunLog:
        """Return the log of the run.

        Args:
            resume_step: see :class:`~.loggers.RunLog`.
        """
        return RunLog(self.last.path.with_suffix(""), resume_step=resume_step)

    def open_trackers(self, config: Config, *, wandb: str | None, tensorboard: bool, loaded: LoadedCheckpoint | None,
                      resume_step: int | None) -> Trackers:
        """Return the services that the run is logged to.

        Args:
            config: the configuration.
            wandb, tensorboard, resume_step: see :class:`~.trackers.Trackers`.
            loaded: the checkpoint to resume from, None for a new run.
        """
        return Trackers(self.last.path.with_suffix(""), config.to_dict(), wandb=wandb, tensorboard=tensorboard,
                        wandb_id=loaded.sidecar.get("wandb") if loaded else None, resume_step=resume_step)


class ForeignRunFiles(RunFiles):
    """Files of a run that another process writes: they have names here, and writing does nothing."""

    def lock(self, path: Path) -> Callable[[], None]:
        return lambda: None

    def open_checkpoints(self, path: Path) -> None:
        super().open_checkpoints(path)
        self.last, self.best = _ForeignCheckpoint(self.last.path), _ForeignCheckpoint(self.best.path)

    def clear_leftovers(self) -> None:
        pass

    def write_config(self, config: Config) -> None:
        pass

    def open_log(self, resume_step: int | None) -> RunLog:
        return _ForeignLog(self.last.path.with_suffix(""))

    def open_trackers(self, config: Config, **_: Any) -> Trackers:
        return Trackers(self.last.path.with_suffix(""), config.to_dict())


class _ForeignCheckpoint(Checkpoint):
    def write(self, net: Any, record: Mapping[str, Any], state: Mapping[str, np.ndarray] | None = None) -> None:
        pass


class _ForeignLog(RunLog):
    def __init__(self, stem: Path):
        self.path, self.table_path, self.curves_path = self.paths(stem)

    def step(self, row: Mapping[str, Any]) -> None:
        pass

    def epoch(self, row: Mapping[str, Any]) -> None:
        pass

    def draw(self) -> None:
        pass

    def close(self) -> None:
        pass
