"""What every data set is: pairs of files on the disk, classes, colours and one table of labels.

A data set yields NumPy arrays and knows nothing of networks. Images are uint8 (H, W, 3) in RGB
order, masks uint8 (H, W) of train ids 0 .. nclass-1, and :data:`IGNORE` where a pixel does not count.
The label ids of the files become train ids here and nowhere else.
"""
from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..errors import DataError, DataNotFoundError, MXNetSegError, UnknownNameError
from ..files import expand, no_file
from .decoding import (  # noqa: F401  re-exported: the data sets import them from here
    IGNORE,
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    PLAIN,
    Decoding,
    PathLike,
    decode_image,
    read_image,
)
from .listing import is_plain, list_files, read_list  # noqa: F401  likewise
from .masks import ids_from_colors, read_mask  # noqa: F401  likewise

DATA_VARIABLE = "MXNETSEG_DATA"

_log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One item of a data set.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W) train ids, or None where the split has no labels.
        name: path-like id, unique in the split, without extension: ``'val/0016E5_07959'``.
    """

    image: np.ndarray
    mask: Optional[np.ndarray]
    name: str


class Pair(NamedTuple):
    """The files behind one :class:`Sample`; ``mask`` is None where the split has no labels."""

    name: str
    image: Path
    mask: Optional[Path]


class SegDataset:
    """Base of the data sets. A subclass declares the attributes below and writes :meth:`find_pairs`.

    Args:
        split: one of ``splits``.
        root: folder of the data set, or one above it. By default ``$MXNETSEG_DATA/<subdir>``, then
            ``./dataset/<subdir>``.
        decoding: how images that are not 8-bit grey or RGB are converted; by default they are refused.

    Raises:
        UnknownNameError: the split does not exist.
        DataNotFoundError: the data set, or a file named by its lists, is not there.
        DataError: the split is empty, or the data set has a single class.

    Attributes:
        name: as users write it.
        splits: names of the splits.
        combined: a split made of others: ``{'trainval': ('train', 'val')}``.
        classes: names of the classes, in the order of the train ids.
        palette: uint8 (nclass, 3), RGB.
        label_map: id in the files -> train id or IGNORE; None if the files hold train ids.
            A file value of 255 is IGNORE unless the map says otherwise.
        subdir: folder below the data folder, ``/`` between its parts; ``a|b``: one of them.
        markers: paths below the root by which the data set is recognised; ``a|b``: one of them.
        split_markers: the same for a folder that holds a single split: split -> paths.
        home_page, licence: where it comes from and what one may do with it.
        layout: picture of the expected folders, shown when they are not found.
        label_hint: what to do about a label outside the classes.
        counts: published number of images of each split; another number on the disk is a warning. A
            combined split without an entry is the sum of its parts.
        split_notes: what one must know of the splits to compare results.
        prepared: whether ``mxnetseg prepare`` makes the layout, which is not that of any download.
        problems: mistakes of its lists that :meth:`find_pairs` could go on after. The constructor raises
            the first; :mod:`mxnetseg.data.audit` tells all.
        held_out: whether ``train`` and ``val`` were divided by a hash of the names, because the user did not.
    """

    name: str = ""
    splits: Tuple[str, ...] = ("train", "val", "test")
    combined: Mapping[str, Tuple[str, ...]] = {}
    classes: Tuple[str, ...] = ()
    palette: np.ndarray = np.zeros((0, 3), np.uint8)
    label_map: Optional[Mapping[int, int]] = None
    subdir: str = ""
    markers: Tuple[str, ...] = ()
    split_markers: Mapping[str, Tuple[str, ...]] = {}
    home_page: str = ""
    licence: str = ""
    layout: str = ""
    counts: Mapping[str, int] = {}
    split_notes: str = ""
    prepared: bool = False
    label_hint: str = "correct the mask, or write 255 (ignore) where a pixel is not to count"

    def __init__(self, *, split: str = "train", root: Optional[PathLike] = None, decoding: Decoding = PLAIN):
        if split not in self.splits:
            raise UnknownNameError(f"split of {self.name}", split, self.splits)
        self.split, self.decoding = split, decoding
        self.problems: List[MXNetSegError] = []
        self.held_out = False
        self.root = self._find_root(root)
        self._prepare()
        refuse_one_class(self.classes, where=self.root.absolute())
        self._train_ids = _label_table(self.label_map, self.nclass)
        self._pairs = self.find_pairs()
        self._check_names()
        self._check_pairs()
        self._compare_count()

    # ---- what a subclass writes -------------------------------------------------------------

    def find_pairs(self) -> List[Pair]:
        """List the files of ``self.split`` below ``self.root``, in a fixed order."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Hook for data sets whose classes are read from files below ``self.root``."""

    def orphans(self) -> List[Path]:
        """Masks that belong to no image, where the data set's rule of names can tell."""
        return []

    def read_raw_mask(self, path: Path) -> np.ndarray:
        """Label ids as the file holds them, uint8 (H, W). See :func:`read_mask`."""
        return read_mask(path)

    # ---- what everybody uses ----------------------------------------------------------------

    @property
    def nclass(self) -> int:
        """Number of classes, not counting ignore."""
        return len(self.classes)

    @property
    def parts(self) -> Tuple[str, ...]:
        """The elementary splits that ``self.split`` consists of."""
        return tuple(self.combined.get(self.split, (self.split,)))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, i: int) -> Sample:
        """Read item ``i``.

        Raises:
            DataError: a file is damaged, has the wrong mode or size, or holds a label outside the classes.
            DataNotFoundError: a file has gone since the data set was opened.
        """
        pair = self._pairs[i]
        image = self.load_image(i)
        if pair.mask is None:
            return Sample(image, None, pair.name)
        raw = self.load_raw_mask(i)
        check_sizes(image, raw, pair)
        return Sample(image, self.to_train_ids(raw, pair.mask), pair.name)

    def load_image(self, i: int, *, reduce: int = 1) -> np.ndarray:
        """The image of item ``i``, uint8 (H, W, 3), RGB; see :func:`read_image` for ``reduce``."""
        return read_image(self._pairs[i].image, reduce=reduce, decoding=self.decoding)

    def load_raw_mask(self, i: int) -> np.ndarray:
        """The label ids of item ``i`` as its file holds them, uint8 (H, W)."""
        try:
            return self.read_raw_mask(self._pairs[i].mask)
        except DataError as error:
            if not self.home_page:
                raise
            # of a published data set it is known which files are the right ones
            raise DataError(error.what, where=error.where, received=error.received,
                            fix=f"{error.fix}\n{self.label_hint}") from error

    def pair(self, i: int) -> Pair:
        """The name and files of item ``i``."""
        return self._pairs[i]

    def image_path(self, i: int) -> Path:
        """File of the image of item ``i``."""
        return self._pairs[i].image

    def mask_path(self, i: int) -> Optional[Path]:
        """File of the mask of item ``i``, None if the split has no labels."""
        return self._pairs[i].mask

    def to_train_ids(self, raw: np.ndarray, path: Path) -> np.ndarray:
        """The ids of a file as train ids.

        Args:
            raw: uint8 (H, W), as :meth:`read_raw_mask` returns it.
            path: the file, for the message.

        Returns:
            uint8 (H, W), train ids and IGNORE.

        Raises:
            DataError: an id that is no class's.
        """
        train = self._train_ids.take(raw)  # unlike indexing, it lets other threads run
        if train.size and train.min() < 0:
            known = f"0..{self.nclass - 1}" if self.label_map is None else _ranges(sorted(self.label_map))
            raise DataError(
                f"a mask of {self.name} holds labels outside the classes",
                where=path,
                received=f"{_describe_values(raw[train < 0])}; known ids are {known}, ignore is {IGNORE}",
                fix=self.label_hint,
            )
        return train.astype(np.uint8)

    def to_raw_ids(self, class_map: np.ndarray) -> np.ndarray:
        """Train ids back to the ids of the data set's own files, as a test server wants them.

        Args:
            class_map: integers of any shape, each a train id or IGNORE.

        Returns:
            uint8 of the same shape. Where several file ids share a train id, the smallest is taken.

        Raises:
            DataError: a value is neither a train id nor IGNORE.
        """
        class_map = np.asarray(class_map)
        wrong = class_map[(class_map != IGNORE) & ((class_map < 0) | (class_map >= self.nclass))]
        if wrong.size:
            raise DataError(
                f"a class map for {self.name} holds values that are not train ids",
                received=f"{_describe_values(wrong)}; classes are 0..{self.nclass - 1}, ignore is {IGNORE}",
                fix="give the class map that the network of this data set predicted",
            )
        table = np.arange(256, dtype=np.uint8)
        if self.label_map is not None:
            for raw in sorted(self.label_map, reverse=True):  # the smallest is written last and stays
                table[self.label_map[raw]] = raw
        return table[class_map]

    @property
    def names_digest(self) -> str:
        """SHA-256 of the names of the split, in any order, as hexadecimal digits: which images it holds."""
        names = "\n".join(sorted(pair.name for pair in self._pairs))
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def info(self) -> Dict[str, object]:
        """What a checkpoint must remember of its data set, fit for JSON.

        ``raw_ids`` lists the file id of each train id, or is None if they are the same.
        """
        raw_ids = None
        if self.label_map is not None:
            raw_ids = self.to_raw_ids(np.arange(self.nclass)).tolist()
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": np.asarray(self.palette).tolist(),
            "ignore": IGNORE,
            "raw_ids": raw_ids,
        }

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(split={self.split!r}, root={str(self.root)!r}): "
                f"{len(self)} images, {self.nclass} classes")

    @classmethod
    def published_count(cls, split: str) -> Optional[int]:
        """Published number of images of a split, None if it is not known."""
        if split in cls.counts or split not in cls.combined:
            return cls.counts.get(split)
        parts = [cls.counts.get(part) for part in cls.combined[split]]
        return None if None in parts else sum(parts)

    @classmethod
    def preparation(cls) -> str:
        """The command that makes the layout, and what it needs; empty if the download is read as it is."""
        if not cls.prepared:
            return ""
        from .prepare import PREPARATIONS

        name = PREPARATIONS.resolve(cls.name)
        return f"mxnetseg prepare {name} SRC DST, where SRC holds {PREPARATIONS.get(name).needs}"

    # ---- where it lies ----------------------------------------------------------------------

    @classmethod
    def places(cls, root: Optional[PathLike] = None) -> List[Path]:
        """The folders where the data set is looked for, in this order.

        An explicit ``root`` may be the data set's own folder or one of the folders above it.
        """
        folders = cls.subdir.split("|")
        below = [name for folder in folders for name in (folder, folder.lower())]
        if root is not None:
            bases, below = [root], ["", *(folder.split("/")[-1] for folder in folders), *below]
        else:
            bases = [os.environ[DATA_VARIABLE]] if os.environ.get(DATA_VARIABLE) else []
            bases.append("dataset")
        places = [expand(base) / folder for base in bases for folder in below]
        return list(dict.fromkeys(places))

    @classmethod
    def is_at(cls, place: Path) -> bool:
        """Whether the data set lies in this folder, as far as its markers tell."""
        return place.is_dir() and not _lacking(place, cls.markers)

    def _find_root(self, root: Optional[PathLike]) -> Path:
        places = self.places(root)
        for markers in filter(None, (self.markers or ("",), self.split_markers.get(self.split))):
            for place in places:
                if place.is_dir() and not _lacking(place, markers):
                    return place
        alone = ", ".join(self.split_markers.get(self.split, ())).replace("|", " or ")
        alone = f"; or {alone} for the split {self.split!r} alone" if alone else ""
        looked = "\n".join(f"{place.absolute()}  ({_why_not(place, self.markers)}{alone if place.is_dir() else ''})"
                           for place in places)
        fix = (f"give the folder that holds it: {self.name}:PATH; in place of the folder that a checkpoint or a "
               "configuration names: --root PATH") if not self.subdir else (
            f"put the data set in one of these places, give its folder (--root), or set {DATA_VARIABLE}")
        if self.home_page:
            fix += f"\nto be had from {self.home_page}"
        if self.prepared:
            fix += f"\nthen: {self.preparation()}"
        raise DataNotFoundError(f"the data set {self.name} was not found",
                                where=f"looked in\n{looked}", fix=f"{fix}\nlayout expected:\n{self.layout}")

    def _check_names(self) -> None:
        """Refuse names that leave a folder: predictions are written to files of these names."""
        for pair in self._pairs:
            if not is_plain(pair.name):
                raise DataError(f"a name of the split {self.split!r} of {self.name} is no path below a folder",
                                where=pair.image, received=pair.name, fix="correct it in the list that names it")

    def _check_pairs(self) -> None:
        """Refuse a split that is not whole; the audit, which wants to see all of it, leaves this out."""
        if self.problems:
            raise self.problems[0]
        if not self._pairs:
            raise DataError(f"the split {self.split!r} of {self.name} is empty", where=self.root.absolute(),
                            fix=f"layout expected:\n{self.layout}")
        for error in self.twins():
            raise error
        missing = [p for pair in self._pairs for p in pair[1:] if p is not None and not os.path.isfile(p)]
        if missing:
            shown = "\n".join(str(p) for p in missing[:3])
            more = f"\nand {len(missing) - 3} more" if len(missing) > 3 else ""
            first = no_file(missing[0])
            raise DataNotFoundError(
                f"{len(missing)} of the files of the split {self.split!r} of {self.name} are missing, or no regular "
                "files", where=shown + more, received=f"the first {first}",
                fix=f"restore them, or take their lines out of the lists\nlayout expected:\n{self.layout}",
            )

    def twins(self) -> Iterator[DataError]:
        """An error for each item whose name an earlier one has: an image that comes twice, or two of one name."""
        seen: Dict[str, Pair] = {}
        for pair in self._pairs:
            twin = seen.setdefault(pair.name, pair)
            if twin is not pair:
                yield DataError(
                    f"the split {self.split!r} of {self.name} holds an image twice, or two of one name",
                    where=f"{twin.image}\n{pair.image}", received=pair.name,
                    fix="remove or rename one of the files, or take one of the lines out of the lists")

    def _compare_count(self) -> None:
        published = self.published_count(self.split)
        if published is not None and published != len(self):
            _log.warning("%s, split %s: %d images here, %d published; results will not be comparable (%s)",
                         self.name, self.split, len(self), published, self.root)


