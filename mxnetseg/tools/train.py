"""``mxnetseg train``: train a network from a configuration."""
from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser, Namespace
from typing import List

from .common import (
    add_device_argument,
    add_quiet_argument,
    add_root_argument,
    add_set_argument,
    add_weights_argument,
)

log = logging.getLogger(__name__)

# option -> configuration key; --set reaches all the others
_SHORT = {"backbone": "model.backbone", "data": "data.name", "root": "data.root", "epochs": "train.epochs",
          "batch_size": "train.batch_size", "lr": "optimizer.lr", "wd": "optimizer.weight_decay",
          "precision": "train.precision", "accumulate": "train.accumulate",
          "crop": "data.crop_size", "base": "data.base_size", "seed": "train.seed", "workers": "data.workers",
          "log_interval": "train.log_every"}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--model", "--network", metavar="NAME",
                        help="network (`mxnetseg models` lists them); its configuration is the default")
    parser.add_argument("--config", metavar="NAME|FILE", help="configuration: a name from configs/, or a YAML file")
    parser.add_argument("--backbone", help="feature extractor")
    parser.add_argument("--data", help="data set (`mxnetseg datasets`), or folder:PATH, list:PATH")
    add_root_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N", help="over all devices together")
    parser.add_argument("--accumulate", type=int, metavar="N",
                        help="compute a batch in N turns: less memory, the same gradient")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"),
                        help="what convolutions compute in; auto: what the device is fast in (default: float32)")
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--wd", type=float, help="weight decay")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="side of the training crops")
    parser.add_argument("--base", type=int, metavar="PIXELS", help="long side before random scaling")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read pictures")
    parser.add_argument("--log-interval", type=int, metavar="STEPS", help="steps between two log rows")
    add_set_argument(parser, "any configuration key: --set optimizer.name=adamw, or --optimizer.name=adamw "
                     "(`mxnetseg config --describe` lists them)")
    parser.add_argument("--resume", metavar="auto|PATH",
                        help="go on from a run's last checkpoint; auto: the newest that fits, else start afresh")
    parser.add_argument("--wandb", metavar="NAME", help="log to Weights & Biases under this name")
    parser.add_argument("--no-val", action="store_true", help="train without validation")
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    from ..engine.contexts import resolve_contexts
    from ..engine.trainer import Trainer

    config, resume = _configuration(args)
    trainer = Trainer(config, resolve_contexts(args.ctx), folder=args.weights, wandb=args.wandb, resume=resume,
                      validate=not args.no_val, quiet=args.quiet)
    result = trainer.fit()
    if result.signal is not None:
        ctx = f" --ctx {' '.join(map(shlex.quote, args.ctx))}" if args.ctx else ""
        print(f"\nstopped by signal {result.signal}; all that was learnt is saved. To go on:\n"
              f"  mxnetseg train --resume {shlex.quote(str(result.last.path))}{ctx}")
        return 128 + result.signal
    if result.scores is not None:
        print(result.scores.table())
    print(f"last checkpoint  {result.last.path}")
    if result.best is not None:
        p = result.progress
        print(f"best checkpoint  {result.best.path}  (mIoU {p.best:.4f}, epoch {p.best_epoch})")
    print(f"curves           {trainer.run_log.picture}")
    return 0


def _configuration(args: Namespace):
    """The run's configuration and the checkpoint it resumes, if any."""
    from ..config import Config, load_config
    from ..config.loader import parse_override
    from ..engine.checkpoint import find_checkpoint
    from ..models import MODELS

    model = MODELS.resolve(args.model) if args.model else None
    overrides: List[str] = [f"{key}={value}" for option, key in _SHORT.items()
                            if (value := getattr(args, option)) is not None] + args.overrides
    resume = None
    if args.resume and args.resume != "auto":
        resume = find_checkpoint(args.resume, args.weights)
        _refuse_another(args, model, resume)
    elif args.resume:
        wanted = load_config(args.config, model=model, overrides=overrides)
        resume = _newest_like(wanted, args.weights)
    if resume is None:
        return _moved(load_config(args.config, model=model, overrides=overrides), args), None
    config = Config.from_dict(resume.read_sidecar()["config"], where=resume.sidecar_path)
    for text in overrides:
        key, value = parse_override(text)
        config = config.replace({key: value}, where=f"--set {text}")
    return _moved(config, args), resume


def _moved(config, args: Namespace):
    """Let ``--root`` take the place of the folder that a configuration or a checkpoint names: ``folder:PATH``."""
    from ..data import without_folder

    moved = args.root and not args.data and not any(text.startswith("data.name=") for text in args.overrides)
    return config.replace({"data.name": without_folder(config.data.name)}) if moved else config


def _refuse_another(args: Namespace, model, resume) -> None:
    """A run that is resumed by its path has a network and a configuration of its own.

    Raises:
        UsageError: the options name others.
    """
    from ..errors import UsageError

    if args.config:
        raise UsageError("a resumed run goes on with its own configuration", where=resume.path,
                         received=f"--config {args.config}", fix="leave --config out; --set changes single keys")
    have = resume.read_sidecar()["model"]["name"]
    if model not in (None, have):
        raise UsageError("the run to resume is not of that network", where=resume.path,
                         received=f"--model {model}; the run is of {have}", fix="leave --model out, or --resume")


def _newest_like(config, folder):
    """The newest resumable checkpoint of the network and data set of ``config``, None if there is none."""
    from ..engine.checkpoint import newest
    from ..models import MODELS

    name = MODELS.resolve(config.model.name)
    found = newest(folder / name, resumable=True,
                   matches=lambda sidecar: sidecar["config"]["data"]["name"] == config.data.name and
                   sidecar["config"]["model"]["backbone"] == config.model.backbone)
    if found is None:
        log.info("nothing to resume below %s: starting afresh", folder / name)
    return found
