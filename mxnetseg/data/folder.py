"""The user's own images as a data set: two folders and a text file, without Python code."""
from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import DataError, DataNotFoundError, MXNetSegError
from ..files import no_file
from ..viz.palette import class_palette
from .base import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    PLAIN,
    Decoding,
    Pair,
    PathLike,
    SegDataset,
    list_files,
    read_list,
    read_mask,
)
from .draft import draft_classes
from .labels import refuse_one_class
from .layouts import hold_out
from .listing import nfc
from .splits import split_of

_COLOR = re.compile(r"\s+#([0-9a-fA-F]{6})$")

_log = logging.getLogger(__name__)


class OwnDataset(SegDataset):
    """Base of the data sets made of the user's own images, with class names and colours in ``classes.txt``.

    The root must be given; no other place is searched. Masks hold class ids, 0 being the first line of
    ``classes.txt``, and 255 where a pixel is ignored. If ``classes.txt`` gives every class a colour, masks may be RGB
    images in these colours.
    """

    label_hint = ("write 255 (ignore) where a pixel is not to count, or add the missing classes to "
                  "classes.txt: one line for each id, the first line is id 0")

    def __init__(self, *, split: str = "train", root: PathLike | None = None, decoding: Decoding = PLAIN):
        if root is None:
            name = type(self).name
            raise DataNotFoundError(f"{name} data needs a folder", fix=f"name it: --data {name}:PATH\n{self.layout}")
        super().__init__(split=split, root=root, decoding=decoding)

    def _find_root(self, root: PathLike | None) -> Path:
        try:
            return super()._find_root(root)
        except DataNotFoundError:
            self.root = self.places(root)[0]
            if not (self.root / "classes.txt").exists() and self.root.is_dir():
                self._draft_classes()
            raise

    def _draft_classes(self) -> None:
        """Raise an error with a draft of the missing ``classes.txt``, if there are masks to make it from."""
        masks: dict[Path, None] = {}
        for split in self.splits:
            self.split = split
            with suppress(MXNetSegError):
                masks.update((pair.mask, None) for pair in self.find_pairs() if pair.mask and pair.mask.is_file())
        draft = draft_classes(list(masks))
        if draft is None:
            return

        path = self.root / "classes.txt"
        counted = f"classes.txt is missing: {len(masks)} pairs found, {draft.found}"
        if len(draft.lines) < 2:
            raise DataNotFoundError(counted, where=path, received=draft.values, fix=(
                "write one class a line, id 0 first" if draft.lines else
                "save the masks as class ids, 8-bit grey PNG; so many colours are not classes: smooth resizing and "
                "JPEG add colours along every edge"))
        fix = f"save these lines as {path}, with the names of the classes in place of class0, class1, ..."
        if draft.convert:
            fix += f"\nthen convert the masks: mxnetseg prepare colours {self.root} DST"
        if any(line.endswith(" #000000") for line in draft.lines):
            fix += "\nleave the line of #000000 out if black means ignore"
        raise DataNotFoundError(f"{counted}; a draft follows", where=path, received=draft.values,
                                fix="\n".join([fix, *draft.lines]))

    def _prepare(self) -> None:
        self.name = self.root.resolve().name
        self.classes, self.palette, self._all_colored = read_classes(self.root / "classes.txt")

    def read_raw_mask(self, path: Path) -> np.ndarray:
        return read_mask(path, colors=self.palette if self._all_colored else None)


