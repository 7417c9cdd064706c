"""``mxnetseg train``: train a network from a configuration."""
from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .common import (
    add_device_argument,
    add_precision_argument,
    add_quiet_argument,
    add_root_argument,
    add_set_argument,
    add_weights_argument,
)

if TYPE_CHECKING:
    from ..config import Config
    from ..engine.checkpoint import Checkpoint
    from ..engine.trainer import Result, Trainer
    from ..engine.training_choice import TrainingChoice

log = logging.getLogger(__name__)

# option -> configuration key; --set reaches all other keys
_SHORT = {"backbone": "model.backbone", "data": "data.name", "root": "data.root", "epochs": "train.epochs",
          "batch_size": "train.batch_size", "lr": "optimizer.lr", "wd": "optimizer.weight_decay",
          "precision": "train.precision", "accumulate": "train.accumulate", "compile": "train.compile",
          "crop": "data.crop_size", "base": "data.base_size", "seed": "train.seed", "workers": "data.workers",
          "log_interval": "train.log_every"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", "--network", metavar="NAME",
                        help="network (`mxnetseg models` lists them); without --config, its configuration is used")
    parser.add_argument("--config", metavar="NAME|FILE", help="configuration: a name from configs/, or a YAML file")
    parser.add_argument("--backbone", help="feature extractor")
    parser.add_argument("--data", help="data set (`mxnetseg datasets`), or folder:PATH, list:PATH")
    add_root_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--backend", choices=("auto", "mxnet", "torch"), default="auto",
                        help="library that computes the training steps; auto: MXNet where it can compute on the "
                        "devices, PyTorch where only that can; torch starts one process for each device of --ctx "
                        "(0 1 2 3; cpu0 cpu1 to try it), unless a launcher has started several (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", default=None,
                        help="compile the training step (backend torch)")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per step, over all devices together")
    parser.add_argument("--accumulate", type=int, metavar="N",
                        help="split each batch into N micro-batches: less memory, the same gradient")
    add_precision_argument(parser, None, training=True)
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--wd", type=float, help="weight decay")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="side of the training crops")
    parser.add_argument("--base", type=int, metavar="PIXELS", help="long side before random scaling")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read images")
    parser.add_argument("--log-interval", type=int, metavar="STEPS", help="steps between two log rows")
    add_set_argument(parser, "any configuration key: --set optimizer.name=adamw, or --optimizer.name=adamw "
                     "(`mxnetseg config --describe` lists them)")
    parser.add_argument("--resume", metavar="auto|PATH",
                        help="resume a run from its last checkpoint; auto: the newest run of this configuration, or a "
                             "new run if there is none for this network and data set")
    parser.add_argument("--wandb", metavar="NAME", help="log to Weights & Biases under this name")
    parser.add_argument("--tensorboard", action="store_true",
                        help="log for TensorBoard, in a folder beside the checkpoint")
    parser.add_argument("--no-val", action="store_true", help="train without validation")
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Train; return 0, or 128 + the signal that stopped the training."""
    from ..engine.group import join_group
    from ..engine.launcher import start_processes
    from ..engine.processes import Processes
    from ..engine.trainer import Trainer
    from ..engine.training_choice import choose_training, refuse_shared_gpu
    from .resume import finished

    processes = Processes.from_environment()
    if processes.rank > 0:  # rank 0 reports
        logging.getLogger("mxnetseg").setLevel(logging.WARNING)
    choice = choose_training(args.backend, args.ctx, processes)
    config, resume = _configuration(args, len(choice.devices) * processes.size)
    message = finished(resume, config) if resume is not None else None
    if message:
        if processes.rank == 0:
            print(message)
        return 0
    if choice.processes > 1:
        return start_processes(args.command_line, choice.processes)

    train = config.train
    with join_group(processes, _facts(args, choice, config, resume), start_timeout=train.start_timeout,
                    step_timeout=train.step_timeout) as group:
        refuse_shared_gpu(choice, group)
        trainer = Trainer(config, choice.devices, backend=choice.name, folder=args.weights, wandb=args.wandb,
                          tensorboard=args.tensorboard, resume=resume, validate=not args.no_val, quiet=args.quiet,
                          group=group)
        result = trainer.fit()
    if processes.rank == 0:
        _report(trainer, result, args)
    return 0 if result.signal is None else 128 + result.signal


def _facts(args: Namespace, choice: TrainingChoice, config: Config, resume: Checkpoint | None) -> dict[str, Any]:
    """Return what must be the same in all processes of a run."""
    from .. import __version__
    from ..config.schema import flat
    from ..engine.training_choice import device_kind
    from .resume import LOCAL

    settings = {key: value for key, value in flat(config.to_dict()).items() if key not in LOCAL}
    return {"version of mxnetseg": __version__, "--backend": choice.name, "kind of device": device_kind(choice),
            "--no-val": args.no_val, "run to resume": resume and resume.path.name, **settings}


def _report(trainer: Trainer, result: Result, args: Namespace) -> None:
    """Print the result of a run."""
    if result.signal is not None:
        ctx = f" --ctx {' '.join(map(shlex.quote, args.ctx))}" if args.ctx else ""
        ctx += f" --backend {args.backend}" if args.backend != "auto" else ""
        print(f"\nstopped by signal {result.signal}; the training state is saved. To resume:\n"
              f"  mxnetseg train --resume {shlex.quote(str(result.last.path))}{ctx}")
        return

    if result.scores is not None:
        print(result.scores.table())
    print(f"last checkpoint  {result.last.path}")
    if result.best is not None:
        p = result.run_state
        print(f"best checkpoint  {result.best.path}  (mIoU {100 * p.best:.2f} %, epoch {p.best_epoch})")
    print(f"curves           {trainer.run_log.curves_path}")


def _configuration(args: Namespace, devices: int = 1) -> tuple[Config, Checkpoint | None]:
    """Return the run's configuration, and the checkpoint that it resumes from, if any."""
    from ..config import load_config
    from ..models import MODELS
    from .resume import named_run, newest_run

    model = MODELS.resolve(args.model) if args.model else None
    overrides: list[str] = [f"{key}={value}" for option, key in _SHORT.items()
                            if (value := getattr(args, option)) is not None] + args.overrides
    if args.resume and args.resume != "auto":
        resume, config = named_run(args.resume, args.weights, model=model, config_given=args.config,
                                   overrides=overrides)
        return _with_root(config, args), resume

    config, resume = _with_root(load_config(args.config, model=model, overrides=overrides), args), None
    config = _with_fitting_batch(config, args.config, overrides, devices)
    if args.resume:
        resume, config = newest_run(config, args.weights, overrides=overrides)
    return config, resume


