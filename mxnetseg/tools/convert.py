"""``mxnetseg convert``: write a checkpoint from a weight file of another project."""
from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from .common import add_set_argument, whole_number


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", type=Path, metavar="SRC",
                        help="weight file: .pth, .safetensors, .params or .npz; nothing in it is executed")
    parser.add_argument("target", type=Path, metavar="DST", help="checkpoint to write: a .params file; its .json goes "
                        "beside it")
    parser.add_argument("--model", "--network", required=True, metavar="NAME",
                        help="network (`mxnetseg models` lists them)")
    parser.add_argument("--backbone", help="feature extractor (default: the one that fits)")
    parser.add_argument("--nclass", type=whole_number(), metavar="N",
                        help="number of classes (default: that of the file)")
    parser.add_argument("--from", dest="form", default="auto", metavar="FORM",
                        help="naming of the parameters: own, mxnetseg, gluoncv, pytorch (the original), mmseg "
                        "(default: auto, the one that fits best)")
    parser.add_argument("--data", help="data set that the weights were trained on, for the classes' names and colours")
    add_set_argument(parser, "any configuration key: --set model.options.width=18, --set model.output_stride=16")
    parser.add_argument("--force", action="store_true", help="replace DST if it is there")


def run(args: Namespace) -> int:
    """Convert the weight file; return 0."""
    target = _target(args)

    from ..config import Config
    from ..config.loader import parse_override
    from ..engine.checkpoint import Checkpoint
    from ..engine.converted import build_converted
    from ..models import MODELS
    from ..models._foreign import FORMS, recognise
    from ..models.weights.tensors import read_tensors

    name = MODELS.resolve(args.model)
    changes = dict(map(parse_override, args.overrides))
    if args.backbone:
        changes["model.backbone"] = args.backbone
    config = Config().replace({"model.name": name, **({"data.name": args.data} if args.data else {}), **changes},
                              where="--set")
    known = _known(config, changes)
    tensors = read_tensors(args.source)
    guess = recognise(tensors, name, form=args.form, nclass=args.nclass, **known)
    if guess.problems:
        raise _misfit(args, name, tensors, guess)

    data = _data(args, config, guess.nclass)
    net, sidecar = build_converted(guess, config, data, args.source)
    _write(Checkpoint(target), net, sidecar)
    print(f"source      {args.source}: {len(tensors)} tensors, with the names of {FORMS[guess.form]} ({guess.form})\n"
          f"network     {_described(name, net.backbone_name, sidecar['model'])}\n"
          f"checkpoint  {target}: all {len(guess.tensors)} parameters set")
    if not args.data:
        print("note        without --data the classes have no names, and `mxnetseg eval` refuses to score them")
    return 0


