"""Audit of a data set: every problem in its files, found before a training run meets it.

:func:`audit` checks every pair of every split and does not stop at the first problem. It reads the headers of the
files first, which takes seconds even for large data sets (does every file exist, do the sizes agree), then their
contents with all cores. It keeps a few numbers per split and a digest per image in memory.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from ..errors import DataError, DataNotFoundError, MXNetSegError, UsageError, nearest
from ..files import no_file
from . import locate_dataset
from .base import IGNORE, IMAGE_SUFFIXES, PLAIN, Decoding, PathLike, SegDataset
from .decoding import UndeclaredImage
from .findings import KINDS, Audit, SplitStats
from .headers import open_image, read_header
from .labels import count_ids
from .pack import PackDataset
from .pairs import check_sizes
from .parallel import TIMEOUT, ProgressCallback, in_parallel, no_progress

USUAL_SPLITS = ("train", "val", "test")
_EXIF_ORIENTATION = 0x0112
_SIDES_EXCHANGED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def audit(name: str, *, splits: Sequence[str] = (), root: PathLike | None = None,
          workers: int | None = None, allow: Sequence[str] = (), timeout: float = TIMEOUT,
          decoding: Decoding = PLAIN, progress: ProgressCallback | None = None) -> Audit:
    """Check every pair of a data set.

    Args:
        name: as for :func:`~mxnetseg.data.get_dataset`: a name, or the path of folder data.
        splits: names of splits; by default those of train, val and test that exist, or all splits if the data set has
            none of these.
        root: folder of the data set.
        workers: number of threads; default one for each core.
        timeout: seconds to wait for one file.
        allow: kinds of findings (:data:`KINDS`) that are reported but do not make the audit fail.
        decoding: how images that are not 8-bit grey or RGB are converted.
        progress: wraps a stream of items: ``progress(items, count)``, as a progress bar does.

    Raises:
        UnknownNameError: no such data set or split.
        UsageError: no such kind of finding, or the data set is a pack.
        DataNotFoundError: the data set was not found.
        DataError: its classes cannot be read.
    """
    _check_kinds(allow)
    cls, root = locate_dataset(name, root=root)
    if cls is PackDataset:
        raise UsageError("a pack holds only pairs without problems, so there is nothing to audit", received=name,
                         fix=f"mxnetseg pack {name} --verify compares its checksums; check-data audits the files from "
                             "which it was made")
    unchecked = type(cls.__name__, (_Unchecked, cls), {})
    opened: list[SegDataset] = []
    failed: list[tuple[str, MXNetSegError]] = []
    for split in tuple(dict.fromkeys(splits)) or _usual_splits(cls):
        try:
            opened.append(unchecked(split=split, root=root, decoding=decoding))
        except (DataError, DataNotFoundError) as error:
            failed.append((split, error))
    if not opened:
        raise failed[0][1]

    result = Audit(opened[0], allowed=tuple(allow))
    for split, error in failed:
        _add_missing_split(result, split, error, requested=split in splits)
    listed = [dataset for dataset in opened if _check_list(result, dataset, requested=dataset.split in splits)]
    progress = progress or no_progress
    threads = {"workers": workers, "timeout": timeout}
    reported = {dataset.split: _check_headers(result, dataset, progress, **threads) for dataset in listed}
    digests: dict[bytes, tuple[str, Path]] = {}
    undeclared: list[UndeclaredImage] = []
    for dataset in listed:
        _check_contents(result, dataset, reported[dataset.split], digests, undeclared, progress, **threads)

    low, high = (min((e.low for e in undeclared), default=0), max((e.high for e in undeclared), default=0))
    for error in undeclared:  # the range of one image would clip the others
        error.suggest(low, high, "the range of all these images")
    _check_whole(result, listed)
    return result


def _check_kinds(allow: Sequence[str]) -> None:
    for kind in allow:
        if kind not in KINDS:
            close = nearest(kind, KINDS, n=1)
            raise UsageError("there is no such kind of finding", received=kind, fix=(
                f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(KINDS)}")


class _Unchecked:
    """Mixin that opens a data set without its checks, so that every problem can be reported."""

    def _check_pairs(self) -> None:
        pass

    def _compare_count(self) -> None:
        pass


def _usual_splits(cls: type[SegDataset]) -> tuple[str, ...]:
    elementary = tuple(split for split in cls.splits if split not in cls.combined)
    return tuple(split for split in USUAL_SPLITS if split in elementary) or elementary


def _check_list(result: Audit, dataset: SegDataset, requested: bool) -> bool:
    """Check the list of a split; return whether it names any pair."""
    if not len(dataset) and not dataset.problems:
        _add_missing_split(result, dataset.split, DataError(
            f"the split {dataset.split!r} is empty", where=dataset.root.absolute(),
            fix=f"layout expected:\n{dataset.layout}"), requested)
        return False
    for error in (*dataset.problems, *dataset.repeated_names()):
        result.add("list", dataset.split, error)
    _compare_count(result, dataset)
    return True


def _add_missing_split(result: Audit, split: str, error: MXNetSegError, requested: bool) -> None:
    """Add the error of a split that cannot be listed; a test split may be missing unless the caller requested it."""
    if split == "test" and not requested:
        result.absent[split] = error.what
    else:
        result.add("list", split, error)


def _compare_count(result: Audit, dataset: SegDataset) -> None:
    published = dataset.published_count(dataset.split)
    if published not in (None, len(dataset)):
        result.add("count", dataset.split, DataError(
            "the number of images of a split differs from the published number", where=dataset.root.absolute(),
            received=f"{dataset.split}: {len(dataset)}, published {published}",
            fix="unpack the missing part; without it, results will not be comparable"))


# ---- headers --------------------------------------------------------------------------------


class _Header(NamedTuple):
    """Header of a file: format, mode, (width, height) as stored, EXIF orientation."""

    format: str
    mode: str
    size: tuple[int, int]
    orientation: int

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after the EXIF rotation, which :func:`~mxnetseg.data.base.read_image` applies."""
        return self.size[::-1] if self.orientation in _SIDES_EXCHANGED else self.size