def _with_fitting_batch(config: Config, source: str | None, overrides: Sequence[str], devices: int) -> Config:
    """Reduce the batch size to the number of the user's own training images, unless the user chose the batch size.

    Args:
        config: the configuration to change.
        source: the configuration file or name that ``config`` comes from; None for the network's own.
        overrides: changed keys, as text.
        devices: their number; the batch must be divisible by it.
    """
    from ..data import get_dataset, locate_dataset
    from ..errors import MXNetSegError

    data, batch, divisor = config.data, config.train.batch_size, config.train.accumulate * devices
    try:
        if locate_dataset(data.name)[0].name not in ("folder", "list", "pack"):
            return config
        count = len(get_dataset(data.name, split=data.train_split, root=data.root))
    except MXNetSegError:  # the trainer will report it
        return config

    fitting = count // divisor * divisor
    if count >= batch or not fitting or _gives_batch_size(source, overrides):
        return config
    log.info("batch size %d instead of %d: there are %d training images", fitting, batch, count)
    return config.replace({"train.batch_size": fitting})


def _gives_batch_size(source: str | None, overrides: Sequence[str]) -> bool:
    """Return True if the user chose the batch size, by an option or in a file that does not come with mxnetseg."""
    from ..config.loader import configs_dir, find_config, read_layers

    if any(text.partition("=")[0].strip() == "train.batch_size" for text in overrides):
        return True
    path = find_config(source).resolve() if source else None
    return path is not None and path.parent != configs_dir() and "batch_size" in read_layers(path).get("train", {})


def _with_root(config: Config, args: Namespace) -> Config:
    """Remove ``PATH`` from a recorded ``folder:PATH`` if ``--root`` replaces it."""
    from ..data import without_folder

    replaced = args.root and not args.data and not any(text.startswith("data.name=") for text in args.overrides)
    return config.replace({"data.name": without_folder(config.data.name)}) if replaced else config
