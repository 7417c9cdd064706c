"""Options and helpers that several commands share."""
from __future__ import annotations

import math
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from .._precisions import BACKEND_NAMES, PRECISIONS, TRAINING_PRECISIONS
from ..files import expand

if TYPE_CHECKING:
    from ..data.decoding import Decoding
    from ..data.shards import Shard
    from ..engine.checkpoint import Checkpoint
    from ..engine.network import OpenNetwork
    from ..metrics import ConfusionMatrix

WEIGHTS = Path("weights")


# ---- option values --------------------------------------------------------------------------


def whole_number(low: int = 1, high: int | None = None) -> Callable[[str], int]:
    """Return a parser for an option whose value is a whole number in a range.

    It is for options that set no configuration key; the schema checks all others.

    Args:
        low: smallest value.
        high: largest value; None: no limit.
    """
    limits = f"at least {low}" if high is None else f"{low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise ArgumentTypeError(f"must be a whole number, {limits} | received: {text}")
        return number
    return parse


def seconds(text: str) -> float:
    """Parse an option whose value is a time above 0, in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"must be a number of seconds above 0 | received: {text}")
    return value


def shard(text: str) -> Shard:
    """Parse the value of ``--shard``: ``1/4`` to ``4/4``."""
    from ..data.shards import Shard

    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(count) >= 1):
        raise ArgumentTypeError(f"must be I/N, for example 1/4 for the first of four parts | received: {text}")
    if not 1 <= int(number) <= int(count):
        counted = f" (in a job array that counts from 0: --shard $((SLURM_ARRAY_TASK_ID + 1))/{count})" \
            if number == "0" else ""
        raise ArgumentTypeError(f"the parts are counted from 1: 1/{count} to {count}/{count}{counted} | "
                                f"received: {text}")
    return Shard(int(number) - 1, int(count))


# ---- options --------------------------------------------------------------------------------


def add_device_argument(parser: ArgumentParser) -> None:
    """Add ``--ctx``."""
    parser.add_argument("--ctx", nargs="+", metavar="N", help="GPUs by number (0 1 2 3), or cpu; on a machine without "
                        "GPU, numbers mean the CPU (default: GPU 0 if there is one, else cpu)")


def add_backend_argument(parser: ArgumentParser) -> None:
    """Add ``--backend``, and ``--ctx`` with the devices of all backends."""
    parser.add_argument("--backend", choices=("auto", *BACKEND_NAMES), default="auto",
                        help="library that computes; auto: mxnet for checkpoints, and the one that reads the file for "
                             "exported files (default: %(default)s)")
    parser.add_argument("--ctx", nargs="+", metavar="N", help="GPUs by number (0 1 2 3), or cpu; other backends take "
                        "one device, by number or by their own name: cuda:0, mps, gpu, npu, coreml, ... (default: "
                        "openvino: cpu; others: GPU 0 if they find one, else cpu)")


def add_precision_argument(parser: ArgumentParser, default: str | None, *, training: bool = False) -> None:
    """Add ``--precision``.

    Args:
        parser: receives the option.
        default: its value where it is not given; None: the value in the configuration of a training, and float32, or
            the format of an exported file, in an inference.
        training: offer the precisions of training instead of those of inference.
    """
    if training:
        help = "number format of the convolutions; auto: the fastest on this device (default: float32)"
    else:
        help = ("number format of the network; auto: the fastest on this machine, without int8; int8: calibrated on a "
                "few images first; plain: float32 without fused layers, to locate faults; backends other than mxnet "
                f"offer some of these (default: {default or 'float32, or the format of an exported file'})")
    parser.add_argument("--precision", choices=TRAINING_PRECISIONS if training else PRECISIONS, default=default,
                        help=help)


def add_checkpoint_argument(parser: ArgumentParser, *, included: bool = True) -> None:
    """Add ``--checkpoint``.

    Args:
        parser: receives the option.
        included: the command uses the network that comes with the package if there is no run.
    """
    parser.add_argument("--checkpoint", metavar="PATH|NAME", help="a .params file, or its name below the weights "
                        "folder; a file or folder that `mxnetseg export` wrote; gluoncv:NAME (`mxnetseg models "
                        "--pretrained` lists them) or hub:USER/NAME, which are downloaded; or included, the network "
                        "that comes with mxnetseg (default: the best checkpoint of the newest run"
                        + (", or, without a run, included)" if included else ")"))


def add_weights_argument(parser: ArgumentParser) -> None:
    """Add ``--weights``."""
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR",
                        help="folder of the checkpoints (default: %(default)s)")


def add_quiet_argument(parser: ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_timeout_argument(parser: ArgumentParser) -> None:
    """Add ``--timeout``."""
    # a copy of data.parallel's default, since importing it would load OpenCV before --help; a test compares the two
    parser.add_argument("--timeout", type=seconds, default=120.0, metavar="SECONDS",
                        help="longest time to read one file before the command gives up (default: %(default)g)")


def add_shard_argument(parser: ArgumentParser, what: str) -> None:
    """Add ``--shard``; ``what`` is divided."""
    parser.add_argument("--shard", type=shard, default="1/1", metavar="I/N", help=f"compute the I-th of N parts of the "
                        f"{what}, 1/N to N/N; `mxnetseg merge` joins the results")


def add_root_argument(parser: ArgumentParser) -> None:
    """Add ``--root``."""
    parser.add_argument("--root", "--data-root", metavar="DIR",
                        help="folder of the data set (default: search $MXNETSEG_DATA, then ./dataset)")


def add_out_argument(parser: ArgumentParser, default: str, what: str) -> None:
    """Add ``--out``.

    Args:
        parser: receives the option.
        default: the default folder.
        what: the content of the folder, for the help text.
    """
    parser.add_argument("--out", "--save-dir", type=Path, default=Path(default), metavar="DIR",
                        help=f"folder for {what} (default: %(default)s)")


def add_set_argument(parser: ArgumentParser, help: str) -> None:
    """Add ``--set KEY=VALUE``. The parser also takes ``--KEY=VALUE`` for any dotted KEY, see :class:`.main.Parser`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=help)


