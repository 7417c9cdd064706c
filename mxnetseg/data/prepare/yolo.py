"""Convert YOLO polygons, as Ultralytics describes them and Roboflow and CVAT export them, to folder data."""
from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import yaml

from ...errors import DataError, MXNetSegError, reason
from ...files import no_file
from ..base import list_files
from ..listing import nfc
from .checks import Checker
from .drawing import draw_fractions
from .outlines import Item, OutlinePreparation, Region

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_MOST_BYTES = 1 << 20
_TOLERANCE = 0.01  # of a fraction beyond 0 and 1, which rounding and clipping leave
_MOST_CHARACTERS = 1 << 24  # of a file of labels
_EVIDENCE = 20  # files of labels that are read to recognise the format


class Yolo(OutlinePreparation):
    """Convert YOLO polygons: ``data.yaml`` and a file of labels for each image.

    The classes are ``background`` and the names in ``data.yaml``; ``classes.txt`` of the source is not read, because
    tools write it without a background. The splits are the keys ``train``, ``val`` and ``test`` of ``data.yaml``. Small
    regions are painted over large ones. An image whose file of labels is empty is background; an image without such a
    file is left out with a warning.
    """

    needs = "data.yaml with the names and the paths of train, val and test; images, and labels/NAME.txt with polygons"
    small_on_top = True

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return one line of evidence that a source is in this format, or None."""
        try:
            files = _yaml_files(src)
            if len(files) != 1:
                return None
            path, content = files[0]
            count = len(_names(Checker(path, "YOLO"), content["names"]))
            labels = [file for file in list_files(path.parent, (".txt",))
                      if "labels" in file.relative_to(path.parent).parent.parts]
            lines = [line for file in labels[:_EVIDENCE] for line in _lines(file)]
            if lines and all(_is_label(line) for line in lines):
                return f"{path.name} with {count} names, and labels/*.txt with polygons or boxes as fractions"
        except MXNetSegError:
            pass
        return None

    def find_classes_file(self) -> Path | None:
        return self.classes_file

    def read(self) -> list[Item]:
        files = _yaml_files(self.source)
        if not files:
            raise self.source_error("data.yaml with 'names' and the paths of the splits")
        if len(files) > 1:
            raise DataError("several files describe YOLO data", where=self.source.absolute(),
                            received="\n".join(self.short(path) for path, _ in files),
                            fix="give one of them as SRC, with its folder: mxnetseg prepare yolo SRC/data.yaml DST")

        self._yaml, content = files[0]
        check = Checker(self._yaml, "the file")
        if "kpt_shape" in content:
            raise check.error("kpt_shape", "no key points, whose numbers could be read as polygons",
                              content["kpt_shape"], "export the data for segmentation")
        names = _names(check, content["names"])
        self.labels = list(names.values())
        if "nc" in content and check.whole(content["nc"], "nc") != len(names):
            raise check.error("nc", f"{len(names)}, the number of names", content["nc"])

        self._root = self._read_root(check, content.get("path"))
        items = []
        for key, split in _SPLITS.items():
            for image in self._images_of(check, key, content.get(key)):
                labels = _labels_of(self.folder, image)
                if no_file(labels):
                    self.left_out.append(("images without a file of labels", self.short(image)))
                else:
                    items.append(Item(image, split, self._regions(labels, names), labels))
        if not items:
            raise DataError("no image has a file of labels", where=self._yaml,
                            received=f"{len(self.left_out)} images without labels/NAME.txt",
                            fix="put labels/NAME.txt beside the folder images/ with NAME.jpg")
        return items

    def _read_root(self, check: Checker, value: Any) -> str:
        """Return the key ``path`` relative to data.yaml; ``.`` if there is no such folder, as on another computer.

        Raises:
            DataError: the folder exists, but is outside the source.
        """
        base = self._yaml.parent
        if not isinstance(value, str) or "\0" in value or len(value) > 1000 or not (base / value).is_dir():
            return "."
        inside = os.path.relpath(os.path.realpath(base / value), os.path.realpath(self.folder))
        if inside.split(os.sep)[0] == "..":
            raise check.error("path", f"a folder below {self.folder.absolute()}", value,
                              "give this folder as SRC, with data.yaml in it, or correct or remove 'path'")
        return os.path.relpath(inside, base.relative_to(self.folder))

    # ---- images ---------------------------------------------------------------------------------

    def _images_of(self, check: Checker, key: str, value: Any) -> list[Path]:
        """Return the images of a split, given as a folder, a list file, or a list of these."""
        found: dict[Path, None] = {}
        for i, entry in enumerate(value if isinstance(value, list) else [] if value in (None, "") else [value]):
            where = f"{key}[{i}]" if isinstance(value, list) else key
            text = check.text(entry, where).replace("\\", "/")
            path = self._find(check, where, text)
            if path is None and key == "test":  # Roboflow names a test folder even if it has no images
                self.left_out.append(("paths of the test split that do not exist", text))
            elif path is None:
                raise check.error(where, "a folder or list file below the source", entry,
                                  f"correct the path, relative to {self._yaml.parent}")
            elif path.is_dir():
                found.update((image, None) for image in self.images.values() if path in image.parents)
            else:
                found.update((self._listed(path, line, number), None) for number, line in enumerate(_lines(path), 1))
        return list(found)

    def _find(self, check: Checker, where: str, text: str) -> Path | None:
        """Return a path of data.yaml: below its ``path``, or beside data.yaml; None if it does not exist.

        Roboflow writes ``../train/images`` for the folder ``train/images`` beside data.yaml; Ultralytics reads it so.
        """
        if text.startswith(("/", "~")) or text[1:2] == ":" or "\0" in text or len(text) > 1000:
            raise check.error(where, "a path relative to the file", text,
                              "the path leads out of the source; write it relative to data.yaml")
        base = self._yaml.parent.relative_to(self.folder).as_posix()
        texts = [text, text[3:]] if text.startswith("../") else [text]
        candidates = [os.path.normpath(os.path.join(base, root, path)).replace(os.sep, "/")
                      for path in texts for root in (self._root, ".")]
        inside = [self.folder / path for path in candidates if path.split("/")[0] != ".."]
        if not inside:
            raise check.error(where, "a path below the source", text, "give a SRC that holds the images as well")
        return next((path for path in inside if path.exists()), None)

    def _listed(self, path: Path, line: str, number: int) -> Path:
        where = f"line {number}"
        bases = (line, line.partition("/")[2]) if line.startswith("data/") else (line,)  # CVAT writes data/images/...
        for candidate in bases:
            image = self.find_image(candidate, path, where)
            if image:
                return image
        raise self.missing_images([line[:200]], 1, path)

    # ---- labels ---------------------------------------------------------------------------------

    def _regions(self, path: Path, names: dict[int, str]) -> list[Region]:
        check = Checker(path, "the tool that wrote the file")
        regions = []
        for number, line in enumerate(_lines(path, blank=True), 1):
            if not line:
                continue
            where, (first, *values) = f"line {number}", line.split()
            label = names.get(_class_id(first))
            if label is None:
                raise check.error(where, f"a class id from 0 to {max(names)} first", first)
            if len(values) != 4 and (len(values) < 6 or len(values) % 2):
                raise check.error(where, "a class id and an even number of fractions: x and y of at least 3 corners",
                                  line[:100])
            numbers = check.parsed_all(values, lambda i, where=where: f"{where}, number {i + 2}")
            if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in numbers):
                wrong = next(v for v in numbers if not -_TOLERANCE <= v <= 1 + _TOLERANCE)
                raise check.error(where, "fractions of the image's size, from 0 to 1", wrong,
                                  "export the labels again as fractions; pixels would be refused by YOLO as well")

            if len(numbers) == 4:
                x, y, w, h = numbers
                ring = [[x - w / 2, y - h / 2], [x + w / 2, y - h / 2], [x + w / 2, y + h / 2], [x - w / 2, y + h / 2]]
            else:
                ring = [list(point) for point in zip(numbers[::2], numbers[1::2])]
            regions.append(Region(where, label, draw_fractions, [ring], len(numbers) == 4))
        return regions


def _labels_of(folder: Path, image: Path) -> Path:
    """Return the path of the labels: the last folder ``images`` becomes ``labels``."""
    parts = list(image.relative_to(folder).with_suffix(".txt").parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return folder.joinpath(*parts)


def _names(check: Checker, value: Any) -> dict[int, str]:
    """Return class id -> name."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        raise check.error("names", "the names of the classes", value)
    names = {check.whole(key, "names", most=10 ** 6): check.name(name, f"names[{key}]"[:100])
             for key, name in value.items()}
    if sorted(names) != list(range(len(value))):
        raise check.error("names", "one name for each class id, without a gap", sorted(names))
    if len(set(names.values())) != len(names):
        raise check.error("names", "different names", list(names.values()))
    return dict(sorted(names.items()))


