"""Base of the preparations whose annotations are mask files: one image and one mask each."""
from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError
from ..base import IMAGE_SUFFIXES, MASK_SUFFIXES, list_files, read_list
from ..listing import is_plain, nfc
from ..splits import split_of
from .base import Job, Preparation, files_by_name, fingerprint, place, write_png
from .exports import as_class_name, merge_lone_split, some, warn_of_copies

_MASKS_CHECKED_FIRST = 16  # masks that are read before anything is written
_log = logging.getLogger(__name__)


class MaskedImage(NamedTuple):
    """Image with its mask.

    Attributes:
        name: path below the source without suffix, with forward slashes, in Unicode form NFC.
        image: file of the image.
        mask: file of the mask, or None if the image has none.
        split: ``'train'``, ``'val'``, ``'test'`` or None.
    """

    name: str
    image: Path
    mask: Path | None
    split: str | None


class MaskPairs(Preparation):
    """Convert pairs of an image and a mask. A subclass lists them and reads a mask.

    Images without a mask are left out with a note, except in a test split without any mask. If all images are in
    train, they are not split, because nothing would be left for validation.

    Attributes:
        reading: values, fit for JSON, on which the ids of a mask depend besides the classes.
        colours: colours of the classes, uint8 (n, 3), to write into classes.txt; None without.
    """

    makes = "folder data: images/, masks/NAME.png of class ids, and classes.txt"
    takes_all_files = True
    reading: object = None
    colours: np.ndarray | None = None

    def find_pairs(self) -> list[MaskedImage]:
        """Return the images of the source with their masks, and set :attr:`classes`."""
        raise NotImplementedError

    def read_ids(self, path: Path) -> np.ndarray:
        """Return the class ids of a mask file, uint8 (H, W)."""
        raise NotImplementedError

    def check_masks(self, masks: list[Path]) -> None:
        """Refuse masks before anything is written; by default, some of them are read."""
        for mask in masks[::-(-len(masks) // _MASKS_CHECKED_FIRST) or 1]:
            self.read_ids(mask)

    def jobs(self) -> list[Job]:
        pairs = self._with_masks(self._merge_lone_split(self.find_pairs()))
        masks = [pair.mask for pair in pairs if pair.mask]
        if not masks:
            raise self.source_error("an image with a mask")
        warn_of_copies((pair.image.name, pair.split) for pair in pairs)
        self.check_masks(masks)
        return [job for name, pair in self._names(pairs).items() for job in self._jobs_of(name, pair)]

    def finish(self) -> None:
        self.write_classes(coloured_lines(self.classes, self.colours))

    def leave_out(self, description: str, names: Iterable[str]) -> None:
        """Note and log what is left out, if there is any."""
        names = sorted(names)
        if names:
            self.notes.append(f"left out, {description}: {len(names)}")
            _log.warning("%s: %s", self.notes[-1], some(names))

    # ---- splits and names -----------------------------------------------------------------------

    def _merge_lone_split(self, pairs: list[MaskedImage]) -> list[MaskedImage]:
        merged = merge_lone_split(
            pairs, name=lambda pair: pair.image, where=lambda *two: self.source.absolute(),
            fix="move each image into a folder of its split: train, val (or valid) or test")
        splits = {pair.split for pair in pairs}
        if "test" in splits and "val" not in splits:
            raise DataError("the images have a test split, but none for validation", where=self.source.absolute(),
                            received=", ".join(f"{count} in {split}" for split, count in
                                               Counter(pair.split for pair in pairs).items()),
                            fix="rename the test folder or list to val, or move some images to val")
        return merged

    def _with_masks(self, pairs: list[MaskedImage]) -> list[MaskedImage]:
        keeps_test = not any(pair.mask for pair in pairs if pair.split == "test")
        without = [pair for pair in pairs if not pair.mask and not (keeps_test and pair.split == "test")]
        self.leave_out("images without a mask", (pair.name for pair in without))
        return [pair for pair in pairs if pair.mask or (keeps_test and pair.split == "test")]

    def _names(self, pairs: list[MaskedImage]) -> dict[str, MaskedImage]:
        """Return the names below images/ and masks/: the folder of the split, and the name in the source."""
        found: dict[str, MaskedImage] = {}
        for pair in pairs:
            *folders, name = pair.name.split("/")
            parts = [*filter(None, [pair.split]), *(part for part in folders if split_of(part) is None), name]
            name = "/".join(parts)
            if name in found:
                raise DataError("two images have the same name", where=f"{found[name].image}\n{pair.image}",
                                fix="rename one of them")
            found[name] = pair
        return found

    # ---- outputs --------------------------------------------------------------------------------

    def _jobs_of(self, name: str, pair: MaskedImage) -> list[Job]:
        image = self.target / "images" / f"{name}{pair.image.suffix.lower()}"
        jobs = [Job(image, partial(place, pair.image, image), fingerprint(pair.image), pair.image)]
        if pair.mask:
            mask = self.target / "masks" / f"{name}.png"
            jobs.append(Job(mask, partial(self._write_mask, pair.mask, mask),
                            fingerprint(pair.mask, list(self.classes), self.reading)))
        return jobs

    def _write_mask(self, source: Path, target: Path) -> None:
        write_png(self.read_ids(source), target)


def pairs_beside(folder: Path, suffixes: Sequence[str]) -> tuple[list[MaskedImage], list[Path]]:
    """Return the images below a folder with the masks beside them, and the masks without an image.

    Args:
        folder: folder that is searched at any depth.
        suffixes: ends of the names of masks, such as ``_mask``: the mask of NAME.jpg is NAME_mask.png.

    Raises:
        DataError: an image has two masks, or a mask is a JPEG file.
    """
    files = files_by_name(folder, IMAGE_SUFFIXES)
    masks: dict[str, Path] = {}
    ends = {name: next((end for end in suffixes if name.endswith(end) and name[:-len(end)]), None) for name in files}
    of_image = {name: name[:-len(end)] for name, end in ends.items() if end and name[:-len(end)] in files}
    for name, image_name in of_image.items():
        path = files[name]
        if path.suffix.lower() not in MASK_SUFFIXES:
            raise DataError("a mask is a JPEG or WebP file, whose compression invents labels along every edge",
                            where=path, fix="export the mask again from its source, as PNG")
        if image_name in masks:
            raise DataError("an image has two masks", where=files[image_name],
                            received=f"{masks[image_name].name}, {path.name}", fix="remove one of them")
        masks[image_name] = path

    images = [name for name in files if name not in of_image and (name in masks or not ends[name])]
    orphans = [files[name] for name in files if name not in of_image and name not in masks and ends[name]]
    return [MaskedImage(name, files[name], masks.get(name), None) for name in images], orphans


def listed_pairs(root: Path, images: Path, masks: Path) -> tuple[list[MaskedImage], list[str]]:
    """Return the pairs in VOC's layout, and the names of images that are in no list of a split.

    Args:
        root: folder with ImageSets/Segmentation/LIST.txt, one name a line. The name of a list means its split; lists
            such as trainval.txt mean none. Without a list of a split, the other lists, or all images, are used.
        images, masks: folders with the images and the masks.

    Raises:
        DataError: an image is missing or in two splits, or a name leads out of the source.
    """
    image_files, mask_files = files_by_name(images, IMAGE_SUFFIXES), files_by_name(masks, (".png",))
    folder = root / "ImageSets" / "Segmentation"
    lists = {path: split_of(path.stem) for path in list_files(folder, (".txt",)) if path.stat().st_size}
    if any(lists.values()):
        unsplit = [path for path, split in lists.items() if split is None]
        lists = {path: split for path, split in lists.items() if split}
    else:
        unsplit = []

    found: dict[str, MaskedImage] = {}
    for path, split in lists.items():
        for line in read_list(path):
            name = _listed_name(line, path, image_files)
            pair = MaskedImage(name, image_files[name], mask_files.get(name), split)
            if found.setdefault(name, pair).split != split:
                raise DataError("an image is in two splits", where=path,
                                received=f"{name}: {found[name].split} and {split}",
                                fix="remove it from one of the lists")
    if not lists:
        found = {name: MaskedImage(name, path, mask_files.get(name), None) for name, path in image_files.items()}
    others = set(image_files) - set(found) if lists else set()
    for path in unsplit:
        _log.info("%s means no split and is not read", path)
    return list(found.values()), sorted(others)


def _listed_name(line: str, path: Path, images: dict[str, Path]) -> str:
    name = nfc(line.replace("\\", "/"))
    if not is_plain(name):
        raise DataError("a list names an image outside the source", where=path, received=line,
                        fix="write the path of the image below JPEGImages, without its suffix")
    if name not in images and name.lower().endswith(IMAGE_SUFFIXES):
        name = os.path.splitext(name)[0]
    if name not in images:
        raise DataError("a list names a missing image", where=path, received=line,
                        fix="export again with the images, or remove the line")
    return name


def coloured_lines(classes: Sequence[str], colours: np.ndarray | None) -> list[str]:
    """Return the lines of classes.txt, with colours if no mask of ids can be mistaken for one in grey colours."""
    greys = [] if colours is None else [(i, int(r)) for i, (r, g, b) in enumerate(colours) if r == g == b]
    if colours is None or any(i != shade for i, shade in greys):
        return list(classes)
    return [f"{name} #{bytes(colour).hex()}" for name, colour in zip(classes, colours)]


def class_name(text: str, where: object) -> str:
    """Return a name of a class, which must fit on one line of classes.txt.

    Raises:
        DataError: it does not.
    """
    name = as_class_name(text)
    if name is None:
        raise DataError("the name of a class is empty, or has a '#' or a control character", where=where,
                        received=repr(text[:80]), fix="rename the class in the tool and export again")
    return name


def image_mode(path: Path) -> str:
    """Return Pillow's mode of an image file, by its header: ``'L'``, ``'P'``, ``'RGB'``, ...; empty if unreadable."""
    try:
        with Image.open(path) as image:
            return image.mode
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, ...
        return ""
