"""Which run ``--resume`` means, and whether it is the run that the options describe."""
from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

log = logging.getLogger(__name__)

# keys in which a resumed run may differ: they change where things are and what is shown, not what is learnt
HARMLESS = ("data.root", "data.workers", "data.timeout", "model.pretrained_path", "train.log_every", "train.save_every")
_EPOCHS = "train.epochs"


def named_run(name: str, weights: Path, *, model: Optional[str], config_given: Optional[str],
              overrides: Sequence[str]):
    """The checkpoint of ``--resume PATH``, and its own configuration with the overrides.

    Raises:
        UsageError: the options name another network, or a configuration file.
        CheckpointError: no such checkpoint, or a damaged one.
    """
    from ..config.loader import parse_override
    from ..engine.checkpoint import find_checkpoint
    from ..errors import UsageError

    checkpoint = find_checkpoint(name, weights)
    if config_given:
        raise UsageError("a resumed run goes on with its own configuration", where=checkpoint.path,
                         received=f"--config {config_given}", fix="leave --config out; --set changes single keys")
    sidecar = checkpoint.read_sidecar()
    have = sidecar["model"]["name"]
    if model not in (None, have):
        raise UsageError("the run to resume is not of that network", where=checkpoint.path,
                         received=f"--model {model}; the run is of {have}", fix="leave --model out, or --resume")
    config = _own(checkpoint, sidecar)
    for text in overrides:
        key, value = parse_override(text)
        config = config.replace({key: value}, where=f"--set {text}")
    return checkpoint, config


def newest_run(wanted, weights: Path, *, overrides: Sequence[str]):
    """The checkpoint of ``--resume auto``, and the configuration to go on with; None and ``wanted`` to start afresh.

    Of the runs of this network and data set, the newest with the wanted configuration. The number of epochs may
    differ if the options give it.

    Raises:
        UsageError: such a run is active, or all of them have another configuration.
    """
    from ..config.loader import parse_override
    from ..engine.checkpoint import newest
    from ..errors import UsageError
    from ..models import MODELS

    folder = weights / MODELS.resolve(wanted.model.name)
    _refuse_beside_an_active_run(wanted, folder)
    allowed = {*HARMLESS, *({_EPOCHS} & {parse_override(text)[0] for text in overrides})}

    def same(sidecar: Mapping[str, Any]) -> bool:
        return _alike(wanted, sidecar["config"]) and not list(_differences(sidecar["config"], wanted, allowed))
    checkpoint = newest(folder, resumable=True, matches=same)
    if checkpoint is not None:
        own, here = _own(checkpoint, checkpoint.read_sidecar()), _flat(wanted.to_dict())
        default = _flat(type(wanted)().to_dict())
        kept = {key: value for key, value in _flat(own.to_dict()).items()  # the run's own where none is asked for
                if key in HARMLESS and here[key] == default[key]}
        return checkpoint, wanted.replace(kept)
    other = newest(folder, resumable=True, matches=lambda sidecar: _alike(wanted, sidecar["config"]))
    if other is not None:
        sidecar = other.read_sidecar()
        raise UsageError(
            "the run to resume has another configuration", where=other.path,
            received=_table(list(_differences(sidecar["config"], wanted, allowed))),
            fix=f"to resume that run as it is: mxnetseg train --resume {shlex.quote(str(other.path))}\n"
                "to resume it with changes: the same with --set KEY=VALUE\n"
                "to start a new run with the wanted configuration: leave --resume out")
    log.info("nothing to resume below %s: starting afresh", folder)
    return None, wanted


def finished(checkpoint, config) -> Optional[str]:
    """The message for a run that has nothing left to do, None for one that has."""
    sidecar = checkpoint.read_sidecar()
    if ".state" not in sidecar["files"]:  # the trainer refuses it
        return None
    done = sidecar["progress"]["epoch"]
    if done < config.train.epochs:
        return None
    return (f"that run is finished: {done} epochs are done, {config.train.epochs} are wanted. "
            f"Nothing was trained.\n"
            f"  checkpoint:           {checkpoint.path}\n"
            f"  to train it longer:   mxnetseg train --resume {shlex.quote(str(checkpoint.path))} --epochs N\n"
            f"  to start a new run:   leave --resume out")


def _refuse_beside_an_active_run(wanted, folder: Path) -> None:
    from ..config import load_config
    from ..engine.lock import SUFFIX, active_error, holder
    from ..errors import MXNetSegError

    for path in sorted(folder.glob(f"*{SUFFIX}")):
        by = holder(path)
        if by is not None:
            try:
                alike = _alike(wanted, load_config(path.with_suffix(".yaml")).to_dict())
            except MXNetSegError:
                alike = True  # its configuration cannot be read
            if alike:
                raise active_error(path.with_suffix(".params"), by)


def _own(checkpoint, sidecar):
    from ..config import Config
    return Config.from_dict(sidecar["config"], where=checkpoint.sidecar_path)


def _alike(wanted, config: Mapping[str, Any]) -> bool:
    """Return whether ``config`` is of the wanted backbone and data set; the folder says the network."""
    return config["data"]["name"] == wanted.data.name and config["model"]["backbone"] == wanted.model.backbone


def _differences(run: Mapping[str, Any], wanted, allowed) -> Iterator[Tuple[str, Any, Any]]:
    """Key, the run's value and the wanted one, where they differ. Keys that an older run does not have are default."""
    have, want = _flat(run), _flat(wanted.to_dict())
    default = _flat(type(wanted)().to_dict())
    for key in [*want, *(key for key in have if key not in want)]:
        if key not in allowed and have.get(key, default.get(key)) != want.get(key):
            yield key, have.get(key, default.get(key)), want.get(key)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    flat: Dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _table(rows: List[Tuple[str, Any, Any]]) -> str:
    texts = [("key", "run", "wanted"), *((key, *map(_short, values)) for key, *values in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(3)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in texts)


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
