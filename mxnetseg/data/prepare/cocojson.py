"""Convert the user's own annotations in COCO's format to folder data."""
from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from ..listing import nfc
from ..splits import split_of
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .cocofile import PARTS, Annotation, CocoFile, CocoImage, parse
from .drawing import RegionPainter, box_corners
from .evidence import json_outlines
from .exports import SHOWN, check_boxes, check_boxes_option, merge_lone_split, some, warn_of_copies
from .shapes import polygon, segment

_BACKGROUND = ("background", "_background_")
_MAX_CLASSES = 255
_log = logging.getLogger(__name__)


class _Item(NamedTuple):
    """Image of a JSON file, with its path and split."""

    file: CocoFile
    image: CocoImage
    path: Path
    split: str | None


class COCOJson(Preparation):
    """Convert each category to a class, after a class ``background`` for pixels without an instance.

    The classes come from ``classes.txt``, if it exists; if it has no ``background``, pixels without an instance are
    ignored. Otherwise the classes are the categories, ordered by id. Small instances are drawn over large ones.

    The split of an image follows from the names of the JSON file, its folder and the image's folder, by
    :func:`~mxnetseg.data.splits.split_of`. If no name means a split, or all mean train, the images are not split.

    Args:
        boxes: treatment of objects with a box but no outline: ``'ignore'`` ignores the pixels of the box where there
            is no outlined object, ``'fill'`` fills the box with the class; None refuses such objects.
    """

    needs = "JSON files in COCO's format, one in all or one for each split, and the images; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes", "boxes")
    takes_all_files = True

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None, boxes: str | None = None):
        super().__init__(source, target, classes=classes)
        self.boxes, self.folder = check_boxes_option(boxes), source if source.is_dir() else source.parent

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        found = [file.path for file in json_outlines(src) if all(file.types.get(part) == "list" for part in PARTS)]
        return f"{found[0].name} has the lists {', '.join(PARTS)}" if found else None

    def jobs(self) -> list[Job]:
        files = self._read()
        self.classes = self.read_given_classes() or self._classes_of(files)
        if len(self.classes) > _MAX_CLASSES:
            raise DataError("too many categories for 8-bit masks", where=self.source.absolute(),
                            received=f"{len(self.classes)} classes, including background",
                            fix=f"keep at most {_MAX_CLASSES}, since the value 255 means ignore")
        self._check_categories(files)
        self._check_boxes(files)

        self._images: dict[str, list[str]] = defaultdict(list)
        for path in list_files(self.folder, IMAGE_SUFFIXES):
            self._images[nfc(path.name)].append(path.relative_to(self.folder).as_posix())
        items = self._merge_lone_split(self._find_images(files))
        self._report(items)
        return [job for item, name in zip(items, self._names(items))
                for job in (self._image(item, name), self._mask(item, name))]

    def finish(self) -> None:
        self.write_classes(self.classes)

    # ---- files and classes ----------------------------------------------------------------------

    def _read(self) -> list[CocoFile]:
        files, others = [], []
        for path in [self.source] if self.source.is_file() else list_files(self.source, (".json",)):
            content = read_json(path)
            if isinstance(content, dict) and set(PARTS) <= set(content):
                files.append(parse(path, content))
            else:
                others.append(self._short(path))

        if not files:
            raise self.source_error("a JSON file with images, annotations and categories")
        if others:
            _log.warning("%d JSON files without images, annotations and categories are left out: %s", len(others),
                         some(others))
        for file in files:
            for warning in file.warnings:
                _log.warning("%s", warning)
        return files

    def _classes_of(self, files: list[CocoFile]) -> tuple[str, ...]:
        by_id: dict = {}
        for file in files:
            for key, name in file.categories.items():
                if by_id.setdefault(key, name) != name:
                    raise DataError("two files give the same category different names", where=file.path,
                                    received=f"{key}: {by_id[key]!r} and {name!r}",
                                    fix="use the same categories in all files, or convert the files one by one")

        used = {file.categories[a.category] for file in files for found in file.annotations.values() for a in found}
        # Roboflow's category 0 is the project, the supercategory of all classes
        groups = set.union(*(file.parents for file in files)) - used
        names = [by_id[key] for key in sorted(by_id, key=lambda key: (isinstance(key, str), key))]
        left_out = [name for name in names if name in groups]
        if left_out and len(left_out) < len(names):
            _log.info("not made a class, since it is a supercategory and no annotation uses it: %s",
                      some(left_out))
            names = [name for name in names if name not in groups]
        return (_BACKGROUND[0], *dict.fromkeys(name for name in names if name not in _BACKGROUND))

    def _check_categories(self, files: list[CocoFile]) -> None:
        """Set the class id of each category name. Refuse annotations of a category without a class."""
        self._ids = {name: i for i, name in enumerate(self.classes)}
        self._uncovered = next((self._ids[name] for name in _BACKGROUND if name in self._ids), IGNORE)
        self._ids.update(dict.fromkeys(_BACKGROUND, self._uncovered))
        for file in files:
            for annotation in (a for found in file.annotations.values() for a in found):
                name = file.categories[annotation.category]
                if name not in self._ids:
                    raise DataError("a category has no class", where=file.path, received=name,
                                    fix=f"add it to classes.txt, which has {', '.join(self.classes)}")

    def _check_boxes(self, files: list[CocoFile]) -> None:
        boxes_only = [(file, a) for file in files for found in file.annotations.values() for a in found
                      if a.outline is None]
        count = sum(len(found) for file in files for found in file.annotations.values())
        file, first = boxes_only[0] if boxes_only else (None, None)
        check_boxes(self.boxes, len(boxes_only), count, where=file and file.path,
                    received=first and f"{first.where}: bbox {list(first.box)} and no segmentation")

    # ---- images and splits ----------------------------------------------------------------------

    def _find_images(self, files: list[CocoFile]) -> list[_Item]:
        """Find each image and its split.

        Raises:
            DataError: images are missing, in two splits, or outside the source.
        """
        items: list[_Item] = []
        missing: list[tuple[CocoFile, str]] = []
        seen: dict[str, tuple[str | None, CocoFile]] = {}
        for file in files:
            file_split = split_of(self._short(file.path)) if self.source.is_dir() else split_of(file.path.name)
            for image in file.images:
                found = self._find_image(image.path, file, file_split)
                if found is None:
                    missing.append((file, image.path))
                    continue

                split = split_of(os.path.dirname(found))
                if None not in (file_split, split) and file_split != split:
                    raise DataError(
                        "the names of an annotation file and of its image's folder mean different splits",
                        where=file.path,
                        received=f"{self._short(file.path)} means {file_split}\n{found} means {split}",
                        fix="rename the folder if the annotation file is right, else move the annotations of the image")
                split = file_split or split

                before, other = seen.setdefault(found, (split, file))
                if before != split:
                    raise DataError("an image is in two splits", where=f"{other.path}\n{file.path}",
                                    received=f"{found}: {before or 'no split'} and {split or 'no split'}",
                                    fix="remove it from one of these files")
                items.append(_Item(file, image, self.folder / found, split))

        if missing:
            file, name = missing[0]
            raise DataError(f"{len(missing)} of {len(missing) + len(items)} images are missing", where=file.path,
                            received=f"{name}{self._namesakes(name)}",
                            fix=f"put the images below {self.folder}, at the paths in file_name")
        if not items:
            raise DataError("the annotation files name no image", where="\n".join(str(f.path) for f in files),
                            received="images: []", fix="export them again, with the images")
        return items

    def _find_image(self, name: str, file: CocoFile, split: str | None) -> str | None:
        """Return the path of an image below the source: beside the JSON file, else the only image with this name."""
        beside = os.path.dirname(os.path.relpath(file.path, self.folder))
        inside = name.lstrip("./")
        for candidate in (os.path.join(beside, name), inside, os.path.join("images", inside),
                          os.path.join(beside, "images", inside)):
            path = os.path.normpath(candidate).replace(os.sep, "/")
            if path.split("/")[0] == "..":
                raise DataError("the name of an image leads out of the source", where=file.path, received=name,
                                fix="give a SRC that also holds the images, or put the image below "
                                    f"{self.folder} and correct its file_name")
            if os.path.isfile(self.folder / path):
                return path

        ending = f"/{nfc(inside)}"
        found = [path for path in self._images.get(ending.rpartition("/")[2], ())
                 if f"/{nfc(path)}".endswith(ending)]
        if len(found) > 1 and split:  # such as frame_0.png, in images/train and images/val
            found = [path for path in found if split_of(os.path.dirname(path)) == split] or found
        if len(found) > 1:
            raise DataError("several images have the name in an annotation file", where=file.path,
                            received="\n".join([name, *found[:SHOWN]]), fix="put the right one beside the JSON file")
        return found[0] if found else None

    def _merge_lone_split(self, items: list[_Item]) -> list[_Item]:
        """Drop the split if all images are in train, because nothing would be left for validation.

        Raises:
            DataError: only some of the images have a split.
        """
        return merge_lone_split(
            items, name=lambda item: item.image.path, where=lambda *two: "\n".join(str(item.file.path) for item in two),
            fix="name every JSON file, or its folder, after its split: train, val (or valid) or test")

    def _names(self, items: list[_Item]) -> list[str]:
        """Return the names below images/ and masks/: the folder of the split, and the name in the JSON file."""
        found: dict[str, _Item] = {}
        for item in items:
            *folders, name = os.path.splitext(item.image.path)[0].split("/")
            folders = [part for part in folders if part != ".." and split_of(part) is None]
            name = "/".join([item.split or "", *folders, name]).lstrip("/")
            if name in found:
                raise DataError("two images have the same name", where=f"{found[name].file.path}\n{item.file.path}",
                                received=f"{found[name].path}\n{item.path}", fix="rename one of them")
            found[name] = item
        return list(found)

    def _report(self, items: list[_Item]) -> None:
        for split in ("train", "val", "test", None):
            counts = Counter(self._short(item.file.path) for item in items if item.split == split)
            if counts:
                title = f"split {split}" if split else \
                    "no split, since no name means val or test; a tenth will be held out for validation"
                _log.info("%s: %d images: %s", title, sum(counts.values()),
                          some([f"{count} of {name}" for name, count in counts.items()]))

        warn_of_copies((item.path.name, item.split) for item in items)

        used = {item.path.relative_to(self.folder).as_posix() for item in items}
        unused = sorted(path for paths in self._images.values() for path in paths if path not in used)
        if unused and self.source.is_dir():
            _log.warning("%d images are in no annotation file and are left out: %s", len(unused), some(unused))

    def _namesakes(self, name: str) -> str:
        """Describe images of this name in other folders, for messages."""
        found = self._images.get(nfc(name.rpartition("/")[2]), [])
        return f"; only {some(found)}" if found else ""

    def _short(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    # ---- outputs --------------------------------------------------------------------------------

    def _image(self, item: _Item, name: str) -> Job:
        target = self.target / "images" / f"{name}{item.path.suffix}"
        return Job(target, lambda: place(item.path, target), fingerprint(item.path))

    def _mask(self, item: _Item, name: str) -> Job:
        target = self.target / "masks" / f"{name}.png"
        annotations = [(self._ids[item.file.categories[a.category]], a)
                       for a in item.file.annotations.get(item.image.id, ())]
        height, width = item.image.height, item.image.width
        origin = fingerprint(self.classes, self.boxes, height, width, item.path, [(i, *a[2:]) for i, a in annotations])

        def write() -> None:
            _check_size(item)
            write_png(self._paint(annotations, item), target)

        return Job(target, write, origin)

    def _paint(self, annotations: list[tuple[int, Annotation]], item: _Item) -> np.ndarray:
        height, width = item.image.height, item.image.width
        painter = RegionPainter(height, width, self._uncovered)
        for class_id, annotation in annotations:
            if annotation.outline is not None:
                painter.add(class_id, segment(annotation.outline, height, width,
                                              where=f"{item.file.path}: {annotation.where}"))
                continue
            left, top, w, h = annotation.box
            inside = polygon(np.array(box_corners(left, top, left + w, top + h)), height, width)
            if self.boxes == "ignore":
                painter.ignore(inside)
            else:
                painter.add(class_id, inside)
        return painter.paint(small_on_top=True)


def _check_size(item: _Item) -> None:
    """Refuse an image file of another size. The audit reports damaged files and EXIF rotations."""
    try:
        with Image.open(item.path) as image:
            size = image.size
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, ...
        return
    if sorted(size) != sorted((item.image.height, item.image.width)):
        raise DataError("the size of an image differs from its annotation file", where=item.path,
                        received=f"{size[0]} x {size[1]}; {item.file.path}: {item.image.width} x {item.image.height}",
                        fix="restore the image in the size that was annotated, or export the annotations again")