def _class_id(text: str) -> int:
    """Return the class id; some tools write ``0.0``. -1 if it is none."""
    try:
        value = float(text.replace("_", "?"))  # Python reads 1_0 as 10
    except ValueError:
        return -1
    return int(value) if math.isfinite(value) and value == int(value) else -1


def _is_label(line: str) -> bool:
    """Return whether a line has the form of a polygon or box of YOLO."""
    first, *values = line.split()
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return first.isdecimal() and (len(values) == 4 or len(values) >= 6 and len(values) % 2 == 0) and all(
        -_TOLERANCE <= number <= 1 + _TOLERANCE for number in numbers)


def _lines(path: Path, *, blank: bool = False) -> list[str]:
    """Return the stripped lines of a text file, without blank ones unless ``blank``."""
    problem = no_file(path)
    try:
        if problem is None and path.stat().st_size > _MOST_CHARACTERS:
            problem = f"is larger than {_MOST_CHARACTERS} bytes"
        if problem is None:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
            return lines if blank else [line for line in lines if line]
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {reason(error)}"
    raise DataError(f"a text file {problem}", where=path, fix="restore it from the export, as UTF-8 text")


# ---- data.yaml ------------------------------------------------------------------------------


class _Loader(yaml.BaseLoader):
    """PyYAML's loader without types, because a class may be called ``no`` or ``1``. Refuses aliases and equal keys."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*NAME) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(node.value):
            raise yaml.YAMLError("a key is given twice, or is not text")
        return super().construct_mapping(node, deep)


def _load(path: Path) -> Any:
    """Return the content of a YAML file, all values as text.

    Raises:
        DataError: it is damaged, or not YAML.
    """
    text = "\n".join(_lines_of_yaml(path))
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError("this is not valid YAML", where=path, received=nfc(str(error))[:300],
                        fix="correct the file; https://docs.ultralytics.com/datasets/segment describes it") from None


def _lines_of_yaml(path: Path) -> list[str]:
    problem = no_file(path)
    if problem is None and path.stat().st_size > _MOST_BYTES:
        problem = f"is larger than {_MOST_BYTES} bytes"
    try:
        if problem is None:
            return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {reason(error)}"
    raise DataError(f"a YAML file {problem}", where=path, fix="restore it from the export, as UTF-8 text")


def _yaml_files(source: Path) -> list[tuple[Path, dict]]:
    """Return the YAML files with names and a split; a file ``data.yaml`` that is damaged is an error."""
    found = []
    for path in [source] if source.is_file() else list_files(source, (".yaml", ".yml")):
        try:
            content = _load(path)
        except DataError:
            if path.name in ("data.yaml", "dataset.yaml") or path == source:
                raise
            continue
        if isinstance(content, dict) and "names" in content and _SPLITS.keys() & content.keys():
            found.append((path, content))
    return found
