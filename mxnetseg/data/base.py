"""Base class of the data sets: files on the disk, classes, colours, and the ids of the labels.

A data set yields NumPy arrays and knows nothing of networks. Images are uint8 (H, W, 3) in RGB order, masks uint8
(H, W) of train ids 0 .. nclass-1, and :data:`IGNORE` where a pixel does not count. The label ids in the files become
train ids here and nowhere else, by :mod:`mxnetseg.data.labels`.

The file of a data set imports all that it needs from here.
"""
from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError, DataNotFoundError, MXNetSegError, UnknownNameError
from ..files import PathLike, no_file
from .decoding import IGNORE, IMAGE_SUFFIXES, MASK_SUFFIXES, PLAIN, Decoding, read_image
from .labels import LabelTable, refuse_one_class
from .listing import is_plain, list_files, read_list
from .masks import read_mask
from .pairs import Pair, Sample, check_sizes
from .palettes import hex_palette, voc_palette
from .places import DATA_VARIABLE, candidate_folders, describe_search, has_markers

__all__ = ["IGNORE", "IMAGE_SUFFIXES", "MASK_SUFFIXES", "PLAIN", "Decoding", "Pair", "PathLike", "Sample", "SegDataset",
           "hex_palette", "list_files", "read_image", "read_list", "read_mask", "voc_palette"]

_log = logging.getLogger(__name__)


