"""Files that the arguments of ``mxnetseg predict`` name, and the names of their results."""
from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..data.base import IMAGE_SUFFIXES, list_files
from ..engine.video import VIDEO_SUFFIXES
from ..errors import DataNotFoundError, UsageError

# files that cameras and phones write besides readable images, and image formats that are not read
_NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".svg", ".pdf", ".dng", ".cr2", ".cr3", ".nef", ".arw",
             ".raw")


def is_video(file: Path) -> bool:
    """Return whether a file is read as a video, by its suffix."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(named: Iterable[str], *, out: Path, recurse: bool = True) -> dict[str, Path]:
    """Find the images and videos that the arguments name, and choose the names of their results.

    Hidden files in folders are ignored. Files in formats that are not read are counted, and their number is printed.

    Args:
        named: files, folders and glob patterns.
        out: folder of the results; it is not searched.
        recurse: search subfolders too.

    Returns:
        name of the results -> file. The name is the path below the named folder, without the suffix if it is unique.

    Raises:
        DataNotFoundError: a file is missing, or a folder has no image.
        UsageError: a file has a format that is not read, or the results of two files would have the same name.
    """
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
            raise UsageError(f"{file.suffix} files are not read", where=file, fix=_CONVERT)
    if skipped:
        print("skipped, in formats that are not read: " + ", ".join(
            f"{count} {suffix}" for suffix, count in sorted(skipped.items())))
    return _name_results(found)


_CONVERT = "convert it to PNG or JPEG first, for example with ImageMagick: magick IN OUT.png"


def _in_folder(folder: Path, out: Path, recurse: bool) -> tuple[list[Path], Counter[str]]:
    """Return the images and videos of a folder in order, and the number of files of each suffix that is not read."""
    files = list_files(folder, IMAGE_SUFFIXES + VIDEO_SUFFIXES + _NOT_READ)
    if not recurse:
        files = [file for file in files if file.parent == folder]
    results = out.resolve()
    files = [file for file in files if folder.resolve() == results or results not in file.resolve().parents]
    others = Counter(file.suffix.lower() for file in files if file.suffix.lower() in _NOT_READ)
    return [file for file in files if file.suffix.lower() not in _NOT_READ], others


def _name_results(found: dict[Path, Path]) -> dict[str, Path]:
    """Give the results of each file the shortest unique name: ``x``, else ``x.jpg``, else ``FOLDER/x.jpg``.

    Args:
        found: file -> the folder that its name starts from.

    Returns:
        name -> file, in the order of ``found``.
    """
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
    received = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    return DataNotFoundError("the folder holds no image", where=folder.absolute(), received=received or None,
                             fix=_CONVERT if others else "name an image, a video, or a folder with them "
                             f"({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})")