def _header(path: Path) -> _Header | None:
    """Read the header without decoding the file; None if Pillow does not know the format or the file is damaged."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    try:
        own = read_header(np.memmap(path, np.uint8, "r"))  # Pillow calls three bands of 16 bits RGB
        if own is not None and (own.dtype != "uint8" or own.bands not in (1, 3) or own.frames > 1):
            mode = str(own).partition(", ")[2]
            return _Header(own.format, mode, (own.width, own.height), own.pages[0].tag(274, 1) if own.pages else 1)
        with open(path, "rb") as stream, open_image(stream) as image:
            # for a PNG, getexif() would decode all of it; OpenCV rotates JPEG, WebP and TIFF only
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if image.format != "PNG" else 1
            return _Header(image.format, image.mode, image.size, orientation)
    except Exception:  # reported when the contents are read
        return None


class _Reported(NamedTuple):
    """Indices of the pairs with a missing file, and of the pairs whose headers show that the sizes differ."""

    missing: set[int]
    size: set[int]


def _check_headers(result: Audit, dataset: SegDataset, progress: ProgressCallback, **threads) -> _Reported:
    """Find missing files, sizes that differ and unusual images."""
    stats = result.splits[dataset.split] = SplitStats.empty(len(dataset), dataset.nclass)
    reported = _Reported(set(), set())

    def read(i: int):
        paths = [dataset.image_path(i), dataset.mask_path(i)]
        problems = [None if p is None else no_file(p) for p in paths]
        return i, problems, [None if p is None or problem else _header(p) for p, problem in zip(paths, problems)]

    headers = in_parallel(read, range(len(dataset)), where=dataset.image_path, **threads)
    for i, problems, (image, mask) in progress(headers, len(dataset)):
        pair = dataset.pair(i)
        for path, role, problem in zip(pair[1:], ("image", "mask"), problems):
            if problem:
                reported.missing.add(i)
                result.add("missing", dataset.split, DataNotFoundError(
                    f"the {role} of a pair {problem}", where=path,
                    fix="restore it, or take the pair out of the split"))
        if image:
            stats.sizes[image.shown_size] += 1
            stats.modes[f"image {image.format} {image.mode}"] += 1
            for oddity in _oddities(image, pair.image):
                result.add("odd", dataset.split, oddity)
        if mask:
            stats.modes[f"mask {mask.format} {mask.mode}"] += 1
        if image and mask:
            try:
                shapes = [np.broadcast_to(np.uint8(0), header.shown_size[::-1]) for header in (image, mask)]
                check_sizes(shapes[0], shapes[1], pair)
            except DataError as error:
                reported.size.add(i)
                result.add("size", dataset.split, error)
    return reported


def _oddities(header: _Header, path: Path) -> Iterator[DataError]:
    """Yield properties of an image that the user may not expect; none of them is an error."""
    if header.orientation != 1:
        yield DataError("an image carries an EXIF rotation, which is applied on reading", where=path,
                        received=f"orientation {header.orientation}",
                        fix="nothing, if its mask is rotated likewise; else save it with the rotation applied")
    if header.mode == "CMYK":
        yield DataError("an image is CMYK, for printing; its colours are converted roughly", where=path,
                        fix="save it as RGB")
    elif header.mode in ("RGBA", "LA", "PA"):
        yield DataError("an image has an alpha channel, which is dropped", where=path, received=f"mode {header.mode}",
                        fix="nothing: it is opaque, or data.bands says which bands count, or the image is refused")
    elif header.mode in ("L", "1"):
        yield DataError("an image is grey; its values become red, green and blue", where=path,
                        received=f"mode {header.mode}", fix="nothing, if this is intended")


# ---- contents -------------------------------------------------------------------------------


class _Content(NamedTuple):
    """Result of reading a pair: its errors, a digest of the image, the number of pixels of each train id."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    errors: list[tuple[str, MXNetSegError]]
    digest: bytes | None
    histogram: np.ndarray | None


