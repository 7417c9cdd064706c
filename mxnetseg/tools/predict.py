"""``mxnetseg predict``: write class maps, overlays and shares of the classes of images and videos."""
from __future__ import annotations

import json
import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    add_backend_argument,
    add_checkpoint_argument,
    add_decoding_arguments,
    add_out_argument,
    add_precision_argument,
    add_quiet_argument,
    add_shard_argument,
    add_timeout_argument,
    add_weights_argument,
    choose_decoding,
    decoding_changes,
    open_named_network,
    progress_bar,
    resolve_precision,
    whole_number,
)

if TYPE_CHECKING:
    from ..engine.network import OpenNetwork
    from ..engine.predictor import Predictor
    from ._predict_results import ResultFolder

_STDOUT = "-"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE|VIDEO|FOLDER|GLOB")
    add_checkpoint_argument(parser)
    add_out_argument(parser, "out/predict", "the results; it gets the subfolders of the images")
    parser.add_argument("--no-recurse", action="store_true", help="ignore the subfolders of a FOLDER")

    results = parser.add_argument_group("results")
    results.add_argument("--no-overlay", action="store_true", help="write no overlays")
    results.add_argument("--names", action="store_true", help="write class names on the overlays, on each region "
                         "that has room for its name")
    results.add_argument("--ids", action="store_true", help="write NAME_ids.png, too: the ids of the data set's own "
                         "files, as the network records them")
    results.add_argument("--save-probabilities", choices=("uint8", "float16"), metavar="TYPE",
                         help="write NAME_probabilities.npz, too: uint8 (255 is 1) or float16")
    results.add_argument("--json", metavar="FILE", help="write all results as JSON, too; - is the standard output")
    results.add_argument("--every", type=whole_number(), default=1, metavar="N",
                         help="predict every N-th frame of a video (default: %(default)s)")

    computing = parser.add_argument_group("how it is computed")
    computing.add_argument("--ms", action="store_true", help="average over several scales and the flipped image")
    computing.add_argument("--base", type=whole_number(0), metavar="PIXELS", help="scale images to this long side "
                           "first; 0: keep their size")
    computing.add_argument("--tile", type=_tile, default="auto", metavar="PIXELS", help="cut larger images into tiles "
                           "of this side; auto: cut those that would take too much memory; none: never (default: "
                           "%(default)s)")
    computing.add_argument("--overlap", type=whole_number(0), metavar="PIXELS", help="pixels that neighbouring tiles "
                           "share (default: a quarter of the side)")
    computing.add_argument("--batch", type=whole_number(), default=1, metavar="N", help="images or frames of one size "
                           "that are computed at once (default: %(default)s)")
    add_shard_argument(parser, "inputs")
    add_backend_argument(parser)
    add_precision_argument(parser, "auto")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_timeout_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Predict every input; return 1 if one could not be read. An unreadable input does not stop the others."""
    with _prints_elsewhere(args.json == _STDOUT) as stdout:
        results = _predict(args)
        if args.json:
            text = json.dumps(results.document(), indent=1, allow_nan=False) + "\n"
            if args.json == _STDOUT:
                stdout.write(text)
            else:
                from ..files import atomic_write

                with atomic_write(args.json, "w") as stream:
                    stream.write(text)
        return _summary(results)


def _predict(args: Namespace) -> ResultFolder:
    """Predict what is not complete yet."""
    from ..files import check_writable, sweep
    from ._predict_images import predict_images, read_some, wanted_files
    from ._predict_inputs import find_inputs, is_video
    from ._predict_results import ResultFolder, names_digest
    from ._predict_videos import predict_video, video_files

    inputs = find_inputs(args.images, out=args.out, recurse=not args.no_recurse)  # before MXNet is loaded
    choose_decoding(args)  # refuses values out of range, before the checkpoint is read
    _check_options(args, [file for file in inputs.values() if is_video(file)])
    check_writable(args.out)
    network = open_named_network(args.checkpoint, args.weights, backend=args.backend, ctx=args.ctx and args.ctx[:1])
    precision = resolve_precision(args.precision, network)
    images = {name: file for name, file in inputs.items() if not is_video(file)}
    settings = _settings(args, network, precision)
    calibration: Any = ()
    if network.calibrates(precision):
        calibration = partial(read_some, list(images.values()))
        settings["images of the calibration"] = names_digest(images)

    classes = network.sidecar["data"]["classes"]
    with ResultFolder(args.out, settings, classes, inputs, args.shard) as results:
        missing = [name for name in results.names if not (
            results.is_complete(name, wanted_files(args, name)) if name in images else
            results.is_complete(name, video_files(args, name), every=args.every))]
        # the folder is locked for this part of the inputs
        sweep(*(path for name in missing for path in (wanted_files if name in images else video_files)(args, name)))
        done = len(results.names) - len(missing)
        if done:
            print(f"{done} of {len(results.names)} are complete already", flush=True)
        if missing:
            predictor = _predictor(args, network, precision, calibration)
            predictor.segmenter.progress = progress_bar("tiles", args.quiet, unit="tile")
            predict_images(args, predictor, results, {n: images[n] for n in missing if n in images})
            for name in missing:
                if name not in images:
                    predict_video(args, predictor, results, name, inputs[name])
    return results


def _predictor(args: Namespace, network: OpenNetwork, precision: str, calibration: Any) -> Predictor:
    from ..engine.predictor import Predictor

    return Predictor(network, ms=args.ms, precision=precision, overrides=decoding_changes(args), base=args.base,
                     tile=None if args.tile == "none" else args.tile, overlap=args.overlap, batch=args.batch,
                     calibration=calibration)


def _settings(args: Namespace, network: OpenNetwork, precision: str) -> dict[str, Any]:
    """Return what the results depend on, besides their sources."""
    from .. import __version__
    from ..data.decoding import Decoding
    from ..engine.prediction_settings import prediction_protocol

    config = network.config().replace(decoding_changes(args))
    protocol = prediction_protocol(config, ms=args.ms, base=args.base, tile=args.tile, batch=args.batch)
    overlap = "" if args.overlap is None else f", overlap {args.overlap}"
    decoding = Decoding.of(config.data)
    return {"mxnetseg": __version__, "checkpoint": str(network.path), "sha256": network.digest(),
            "backend": network.choice.backend, "precision": precision, "protocol": str(protocol),
            "tiles": f"{args.tile}{overlap}", "names": args.names,
            "decoding": "8-bit grey or RGB" if decoding == Decoding() else str(decoding)}


def _summary(results: ResultFolder) -> int:
    """Print what was done, and what was not; return the exit code."""
    from ._predict_results import TABLE, file_of, report_problems

    entries, failures = results.manifest.entries, results.manifest.failures
    complete = [entries[name] for name in results.names if name in entries]
    videos = sum("frames" in entry for entry in complete)
    noun = "images" if not videos else "videos" if videos == len(complete) else "images and videos"
    endings = sorted({name[len(entry["name"]):] for entry in complete for name in entry["files"]} & _ENDINGS.keys())
    table = file_of(results.folder, TABLE, ".csv", results.shard)
    print(f"{len(complete)} of {len(results.names)} {noun} predicted. In {results.folder}: "
          f"{', '.join(f'NAME{ending} ({_ENDINGS[ending]})' for ending in endings)}"
          f"{', ' * bool(endings)}{table.name} (per cent of each class)")
    if results.shard.count > 1:
        print(f"when all {results.shard.count} parts are there: mxnetseg merge {shlex.quote(str(results.folder))}")
    return report_problems(complete, failures.values())


_ENDINGS = {"_classes.png": "class ids, with a palette", "_overlay.png": "classes over the image",
            "_ids.png": "ids of the data set's own files", "_probabilities.npz": "probabilities of the classes",
            "_overlay.mp4": "classes over the video", "_shares.csv": "per cent of each class in each frame"}


def _check_options(args: Namespace, videos: list[Path]) -> None:
    """Refuse options that would have no effect, before anything is computed."""
    from ..engine.tiles import Tiling
    from ..errors import UsageError

    if args.every > 1 and not videos:
        raise UsageError("--every is for videos, and none is named", received=f"--every {args.every}",
                         fix="leave --every out")
    for option, is_given in (("--ids", args.ids), ("--save-probabilities", args.save_probabilities)):
        if is_given and videos:
            raise UsageError(f"{option} is for images, and a video is named", where=videos[0],
                             fix="ffmpeg -i VIDEO FOLDER/%06d.png writes its frames as images; predict FOLDER")
    if isinstance(args.tile, int):
        Tiling.of(args.tile, args.overlap)
    elif args.overlap is not None:
        raise UsageError("--overlap needs --tile", received=f"--overlap {args.overlap} --tile {args.tile}",
                         fix=f"--tile 1024 --overlap {args.overlap}")


def _tile(text: str) -> int | str:
    if text in ("auto", "none"):
        return text
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"must be auto, none or a number of pixels | received: {text}") from None


@contextmanager
def _prints_elsewhere(is_wanted: bool) -> Iterator[Any]:
    """Yield the standard output; if wanted, ``print`` writes to the standard error meanwhile."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr if is_wanted else stdout):
        yield stdout
