"""``mxnetseg predict``: write class maps and overlays of images."""
from __future__ import annotations

import glob
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .common import (
    add_backend_argument,
    add_checkpoint_argument,
    add_decoding_arguments,
    add_out_argument,
    add_precision_argument,
    add_quiet_argument,
    add_weights_argument,
    choose_decoding,
    decoding_changes,
    open_named_network,
    progress_bar,
    resolve_precision,
)

if TYPE_CHECKING:
    import numpy as np

    from ..data.decoding import Decoding
    from ..errors import DataNotFoundError

_CALIBRATION = 8  # number of the given images that int8 is calibrated on
_VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".webm")
# files that cameras and phones write besides readable images, and image formats that are not read
_NOT_READ = (*_VIDEO, ".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".svg", ".pdf", ".dng", ".cr2", ".cr3", ".nef",
             ".arw", ".raw")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER|GLOB")
    add_checkpoint_argument(parser)
    add_out_argument(parser, "out/predict", "class maps and overlays; it gets the subfolders of the images")
    parser.add_argument("--no-recurse", action="store_true", help="ignore the subfolders of a FOLDER")
    parser.add_argument("--ms", action="store_true", help="average over several scales and the flipped image")
    add_backend_argument(parser)
    add_precision_argument(parser, "auto")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Predict every image; return 1 if an image could not be read. An unreadable image does not stop the others."""
    named = find_images(args.images, out=args.out, recurse=not args.no_recurse)  # before MXNet is loaded
    choose_decoding(args)  # refuses values out of range, before the checkpoint is read
    from tqdm import tqdm

    from ..engine.predictor import Predictor
    from ..errors import DataError, DataNotFoundError
    from ..files import check_writable

    check_writable(args.out)
    network = open_named_network(args.checkpoint, args.weights, backend=args.backend, ctx=args.ctx and args.ctx[:1])
    precision = resolve_precision(args.precision, network)
    calibration = partial(_read_some, named.values()) if network.calibrates(precision) else ()
    predictor = Predictor(network, ms=args.ms, precision=precision, overrides=decoding_changes(args),
                          calibration=calibration)

    failures = []
    for name, file in progress_bar("predict", args.quiet)(named.items(), len(named)):
        try:
            prediction = predictor(file)
        except (DataError, DataNotFoundError) as error:
            failures.append(error)
            tqdm.write(f"{file}: not predicted")
            continue
        prediction.name = name
        _, overlay = prediction.save(args.out)
        seen = ", ".join(f"{label} {part:.0%}" for label, part in list(prediction.shares().items())[:4])
        tqdm.write(f"{file}: {seen} -> {overlay}")

    print(f"{len(named) - len(failures)} of {len(named)} images predicted. "
          f"In {args.out}: NAME_classes.png (class ids, with a palette), NAME_overlay.png (classes over the image)")
    if failures:
        print("not predicted:", *failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def find_images(named: Iterable[str], *, out: Path, recurse: bool = True) -> dict[str, Path]:
    """Find the image files that the arguments name, and choose the names of their results.

    Hidden files in folders are ignored. Files in formats that are not read are counted, and their number is printed.

    Args:
        named: files, folders and glob patterns.
        out: folder of the results; it is not searched for images.
        recurse: search subfolders too.

    Returns:
        name of the results -> file. The name is the path below the named folder, without the suffix if it is unique.

    Raises:
        DataNotFoundError: a file is missing, or a folder has no image.
        UsageError: a file has a format that is not read, or the results of two files would have the same name.
    """
    from ..errors import DataNotFoundError, UsageError

    found: dict[Path, Path] = {}  # file -> the folder that its name starts from
    skipped: Counter[str] = Counter()
    for text in named:
        path = Path(text).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise DataNotFoundError("there is no such file or folder", where=path.absolute(),
                                    fix="check the path; in a pattern, * matches any name and ** any folders")
        for match in matches:
            if not match.is_dir():
                found.setdefault(match, match.parent)
                continue
            inside, others = _in_folder(match, out, recurse)
            skipped.update(others)
            found.update({file: match for file in inside if file not in found})
            if not inside:
                raise _no_image(match, others)

    for file in found:
        if file.suffix.lower() in _NOT_READ:
            raise UsageError(f"{file.suffix} files are not read", where=file, fix=_how_to_convert(file.suffix))
    if skipped:
        print("skipped, in formats that are not read: " + ", ".join(
            f"{count} {suffix}" for suffix, count in sorted(skipped.items())))
    return _name_results(found)


def _in_folder(folder: Path, out: Path, recurse: bool) -> tuple[list[Path], Counter[str]]:
    """Return the images of a folder in order, and the number of files of each suffix that is not read."""
    from ..data.base import IMAGE_SUFFIXES, list_files

    files = list_files(folder, IMAGE_SUFFIXES + _NOT_READ)
    if not recurse:
        files = [file for file in files if file.parent == folder]
    results = out.resolve()
    files = [file for file in files if folder.resolve() == results or results not in file.resolve().parents]
    others = Counter(file.suffix.lower() for file in files if file.suffix.lower() in _NOT_READ)
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES], others


def _name_results(found: dict[Path, Path]) -> dict[str, Path]:
    """Give the results of each file the shortest unique name: ``x``, else ``x.jpg``, else ``FOLDER/x.jpg``.

    Args:
        found: file -> the folder that its name starts from.

    Returns:
        name -> file, in the order of ``found``.
    """
    from ..errors import UsageError

    patterns = [lambda file, base: file.relative_to(base).with_suffix("").as_posix(),
                lambda file, base: file.relative_to(base).as_posix(),
                lambda file, base: f"{base.absolute().name}/{file.relative_to(base).as_posix()}"]
    names: dict[str, Path] = {}
    unnamed = list(found)
    for pattern in patterns:
        wanted = {file: pattern(file, found[file]) for file in unnamed}
        count = Counter(wanted.values())
        unique = [file for file in unnamed if count[wanted[file]] == 1 and wanted[file] not in names]
        names.update({wanted[file]: file for file in unique})
        unnamed = [file for file in unnamed if file not in unique]
    if unnamed:
        raise UsageError("results of two images would have one name", received=" and ".join(map(str, unnamed[:2])),
                         fix="predict them one after the other, each with its own --out")
    by_file = {file: name for name, file in names.items()}
    return {by_file[file]: file for file in found}


def _no_image(folder: Path, others: Counter[str]) -> DataNotFoundError:
    """Return the error for a folder without images; ``others`` counts its files of each suffix that is not read."""
    from ..data.base import IMAGE_SUFFIXES
    from ..errors import DataNotFoundError

    received = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return DataNotFoundError("the folder holds no image", where=folder.absolute(), received=received or None,
                             fix=_how_to_convert(next(iter(others))) if others else
                             f"name an image or a folder with images ({', '.join(IMAGE_SUFFIXES)})")


def _how_to_convert(suffix: str) -> str:
    """Explain how to convert a file of a format that is not read to one that is."""
    if suffix.lower() in _VIDEO:
        return "ffmpeg -i VIDEO FOLDER/%06d.png writes its frames as images"
    return "convert it to PNG or JPEG first, for example with ImageMagick: magick IN OUT.png"


def _read_some(files: Iterable[Path], decoding: Decoding) -> list[np.ndarray]:
    """Return the first images that can be read, for int8 to measure the ranges of its layers on."""
    from ..data.base import read_image
    from ..errors import MXNetSegError

    images: list[np.ndarray] = []
    for file in files:
        if len(images) == _CALIBRATION:
            break
        try:
            images.append(read_image(file, decoding=decoding))
        except MXNetSegError:
            continue  # reported when it is predicted
    return images