def add_data_arguments(parser: ArgumentParser, *, optional: bool = False) -> None:
    """Add the name of a data set, and ``--root``.

    Args:
        parser: receives the arguments.
        optional: True if the name may be left out.
    """
    parser.add_argument("name", metavar="NAME|PATH", nargs="?" if optional else None,
                        help="a data set (`mxnetseg datasets` lists them), or a folder with your own images")
    add_root_argument(parser)


def add_decoding_arguments(parser: ArgumentParser) -> None:
    """Add the options that convert images to 8-bit RGB."""
    group = parser.add_argument_group("images that are not 8-bit grey or RGB")
    group.add_argument("--scale-to-8bit", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="values that become 0 and 255 (data.scale_to_8bit)")
    group.add_argument("--scale-percentiles", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="percentiles of each band of each image that become 0 and 255 (data.scale_percentiles)")
    group.add_argument("--bands", nargs=3, type=whole_number(), metavar=("R", "G", "B"),
                       help="bands that become red, green and blue, counted from 1 (data.bands)")


# ---- from options to objects ----------------------------------------------------------------


def decoding_changes(args: Namespace) -> dict[str, Any]:
    """Return the configuration keys that :func:`add_decoding_arguments` changes, with their values.

    Either kind of scaling replaces the other.
    """
    changes = {f"data.{key}": getattr(args, key) for key in ("scale_to_8bit", "scale_percentiles", "bands")
               if getattr(args, key) is not None}
    for key, other in (("scale_to_8bit", "scale_percentiles"), ("scale_percentiles", "scale_to_8bit")):
        if f"data.{key}" in changes:
            changes.setdefault(f"data.{other}", None)
    return changes


def choose_decoding(args: Namespace) -> Decoding:
    """Return how to decode images: the default, with the changes that the options make.

    Args:
        args: with the options of :func:`add_decoding_arguments`.

    Raises:
        ConfigError: an option is out of its range, or two options contradict each other.
    """
    from ..config import Config
    from ..data.decoding import Decoding

    return Decoding.of(Config().replace(decoding_changes(args), where="the command line").data)


