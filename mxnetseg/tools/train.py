"""``mxnetseg train``: train a network from a configuration."""
from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser, Namespace
from typing import List, Optional

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
                        help="resume a run from its last checkpoint; auto: the newest run of this configuration, "
                             "or a new one if there is none of this network and data set")
    parser.add_argument("--wandb", metavar="NAME", help="log to Weights & Biases under this name")
    parser.add_argument("--no-val", action="store_true", help="train without validation")
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    from ..engine.contexts import resolve_contexts
    from ..engine.trainer import Trainer
    from .resume import finished

    contexts = resolve_contexts(args.ctx)
    config, resume = _configuration(args, len(contexts))
    message = finished(resume, config) if resume is not None else None
    if message:
        print(message)
        return 0
    trainer = Trainer(config, contexts, folder=args.weights, wandb=args.wandb, resume=resume,
                      validate=not args.no_val, quiet=args.quiet)
    result = trainer.fit()
    if result.signal is not None:
        ctx = f" --ctx {' '.join(map(shlex.quote, args.ctx))}" if args.ctx else ""
        print(f"\nstopped by signal {result.signal}; the training state is saved. To resume:\n"
              f"  mxnetseg train --resume {shlex.quote(str(result.last.path))}{ctx}")
        return 128 + result.signal
    if result.scores is not None:
        print(result.scores.table())
    print(f"last checkpoint  {result.last.path}")
    if result.best is not None:
        p = result.run_state
        print(f"best checkpoint  {result.best.path}  (mIoU {100 * p.best:.2f} %, epoch {p.best_epoch})")
    print(f"curves           {trainer.run_log.curves_path}")
    return 0


def _configuration(args: Namespace, devices: int = 1):
    """The run's configuration and the checkpoint it resumes, if any."""
    from ..config import load_config
    from ..models import MODELS
    from .resume import named_run, newest_run

    model = MODELS.resolve(args.model) if args.model else None
    overrides: List[str] = [f"{key}={value}" for option, key in _SHORT.items()
                            if (value := getattr(args, option)) is not None] + args.overrides
    if args.resume and args.resume != "auto":
        resume, config = named_run(args.resume, args.weights, model=model, config_given=args.config,
                                    overrides=overrides)
        return _moved(config, args), resume
    config, resume = _moved(load_config(args.config, model=model, overrides=overrides), args), None
    config = _with_fitting_batch(config, args.config, overrides, devices)
    if args.resume:
        resume, config = newest_run(config, args.weights, overrides=overrides)
    return config, resume


def _with_fitting_batch(config, source: Optional[str], overrides: List[str], devices: int):
    """Shrink the batch where the user has fewer training images of their own, and did not choose its size.

    Args:
        source: the configuration file or name that ``config`` comes from; None for the network's.
        overrides: of keys, as text.
        devices: their number, among which the batch must be split evenly.
    """
    from ..data import get_dataset, locate_dataset
    from ..errors import MXNetSegError

    data, batch, shares = config.data, config.train.batch_size, config.train.accumulate * devices
    try:
        if locate_dataset(data.name)[0].name not in ("folder", "list", "pack"):
            return config
        count = len(get_dataset(data.name, split=data.train_split, root=data.root))
    except MXNetSegError:  # the trainer will report it
        return config
    fitting = count // shares * shares
    if count >= batch or not fitting or _gives_batch_size(source, overrides):
        return config
    log.info("batch size %d instead of %d: there are %d training images", fitting, batch, count)
    return config.replace({"train.batch_size": fitting})


def _gives_batch_size(source: Optional[str], overrides: List[str]) -> bool:
    """Return whether the user chose the batch size: by an option, or in a file that does not come with mxnetseg."""
    from ..config.loader import configs_dir, find_config, read_layers

    if any(text.partition("=")[0].strip() == "train.batch_size" for text in overrides):
        return True
    path = find_config(source).resolve() if source else None
    return path is not None and path.parent != configs_dir() and "batch_size" in read_layers(path).get("train", {})


def _moved(config, args: Namespace):
    """Let ``--root`` take the place of the folder that a configuration or a checkpoint names: ``folder:PATH``."""
    from ..data import without_folder

    moved = args.root and not args.data and not any(text.startswith("data.name=") for text in args.overrides)
    return config.replace({"data.name": without_folder(config.data.name)}) if moved else config
