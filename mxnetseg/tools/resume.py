"""Choice of the run that ``--resume`` names, and the check that it is the run that the options describe."""
from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# keys that may differ between the processes of a run: they concern the host
LOCAL = ("data.root", "data.workers", "data.timeout", "model.pretrained_path")
# keys that a resumed run may change: they concern paths, threads and logs, not what is learned
HARMLESS = (*LOCAL, "train.log_every", "train.save_every",
            "train.compile", "train.deterministic", "train.start_timeout", "train.step_timeout")
_EPOCHS = "train.epochs"


def named_run(name: str, weights: Path, *, model: str | None, config_given: str | None,
              overrides: Sequence[str]):
    """Return the checkpoint of ``--resume PATH``, and its own configuration with the overrides.

    Raises:
        UsageError: the options name another network, or a configuration file.
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    from ..config.loader import parse_override
    from ..engine.runs import find_checkpoint
    from ..errors import UsageError

    checkpoint = find_checkpoint(name, weights)
    if config_given:
        raise UsageError("a resumed run continues with its own configuration", where=checkpoint.path,
                         received=f"--config {config_given}", fix="leave out --config; --set changes single keys")
    sidecar = checkpoint.read_sidecar()
    network = sidecar["model"]["name"]
    if model not in (None, network):
        raise UsageError("the run to resume trains another network", where=checkpoint.path,
                         received=f"--model {model}; the run trains {network}", fix="leave out --model or --resume")

    config = _own(checkpoint, sidecar)
    for text in overrides:
        key, value = parse_override(text)
        config = config.replace({key: value}, where=f"--set {text}")
    return checkpoint, config


def newest_run(wanted, weights: Path, *, overrides: Sequence[str]):
    """Return the checkpoint of ``--resume auto``, and the configuration to continue with.

    It is the newest run of this network and data set with the wanted configuration; the number of epochs may differ if
    the options give it. If there is no run of this network and data set, return None and ``wanted``.

    Raises:
        UsageError: such a run is active, or all such runs have another configuration.
    """
    from ..config.loader import parse_override
    from ..config.schema import flat
    from ..engine.runs import newest
    from ..errors import UsageError
    from ..models import MODELS

    folder = weights / MODELS.resolve(wanted.model.name)
    _refuse_beside_an_active_run(wanted, folder)
    allowed = {*HARMLESS, *({_EPOCHS} & {parse_override(text)[0] for text in overrides})}

    def has_same_configuration(sidecar: Mapping[str, Any]) -> bool:
        return _is_comparable(wanted, sidecar["config"]) and not list(_differences(sidecar["config"], wanted, allowed))

    checkpoint = newest(folder, resumable=True, matches=has_same_configuration)
    if checkpoint is not None:
        own, here = _own(checkpoint, checkpoint.read_sidecar()), flat(wanted.to_dict())
        default = flat(type(wanted)().to_dict())
        # the run keeps its own value of a key that this command leaves at its default
        kept = {key: value for key, value in flat(own.to_dict()).items()
                if key in HARMLESS and here[key] == default[key]}
        return checkpoint, wanted.replace(kept)

    other = newest(folder, resumable=True, matches=lambda sidecar: _is_comparable(wanted, sidecar["config"]))
    if other is not None:
        sidecar = other.read_sidecar()
        raise UsageError(
            "the run to resume has another configuration", where=other.path,
            received=_table(list(_differences(sidecar["config"], wanted, allowed))),
            fix=f"to resume that run as it is: mxnetseg train --resume {shlex.quote(str(other.path))}\n"
                "to resume it with changes: the same command with --set KEY=VALUE\n"
                "to start a new run with the wanted configuration: leave out --resume")
    log.info("no run to resume below %s: starting a new one", folder)
    return None, wanted


def finished(checkpoint, config) -> str | None:
    """Return the message for a run that has completed all its epochs, None for one that has not yet done so."""
    sidecar = checkpoint.read_sidecar()
    if ".state" not in sidecar["files"]:  # the trainer refuses to resume it
        return None
    done = sidecar["progress"]["epoch"]
    if done < config.train.epochs:
        return None

    return (f"that run is finished: {done} epochs are done, {config.train.epochs} are wanted. "
            f"Nothing was trained.\n"
            f"  checkpoint:           {checkpoint.path}\n"
            f"  to train it longer:   mxnetseg train --resume {shlex.quote(str(checkpoint.path))} --epochs N\n"
            f"  to start a new run:   leave out --resume")


def _refuse_beside_an_active_run(wanted, folder: Path) -> None:
    from ..config import load_config
    from ..engine.lock import SUFFIX, active_error, holder
    from ..errors import MXNetSegError

    for path in sorted(folder.glob(f"*{SUFFIX}")):
        by = holder(path)
        if by is not None:
            try:
                is_same = _is_comparable(wanted, load_config(path.with_suffix(".yaml")).to_dict())
            except MXNetSegError:
                is_same = True  # its configuration cannot be read
            if is_same:
                raise active_error(path.with_suffix(".params"), by)


def _own(checkpoint, sidecar):
    from ..config import Config
    return Config.from_dict(sidecar["config"], where=checkpoint.sidecar_path)


def _is_comparable(wanted, config: Mapping[str, Any]) -> bool:
    """Return whether ``config`` has the wanted backbone and data set; all runs of a folder have the same network."""
    return config["data"]["name"] == wanted.data.name and config["model"]["backbone"] == wanted.model.backbone


def _differences(run: Mapping[str, Any], wanted, allowed: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys that differ, with the run's value and the wanted one; an older run has defaults for new keys."""
    from ..config.schema import flat

    have, want = flat(run), flat(wanted.to_dict())
    default = flat(type(wanted)().to_dict())
    for key in [*want, *(key for key in have if key not in want)]:
        if key not in allowed and have.get(key, default.get(key)) != want.get(key):
            yield key, have.get(key, default.get(key)), want.get(key)


def _table(rows: list[tuple[str, Any, Any]]) -> str:
    texts = [("key", "run", "wanted"), *((key, *map(_short, values)) for key, *values in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(3)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in texts)


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