def _check_contents(result: Audit, dataset: SegDataset, reported: _Reported,
                    digests: dict[bytes, tuple[str, Path]], undeclared: list[UndeclaredImage],
                    progress: ProgressCallback, **threads) -> None:
    """Decode all files; find damaged ones, wrong labels, and images that occur twice.

    Args:
        reported: what the headers have shown.
        digests: image digest -> split and file of its first occurrence; extended.
        undeclared: errors of images whose conversion is not declared; extended.
    """
    stats = result.splits[dataset.split]
    existing = (i for i in range(len(dataset)) if i not in reported.missing)
    contents = in_parallel(lambda i: _read(dataset, i, size_is_reported=i in reported.size), existing,
                           where=dataset.image_path, **threads)
    for content in progress(contents, len(dataset) - len(reported.missing)):
        path = dataset.image_path(content.index)
        for kind, error in content.errors:
            result.add(kind, dataset.split, error)
            if isinstance(error, UndeclaredImage):
                undeclared.append(error)
        if content.histogram is not None:
            stats.count(content.histogram)
            _check_mask(result, dataset, content)

        if content.digest is None:
            continue
        split, first = digests.setdefault(content.digest, (dataset.split, path))
        if split != dataset.split:
            result.add("leak", dataset.split, DataError(
                f"an image of the split {dataset.split!r} is in {split!r} too, so scores are too high",
                where=f"{first}\n{path}", fix="take it out of one of the two splits"))
        elif first != path:
            result.add("duplicate", dataset.split, DataError(
                "two files of a split hold the same image", where=f"{first}\n{path}",
                fix="remove one, unless it is to count twice"))


