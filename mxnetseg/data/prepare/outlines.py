"""Base of the preparations whose annotations are outlines and run lengths, each of a class."""
from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from ...errors import DataError, UsageError
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from ..headers import open_image, pixel_limit
from ..listing import nfc
from ..splits import split_of
from .base import Job, Preparation, fingerprint, place, write_png
from .drawing import RegionPainter
from .exports import SHOWN, check_boxes, check_boxes_option, merge_lone_split, some, warn_of_copies

_BACKGROUND = ("background", "_background_")
_MAX_CLASSES = 255
_FOLDERS_OF_TOOLS = ("images", "img", "data")  # they say nothing about an image
_EXIF_ORIENTATION = 0x0112
_log = logging.getLogger(__name__)


class Region(NamedTuple):
    """One annotated region.

    Attributes:
        where: position in the annotation file, for messages.
        label: class name.
        draw: function of (data, height, width, where) that returns the pixels of the region, bool (height, width).
        data: outline or run lengths, as ``draw`` reads them.
        is_box: the region is only a box around the object.
    """

    where: str
    label: str
    draw: Callable[[Any, int, int, str], np.ndarray]
    data: Any
    is_box: bool = False


class Item(NamedTuple):
    """One annotated image.

    Attributes:
        path: path of the image.
        split: ``'train'``, ``'val'``, ``'test'``, or None.
        regions: regions in the order of painting.
        file: the file with its annotations, for messages.
        size: (width, height) that the annotations give; None if they give none.
    """

    path: Path
    split: str | None
    regions: list[Region]
    file: Path
    size: tuple[int, int] | None = None


