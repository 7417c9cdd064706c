"""Services that a run is logged to on request, beside its own files: Weights & Biases and TensorBoard.

No failure of a service stops a training: its first error is reported, and then the service is not used any more.
"""
from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._compat import import_optional
from ..data.base import Sample, SegDataset
from ..data.loader import WHOLE
from ..data.shards import Shard
from ..viz.sheet import sheet

log = logging.getLogger(__name__)

PANELS = 4  # images of a validation that are shown


class Panel(NamedTuple):
    """Image, truth, prediction and errors side by side, uint8 (H, W, 3), and the name of the image."""

    name: str
    image: np.ndarray


class Tracker(ABC):
    """A service that receives rows of numbers and images, until its first error."""

    title: str  # of its log, for messages
    _run: Any = None  # what the service gave for the run, None if it is not used (any more)

    def log(self, row: Mapping[str, Any], panels: Sequence[Panel] = ()) -> None:
        """Send a row of numbers, and the images of its validation."""
        if self._run is not None:
            try:
                self._send(row, panels)
            except Exception as error:  # the services and the disk raise many kinds
                self._give_up(error)

    def close(self) -> None:
        """Finish the run there."""
        if self._run is not None:
            try:
                self._finish()
            except Exception as error:
                self._give_up(error)

    @abstractmethod
    def _send(self, row: Mapping[str, Any], panels: Sequence[Panel]) -> None:
        """Send a row and images; any error ends the use of the service."""

    @abstractmethod
    def _finish(self) -> None:
        """Finish the run; any error is reported."""

    def _give_up(self, error: Exception) -> None:
        log.warning("%s failed (%s: %s); training continues", self.title, type(error).__name__, error)
        self._run = None


class Trackers:
    """All services of a run.

    Args:
        stem: path of the run's files without its ending.
        config: the resolved configuration.
        wandb: name of the run on wandb, None to do without wandb.
        wandb_id: wandb's id of the run to continue; None starts a new one there.
        tensorboard: log to TensorBoard, in the folder ``<stem>_tensorboard``.
        resume_step: completed steps of the run that is resumed, None for a new run.

    Attributes:
        wandb_id: wandb's id of this run, None if there is none.

    Raises:
        EnvironmentProblem: tensorboardX is not installed.
    """

    def __init__(self, stem: Path, config: Mapping[str, Any], *, wandb: str | None = None, wandb_id: str | None = None,
                 tensorboard: bool = False, resume_step: int | None = None):
        self._services: list[Tracker] = []
        self._panels: list[Panel] = []
        self.wandb_id = wandb_id
        if tensorboard:
            self._services.append(TensorBoard(stem.with_name(stem.name + "_tensorboard"), resume_step=resume_step))
        if wandb:
            run = Wandb(wandb, config, stem.parent, run_id=wandb_id)
            self._services.append(run)
            self.wandb_id = run.run_id

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row of numbers, and the images of a validation since the last row."""
        panels, self._panels = self._panels, []
        for service in self._services:
            service.log(row, panels)

    def watch(self, dataset: SegDataset, shard: Shard = WHOLE) -> Callable[[Sample, np.ndarray], None] | None:
        """Return an observer of a validation, which keeps the same few images each time; None without a service.

        Args:
            dataset: the validation split.
            shard: the images that this process validates.
        """
        if not self._services:
            return None
        count = len(shard.indices(len(dataset)))
        shown = set(np.linspace(0, count - 1, min(PANELS, count)).astype(int).tolist())
        numbers = iter(range(count))
        self._panels = []

        def observe(sample: Sample, prediction: np.ndarray) -> None:
            if next(numbers) in shown:
                drawn = sheet(sample.image, sample.mask, prediction, dataset.classes, dataset.palette)
                self._panels.append(Panel(sample.name, drawn))
        return observe

    def close(self) -> None:
        """Finish the run on all services."""
        for service in self._services:
            service.close()


class TensorBoard(Tracker):
    """Log for TensorBoard: ``tensorboard --logdir weights`` shows it.

    Args:
        folder: the folder of its files.
        resume_step: completed steps of the run that is resumed; TensorBoard hides later ones. None for a new run.

    Raises:
        EnvironmentProblem: tensorboardX is not installed.
    """

    title = "TensorBoard's log"

    def __init__(self, folder: Path, *, resume_step: int | None = None):
        board = import_optional("tensorboardX", "the log for TensorBoard", where="--tensorboard",
                                fix="pip install 'mxnetseg[tensorboard]', or leave out --tensorboard")
        try:
            first = None if resume_step is None else resume_step + 1
            # the suffix keeps a run that is resumed within a second from writing over the file of the first part
            self._run = board.SummaryWriter(str(folder), purge_step=first, filename_suffix=f".{first or 1}")
        except Exception as error:  # such as a folder that cannot be written to
            self._give_up(error)

    def _send(self, row: Mapping[str, Any], panels: Sequence[Panel]) -> None:
        for key, value in row.items():  # each a curve over the steps
            if key not in ("kind", "step"):
                self._run.add_scalar(key, value, row["step"])
        for panel in panels:
            self._run.add_image(f"validation/{panel.name}", panel.image, row["step"], dataformats="HWC")
        if panels:
            self._run.flush()

    def _finish(self) -> None:
        self._run.close()  # it writes what is pending


class Wandb(Tracker):
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

    title = "wandb"

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, *, run_id: str | None = None):
        self.run_id = run_id
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

    def _send(self, row: Mapping[str, Any], panels: Sequence[Panel]) -> None:
        images = {}
        if panels:
            import wandb
            images["validation"] = [wandb.Image(panel.image, caption=panel.name) for panel in panels]
        self._run.log({**{k: v for k, v in row.items() if k != "kind"}, **images})

    def _finish(self) -> None:
        self._run.finish()