class SegDataset:
    """Base of the data sets. A subclass declares the attributes below and writes :meth:`find_pairs`.

    Args:
        split: one of ``splits``.
        root: folder of the data set, or one above it. By default ``$MXNETSEG_DATA/<subdir>``, then
            ``./dataset/<subdir>``.
        decoding: how images that are not 8-bit grey or RGB are converted; by default they are refused.

    Raises:
        UnknownNameError: the split does not exist.
        DataNotFoundError: the data set, or a file named by its lists, does not exist.
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
        split_markers: split -> markers of a folder that holds this split alone.
        home_page, licence: where it comes from, and what its licence permits.
        layout: drawing of the expected folders, shown when they are not found.
        label_hint: what to do about a label outside the classes.
        counts: published number of images of each split; another number on the disk is a warning. A
            combined split without an entry is the sum of its parts.
        split_notes: what the user must know about the splits to compare results.
        prepared_by: name of the conversion of ``mxnetseg prepare`` that makes the layout; empty if the download is
            read as it is.
        prepared_from: files that the conversion needs.
        problems: mistakes in the lists that :meth:`find_pairs` skipped. The constructor raises the first;
            :mod:`mxnetseg.data.audit` reports all.
        held_out: whether ``train`` and ``val`` were divided by a hash of the names, because the user did not.
    """

    name: str = ""
    splits: tuple[str, ...] = ("train", "val", "test")
    combined: Mapping[str, tuple[str, ...]] = {}
    classes: tuple[str, ...] = ()
    palette: np.ndarray = np.zeros((0, 3), np.uint8)
    label_map: Mapping[int, int] | None = None
    subdir: str = ""
    markers: tuple[str, ...] = ()
    split_markers: Mapping[str, tuple[str, ...]] = {}
    home_page: str = ""
    licence: str = ""
    layout: str = ""
    counts: Mapping[str, int] = {}
    split_notes: str = ""
    prepared_by: str = ""
    prepared_from: str = ""
    label_hint: str = "correct the mask, or write 255 (ignore) where a pixel is not to count"

    def __init__(self, *, split: str = "train", root: PathLike | None = None, decoding: Decoding = PLAIN):
        if split not in self.splits:
            raise UnknownNameError(f"split of {self.name}", split, self.splits)
        self.split, self.decoding = split, decoding
        self.problems: list[MXNetSegError] = []
        self.held_out = False
        self.root = self._find_root(root)
        self._prepare()
        refuse_one_class(self.classes, where=self.root.absolute())
        self._pairs = self.find_pairs()

        self._check_names()
        self._check_pairs()
        self._compare_count()

    # ---- what a subclass writes -------------------------------------------------------------

    def find_pairs(self) -> list[Pair]:
        """List the files of ``self.split`` below ``self.root``, in a fixed order."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Hook for data sets whose classes are read from files below ``self.root``."""

    def orphans(self) -> list[Path]:
        """Return masks that belong to no image, where the data set's naming rule shows it."""
        return []

    def read_raw_mask(self, path: Path) -> np.ndarray:
        """Read label ids as the file holds them: uint8 (H, W). See :func:`~mxnetseg.data.masks.read_mask`."""
        return read_mask(path)

    # ---- reading ----------------------------------------------------------------------------

    @property
    def nclass(self) -> int:
        """Number of classes, not counting ignore."""
        return len(self.classes)

    @property
    def parts(self) -> tuple[str, ...]:
        """The elementary splits that ``self.split`` consists of."""
        return tuple(self.combined.get(self.split, (self.split,)))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, i: int) -> Sample:
        """Read item ``i``.

        Raises:
            DataError: a file is damaged, has the wrong mode or size, or holds a label outside the classes.
            DataNotFoundError: a file was removed since the data set was opened.
        """
        pair = self._pairs[i]
        image = self.load_image(i)
        if pair.mask is None:
            return Sample(image, None, pair.name).with_classes(self.classes, self.palette)
        raw = self.load_raw_mask(i)
        check_sizes(image, raw, pair)
        return Sample(image, self.to_train_ids(raw, pair.mask), pair.name).with_classes(self.classes, self.palette)

    def load_image(self, i: int, *, reduce: int = 1) -> np.ndarray:
        """Read the image of item ``i``: uint8 (H, W, 3), RGB; see :func:`read_image` for ``reduce``."""
        return read_image(self._pairs[i].image, reduce=reduce, decoding=self.decoding)

    def load_raw_mask(self, i: int) -> np.ndarray:
        """Read the label ids of item ``i`` as its file holds them: uint8 (H, W)."""
        try:
            return self.read_raw_mask(self._pairs[i].mask)
        except DataError as error:
            if not self.home_page:
                raise
            # of a published data set it is known which files are the right ones
            raise DataError(error.what, where=error.where, received=error.received,
                            fix=f"{error.fix}\n{self.label_hint}") from error

    def pair(self, i: int) -> Pair:
        """Return the name and files of item ``i``."""
        return self._pairs[i]

    def image_path(self, i: int) -> Path:
        """Return the file of the image of item ``i``."""
        return self._pairs[i].image

    def mask_path(self, i: int) -> Path | None:
        """Return the file of the mask of item ``i``, None if the split has no labels."""
        return self._pairs[i].mask

    @cached_property
    def _labels(self) -> LabelTable:
        return LabelTable(self.label_map, self.nclass, self.name)

    def to_train_ids(self, raw: np.ndarray, path: Path) -> np.ndarray:
        """Convert the ids of a file to train ids.

        Args:
            raw: uint8 (H, W), as :meth:`read_raw_mask` returns it.
            path: the file, for the message.

        Returns:
            uint8 (H, W), train ids and IGNORE.

        Raises:
            DataError: an id belongs to no class.
        """
        return self._labels.to_train_ids(raw, path, self.label_hint)

    def to_raw_ids(self, class_map: np.ndarray) -> np.ndarray:
        """Convert train ids back to the ids of the data set's own files, which a test server expects.

        Args:
            class_map: integers of any shape, each a train id or IGNORE.

        Returns:
            uint8 of the same shape. Where several file ids share a train id, the smallest is taken.

        Raises:
            DataError: a value is neither a train id nor IGNORE.
        """
        return self._labels.to_raw_ids(class_map)

    # ---- description ------------------------------------------------------------------------

    @property
    def names_digest(self) -> str:
        """SHA-256, as hexadecimal digits, of the names in the split in any order: it identifies the set of images."""
        names = "\n".join(sorted(pair.name for pair in self._pairs))
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def info(self) -> dict[str, object]:
        """Return the description of the data set that a checkpoint stores, fit for JSON.

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
    def published_count(cls, split: str) -> int | None:
        """Return the published number of images of a split, None if it is not known."""
        if split in cls.counts or split not in cls.combined:
            return cls.counts.get(split)
        parts = [cls.counts.get(part) for part in cls.combined[split]]
        return None if None in parts else sum(parts)

    @classmethod
    def preparation(cls) -> str:
        """Return the command that makes the layout, and what it needs; empty if the download is read as it is."""
        if not cls.prepared_by:
            return ""
        return f"mxnetseg prepare {cls.prepared_by} SRC DST, where SRC holds {cls.prepared_from}"

    # ---- search for the folder --------------------------------------------------------------

    @classmethod
    def places(cls, root: PathLike | None = None) -> list[Path]:
        """Return the folders in which the data set is looked for, in this order.

        An explicit ``root`` may be the data set's own folder or one of the folders above it.
        """
        return candidate_folders(cls.subdir, root)

    @classmethod
    def is_at(cls, place: Path) -> bool:
        """Return whether a folder holds the data set, judging by its markers."""
        return has_markers(place, cls.markers)

    def _find_root(self, root: PathLike | None) -> Path:
        places = self.places(root)
        split_markers = self.split_markers.get(self.split, ())
        for markers in filter(None, (self.markers or ("",), split_markers)):
            for place in places:
                if has_markers(place, markers):
                    return place

        fix = (f"give the folder that holds it: {self.name}:PATH; in place of the folder that a checkpoint or a "
               "configuration names: --root PATH") if not self.subdir else (
            f"put the data set in one of these places, give its folder (--root), or set {DATA_VARIABLE}")
        if self.home_page:
            fix += f"\navailable from {self.home_page}"
        if self.prepared_by:
            fix += f"\nthen: {self.preparation()}"
        raise DataNotFoundError(
            f"the data set {self.name} was not found",
            where=f"looked in\n{describe_search(places, self.markers, self.split, split_markers)}",
            fix=f"{fix}\nlayout expected:\n{self.layout}")

    # ---- checks -----------------------------------------------------------------------------

    def _check_names(self) -> None:
        """Refuse names that leave a folder: predictions are written to files of these names."""
        for pair in self._pairs:
            if not is_plain(pair.name):
                raise DataError(f"a name of the split {self.split!r} of {self.name} is no path below a folder",
                                where=pair.image, received=pair.name, fix="correct it in the list that names it")

    def _check_pairs(self) -> None:
        """Refuse an incomplete split. The audit, which reports every problem, replaces this method."""
        if self.problems:
            raise self.problems[0]
        if not self._pairs:
            raise DataError(f"the split {self.split!r} of {self.name} is empty", where=self.root.absolute(),
                            fix=f"layout expected:\n{self.layout}")
        for error in self.repeated_names():
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

    def repeated_names(self) -> Iterator[DataError]:
        """Yield an error for each item with the name of an earlier one: an image listed twice, or two of one name."""
        seen: dict[str, Pair] = {}
        for pair in self._pairs:
            first = seen.setdefault(pair.name, pair)
            if first is not pair:
                yield DataError(
                    f"the split {self.split!r} of {self.name} holds an image twice, or two of one name",
                    where=f"{first.image}\n{pair.image}", received=pair.name,
                    fix="remove or rename one of the files, or take one of the lines out of the lists")

    def _compare_count(self) -> None:
        published = self.published_count(self.split)
        if published is not None and published != len(self):
            _log.warning("%s, split %s: %d images here, %d published; results will not be comparable (%s)",
                         self.name, self.split, len(self), published, self.root)
