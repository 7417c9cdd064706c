"""Training runs on the disk: how a new one is named, and how the user's words find an old one."""
from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, UsageError, nearest
from .checkpoint import SIDECAR, Checkpoint
from .sidecar import BEST, PARAMS, STATE

log = logging.getLogger(__name__)


def new_stem(folder: Path, model: str, backbone: str, data: str) -> str:
    """Return a name for a run, ``<model>_<backbone>_<data>_<yyyymmdd>_<HHMMSS>``, that no other run has taken.

    Two runs begun in the same second get different names.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    now = datetime.now()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            stem = f"{model}_{backbone}_{data}_{now:%Y%m%d_%H%M%S}"
            try:
                (folder / f"{stem}.yaml").touch(exist_ok=False)  # the run's configuration; taken in one atomic step
                return stem
            except FileExistsError:
                now = now.fromtimestamp(now.timestamp() + 1)
    except OSError as error:
        raise UsageError("checkpoints cannot be written there", where=folder.absolute(), received=error.strerror,
                         fix="choose another folder: --weights DIR") from None


def find_checkpoint(text: str | Path, folder: Path) -> Checkpoint:
    """Return the checkpoint that a user names: by a path, or by a file name below ``folder``.

    Raises:
        CheckpointError: there is neither; the message has the nearest names.
    """
    direct = Checkpoint(text)
    if os.path.exists(direct.path) or direct.has_sidecar():
        return direct

    known = {p.name: p for p in sorted(Path(folder).glob(f"**/*{PARAMS}"))}
    if direct.path.name in known:
        return Checkpoint(known[direct.path.name])

    close = nearest(direct.path.name, known)
    raise CheckpointError("no such checkpoint", where=f"{direct.path.absolute()}, nor below {Path(folder).absolute()}",
                          received=text, fix="did you mean " + " or ".join(close) + "?" if close else
                          "train first (python train.py --model fcn), or give the path of a .params file")


def newest(folder: Path, *, resumable: bool = False,
           matches: Callable[[Mapping[str, Any]], bool] = lambda sidecar: True) -> Checkpoint | None:
    """Return a checkpoint of the run below ``folder`` that was written last, None if there is none.

    Of that run it is the best checkpoint if there is one, else the last.

    Args:
        folder: ``weights/``, or the folder of one network in it.
        resumable: return the run's last checkpoint, with its training state, instead of the best.
        matches: is given each sidecar; a checkpoint is considered if it returns True.
    """
    found: list[Checkpoint] = []
    for path in Path(folder).glob(f"**/*{SIDECAR}"):
        checkpoint = Checkpoint(path.with_suffix(PARAMS))
        if not checkpoint.has_params():
            continue  # wandb writes .json files, too
        try:
            sidecar = checkpoint.peek()
            if matches(sidecar) and (STATE in sidecar["files"] or not resumable):
                found.append(checkpoint)
        except (CheckpointError, KeyError):
            log.warning("skipped, because its sidecar is damaged: %s", path)
    if not found:
        return None

    latest = max(found, key=lambda c: (c.sidecar_path.stat().st_mtime_ns, c.stem))
    best = Checkpoint(latest.path.with_name(latest.stem + BEST + PARAMS))
    return best if not resumable and best.has_sidecar() else latest
