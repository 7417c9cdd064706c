"""Convert JSON files of labelme and related tools to folder data."""
from __future__ import annotations

import logging
import os
from collections import Counter
from functools import partial
from pathlib import Path

from ...errors import DataError, UsageError
from ...files import atomic_write
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from ..listing import nfc
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .evidence import json_outlines
from .labelmefile import LabelmeFile, is_labelme, parse, unpack

_BACKGROUND, _UNDERLINED, _IGNORED = "background", "_background_", "__ignore__"
_MAX_CLASSES = 255
_SHOWN = 5
_log = logging.getLogger(__name__)


class Labelme(Preparation):
    """Convert each label to a class, after a class ``background`` for pixels outside all shapes.

    The classes come from ``classes.txt``, if it exists; if it has no ``background``, pixels outside all shapes are
    ignored. Otherwise the classes are the sorted labels. Later shapes are drawn over earlier ones. Pixels of a shape
    ``__ignore__`` are ignored. Points, lines and unfinished shapes have no area and are left out with a warning.

    The image is looked for at imagePath, if that is in the source, then beside the JSON file, then inside it. If
    imagePath is only a file name, as X-AnyLabeling writes it, the image may be in any folder of the source, as long as
    no other image has this name.
    """

    needs = "JSON files of labelme or X-AnyLabeling, with their images below SRC or inside; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes",)
    takes_all_files = True

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        found = [file.path for file in json_outlines(src) if file.types.get("shapes") == "list"
                 and file.types.get("imagePath") == "str" and {"imageHeight", "imageWidth"} <= file.types.keys()]
        return f"{found[0].name} has shapes, imagePath and imageHeight" if found else None

    def jobs(self) -> list[Job]:
        self._images = {nfc(path.relative_to(self.source).as_posix()): path
                        for path in list_files(self.source, IMAGE_SUFFIXES)}

        files, others = [], []
        for path in list_files(self.source, (".json",)):
            content = read_json(path)
            if is_labelme(content):
                files.append(parse(path, content))
            else:
                others.append(path.relative_to(self.source).as_posix())
        if not files:
            raise self.source_error("a JSON file of labelme")

        self._choose_classes(files)
        jobs = [job for file in files for job in self._pair(file)]
        self._report(files, others, {job.source for job in jobs})
        return jobs

    def finish(self) -> None:
        self.write_classes(self.classes)
        self.copy_lists()

    def _choose_classes(self, files: list[LabelmeFile]) -> None:
        labels = {shape.label for file in files for shape in file.shapes}
        special = {_BACKGROUND, _UNDERLINED, _IGNORED}
        given = self.read_given_classes()
        self.classes = given or (_BACKGROUND, *sorted(labels - special))
        class_ids = {nfc(name): i for i, name in enumerate(self.classes)}

        unknown = sorted(labels - special - class_ids.keys())
        if unknown:
            raise DataError(f"{len(unknown)} labels are not classes", where=self.find_classes_file(),
                            received=", ".join(unknown), fix="add them to this file, one a line, or correct the labels")
        if not given and not labels - special:
            raise DataError("no shape with an area has a label", where=self.source.absolute(),
                            received=_count_left_out(files) or f"{len(files)} JSON files without shapes",
                            fix="draw polygons, rectangles or circles, or give the classes: --classes FILE")
        if len(self.classes) > _MAX_CLASSES:
            raise DataError("too many labels for 8-bit masks", where=self.source.absolute(),
                            received=f"{len(self.classes)} classes: {', '.join(self.classes[:_SHOWN])}, ...",
                            fix=f"keep at most {_MAX_CLASSES}, including background, since 255 means ignore")

        self._uncovered = class_ids.get(_BACKGROUND, class_ids.get(_UNDERLINED, IGNORE))
        self._ids = {**class_ids, _BACKGROUND: self._uncovered, _UNDERLINED: self._uncovered, _IGNORED: IGNORE}

    def _pair(self, file: LabelmeFile) -> list[Job]:
        name = nfc(file.path.relative_to(self.source).with_suffix("").as_posix())
        image, mask = self._find_image(file), self.target / "masks" / f"{name}.png"
        new_image = self.target / "images" / f"{name}{image.suffix.lower() if image else file.suffix}"
        return [
            Job(new_image, partial(place, image, new_image), fingerprint(image), image) if image else
            Job(new_image, partial(_unpack, file.path, new_image), file.embedded),
            Job(mask, lambda: write_png(file.paint(self._ids, self._uncovered), mask),
                fingerprint(file.height, file.width, [shape[:4] for shape in file.shapes], self.classes)),
        ]

    def _find_image(self, file: LabelmeFile) -> Path | None:
        """Return the path of the image of a file, or None if the image is inside the file.

        Raises:
            DataError: the image is missing.
            UsageError: the image is outside the source.
        """
        base_name = file.image.rpartition("/")[2]
        given, beside = (nfc(os.path.relpath(file.path.parent / image, self.source))
                         for image in (file.image, base_name))
        for name in (given, beside):
            if name in self._images:
                return self._images[name]
        if file.embedded:
            return None
        if file.image == base_name:
            found = [path for name, path in self._images.items() if name.rpartition("/")[2] == nfc(base_name)]
            if len(found) == 1:
                return found[0]
            if found:
                raise DataError("several images in the source have the name in a JSON file", where=file.path,
                                received="\n".join(map(str, found[:_SHOWN])),
                                fix="put the right one beside the JSON file")

        received = f"imagePath {file.image[:200]!r}: {os.path.normpath(file.path.parent / file.image)[:400]!r}"
        if given.startswith("../"):
            common = os.path.commonpath([self.source.absolute(), os.path.abspath(file.path.parent / file.image)])
            raise UsageError("the image of a labelme file is outside the source", where=file.path, received=received,
                             fix="put the image beside its JSON file, or give a SRC that holds the images as well as "
                                 f"the JSON files{f': {common}' * (common != os.sep)}")
        raise DataError("the image of a labelme file is neither in the source nor inside the file", where=file.path,
                        received=received,
                        fix=f"put the image at this path, as one of {', '.join(IMAGE_SUFFIXES)}")

    def _report(self, files: list[LabelmeFile], others: list[str], used: set[Path | None]) -> None:
        """Warn of all parts of the source that are not in the result."""
        left_out = [name for file in files for _, name in file.left_out]
        unused = sorted(name for name, path in self._images.items() if path not in used)
        for description, names, details in (
            ("shapes without an area or of an unknown type", left_out, _count_left_out(files)),
            ("images without a JSON file", unused, ""),
            ("JSON files of other programs", others, ""),
        ):
            if names:
                self.notes.append(f"left out, {description}: {len(names)}" + (f" ({details})" if details else ""))
                _log.warning("%s: %s", self.notes[-1],
                             "; ".join([*names[:_SHOWN], *["..."] * (len(names) > _SHOWN)]))


def _unpack(path: Path, target: Path) -> None:
    """Write the image inside a JSON file."""
    data = unpack(path, read_json(path), target.suffix)
    with atomic_write(target) as stream:
        stream.write(data)


def _count_left_out(files: list[LabelmeFile]) -> str:
    counts = Counter(shape_type for file in files for shape_type, _ in file.left_out)
    return ", ".join(f"{count} {shape_type}" for shape_type, count in counts.most_common())