def _read(dataset: SegDataset, i: int, *, size_is_reported: bool) -> _Content:
    """Read both files of a pair; an error in one does not prevent reading the other."""
    errors: list[tuple[str, MXNetSegError]] = []
    image = raw = digest = histogram = None
    pair = dataset.pair(i)
    try:
        image = _naming_the_file(lambda: dataset.load_image(i), pair.image)
        digest = hashlib.blake2b(image, digest_size=16, person=b"%dx%d" % image.shape[:2]).digest()
    except MXNetSegError as error:
        errors.append(("image", error))
    if pair.mask is None:
        return _Content(i, errors, digest, None)

    try:
        raw = _naming_the_file(lambda: dataset.load_raw_mask(i), pair.mask)
    except MXNetSegError as error:
        errors.append(("mask", error))
        return _Content(i, errors, digest, None)

    try:
        if image is not None and not size_is_reported:
            check_sizes(image, raw, pair)
    except MXNetSegError as error:
        errors.append(("size", error))
    try:
        histogram = count_ids(dataset.to_train_ids(raw, pair.mask))
    except MXNetSegError as error:
        errors.append(("label", error))
    return _Content(i, errors, digest, histogram)


def _naming_the_file(read: Callable[[], np.ndarray], path: Path) -> np.ndarray:
    """Return ``read()``; any exception of a library becomes an error with the file's name."""
    try:
        return read()
    except MXNetSegError:
        raise
    except Exception as error:
        raise DataError("a file cannot be read", where=path, received=f"{type(error).__name__}: {error}",
                        fix="check this file") from error


def _check_mask(result: Audit, dataset: SegDataset, content: _Content) -> None:
    path, classes = dataset.mask_path(content.index), np.flatnonzero(content.histogram[:IGNORE])
    if not len(classes):
        result.add("unlabelled", dataset.split, DataError(
            "every pixel of a mask is ignored, so nothing is learnt from it", where=path,
            fix="label it, or take the pair out of the split"))
    elif len(classes) == 1:
        result.add("flat", dataset.split, DataError(
            "a mask holds a single class", where=path, received=f"{dataset.classes[classes[0]]} only",
            fix="nothing, if the image shows nothing else"))


# ---- all splits together --------------------------------------------------------------------


def _check_whole(result: Audit, datasets: Sequence[SegDataset]) -> None:
    """Find problems that show only after all pixels have been counted."""
    first = datasets[0] if datasets else result.dataset
    for path in first.orphans():  # the same for every split
        result.add("orphan", "", DataError("a mask belongs to no image", where=path,
                                           fix="add the image of the same name, or remove the mask"))

    pixels = sum((stats.pixels for stats in result.splits.values()), np.zeros(first.nclass, np.int64))
    ignored = sum(stats.ignored for stats in result.splits.values())
    where = first.root.absolute()
    if first.nclass > 1 and pixels[0] and ignored and not pixels[1:].any():
        result.add("binary", "", DataError(
            f"the masks hold 0 and {IGNORE} only, and {IGNORE} means ignore", where=where,
            received=f"{pixels[0]} pixels of 0, {ignored} of {IGNORE}",
            fix=f"if {IGNORE} stands for {first.classes[1]!r}, write 1 in its place:\n"
                f"mxnetseg prepare colours SRC DST, with '{first.classes[0]} #000000' and "
                f"'{first.classes[1]} #ffffff' in SRC/classes.txt"))

    train = result.splits.get("train")
    if train and train.pixels.any() and not train.pixels.all():
        absent = [name for name, n in zip(first.classes, train.pixels) if not n]
        result.add("absent", "train", DataError(
            f"{len(absent)} of {first.nclass} classes have no pixel to learn from", where=where,
            received=", ".join(absent), fix="check the ids in the masks and the order of the classes"))