class OutlinePreparation(Preparation):
    """Convert each label to a class, after a class ``background`` for pixels outside all regions.

    The classes come from ``classes.txt``, if it exists; if it has no ``background``, pixels outside all regions are
    ignored. Otherwise the classes are the labels that :meth:`read` finds. If all images are in the split train, they
    are not split, because nothing would be left for validation.

    Args:
        boxes: treatment of objects with a box but no outline: ``'ignore'`` ignores the pixels of the box where there
            is no outlined object, ``'fill'`` fills the box with the class; None refuses such objects.

    Attributes:
        small_on_top: True if small regions are painted over large ones, False if later ones are painted over earlier.
        overlap_fix: what to do about an overlap of two classes, if the format does not order them; then it is refused.
        labels: class names in the order of the export, set by :meth:`read`.
        left_out: (reason, position) of the elements that are not used, added by :meth:`read`.
    """

    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options: tuple[str, ...] = ("classes", "boxes")
    takes_all_files = True
    small_on_top = False
    overlap_fix = ""

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None, boxes: str | None = None):
        super().__init__(source, target, classes=classes)
        self.boxes, self.folder = check_boxes_option(boxes), source if source.is_dir() else source.parent
        if self.folder.resolve() in (target.resolve(), *target.resolve().parents):
            raise UsageError("the target is inside the source, so its files would be converted as well",
                             where=target.absolute(), fix=f"choose a DST outside {self.folder.absolute()}")
        self.labels: list[str] = []
        self.left_out: list[tuple[str, str]] = []

    @abstractmethod
    def read(self) -> list[Item]:
        """Return the annotated images, and set ``labels``.

        Raises:
            DataError: a file is not in the expected format; the message names the first wrong element.
        """

    def jobs(self) -> list[Job]:
        self.images = {nfc(path.relative_to(self.folder).as_posix()): path
                       for path in list_files(self.folder, IMAGE_SUFFIXES)}
        items = self.read()
        if not items:
            raise DataError("the annotations name no image", where=self.source.absolute(), received="no image",
                            fix="export them again, with the images")

        self._choose_classes(items)
        self._check_boxes(items)
        items = self._merge_lone_split(items)
        names = self._names(items)
        self._report(items)
        return [job for item, name in zip(items, names) for job in (self._image(item, name), self._mask(item, name))]

    def finish(self) -> None:
        self.write_classes(self.classes)

    # ---- helpers for subclasses -----------------------------------------------------------------

    def short(self, path: Path) -> str:
        """Return a path below the source, for messages."""
        return path.relative_to(self.folder).as_posix()

    def find_image(self, name: str, file: Path, where: str, *, split: str | None = None) -> Path | None:
        """Return the image of this name below the source, or None if there is none.

        It is looked for beside the annotation file and below the source, directly or in a folder ``images``. Otherwise
        it is the only image whose path ends in this name.

        Args:
            name: path or name of the image, as the annotations give it.
            file, where: annotation file and position in it, for messages.
            split: split of the image, if known, which decides between images of the same name.

        Raises:
            DataError: the name leads out of the source, or several images have it.
        """
        path = nfc(name).replace("\\", "/")
        while path.startswith("./"):
            path = path[2:]
        if not path or path.startswith(("/", "~")) or path[1:2] == ":" or ".." in path.split("/"):
            raise DataError("the name of an image leads out of the source", where=f"{file}, {where}",
                            received=repr(name[:200]),
                            fix=f"put the image below {self.folder}, and write its path below this folder")

        beside = nfc(file.parent.relative_to(self.folder).as_posix())
        folders = ["" if beside == "." else f"{beside}/", ""]
        for folder in folders:
            for candidate in (f"{folder}{path}", f"{folder}images/{path}"):
                if candidate in self.images:
                    return self.images[candidate]

        found = [candidate for candidate in self._by_name().get(path.rpartition("/")[2], ())
                 if f"/{candidate}".endswith(f"/{path}")]
        if len(found) > 1 and split:
            found = [candidate for candidate in found if split_of(candidate.rpartition("/")[0]) == split] or found
        if len(found) > 1:
            raise DataError("several images have the name in the annotations", where=f"{file}, {where}",
                            received="\n".join([path, *found[:SHOWN]]), fix="put the right one beside the annotations")
        return self.images[found[0]] if found else None

    def split_of(self, image: Path, file: Path) -> str | None:
        """Return the split that the names of an image's folder and of its annotation file mean; None if neither does.

        Raises:
            DataError: they mean different splits.
        """
        folder_split = split_of(image.parent.relative_to(self.folder))
        file_split = split_of(file.relative_to(self.folder).with_suffix(""))
        if None not in (folder_split, file_split) and folder_split != file_split:
            raise DataError("the names of an annotation file and of its image's folder mean different splits",
                            where=file, received=f"{self.short(file)} means {file_split}\n"
                                                 f"{self.short(image)} means {folder_split}",
                            fix="rename the folder if the file is right, else move the annotations of the image")
        return folder_split or file_split

    def missing_images(self, missing: list[str], count: int, file: Path) -> DataError:
        """Return the error for annotations whose images are missing."""
        return DataError(f"{len(missing)} of {count} images are missing", where=file, received=some(missing),
                         fix=f"put the images below {self.folder}, under these names")

    def _by_name(self) -> dict[str, list[str]]:
        if not hasattr(self, "_names_found"):
            self._names_found: dict[str, list[str]] = defaultdict(list)
            for path in self.images:
                self._names_found[path.rpartition("/")[2]].append(path)
        return self._names_found

    # ---- checks of the whole --------------------------------------------------------------------

    def _choose_classes(self, items: list[Item]) -> None:
        given = self.read_given_classes()
        self.classes = given or (_BACKGROUND[0], *dict.fromkeys(n for n in self.labels if n not in _BACKGROUND))
        if len(self.classes) > _MAX_CLASSES:
            raise DataError("too many classes for 8-bit masks", where=self.source.absolute(),
                            received=f"{len(self.classes)} classes, including background",
                            fix=f"keep at most {_MAX_CLASSES}, since the value 255 means ignore")

        self._ids = {nfc(name): i for i, name in enumerate(self.classes)}
        self._uncovered = next((self._ids[name] for name in _BACKGROUND if name in self._ids), IGNORE)
        self._ids.update(dict.fromkeys(_BACKGROUND, self._uncovered))
        for item in items:
            for region in item.regions:
                if region.label not in self._ids:
                    raise DataError("a label has no class", where=f"{item.file}, {region.where}", received=region.label,
                                    fix=f"add it to {self.find_classes_file()}, which has {some(list(self.classes))}")

    def _check_boxes(self, items: list[Item]) -> None:
        boxes = [(item, region) for item in items for region in item.regions if region.is_box]
        item, first = boxes[0] if boxes else (None, None)
        check_boxes(self.boxes, len(boxes), sum(len(item.regions) for item in items), where=item and item.file,
                    received=first and f"{first.where}: a box of {first.label!r}")

    def _merge_lone_split(self, items: list[Item]) -> list[Item]:
        """Drop the split if all images are in train.

        Raises:
            DataError: an image is in two splits or twice in one, or only some of the images have a split.
        """
        seen: dict[Path, Item] = {}
        for item in items:
            other = seen.setdefault(item.path, item)
            if other is not item:
                raise DataError("an image is annotated twice", where=f"{other.file}\n{item.file}",
                                received=f"{self.short(item.path)}: {other.split or 'no split'} and "
                                         f"{item.split or 'no split'}", fix="keep its annotations in one place only")

        return merge_lone_split(
            items, name=lambda item: self.short(item.path),
            where=lambda *two: "\n".join(str(item.file) for item in two),
            fix="put every image into one of the splits train, val (or valid) and test, or none")

    def _names(self, items: list[Item]) -> list[str]:
        """Return the names below images/ and masks/: split, folders below the source, name."""
        found: dict[str, Item] = {}
        for item in items:
            *folders, name = nfc(item.path.relative_to(self.folder).with_suffix("").as_posix()).split("/")
            folders = [part for part in folders if part not in _FOLDERS_OF_TOOLS and split_of(part) is None]
            name = "/".join([item.split or "", *folders, name]).lstrip("/")
            if name in found:
                raise DataError("two images have the same name", where=self.folder,
                                received=f"{self.short(found[name].path)}\n{self.short(item.path)}",
                                fix="rename one of them, also in the annotations")
            found[name] = item
        return list(found)

    def _report(self, items: list[Item]) -> None:
        for split, count in Counter(item.split for item in items).items():
            _log.info("%s: %d images", f"split {split}" if split else
                      "no split, so a tenth will be held out for validation", count)

        warn_of_copies((item.path.name, item.split) for item in items)

        used = {item.path for item in items}
        reasons: dict[str, list[str]] = defaultdict(list)
        for reason, where in self.left_out:
            reasons[reason].append(where)
        mentioned = {where for _, where in self.left_out}
        reasons["images without annotations"] += [name for name, path in self.images.items()
                                                  if path not in used and self.short(path) not in mentioned]
        for reason, places in reasons.items():
            if places:
                self.notes.append(f"left out, {reason}: {len(places)}")
                _log.warning("%s: %s", self.notes[-1], some(places))

    # ---- outputs --------------------------------------------------------------------------------

    def _image(self, item: Item, name: str) -> Job:
        target = self.target / "images" / f"{name}{item.path.suffix.lower()}"
        return Job(target, lambda: place(item.path, target), fingerprint(item.path), item.path)

    def _mask(self, item: Item, name: str) -> Job:
        target = self.target / "masks" / f"{name}.png"
        origin = fingerprint(self.classes, self.boxes, item.path, item.size, [
            (self._ids[region.label], region.draw.__name__, region.is_box,
             fingerprint(region.data) if isinstance(region.data, bytes) else region.data) for region in item.regions])
        return Job(target, lambda: write_png(self._paint(item), target), origin)

    def _paint(self, item: Item) -> np.ndarray:
        width, height = shown_size(item.path)
        if item.size and item.size != (width, height):
            raise DataError("the size of an image differs from its annotations", where=item.path,
                            received=f"{width} x {height}; {item.file}: {item.size[0]} x {item.size[1]}",
                            fix="restore the image in the size that was annotated, or export the annotations again")

        painter = RegionPainter(height, width, self._uncovered)
        for region in item.regions:
            where = f"{item.file}, {region.where}"
            inside = region.draw(region.data, height, width, where)
            if not inside.any():
                _log.warning("%s contains the centre of no pixel of its image", where)
            if region.is_box and self.boxes == "ignore":
                painter.ignore(inside)
            else:
                painter.add(self._ids[region.label], inside, f"{region.label}: {where}")
        if self.overlap_fix:
            painter.refuse_overlaps(item.path, self.overlap_fix)
        return painter.paint(small_on_top=self.small_on_top)


def shown_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image as it is shown, after a rotation by EXIF.

    Raises:
        DataError: the file is damaged or larger than the limit on pixels.
    """
    try:
        with open(path, "rb") as stream, open_image(stream) as image:
            width, height = image.size
            rotated = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, ...
        raise DataError("the header of an image cannot be read", where=path,
                        received=f"{type(error).__name__}: {error}"[:200],
                        fix="restore the image, or remove it and its annotations") from error
    if not 0 < width * height <= pixel_limit():
        raise DataError("an image is larger than the limit on its pixels", where=path, received=f"{width} x {height}",
                        fix="cut it into tiles, or scale it down, before it is annotated")
    return (height, width) if rotated else (width, height)