# ---- colours ----------------------------------------------------------------------------------


def refuse_one_class(classes: Sequence[str], *, where: object) -> None:
    """Refuse classes that every network would score 100 % on.

    Raises:
        DataError: there are fewer than two.
    """
    if len(classes) < 2:
        name = classes[0] if classes else "object"
        raise DataError(
            "a data set needs two classes or more: with one, every prediction is right", where=where,
            received=", ".join(classes) or "none",
            fix=f"add a class for everything else: the lines 'background' and {name!r} in classes.txt, with 0 and 1 "
                f"in the masks.\nMasks of 0 and 255: mxnetseg prepare colours SRC DST, with the lines "
                f"'background #000000' and '{name} #ffffff' in SRC/classes.txt")


def voc_palette(n: int) -> np.ndarray:
    """The first ``n`` colours of PASCAL VOC, uint8 (n, 3), for data without colours of its own.

    The bits of the class id, lowest first, are dealt in turn to red, green and blue, each filled
    from its highest bit down (VOC development kit, ``VOClabelcolormap.m``).
    """
    ids = np.arange(n)
    palette = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def hex_palette(text: str) -> np.ndarray:
    """Colours written as ``rrggbb``, separated by white space -> uint8 (n, 3)."""
    return np.frombuffer(bytes.fromhex("".join(text.split())), np.uint8).reshape(-1, 3).copy()