class FolderDataset(OwnDataset):
    """Images and masks in two folders, class names in ``classes.txt``.

    Masks are described in :class:`OwnDataset`. The splits come from the first of these that exists: ``train.txt`` and
    ``val.txt`` (names of images, one a line); subfolders ``images/train`` and ``images/val`` (``valid`` and
    ``validation`` are other spellings of it); a hash of the names, which holds out about 10 % of the images for
    ``val``, see :func:`~mxnetseg.data.layouts.hold_out`. The split ``test`` needs no masks.

    Names of images and masks match in both encodings of accents (NFC on Linux, NFD from older Macs).

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        root: the folder.
    """

    name = "folder"
    splits = ("train", "val", "test")
    markers = ("classes.txt", "images")
    layout = """\
<root>/classes.txt            one class a line, id 0 first; a colour may follow: road #804080
<root>/images/NAME.jpg        or .png ...; subfolders are allowed
<root>/masks/NAME.png         8-bit class ids, 255 = ignore; the same subfolders as images
<root>/train.txt, val.txt     optional: one NAME a line; or subfolders images/train, images/val"""

    def find_pairs(self) -> list[Pair]:
        images = self._by_name("images", IMAGE_SUFFIXES)
        masks = self._by_name("masks", MASK_SUFFIXES)
        self._orphans = [mask for name, mask in masks.items() if name not in images]
        names = self._names_of_split(images)
        # a pair may name missing files: _check_pairs reports them
        return [Pair(n, images[n], self._mask_of(n, masks)) for n in names]

    def _mask_of(self, name: str, masks: dict[str, Path]) -> Path | None:
        return masks.get(name) or (None if self.split == "test" else self.root / "masks" / f"{name}.png")

    def orphans(self) -> list[Path]:
        return self._orphans

    def _check_pairs(self) -> None:
        without_mask = [pair for pair in self._pairs if pair.mask and not pair.mask.is_file()]
        if without_mask and not self.problems:
            note = "" if (self.root / "masks").is_dir() else " (there is no folder masks)"
            raise DataNotFoundError(
                f"{len(without_mask)} of {len(self._pairs)} images of the split {self.split!r} have no mask{note}",
                where="\n".join(str(pair.image) for pair in without_mask[:3]),
                received=f"{without_mask[0].mask} {no_file(without_mask[0].mask)}",
                fix=f"add the masks (one of {', '.join(MASK_SUFFIXES)}), or remove the images\n"
                    f"layout expected:\n{self.layout}",
            )
        super()._check_pairs()

    def _by_name(self, folder: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
        """Map the path below ``folder`` without extension to the file, for all files."""
        top, found = self.root / folder, {}
        # two splits may be links to one folder, which a single walk would enter once
        links = [path for path in top.glob("*") if names_split(path.name) and path.is_symlink()]
        for path in dict.fromkeys(path for place in (top, *links) for path in list_files(place, suffixes)):
            name = nfc(path.relative_to(top).with_suffix("").as_posix())
            if name in found:
                self.problems.append(DataError(
                    "two files share one name", where=f"{found[name]}\n{path}",
                    fix="remove or rename one of them: images and masks are matched by name"))
            found[name] = path
        return found

    def _names_of_split(self, images: dict[str, Path]) -> list[str]:
        lists = {split: found for split in self.splits if (found := find_split(self.root, split, ".txt"))}
        if lists:
            if self.split not in lists:
                raise DataNotFoundError(
                    f"the split {self.split!r} has no list, though other splits have one",
                    where=self.root / f"{self.split}.txt", received=", ".join(path.name for path in lists.values()),
                    fix=f"write {self.split}.txt with one name a line, or remove the other lists")
            return self._read_names(lists[self.split], images)

        folders = {split: found.name for split in self.splits if (found := find_split(self.root / "images", split))}
        if folders:
            self._warn_of_unused(images, list(folders.values()))
            return [n for n in images if self.split in folders and n.startswith(folders[self.split] + "/")]

        if self.split == "test":
            raise DataNotFoundError("this folder has no test split", where=self.root,
                                    fix="write test.txt with one name a line, or make images/test")
        self.held_out = True
        return hold_out(sorted(images))[self.split == "val"]

    def _warn_of_unused(self, images: dict[str, Path], folders: list[str]) -> None:
        unused = [name for name in images if name.split("/")[0] not in folders]
        if unused and self.split == "train":
            _log.warning("%d images of %s are in no split, because they are not below images/%s: %s", len(unused),
                         self.root, " or images/".join(folders), images[unused[0]])

    def _read_names(self, path: Path, images: dict[str, Path]) -> list[str]:
        """Read a list of names such as ``a``, ``a.jpg``, ``images/a.jpg``; of a pair, the first word is taken."""
        names: list[str] = []
        for line in read_list(path):
            for word in (line, line.split()[0]):  # the whole line first, since a name may contain spaces
                name = nfc(word.replace("\\", "/"))
                name = name[len("images/"):] if name.startswith("images/") else name
                if name not in images and name.lower().endswith(IMAGE_SUFFIXES):
                    name = name[:name.rindex(".")]
                if name in images:
                    break
            else:
                self.problems.append(DataNotFoundError(
                    "a list names a missing image", where=path, received=line,
                    fix=f"add the image below {self.root / 'images'}, or remove the line"))
                continue
            names.append(name)

        repeated = len(names) - len(set(names))
        if repeated:
            self.problems.append(DataError(
                f"a list names {repeated} images more than once", where=path,
                received=next(n for n in names if names.count(n) > 1), fix="remove the repeated lines"))
        return list(dict.fromkeys(names))


def find_split(folder: Path, split: str, ending: str = "") -> Path | None:
    """Return the list (given an ending) or the folder of a split, or None if there is none.

    Raises:
        DataError: there are two, or the list is not a file. Ignoring it would choose the split by a hash instead.
    """
    named = [folder / name for name in sorted(os.listdir(folder) if folder.is_dir() else [])
             if name.endswith(ending) and names_split(name[:len(name) - len(ending)]) == split]
    found = [path for path in named if path.is_file() == bool(ending)]
    for path in named if ending else ():
        if path not in found:
            is_broken = path.is_symlink() and not path.exists()
            raise DataError(f"the list of the split {split!r} " + ("is a link that leads nowhere" if is_broken else
                            no_file(path)), where=path, received=f"-> {os.readlink(path)}" if is_broken else None,
                            fix="replace it by a text file with one entry a line, or remove it")
    if len(found) > 1:
        raise DataError(f"the split {split!r} exists under {len(found)} names", where="\n".join(map(str, found)),
                        fix="merge them under one name, or remove the wrong ones")
    return found[0] if found else None


def names_split(name: str) -> str | None:
    """Return the split that a whole name means, or None: ``valid`` is ``val``, ``train station`` is not a split."""
    return split_of(name) if name.isalpha() else None


def read_classes(path: Path) -> tuple[tuple[str, ...], np.ndarray, bool]:
    """Read ``classes.txt``.

    Returns:
        Names; colours, uint8 (n, 3), chosen by :func:`~mxnetseg.viz.palette.class_palette` for classes without a
        colour in the file; whether every class has a colour in the file.

    Raises:
        DataError: a name or colour is given twice, or there is a single class, or more than 255.
    """
    lines = read_list(path)
    if len(lines) > 255:
        raise DataError("too many classes for 8-bit masks", where=path, received=f"{len(lines)} lines",
                        fix="keep at most 255 classes: the value 255 means ignore")
    names, given, colours = [], [], {}
    for i, line in enumerate(lines):
        color = _COLOR.search(line)
        if color:
            given.append(color.group(1).lower())
            colours[i] = tuple(bytes.fromhex(given[-1]))
            line = line[:color.start()].rstrip()
        if "#" in line:
            raise DataError("a line is neither 'name' nor 'name #rrggbb'", where=f"{path}, line {i + 1}",
                            received=lines[i], fix="write a colour as six hexadecimal digits: road #804080")
        names.append(line)

    for what, values in (("class", names), ("colour", given)):
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            raise DataError(f"a {what} is given twice", where=path, received=", ".join(twice),
                            fix=f"give every line its own {what}; the number of the line is the class id")
    refuse_one_class(names, where=path)
    return tuple(names), class_palette(names, colours), len(given) == len(names)