def open_named_network(named: str | None, weights: Path, *, backend: str, ctx: Sequence[str] | None,
                       model: str | None = None, included: bool = True) -> OpenNetwork:
    """Open the network that ``--checkpoint`` names; print what it is, and the backend.

    Args:
        named: a path, the file name of a checkpoint below ``weights``, or a name of :mod:`~mxnetseg.engine.named`;
            None: the best checkpoint of the newest run.
        weights: folder of the checkpoints.
        backend: the value of ``--backend``.
        ctx: the value of ``--ctx``.
        model: consider only runs of this network when looking for the newest.
        included: without a name, and without any run in the default folder, open the network that comes with the
            package.

    Raises:
        CheckpointError: it does not exist, is damaged, or does not record its classes.
        EnvironmentProblem: the backend is not installed, or the network cannot be downloaded.
    """
    from ..backends.choice import CHECKPOINT, choose_backend, format_of
    from ..engine.included import has_included
    from ..engine.named import INCLUDED, is_name, locate
    from ..engine.network import open_network
    from ..errors import CheckpointError

    falls_back = included and named is None and model is None and weights == WEIGHTS  # else something was asked for
    if falls_back and has_included() and not _has_run(weights):
        located = locate(INCLUDED, backend=backend)
    elif is_name(named):
        located = locate(named, backend=backend)
    else:
        located = None
    network: Any
    if located is not None:
        network, description = located
    else:
        network_format = format_of(named) if named else CHECKPOINT
        choose_backend(backend, network_format, ctx)  # before MXNet is loaded
        network = choose_checkpoint(named, weights, model=model) if network_format == CHECKPOINT else named
        if network_format != CHECKPOINT and not os.path.exists(expand(named)):
            raise CheckpointError("the exported file is not there", where=expand(named).absolute(),
                                  fix="check the path; `mxnetseg export` writes such files")
        description = str(getattr(network, "path", network))
    print(f"checkpoint  {description}", flush=True)
    opened = open_network(network, backend=backend, ctx=ctx)
    print(f"backend     {opened.choice.backend} ({opened.choice.reason})", flush=True)
    return opened


def _has_run(weights: Path) -> bool:
    """Return whether a folder holds a checkpoint; MXNet is not loaded to read it."""
    return any(path.with_suffix(".json").is_file() for path in weights.glob("**/*.params"))


def resolve_precision(asked: str | None, network: OpenNetwork) -> str:
    """Return the precision that ``--precision`` means for a network, and print it with the reason.

    Raises:
        ConfigError: its backend and devices do not compute in it.
    """
    precision, reason = network.choose_precision(asked)
    print(f"precision   {precision} ({reason})", flush=True)
    return precision


def choose_checkpoint(named: str | None, weights: Path, *, model: str | None = None) -> Checkpoint:
    """Return the checkpoint that ``--checkpoint`` names, by default the best one of the newest run.

    Args:
        named: a path, or a file name below ``weights``.
        weights: folder of the checkpoints.
        model: consider only runs of this network when looking for the newest.

    Raises:
        CheckpointError: the named checkpoint does not exist, or there is no checkpoint at all.
    """
    from ..engine.runs import find_checkpoint, newest
    from ..errors import CheckpointError
    from ..models import MODELS

    model = MODELS.resolve(model) if model else None
    if named:
        return find_checkpoint(named, weights)
    found = newest(weights / model if model else weights)
    if found is not None:
        return found

    ways = {"mxnetseg demo": "trains one on the built-in images, in minutes",
            f"mxnetseg train --model {model or 'fcn'}": "trains any network; --data folder:DIR for your own images",
            f"mxnetseg convert SRC DST --model {model or 'fcn'}": "converts weights that you have",
            "mxnetseg predict --checkpoint PATH": "uses a checkpoint from another folder",
            "mxnetseg predict --checkpoint gluoncv:NAME": "downloads a network (mxnetseg models --pretrained)"}
    width = max(map(len, ways))
    raise CheckpointError("there is no checkpoint yet", where=weights.absolute(),
                          fix="\n".join(f"{command:<{width}}  {effect}" for command, effect in ways.items()))


def own_data(name: str) -> str:
    """Return ``'folder'`` or ``'list'`` if the name stands for the user's own data, else ``''``."""
    from ..data import locate_dataset

    kind = locate_dataset(name)[0].name
    return kind if kind in ("folder", "list") else ""


# ---- output ---------------------------------------------------------------------------------


def chance_level(control: ConfusionMatrix) -> str:
    """Describe the score of the same predictions against other images' masks, in percent.

    Args:
        control: the second matrix that :func:`~mxnetseg.engine.evaluator.evaluate` returns.
    """
    if not control.pixels:
        return "chance level not computed: it needs two images of one size"
    return f"chance level (the same predictions against other images' masks): mIoU {100 * control.miou():.2f} %"


def progress_bar(description: str, quiet: bool, *, unit: str = "img") -> Callable[[Iterable[Any], int], Iterator[Any]]:
    """Return a function ``bar(items, count)`` that shows progress while its result is iterated over."""
    from tqdm import tqdm

    def bar(items: Iterable[Any], count: int) -> Iterator[Any]:
        return tqdm(items, total=count, desc=description, unit=unit, leave=False, dynamic_ncols=True,
                    disable=quiet or not sys.stderr.isatty())
    return bar
