"""``mxnetseg predict``: class maps and overlays of your own images."""
from __future__ import annotations

import glob
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Iterable

from .common import (
    add_decoding_arguments,
    add_device_argument,
    add_out_argument,
    add_precision_argument,
    add_quiet_argument,
    add_weights_argument,
    choose_checkpoint,
    choose_decoding,
    progress_bar,
)

_CALIBRATION = 8  # of the images themselves, for int8
# what cameras and phones write beside images and photographs in formats that are not read
_NOT_READ = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".svg", ".pdf",
             ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER|GLOB")
    parser.add_argument("--checkpoint", metavar="PATH|NAME", help="default: the newest")
    add_out_argument(parser, "out/predict", "class maps and overlays; images from subfolders go to such subfolders")
    parser.add_argument("--no-recurse", action="store_true", help="leave out the subfolders of a FOLDER")
    parser.add_argument("--ms", action="store_true", help="average over several scales and the flipped image")
    add_device_argument(parser)
    add_precision_argument(parser, "auto")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Predict every image; 1 if one of them could not be read, after all others."""
    named = find_images(args.images, out=args.out, recurse=not args.no_recurse)  # before MXNet is loaded

    from tqdm import tqdm

    from ..engine.contexts import resolve_contexts
    from ..engine.precision import choose_precision
    from ..engine.predictor import Predictor
    from ..errors import DataError, DataNotFoundError
    from ..files import check_writable

    check_writable(args.out)
    checkpoint = choose_checkpoint(args.checkpoint, args.weights)
    print(f"checkpoint  {checkpoint.path}", flush=True)
    context = resolve_contexts(args.ctx)[0]
    precision, why = choose_precision(args.precision, [context])
    print(f"precision   {precision} ({why})", flush=True)
    decoding = _decoding(args, checkpoint)
    predictor = Predictor(checkpoint, ctx=context, ms=args.ms, precision=precision,
                          calibration=_calibration(named.values(), decoding) if precision == "int8" else (),
                          decoding=decoding)

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
          f"In {args.out}: NAME_classes.png (class ids with their colours), NAME_overlay.png (to look at)")
    if failures:
        print("not predicted:", *failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def find_images(named: Iterable[str], *, out: Path, recurse: bool = True) -> dict[str, Path]:
    """Find the image files that the arguments name.

    Args:
        named: files, folders and glob patterns. Hidden files in folders are left out; of files in formats that are
            not read, the number is printed.
        out: folder of the results, which is not searched for images.
        recurse: search subfolders too.

    Returns:
        name of the results -> file: the path below the folder that was named, without ending where it is unique.

    Raises:
        DataNotFoundError: a file is missing, or there is no image in a folder.
        UsageError: a format that is not read, or two files whose results would have one name.
    """
    from ..errors import DataNotFoundError, UsageError

    found: dict[Path, Path] = {}  # file -> the folder that its name starts from
    passed_over: Counter = Counter()
    for text in named:
        path = Path(text).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise DataNotFoundError("there is no such file or folder", where=path.absolute(),
                                    fix="check the path; in a pattern, * stands for any name and ** for any folders")
        for match in matches:
            if not match.is_dir():
                found.setdefault(match, match.parent)
                continue
            inside, others = _in_folder(match, out, recurse)
            passed_over.update(others)
            found.update({file: match for file in inside if file not in found})
            if not inside:
                raise _nothing_there(match, others)
    for file in found:
        if file.suffix.lower() in _NOT_READ:
            raise UsageError(f"{file.suffix} files are not read", where=file, fix=_convert(file.suffix))
    if passed_over:
        print("left out, in formats that are not read: " + ", ".join(
            f"{count} {suffix}" for suffix, count in sorted(passed_over.items())))
    return _name(found)


def _in_folder(folder: Path, out: Path, recurse: bool) -> tuple[list[Path], Counter]:
    """The images of a folder in order, and how many files of each suffix are no readable images."""
    from ..data.base import IMAGE_SUFFIXES, list_files

    files = list_files(folder, IMAGE_SUFFIXES + _NOT_READ)
    if not recurse:
        files = [file for file in files if file.parent == folder]
    results = out.resolve()
    files = [file for file in files if folder.resolve() == results or results not in file.resolve().parents]
    others = Counter(file.suffix.lower() for file in files if file.suffix.lower() in _NOT_READ)
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES], others


def _name(found: dict[Path, Path]) -> dict[str, Path]:
    """Give each file's results the shortest name that is unique: ``x``, else ``x.jpg``, else ``FOLDER/x.jpg``."""
    from ..errors import UsageError

    forms = [lambda file, base: file.relative_to(base).with_suffix("").as_posix(),
             lambda file, base: file.relative_to(base).as_posix(),
             lambda file, base: f"{base.absolute().name}/{file.relative_to(base).as_posix()}"]
    names: dict[str, Path] = {}
    left = list(found)
    for form in forms:
        wanted = {file: form(file, found[file]) for file in left}
        count = Counter(wanted.values())
        unique = [file for file in left if count[wanted[file]] == 1 and wanted[file] not in names]
        names.update({wanted[file]: file for file in unique})
        left = [file for file in left if file not in unique]
    if left:
        raise UsageError("results of two images would have one name", received=" and ".join(map(str, left[:2])),
                         fix="predict them one after the other, each with its own --out")
    by_file = {file: name for name, file in names.items()}
    return {by_file[file]: file for file in found}  # in the order of the files


def _nothing_there(folder: Path, others: Counter):
    from ..data.base import IMAGE_SUFFIXES
    from ..errors import DataNotFoundError

    received = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return DataNotFoundError("the folder holds no image", where=folder.absolute(), received=received or None,
                             fix=_convert(next(iter(others))) if others else
                             f"name an image or a folder of them ({', '.join(IMAGE_SUFFIXES)})")


def _convert(suffix: str) -> str:
    """The way from a format that is not read to one that is."""
    video = suffix.lower() in (".mp4", ".mov", ".avi", ".mkv", ".webm")
    return "ffmpeg -i VIDEO FOLDER/%06d.png writes its frames as images" if video else \
        "convert it to PNG or JPEG first, for example with ImageMagick: magick IN OUT.png"


def _decoding(args: Namespace, checkpoint):
    """How images are decoded: as in training, with the options' changes."""
    from ..config import Config

    sidecar = checkpoint.read_sidecar()
    return choose_decoding(args, Config.from_dict(sidecar["config"], where=checkpoint.sidecar_path))


def _calibration(files: Iterable[Path], decoding) -> list:
    """The first images that can be read: int8 takes the ranges of its layers from them."""
    from ..data.base import read_image
    from ..errors import MXNetSegError

    images: list = []
    for file in files:
        if len(images) == _CALIBRATION:
            break
        try:
            images.append(read_image(file, decoding=decoding))
        except MXNetSegError:
            continue  # reported when its turn comes
    return images
