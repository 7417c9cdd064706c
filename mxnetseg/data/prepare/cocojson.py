"""The user's own annotations in COCO's form -> folder data."""
from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError, UsageError
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from ..splits import group_of, split_of
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .cocofile import PARTS, Annotation, CocoFile, CocoImage, parse
from .shapes import polygon, segment

_BACKGROUND = ("background", "_background_")
_MOST_CLASSES = 255
_SHOWN = 3
_log = logging.getLogger(__name__)


class _Item(NamedTuple):
    """An image of a JSON file: where it is, and which split it belongs to."""

    file: CocoFile
    image: CocoImage
    path: Path
    split: str | None


class COCOJson(Preparation):
    """Each category becomes a class, after a class ``background`` for what no instance covers.

    The classes are those of ``classes.txt``, if there is one; if it has no ``background``, the uncovered is
    ignored. Otherwise they are the categories in the order of their ids. Small instances lie over large ones.

    The splits are what the names of the JSON files, of their folders and of the images' folders mean, by
    :func:`~mxnetseg.data.splits.split_of`. If none of them means a split, or all mean train, all images come together.

    Args:
        boxes: what to do with objects that have a box and no outline: ``'ignore'`` makes the box's pixels ignored
            where no outlined object is, ``'fill'`` paints the box as the class; None refuses such objects.
    """

    needs = "COCO's JSON files, one for all or one for each split, and the images; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes", "boxes")
    walks = True

    def __init__(self, source: Path, target: Path, *, classes: Path | None = None, boxes: str | None = None):
        super().__init__(source, target, classes=classes)
        if boxes not in (None, "ignore", "fill"):
            raise UsageError("boxes must be 'ignore' or 'fill'", received=boxes, fix="--boxes ignore, or --boxes fill")
        self.boxes, self.folder = boxes, source if source.is_dir() else source.parent

    def jobs(self) -> list[Job]:
        files = self._read()
        self.classes = self.named_classes() or self._classes_of(files)
        if len(self.classes) > _MOST_CLASSES:
            raise DataError("too many categories for 8-bit masks", where=self.source.absolute(),
                            received=f"{len(self.classes)} classes, background included",
                            fix=f"keep at most {_MOST_CLASSES}: the value 255 means ignore")
        self._check_categories(files)
        self._check_boxes(files)
        self._images: dict[str, list[str]] = defaultdict(list)
        for path in list_files(self.folder, IMAGE_SUFFIXES):
            self._images[_composed(path.name)].append(path.relative_to(self.folder).as_posix())
        items = self._together(self._located(files))
        self._report(items)
        return [job for item, name in zip(items, self._names(items)) for job in (self._image(item, name),
                                                                                 self._mask(item, name))]

    def finish(self) -> None:
        given = self.given_classes()
        self.write_list("classes.txt", given.read_text(encoding="utf-8-sig").splitlines() if given else self.classes)

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
            raise self.lacking("a JSON file with images, annotations and categories")
        if others:
            _log.warning("%d JSON files without images, annotations and categories are left out: %s", len(others),
                         _some(others))
        for file in files:
            for warning in file.warnings:
                _log.warning("%s", warning)
        return files

    def _classes_of(self, files: list[CocoFile]) -> tuple[str, ...]:
        by_id: dict = {}
        for file in files:
            for key, name in file.categories.items():
                if by_id.setdefault(key, name) != name:
                    raise DataError("two files give one category different names", where=file.path,
                                    received=f"{key}: {by_id[key]!r} and {name!r}",
                                    fix="use the same categories in all files, or convert them one by one")
        used = {file.categories[a.category] for file in files for found in file.annotations.values() for a in found}
        # Roboflow's category 0 is the project, of which the classes are parts
        groups = set.union(*(file.parents for file in files)) - used
        names = [by_id[key] for key in sorted(by_id, key=lambda key: (isinstance(key, str), key))]
        left_out = [name for name in names if name in groups]
        if left_out and len(left_out) < len(names):
            _log.info("no class, since other categories are parts of it and nothing is annotated with it: %s",
                      _some(left_out))
            names = [name for name in names if name not in groups]
        return (_BACKGROUND[0], *dict.fromkeys(name for name in names if name not in _BACKGROUND))

    def _check_categories(self, files: list[CocoFile]) -> None:
        """Set the id of each category's name; refuse annotations of a category that is no class."""
        self._ids = {name: i for i, name in enumerate(self.classes)}
        self._uncovered = next((self._ids[name] for name in _BACKGROUND if name in self._ids), IGNORE)
        self._ids.update(dict.fromkeys(_BACKGROUND, self._uncovered))
        for file in files:
            for annotation in (a for found in file.annotations.values() for a in found):
                name = file.categories[annotation.category]
                if name not in self._ids:
                    raise DataError("a category has no class", where=file.path, received=name,
                                    fix=f"add it to classes.txt; there are {', '.join(self.classes)}")

    def _check_boxes(self, files: list[CocoFile]) -> None:
        bare = [(file, a) for file in files for found in file.annotations.values() for a in found if a.outline is None]
        if not bare:
            return
        count = sum(len(found) for file in files for found in file.annotations.values())
        if self.boxes is None:
            file, first = bare[0]
            raise DataError(
                f"{len(bare)} of {count} objects have a box but no outline, so their pixels are not known",
                where=file.path, received=f"{first.where}: bbox {list(first.box)} and no segmentation",
                fix="draw their outlines and export again; or choose what their boxes mean:\n"
                    "--boxes ignore  their pixels do not count (255), except where an outlined object is\n"
                    "--boxes fill    their pixels are of their class, corners included")
        _log.warning("%d of %d objects have a box but no outline: %s", len(bare), count,
                     "their boxes are ignored" if self.boxes == "ignore" else "their boxes are painted whole")

    # ---- images and splits ----------------------------------------------------------------------

    def _located(self, files: list[CocoFile]) -> list[_Item]:
        """Find each image and its split. Refuse images that are missing, in two splits, or outside the source."""
        items: list[_Item] = []
        missing: list[tuple[CocoFile, str]] = []
        seen: dict[str, tuple[str | None, CocoFile]] = {}
        for file in files:
            own = split_of(self._short(file.path)) if self.source.is_dir() else split_of(file.path.name)
            for image in file.images:
                found = self._find_image(image.path, file, own)
                if found is None:
                    missing.append((file, image.path))
                    continue
                split = split_of(os.path.dirname(found))
                if None not in (own, split) and own != split:
                    raise DataError(
                        "the names of a file of annotations and of its image's folder mean different splits",
                        where=file.path, received=f"{self._short(file.path)} means {own}\n{found} means {split}",
                        fix="rename the folder if the file is right, else move the image's annotations")
                split = own or split
                before, other = seen.setdefault(found, (split, file))
                if before != split:
                    raise DataError("an image is in two splits", where=f"{other.path}\n{file.path}",
                                    received=f"{found}: {before or 'no split'} and {split or 'no split'}",
                                    fix="remove it from one of these files")
                items.append(_Item(file, image, self.folder / found, split))
        if missing:
            file, name = missing[0]
            raise DataError(f"{len(missing)} of {len(missing) + len(items)} images are not there", where=file.path,
                            received=f"{name}{self._namesakes(name)}",
                            fix=f"put the images below {self.folder}, as file_name says")
        if not items:
            raise DataError("the files of annotations name no image", where="\n".join(str(f.path) for f in files),
                            received="images: []", fix="export them again, with the images")
        return items

    def _find_image(self, name: str, file: CocoFile, split: str | None) -> str | None:
        """Return the path of an image below the source's folder: beside the JSON, or wherever the name fits once."""
        beside = os.path.dirname(os.path.relpath(file.path, self.folder))
        inside = name.lstrip("./")
        for place_ in (os.path.join(beside, name), inside, os.path.join("images", inside),
                       os.path.join(beside, "images", inside)):
            path = os.path.normpath(place_).replace(os.sep, "/")
            if path.split("/")[0] == "..":
                raise DataError("the name of an image leads out of the source", where=file.path, received=name,
                                fix="name a SRC that holds the images as well, or put the image below "
                                    f"{self.folder} and correct its file_name")
            if os.path.isfile(self.folder / path):
                return path
        ending = f"/{_composed(inside)}"
        found = [path for path in self._images.get(ending.rpartition("/")[2], ())
                 if f"/{_composed(path)}".endswith(ending)]
        if len(found) > 1 and split:  # such as frame_0.png, in images/train and images/val
            found = [path for path in found if split_of(os.path.dirname(path)) == split] or found
        if len(found) > 1:
            raise DataError("several images have the name that a file of annotations gives", where=file.path,
                            received="\n".join([name, *found[:_SHOWN]]), fix="put the right one beside the JSON file")
        return found[0] if found else None

    def _together(self, items: list[_Item]) -> list[_Item]:
        """Drop the splits if they would leave nothing to validate on: all are train. Refuse half a division."""
        splits = {item.split for item in items}
        if None in splits and len(splits) > 1:
            no, some = (next(i for i in items if (i.split is None) == missing) for missing in (True, False))
            raise DataError(
                "some images belong to a split and others to none", where=f"{no.file.path}\n{some.file.path}",
                received=f"{no.image.path}: no split\n{some.image.path}: {some.split}",
                fix="name every JSON file, or its folder, after its split: train, val (or valid) or test")
        return [item._replace(split=None) for item in items] if splits == {"train"} else items

    def _names(self, items: list[_Item]) -> list[str]:
        """Return the names below images/ and masks/: the split's folder and the name that the JSON gives."""
        found: dict[str, _Item] = {}
        for item in items:
            *folders, name = os.path.splitext(item.image.path)[0].split("/")
            folders = [part for part in folders if part != ".." and split_of(part) is None]
            name = "/".join([item.split or "", *folders, name]).lstrip("/")
            if name in found:
                raise DataError("two images share one name", where=f"{found[name].file.path}\n{item.file.path}",
                                received=f"{found[name].path}\n{item.path}", fix="rename one of them")
            found[name] = item
        return list(found)

    def _report(self, items: list[_Item]) -> None:
        for split in ("train", "val", "test", None):
            counts = Counter(self._short(item.file.path) for item in items if item.split == split)
            if counts:
                _log.info("%s: %d images: %s", f"split {split}" if split else
                          "all images come together, since no name means val or test; a tenth will be for validation",
                          sum(counts.values()), _some([f"{count} of {name}" for name, count in counts.items()]))
        groups: dict[str, set] = defaultdict(set)
        for item in items:
            if ".rf." in item.path.name:
                groups[group_of(item.path.name)].add(item.split)
        shared = sorted(group for group, splits in groups.items() if len(splits) > 1)
        if shared:
            _log.warning("%d photos have augmented copies in several splits, if equal names before '.rf.' mean one "
                         "photo: %s; scores would be too high", len(shared), _some(shared))
        used = {item.path.relative_to(self.folder).as_posix() for item in items}
        spare = sorted(path for paths in self._images.values() for path in paths if path not in used)
        if spare and self.source.is_dir():
            _log.warning("%d images are in no file of annotations and are left out: %s", len(spare), _some(spare))

    def _namesakes(self, name: str) -> str:
        found = self._images.get(_composed(name.rpartition("/")[2]), [])
        return f"; only {_some(found)}" if found else ""

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
            write_png(self._painted(annotations, item), target)

        return Job(target, write, origin)

    def _painted(self, annotations: list[tuple[int, Annotation]], item: _Item) -> np.ndarray:
        height, width = item.image.height, item.image.width
        mask = np.full((height, width), self._uncovered, np.uint8)
        filled = []
        for class_id, annotation in annotations:
            where = f"{item.file.path}: {annotation.where}"
            if annotation.outline is not None:
                inside = segment(annotation.outline, height, width, where=where)
            else:
                left, top, w, h = annotation.box
                corners = [(left, top), (left + w, top), (left + w, top + h), (left, top + h)]
                inside = polygon(np.array(corners), height, width)
                if self.boxes == "ignore":
                    mask[inside] = IGNORE
                    continue
            filled.append((np.count_nonzero(inside), class_id, np.packbits(inside)))  # an eighth of the memory
        for _, class_id, bits in sorted(filled, key=lambda part: -part[0]):
            mask[np.unpackbits(bits, count=height * width).reshape(height, width).view(bool)] = class_id
        return mask


def _check_size(item: _Item) -> None:
    """Refuse a size that is not that of the image's file. Damaged files, and rotations by EXIF, are for the audit."""
    try:
        with Image.open(item.path) as image:
            size = image.size
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, ...
        return
    if sorted(size) != sorted((item.image.height, item.image.width)):
        raise DataError("the size of an image is not the one that its file of annotations gives", where=item.path,
                        received=f"{size[0]} x {size[1]}; {item.file.path}: {item.image.width} x {item.image.height}",
                        fix="restore the image that was annotated, in its size, or export the annotations again")


def _composed(name: str) -> str:
    """Return a name in the form in which accents are part of their letters, as not all systems write them."""
    return unicodedata.normalize("NFC", name)


def _some(names: list[str]) -> str:
    return ", ".join([*names[:_SHOWN], *["..."] * (len(names) > _SHOWN)])