def _target(args: Namespace) -> Path:
    """Return the ``.params`` file to write.

    Raises:
        UsageError: it exists and ``--force`` was not given, or it cannot be written.
    """
    from ..errors import UsageError

    target = args.target if args.target.suffix == ".params" else args.target.with_name(args.target.name + ".params")
    if args.target.is_dir() or args.target.name in ("", ".", ".."):
        raise UsageError("a file cannot be written where a folder is", where=args.target,
                         fix=f"name a file in it: {args.target / f'{args.model}.params'}")
    if args.source.exists() and target.exists() and args.source.samefile(target):
        raise UsageError("the source would be overwritten", where=target, fix="give DST another name")

    existing = [p for p in (target, target.with_suffix(".json")) if p.exists()]
    if existing and not args.force:
        raise UsageError("the checkpoint to write exists already", where=existing[0],
                         fix="choose another name, or replace it with --force")

    folder = next(p for p in target.absolute().parents if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError("no checkpoint can be written there", where=folder,
                         fix="check the folder's permissions, or choose another folder")
    return target


def _known(config, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the network that the user gave."""
    from ..engine.converted import PLAIN

    given = {key: getattr(config.model, key) for key in PLAIN if f"model.{key}" in changes}
    return {key: value for key, value in {**config.model.options, **given}.items() if value is not None}


def _described(model: str, backbone: str, record) -> str:
    rest = ", ".join(f"{key}={value}" for key, value in record.items() if key not in ("name", "nclass", "backbone"))
    return f"{model} on {backbone}, {record['nclass']} classes" + (f", {rest}" if rest else "")


def _data(args: Namespace, config, nclass: int) -> dict[str, Any]:
    """Return the sidecar's section on the classes.

    Raises:
        ConfigError: the data set of ``--data`` has another number of classes.
    """
    from ..data import get_dataset, get_dataset_class
    from ..data.base import IGNORE
    from ..errors import ConfigError, UnknownNameError
    from ..viz.palette import class_palette

    if not args.data:
        classes = [f"class {i}" for i in range(nclass)]
        return {"name": "unknown", "classes": classes, "palette": class_palette(classes).tolist(), "ignore": IGNORE,
                "raw_ids": None}

    try:
        dataset_class = get_dataset_class(args.data)
    except UnknownNameError:
        dataset_class = None
    if dataset_class is not None and dataset_class.classes:  # known without the files of the data set
        described = object.__new__(dataset_class)
    else:
        described = get_dataset(args.data, split=config.data.val_split, root=config.data.root)

    if len(described.classes) != nclass:
        raise ConfigError("the data set has another number of classes than the weights", where="--data",
                          received=f"{args.data}: {len(described.classes)}; {args.source.name}: {nclass}",
                          fix="name the data set that the weights were trained on, or leave --data out")
    return described.info()


def _write(checkpoint, net, record: dict[str, Any]) -> None:
    """Write the complete checkpoint, or nothing."""
    from ..errors import UsageError

    stale = checkpoint.path.with_suffix(".state")
    try:
        checkpoint.write(net, record)
        with suppress(FileNotFoundError):
            stale.unlink()  # training state of the replaced checkpoint
    except OSError as error:
        raise UsageError("the checkpoint cannot be written there", where=checkpoint.path, received=error.strerror,
                         fix="check the folder's permissions, or choose another folder") from None
    finally:
        with suppress(OSError):
            checkpoint.path.with_name(checkpoint.path.name + ".new").unlink()


def _misfit(args: Namespace, name: str, tensors, guess):
    """Return the error for weights of another network: how they differ, and which network they may belong to."""
    from ..errors import CheckpointError
    from ..models._foreign import FORMS, recognise

    counts = {"missing in the file": 0, "not in this network": 0, "of another shape": 0}
    for problem in guess.problems:
        counts[problem.reason if problem.reason in counts else "of another shape"] += 1
    summary = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    shown = [f"{p.name}: {p.reason}" for p in guess.problems[:8]]
    more = [f"... and {len(guess.problems) - 8} more"] if len(guess.problems) > 8 else []
    naming = f"read as {FORMS[guess.form]} ({guess.form}), {guess.fit:.0%} fits"

    free = recognise(tensors, name) if args.backbone or args.nclass or args.overrides or args.form != "auto" else guess
    if not free.problems:
        fix = f"it fits as: mxnetseg convert {_command(args, name, free)}"
    else:
        other = _other_network(tensors, free.fit, name) if free.fit < 0.9 else None
        fix = f"it looks rather like {other}: --model {other}" if other else \
            "check --model, and its options (--set model.options...); `mxnetseg config --describe` explains them"
    return CheckpointError("the weights do not fit this network", where=args.source,
                           received="\n".join([naming, summary, *shown, *more]), fix=fix)


def _command(args: Namespace, name: str, guess) -> str:
    from ..engine.converted import PLAIN

    words = [str(args.source), str(args.target), "--model", name, "--from", guess.form, "--nclass", str(guess.nclass)]
    for key, value in guess.arguments.items():
        if key == "backbone":
            words += ["--backbone", str(value)]
        elif value is not False:
            words += ["--set", f"model.{key}={value}" if key in PLAIN else
                      f"model.options.{key}={list(value) if isinstance(value, tuple) else value}"]
    return shlex.join(words)


def _other_network(tensors, fit: float, name: str) -> str | None:
    """Return the network whose default structure fits better than ``fit``; None if there is none."""
    from ..models import list_models
    from ..models._foreign import recognise

    best = None
    for other in list_models():
        if other != name:
            guess = recognise(tensors, other, thorough=False)
            if guess.fit > fit:
                best, fit = other, guess.fit
    return best
