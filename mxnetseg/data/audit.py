"""Everything that is wrong with a data set, found before a training stumbles over it.

:func:`audit` looks at every pair of every split and never stops at the first damage. It goes over the
files' headers first (seconds, even for large data sets: is everything there, do the sizes agree), then over
their contents with all cores. What it keeps in memory is a few numbers per split and a digest per image.
"""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Type

import cv2
import numpy as np

from ..errors import DataError, DataNotFoundError, MXNetSegError, UsageError, nearest
from ..files import no_file
from . import locate_dataset
from .base import IGNORE, IMAGE_SUFFIXES, PLAIN, Decoding, PathLike, SegDataset, check_sizes
from .decoding import UndeclaredImage
from .findings import KINDS, Audit, SplitStats
from .headers import open_picture, read_header
from .pack import PackDataset
from .parallel import TIMEOUT, in_parallel

USUAL_SPLITS = ("train", "val", "test")
_MAX_BINS = 1 << 24  # calcHist counts in float32, which is exact up to here
_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

Progress = Callable[[Iterable, int], Iterable]


def audit(name: str, *, splits: Sequence[str] = (), root: Optional[PathLike] = None,
          workers: Optional[int] = None, allow: Sequence[str] = (), timeout: float = TIMEOUT,
          decoding: Decoding = PLAIN, progress: Optional[Progress] = None) -> Audit:
    """Look at every pair of a data set.

    Args:
        name: as for :func:`~mxnetseg.data.get_dataset`: a name, or the path of folder data.
        splits: default: those of train, val and test that are there; if it has none of these, all.
        root: where it lies.
        workers: threads; default one for each core.
        timeout: seconds to wait for one file.
        allow: kinds of findings (:data:`KINDS`) that are told but do not make the audit fail.
        decoding: how images that are not 8-bit grey or RGB are converted.
        progress: wraps a stream of items: ``progress(items, count)``, as a progress bar does.

    Raises:
        UnknownNameError: no such data set or split.
        UsageError: no such kind, or the data set is a pack.
        DataNotFoundError: the data set is not there at all.
        DataError: its classes cannot be read.
    """
    for kind in allow:
        if kind not in KINDS:
            close = nearest(kind, KINDS, n=1)
            raise UsageError("there is no such kind of finding", received=kind, fix=(
                f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(KINDS)}")
    cls, root = locate_dataset(name, root=root)
    if cls is PackDataset:
        raise UsageError("a pack holds only what was sound, so there is nothing to audit", received=name,
                         fix=f"mxnetseg pack {name} --verify compares its checksums; check-data is for the files it "
                             "was made of")
    unchecked = type(cls.__name__, (_Unchecked, cls), {})
    wanted = tuple(dict.fromkeys(splits)) or _usual(cls)
    opened, result = [], None
    postponed: List[Tuple[str, MXNetSegError]] = []
    for split in wanted:
        try:
            dataset = unchecked(split=split, root=root, decoding=decoding)
        except (DataError, DataNotFoundError) as error:
            postponed.append((split, error))
            continue
        opened.append(dataset)
    if not opened:
        raise postponed[0][1]
    result = Audit(opened[0], allowed=tuple(allow))
    for split, error in postponed:
        _not_there(result, split, error, asked=split in splits)
    whole = []
    for dataset in opened:
        if len(dataset) or dataset.problems:
            whole.append(dataset)
            for error in (*dataset.problems, *dataset.twins()):
                result.add("list", dataset.split, error)
            _compare_count(result, dataset)
        else:
            _not_there(result, dataset.split, DataError(
                f"the split {dataset.split!r} is empty", where=dataset.root.absolute(),
                fix=f"layout expected:\n{dataset.layout}"), asked=dataset.split in splits)
    bar = progress or (lambda items, count: items)
    crew = {"workers": workers, "timeout": timeout}
    told = {dataset.split: _look_at_headers(result, dataset, bar, **crew) for dataset in whole}
    digests: Dict[bytes, Tuple[str, Path]] = {}
    undeclared: List[UndeclaredImage] = []
    for dataset in whole:
        _look_at_contents(result, dataset, told[dataset.split], digests, undeclared, bar, **crew)
    low, high = (min((e.low for e in undeclared), default=0), max((e.high for e in undeclared), default=0))
    for error in undeclared:  # what fits one image would clip another
        error.suggest(low, high, "the range of all these images")
    _look_at_whole(result, whole)
    return result


class _Unchecked:
    """Mixed into a data set: it opens whatever its lists name, so that all of it can be looked at."""

    def _check_pairs(self) -> None:
        pass

    def _compare_count(self) -> None:
        pass


def _usual(cls: Type[SegDataset]) -> Tuple[str, ...]:
    elementary = tuple(split for split in cls.splits if split not in cls.combined)
    return tuple(split for split in USUAL_SPLITS if split in elementary) or elementary


def _not_there(result: Audit, split: str, error: MXNetSegError, asked: bool) -> None:
    """A split that cannot be listed: only a test split may be missing, if nobody asked for it."""
    if split == "test" and not asked:
        result.absent[split] = error.what
    else:
        result.add("list", split, error)


def _compare_count(result: Audit, dataset: SegDataset) -> None:
    published = dataset.published_count(dataset.split)
    if published not in (None, len(dataset)):
        result.add("count", dataset.split, DataError(
            "a split has another number of images than is published", where=dataset.root.absolute(),
            received=f"{dataset.split}: {len(dataset)}, published {published}",
            fix="unpack the missing part; without it, results will not be comparable"))


# ---- headers --------------------------------------------------------------------------------


class _Header(NamedTuple):
    """What a file says of itself: format, mode, (width, height) as it is stored, EXIF orientation."""

    format: str
    mode: str
    size: Tuple[int, int]
    orientation: int

    @property
    def shown_size(self) -> Tuple[int, int]:
        """(width, height) when its rotation has been applied, as :func:`~mxnetseg.data.base.read_image` does."""
        return self.size[::-1] if self.orientation in _TURNED else self.size


def _header(path: Path) -> Optional[_Header]:
    """The header, without decoding the file; None if Pillow does not know it or it is damaged."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    try:
        true = read_header(np.memmap(path, np.uint8, "r"))  # Pillow calls three bands of 16 bits RGB
        if true is not None and (true.dtype != "uint8" or true.bands not in (1, 3) or true.frames > 1):
            mode = str(true).partition(", ")[2]
            return _Header(true.format, mode, (true.width, true.height), true.pages[0].tag(274, 1) if true.pages else 1)
        with open(path, "rb") as stream, open_picture(stream) as picture:
            # for a PNG, getexif() would decode all of it; OpenCV turns JPEG, WebP and TIFF
            turned = picture.getexif().get(_EXIF_ORIENTATION, 1) if picture.format != "PNG" else 1
            return _Header(picture.format, picture.mode, picture.size, turned)
    except Exception:  # whatever is wrong is said when the contents are read
        return None


class _Told(NamedTuple):
    """Indices of the pairs of which a file is missing, and of those whose sizes are known to differ."""

    missing: Set[int]
    size: Set[int]


def _look_at_headers(result: Audit, dataset: SegDataset, bar: Progress, **crew) -> _Told:
    """Find missing files, sizes that differ and unusual images."""
    stats = result.splits[dataset.split] = SplitStats.empty(len(dataset), dataset.nclass)
    told = _Told(set(), set())

    def look(i: int):
        paths = [dataset.image_path(i), dataset.mask_path(i)]
        problems = [None if p is None else no_file(p) for p in paths]
        return i, problems, [None if p is None or problem else _header(p) for p, problem in zip(paths, problems)]

    looks = in_parallel(look, range(len(dataset)), where=dataset.image_path, **crew)
    for i, problems, (image, mask) in bar(looks, len(dataset)):
        pair = dataset.pair(i)
        for path, kind, problem in zip(pair[1:], ("image", "mask"), problems):
            if problem:
                told.missing.add(i)
                result.add("missing", dataset.split, DataNotFoundError(
                    f"the {kind} of a pair {problem}", where=path,
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
                check_sizes(*(np.broadcast_to(np.uint8(0), h.shown_size[::-1]) for h in (image, mask)), pair)
            except DataError as error:
                told.size.add(i)
                result.add("size", dataset.split, error)
    return told


def _oddities(header: _Header, path: Path) -> Iterator[DataError]:
    """What a network would not see as the user may think; none of it is an error."""
    if header.orientation != 1:
        yield DataError("an image carries an EXIF rotation, which is applied on reading", where=path,
                        received=f"orientation {header.orientation}",
                        fix="nothing, if its mask is turned likewise; else save it with the rotation applied")
    if header.mode == "CMYK":
        yield DataError("an image is CMYK, for printing; its colours are converted roughly", where=path,
                        fix="save it as RGB")
    elif header.mode in ("RGBA", "LA", "PA"):
        yield DataError("an image has an alpha channel, which is dropped", where=path, received=f"mode {header.mode}",
                        fix="nothing: it is opaque, or data.bands says which bands count, or the image is refused")
    elif header.mode in ("L", "1"):
        yield DataError("an image is grey; its values become red, green and blue", where=path,
                        received=f"mode {header.mode}", fix="nothing, if it is meant so")


# ---- contents -------------------------------------------------------------------------------


class _Content(NamedTuple):
    """What the contents of a pair show: its errors, a digest of the picture, the pixels of each train id."""

    index: int
    errors: List[Tuple[str, MXNetSegError]]
    digest: Optional[bytes]
    histogram: Optional[np.ndarray]


def _look_at_contents(result: Audit, dataset: SegDataset, told: _Told, digests: Dict[bytes, Tuple[str, Path]],
                      undeclared: List[UndeclaredImage], bar: Progress, **crew) -> None:
    stats = result.splits[dataset.split]
    whole = (i for i in range(len(dataset)) if i not in told.missing)
    read = in_parallel(lambda i: _read(dataset, i, sized=i in told.size), whole, where=dataset.image_path, **crew)
    for content in bar(read, len(dataset) - len(told.missing)):
        path = dataset.image_path(content.index)
        for kind, error in content.errors:
            result.add(kind, dataset.split, error)
            if isinstance(error, UndeclaredImage):
                undeclared.append(error)
        if content.histogram is not None:
            stats.count(content.histogram)
            _look_at_mask(result, dataset, content)
        if content.digest is None:
            continue
        split, first = digests.setdefault(content.digest, (dataset.split, path))
        if split != dataset.split:
            result.add("leak", dataset.split, DataError(
                f"a picture of the split {dataset.split!r} is in {split!r} too, so scores flatter the network",
                where=f"{first}\n{path}", fix="take it out of one of the two splits"))
        elif first != path:
            result.add("duplicate", dataset.split, DataError(
                "two files of a split hold the same picture", where=f"{first}\n{path}",
                fix="remove one, unless it is to count twice"))


def _read(dataset: SegDataset, i: int, *, sized: bool) -> _Content:
    """Read both files, whatever is wrong with the other one; ``sized``: their sizes have been compared."""
    errors: List[Tuple[str, MXNetSegError]] = []
    image = raw = digest = histogram = None
    pair = dataset.pair(i)
    try:
        image = _named(lambda: dataset.load_image(i), pair.image)
        digest = hashlib.blake2b(image, digest_size=16, person=b"%dx%d" % image.shape[:2]).digest()
    except MXNetSegError as error:
        errors.append(("image", error))
    if pair.mask is None:
        return _Content(i, errors, digest, None)
    try:
        raw = _named(lambda: dataset.load_raw_mask(i), pair.mask)
    except MXNetSegError as error:
        errors.append(("mask", error))
        return _Content(i, errors, digest, None)
    try:
        if image is not None and not sized:
            check_sizes(image, raw, pair)
    except MXNetSegError as error:
        errors.append(("size", error))
    try:
        histogram = _histogram(dataset.to_train_ids(raw, pair.mask))
    except MXNetSegError as error:
        errors.append(("label", error))
    return _Content(i, errors, digest, histogram)


def _named(read: Callable[[], np.ndarray], path: Path) -> np.ndarray:
    """``read()``; whatever a library throws becomes an error with the file's name."""
    try:
        return read()
    except MXNetSegError:
        raise
    except Exception as error:
        raise DataError("a file cannot be read", where=path, received=f"{type(error).__name__}: {error}",
                        fix="check this file") from error


def _histogram(mask: np.ndarray) -> np.ndarray:
    """int64 (256,): how often each value comes."""
    rows = max(_MAX_BINS // max(mask.shape[1], 1), 1)
    total = np.zeros(256, np.int64)
    for top in range(0, len(mask), rows):  # unlike np.bincount, it lets other threads run and copies nothing
        part = np.ascontiguousarray(mask[top:top + rows])
        total += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return total


def _look_at_mask(result: Audit, dataset: SegDataset, content: _Content) -> None:
    path, classes = dataset.mask_path(content.index), np.flatnonzero(content.histogram[:IGNORE])
    if not len(classes):
        result.add("unlabelled", dataset.split, DataError(
            "every pixel of a mask is ignored, so nothing is learnt from it", where=path,
            fix="label it, or take the pair out of the split"))
    elif len(classes) == 1:
        result.add("flat", dataset.split, DataError(
            "a mask holds a single class", where=path, received=f"{dataset.classes[classes[0]]} only",
            fix="nothing, if the picture shows nothing else"))


# ---- the whole ------------------------------------------------------------------------------


def _look_at_whole(result: Audit, datasets: Sequence[SegDataset]) -> None:
    """What only shows when all has been counted."""
    first = datasets[0] if datasets else result.dataset
    for path in first.orphans():  # the same for every split
        result.add("orphan", "", DataError("a mask belongs to no image", where=path,
                                           fix="add the image of the same name, or remove the mask"))
    pixels = sum((stats.pixels for stats in result.splits.values()), np.zeros(first.nclass, np.int64))
    ignored = sum(stats.ignored for stats in result.splits.values())
    where = first.root.absolute()
    if first.nclass > 1 and pixels[0] and ignored and not pixels[1:].any():
        result.add("binary", "", DataError(
            f"the masks hold 0 and {IGNORE} alone, and {IGNORE} means: does not count", where=where,
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
