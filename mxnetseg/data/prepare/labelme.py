"""JSON files of labelme and its relatives -> folder data."""
from __future__ import annotations

import logging
import os
from collections import Counter
from functools import partial
from pathlib import Path

from ...errors import DataError, UsageError
from ...files import atomic_write
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from .base import Job, Preparation, composed, fingerprint, place, read_json, write_png
from .labelmefile import LabelmeFile, is_labelme, parse, unpack

_BACKGROUND, _UNDERLINED, _IGNORED = "background", "_background_", "__ignore__"
_MOST_CLASSES = 255
_SHOWN = 5
_log = logging.getLogger(__name__)


class Labelme(Preparation):
    """Each label becomes a class, after a class ``background`` for what no shape covers.

    The classes are those of ``classes.txt``, if there is one; if it has no ``background``, the uncovered is
    ignored. Otherwise they are the labels, sorted. Shapes lie over those before them; ``__ignore__`` makes pixels
    that do not count. Points, lines and unfinished shapes have no area and are left out, with a warning.

    An image is where imagePath says, as long as that is in the source, or beside its JSON file. X-AnyLabeling writes
    the name alone: then it may be anywhere in the source if the name is there once. Else it is the one inside the JSON.
    """

    needs = "JSON files of labelme or X-AnyLabeling, with their images below SRC or inside; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes",)
    walks = True

    def jobs(self) -> list[Job]:
        self._images = {composed(path.relative_to(self.source).as_posix()): path
                        for path in list_files(self.source, IMAGE_SUFFIXES)}
        files, others = [], []
        for path in list_files(self.source, (".json",)):
            content = read_json(path)
            if is_labelme(content):
                files.append(parse(path, content))
            else:
                others.append(path.relative_to(self.source).as_posix())
        if not files:
            raise self.lacking("a JSON file of labelme")
        self._choose_classes(files)
        jobs = [job for file in files for job in self._pair(file)]
        self._report(files, others, {job.source for job in jobs})
        return jobs

    def finish(self) -> None:
        given = self.given_classes()
        self.write_list("classes.txt", given.read_text(encoding="utf-8-sig").splitlines() if given else self.classes)
        self.copy_lists()

    def _choose_classes(self, files: list[LabelmeFile]) -> None:
        labels = {shape.label for file in files for shape in file.shapes}
        special = {_BACKGROUND, _UNDERLINED, _IGNORED}
        named = self.named_classes()
        self.classes = named or (_BACKGROUND, *sorted(labels - special))
        by_form = {composed(name): i for i, name in enumerate(self.classes)}
        unknown = sorted(labels - special - by_form.keys())
        if unknown:
            raise DataError(f"{len(unknown)} labels are no classes", where=self.given_classes(),
                            received=", ".join(unknown), fix="add them, one a line, or correct the labels")
        if not named and not labels - special:
            raise DataError("no shape with an area has a label", where=self.source.absolute(),
                            received=_kinds(files) or f"{len(files)} JSON files without shapes",
                            fix="draw polygons, rectangles or circles, or name the classes: --classes FILE")
        if len(self.classes) > _MOST_CLASSES:
            raise DataError("too many labels for 8-bit masks", where=self.source.absolute(),
                            received=f"{len(self.classes)} classes: {', '.join(self.classes[:_SHOWN])}, ...",
                            fix=f"keep at most {_MOST_CLASSES}, background included: 255 means ignore")
        self._uncovered = by_form.get(_BACKGROUND, by_form.get(_UNDERLINED, IGNORE))
        self._ids = {**by_form, _BACKGROUND: self._uncovered, _UNDERLINED: self._uncovered, _IGNORED: IGNORE}

    def _pair(self, file: LabelmeFile) -> list[Job]:
        name = composed(file.path.relative_to(self.source).with_suffix("").as_posix())
        image, mask = self._find_image(file), self.target / "masks" / f"{name}.png"
        copy = self.target / "images" / f"{name}{image.suffix.lower() if image else file.suffix}"
        return [
            Job(copy, partial(place, image, copy), fingerprint(image), image) if image else
            Job(copy, partial(_unpack, file.path, copy), file.embedded),
            Job(mask, lambda: write_png(file.paint(self._ids, self._uncovered), mask),
                fingerprint(file.height, file.width, [shape[:4] for shape in file.shapes], self.classes)),
        ]

    def _find_image(self, file: LabelmeFile) -> Path | None:
        """Return where the image of a file is, None if it is inside.

        Raises:
            DataError: it is neither.
            UsageError: it is outside the source.
        """
        alone = file.image.rpartition("/")[2]
        named, beside = (composed(os.path.relpath(file.path.parent / image, self.source))
                         for image in (file.image, alone))
        for name in (named, beside):
            if name in self._images:
                return self._images[name]
        if file.embedded:
            return None
        if file.image == alone:
            found = [path for name, path in self._images.items() if name.rpartition("/")[2] == composed(alone)]
            if len(found) == 1:
                return found[0]
            if found:
                raise DataError("several images in the source have the name that a JSON file gives", where=file.path,
                                received="\n".join(map(str, found[:_SHOWN])), fix="put the right one beside the JSON")
        received = f"imagePath {file.image[:200]!r}: {os.path.normpath(file.path.parent / file.image)[:400]!r}"
        if named.startswith("../"):
            above = os.path.commonpath([self.source.absolute(), os.path.abspath(file.path.parent / file.image)])
            raise UsageError("the image of a labelme file is outside the source", where=file.path, received=received,
                             fix="put the image beside its JSON file, or name a SRC that holds the images as well as "
                                 f"the JSON files{f': {above}' * (above != os.sep)}")
        raise DataError("the image of a labelme file is neither in the source nor inside the file", where=file.path,
                        received=received,
                        fix=f"put the image there, as one of {', '.join(IMAGE_SUFFIXES)}")

    def _report(self, files: list[LabelmeFile], others: list[str], used: set[Path | None]) -> None:
        """Warn of all that is in the source and not in the result."""
        left_out = [name for file in files for _, name in file.left_out]
        bare = sorted(name for name, path in self._images.items() if path not in used)
        for what, names, kinds in (
            ("shapes without an area or of an unknown kind", left_out, _kinds(files)),
            ("images without a JSON file", bare, ""),
            ("JSON files that are not labelme's", others, ""),
        ):
            if names:
                self.notes.append(f"left out, {what}: {len(names)}" + (f" ({kinds})" if kinds else ""))
                _log.warning("%s: %s", self.notes[-1],
                             "; ".join([*names[:_SHOWN], *["..."] * (len(names) > _SHOWN)]))


def _unpack(path: Path, target: Path) -> None:
    data = unpack(path, read_json(path), target.suffix)
    with atomic_write(target) as stream:
        stream.write(data)


def _kinds(files: list[LabelmeFile]) -> str:
    counts = Counter(kind for file in files for kind, _ in file.left_out)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
