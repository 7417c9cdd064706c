"""Options that several commands share."""
from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any, Callable, Dict, Optional

WEIGHTS = Path("weights")


def whole_number(low: int = 1, high: Optional[int] = None) -> Callable[[str], int]:
    """Return a parser for an option whose value is a whole number in a range; a usage error names the range.

    For options that set no configuration key. Those that do are checked by the schema.
    """
    wanted = f"at least {low}" if high is None else f"{low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < low or (high is not None and number > high):
            raise ArgumentTypeError(f"must be a whole number, {wanted} | received: {text}")
        return number
    return parse


def add_device_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--ctx", nargs="+", metavar="N", help="GPUs by number (0 1 2 3), or cpu; without any GPU, "
                        "numbers mean the CPU (default: GPU 0 if there is one)")


def add_precision_argument(parser: ArgumentParser, default: str) -> None:
    # spelled out, for importing them would load MXNet before --help is printed; a test compares
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16", "int8", "float16", "plain"),
                        default=default, help="auto: what this machine is fast in, without int8; int8 looks at some "
                        "training pictures first; plain: unfused float32, to find a fault (default: %(default)s)")


def add_weights_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR",
                        help="folder of the checkpoints (default: %(default)s)")


def add_quiet_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def seconds(text: str) -> float:
    """Parse an option whose value is a time above 0, in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"must be a number of seconds above 0 | received: {text}")
    return value


def add_timeout_argument(parser: ArgumentParser) -> None:
    # spelled out, since importing it would load OpenCV before --help is printed; a test compares
    parser.add_argument("--timeout", type=seconds, default=120.0, metavar="SECONDS",
                        help="time to wait for one file before reading counts as hung (default: %(default)g)")


def add_root_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--root", "--data-root", metavar="DIR",
                        help="folder of the data set (default: look in $MXNETSEG_DATA, then in ./dataset)")


def add_out_argument(parser: ArgumentParser, default: str, what: str) -> None:
    parser.add_argument("--out", "--save-dir", type=Path, default=Path(default), metavar="DIR",
                        help=f"folder for {what} (default: %(default)s)")


def add_set_argument(parser: ArgumentParser, help: str) -> None:
    """Add ``--set KEY=VALUE``. The parser also takes ``--KEY=VALUE`` for any dotted KEY, see :class:`.main.Parser`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=help)


def add_data_arguments(parser: ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument("name", metavar="NAME|PATH", nargs="?" if optional else None,
                        help="a data set (`mxnetseg datasets`), or a folder of your own")
    add_root_argument(parser)


def add_decoding_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("images that are not 8-bit grey or RGB")
    group.add_argument("--scale-to-8bit", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="the values that become 0 and 255 (data.scale_to_8bit)")
    group.add_argument("--scale-percentiles", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="the percentiles that do, of each band of each image (data.scale_percentiles)")
    group.add_argument("--bands", nargs=3, type=whole_number(), metavar=("R", "G", "B"),
                       help="the bands that become red, green and blue, counted from 1 (data.bands)")


def decoding_changes(args: Namespace) -> Dict[str, Any]:
    """The configuration keys that :func:`add_decoding_arguments` changes, with their values; one scaling replaces the
    other."""
    changes = {f"data.{key}": getattr(args, key) for key in ("scale_to_8bit", "scale_percentiles", "bands")
               if getattr(args, key) is not None}
    for key, other in (("scale_to_8bit", "scale_percentiles"), ("scale_percentiles", "scale_to_8bit")):
        if f"data.{key}" in changes:
            changes.setdefault(f"data.{other}", None)
    return changes


def choose_decoding(args: Namespace, config=None):
    """How images are decoded: as the configuration says, by default the plain one, with the options' changes.

    Raises:
        ConfigError: an option is out of its range, or two contradict each other.
    """
    from ..config import Config
    from ..data.decoding import Decoding

    config = Config() if config is None else config
    return Decoding.of(config.replace(decoding_changes(args), where="the command line").data)


def choose_checkpoint(named: Optional[str], weights: Path, *, model: Optional[str] = None):
    """The checkpoint that ``--checkpoint`` names; without it the newest, of a run the best.

    Args:
        named: a path, or a file name below ``weights``.
        weights: folder of the checkpoints.
        model: only this network's are looked at for the newest.

    Raises:
        CheckpointError: no such checkpoint, or none at all.
    """
    from ..engine.runs import find_checkpoint, newest
    from ..errors import CheckpointError
    from ..models import MODELS

    model = MODELS.resolve(model) if model else None
    if named:
        return find_checkpoint(named, weights)
    found = newest(weights / model if model else weights)
    if found is None:
        ways = {"mxnetseg demo": "trains one on the built-in images, in minutes",
                f"mxnetseg train --model {model or 'fcn'}": "trains any network; --data folder:DIR for own images",
                f"mxnetseg convert SRC DST --model {model or 'fcn'}": "takes over weights that you have",
                "mxnetseg predict --checkpoint PATH": "uses a checkpoint from another folder"}
        width = max(map(len, ways))
        raise CheckpointError("there is no checkpoint yet", where=weights.absolute(),
                              fix="\n".join(f"{command:<{width}}  {effect}" for command, effect in ways.items()))
    return found


def own_data(name: str) -> str:
    """Return ``'folder'`` or ``'list'`` if the name means data of the user's own, else ``''``."""
    from ..data import locate_dataset

    kind = locate_dataset(name)[0].name
    return kind if kind in ("folder", "list") else ""


def chance_level(control) -> str:
    """Describe the score of the same predictions against other images' masks, in percent.

    Args:
        control: the second matrix that :func:`~mxnetseg.engine.evaluator.evaluate` returns.
    """
    if not control.pixels:
        return "chance level not computed: it takes two images of one size"
    return f"chance level (the same predictions against other images' masks): mIoU {100 * control.miou():.2f} %"


def progress_bar(description: str, quiet: bool):
    """Return a wrapper for a stream of images: ``bar(items, count)``."""
    from tqdm import tqdm

    def bar(items, count):
        return tqdm(items, total=count, desc=description, unit="img", leave=False, dynamic_ncols=True,
                    disable=quiet or not sys.stderr.isatty())
    return bar