# ---- helpers --------------------------------------------------------------------------------


def check_sizes(image: np.ndarray, mask: np.ndarray, pair: Pair) -> None:
    """Refuse an image and a mask, (H, W, ...) both, that differ in size, with a DataError."""
    if image.shape[:2] == mask.shape:
        return
    (ih, iw), (mh, mw) = image.shape[:2], mask.shape
    fix = "give each image a mask of its own size: resize masks with nearest neighbour, never bilinear"
    if (ih, iw) == (mw, mh):
        fix = "one of them is turned by 90 degrees, perhaps by the image's EXIF rotation: " \
              "save the image with its rotation applied, or turn the mask"
    raise DataError("an image and its mask differ in size", where=f"{pair.image}\n{pair.mask}",
                    received=f"image {iw} x {ih}, mask {mw} x {mh} (width x height)", fix=fix)


def _label_table(label_map: Optional[Mapping[int, int]], nclass: int) -> np.ndarray:
    """int16 (256,): file id -> train id or IGNORE, and -1 for an id that is not known."""
    table = np.full(256, -1, np.int16)
    table[IGNORE] = IGNORE
    if label_map is None:
        table[:nclass] = np.arange(nclass)
    else:
        for raw, train in label_map.items():
            table[raw] = train
    return table


def _describe_values(values: np.ndarray) -> str:
    found, counts = np.unique(values, return_counts=True)
    shown = ", ".join(f"{v} ({n} pixels)" for v, n in zip(found[:8], counts[:8]))
    return shown + (f", and {len(found) - 8} more" if len(found) > 8 else "")


def _ranges(ids: Sequence[int]) -> str:
    """``[0, 1, 2, 7]`` -> ``'0..2, 7'``"""
    runs: List[List[int]] = []
    for i in ids:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)


def _why_not(place: Path, markers: Sequence[str]) -> str:
    if not place.is_dir():
        return "no such folder"
    return "it lacks " + ", ".join(_lacking(place, markers))


def _lacking(place: Path, markers: Sequence[str]) -> List[str]:
    return [m.replace("|", " or ") for m in markers if not any((place / name).exists() for name in m.split("|"))]
