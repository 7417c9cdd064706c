"""``mxnetseg predict``: class maps and overlays of pictures of your own."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import List

from .common import (
    add_decoding_arguments,
    add_device_argument,
    add_precision_argument,
    add_quiet_argument,
    add_weights_argument,
    choose_checkpoint,
    choose_decoding,
    progress_bar,
)

_CALIBRATION = 8  # of the pictures themselves, for int8


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=Path, metavar="IMAGE|FOLDER")
    parser.add_argument("--checkpoint", metavar="PATH|NAME", help="default: the newest")
    parser.add_argument("--out", type=Path, default=Path("out/predict"), metavar="DIR",
                        help="where the pictures go (default: %(default)s)")
    parser.add_argument("--ms", action="store_true", help="average over several scales and the mirrored picture")
    add_device_argument(parser)
    add_precision_argument(parser, "auto")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    files = _files(args.pictures)  # before MXNet is loaded: a typo shows at once

    from ..engine.contexts import resolve_contexts
    from ..engine.precision import choose_precision
    from ..engine.predictor import Predictor

    checkpoint = choose_checkpoint(args.checkpoint, args.weights)
    print(f"checkpoint  {checkpoint.path}", flush=True)
    context = resolve_contexts(args.ctx)[0]
    precision, why = choose_precision(args.precision, [context])
    print(f"precision   {precision} ({why})", flush=True)
    predictor = Predictor(checkpoint, ctx=context, ms=args.ms, precision=precision,
                          calibration=files[:_CALIBRATION] if precision == "int8" else (),
                          decoding=_decoding(args, checkpoint))
    for file in progress_bar("predict", args.quiet)(files, len(files)):
        prediction = predictor(file)
        classes, picture = prediction.save(args.out)
        seen = ", ".join(f"{name} {share:.0%}" for name, share in list(prediction.shares().items())[:4])
        print(f"{file}: {seen}\n  {classes}\n  {picture}")
    return 0


def _decoding(args: Namespace, checkpoint):
    from ..config import Config

    sidecar = checkpoint.read_sidecar()
    return choose_decoding(args, Config.from_dict(sidecar["config"], where=checkpoint.sidecar_path))


def _files(pictures: List[Path]) -> List[Path]:
    """The picture files named, those of a folder in order.

    Raises:
        DataNotFoundError: nothing is there, or a folder without pictures.
        UsageError: two pictures of one name, whose results would overwrite each other.
    """
    from ..data.base import IMAGE_SUFFIXES
    from ..errors import DataNotFoundError, UsageError

    files: List[Path] = []
    for path in pictures:
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not found or not all(f.is_file() for f in found):
            raise DataNotFoundError("no picture there", where=path.absolute(),
                                    fix=f"name a picture or a folder of them ({', '.join(IMAGE_SUFFIXES)})")
        files += found
    by_name = {}
    for file in files:
        if by_name.setdefault(file.stem, file) != file:
            raise UsageError("two pictures have one name, so their results would too",
                             received=f"{by_name[file.stem]} and {file}", fix="predict them one after the other, "
                             "each with its own --out")
    return files
