"""Options that several commands share."""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Dict, Optional

WEIGHTS = Path("weights")


def add_device_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--ctx", nargs="+", metavar="N", help="GPUs by number (0 1 2 3), or cpu; without any GPU "
                        "as many CPU contexts (default: GPU 0 if there is one)")


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


def add_data_arguments(parser: ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument("name", metavar="NAME|PATH", nargs="?" if optional else None,
                        help="a data set (`mxnetseg datasets`), or a folder of your own")
    parser.add_argument("--root", "--data-root", metavar="FOLDER",
                        help="look for it here instead of in $MXNETSEG_DATA and ./dataset")


def add_decoding_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("images that are not 8-bit grey or RGB")
    group.add_argument("--scale-to-8bit", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="the values that become 0 and 255 (data.scale_to_8bit)")
    group.add_argument("--scale-percentiles", nargs=2, type=float, metavar=("LOW", "HIGH"),
                       help="the percentiles that do, of each band of each image (data.scale_percentiles)")
    group.add_argument("--bands", nargs=3, type=int, metavar=("R", "G", "B"),
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
    from ..engine.checkpoint import find_checkpoint, newest
    from ..errors import CheckpointError
    from ..models import MODELS

    model = MODELS.resolve(model) if model else None
    if named:
        return find_checkpoint(named, weights)
    found = newest(weights / model if model else weights)
    if found is None:
        raise CheckpointError("there is no checkpoint yet", where=weights.absolute(),
                              fix=f"train one: python train.py --model {model or 'fcn'}")
    return found


def progress_bar(description: str, quiet: bool):
    """A wrapper for a stream of pictures: ``bar(items, count)``."""
    from tqdm import tqdm

    def bar(items, count):
        return tqdm(items, total=count, desc=description, unit="img", leave=False, dynamic_ncols=True,
                    disable=quiet or not sys.stderr.isatty())
    return bar
