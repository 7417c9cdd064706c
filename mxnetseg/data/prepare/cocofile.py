"""Check the structure of a JSON file in COCO's format once, on reading."""
from __future__ import annotations

import os
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError
from ..base import IMAGE_SUFFIXES
from ..headers import HIGHEST_LIMIT, pixel_limit

PARTS = ("images", "annotations", "categories")
_MAX_COORDINATE = 1e6  # pixels
_NO_OUTLINE = (None, [], "", {})  # values that exporters write for a missing outline


class CocoImage(NamedTuple):
    """One image: its path relative to the JSON file, with forward slashes, and its size in pixels."""

    id: Hashable
    path: str
    height: int
    width: int


class Annotation(NamedTuple):
    """One object.

    Attributes:
        where: position in the file, such as ``annotations[12]``.
        category: id of the category.
        outline: polygons or run lengths, as for :func:`~mxnetseg.data.prepare.shapes.segment`; None if missing.
        box: left, top, width, height in pixels; None if missing or without an area.
    """

    where: str
    category: Hashable
    outline: list | dict | None
    box: tuple[float, float, float, float] | None


class CocoFile(NamedTuple):
    """The content of a file.

    Attributes:
        path: path of the file.
        images: images in the order of the file.
        annotations: id of an image -> its objects with an outline or a box, in the order of the file.
        categories: id -> name.
        parents: names of supercategories.
        warnings: sentences about annotations that are left out or have the same id.
    """

    path: Path
    images: list[CocoImage]
    annotations: dict[Hashable, list[Annotation]]
    categories: dict[Hashable, str]
    parents: set[str]
    warnings: list[str]


def parse(path: Path, content: Any) -> CocoFile:
    """Check the content of a JSON file and return it.

    Args:
        path: path of the file, for messages.
        content: parsed content of the file.

    Raises:
        DataError: it is not in COCO's format. The message names the first wrong element.
    """
    check = _Checker(path)
    check.expect_type(content, dict, "", "an object with the keys " + ", ".join(PARTS))
    for part in PARTS:
        check.expect_type(content.get(part), list, part, "a list")

    categories = check.by_id(content["categories"], "categories")
    names = {key: check.name(category.get("name"), f"{where}.name") for key, (where, category) in categories.items()}
    parents = {str(c.get("supercategory")) for _, c in categories.values() if c.get("supercategory") != c["name"]}
    found = check.by_id(content["images"], "images")
    images = [check.image(key, where, image) for key, (where, image) in found.items()]
    sizes = {image.id: image for image in images}

    annotations: dict[Hashable, list[Annotation]] = defaultdict(list)
    skipped: dict[str, list[str]] = defaultdict(list)
    ids: Counter = Counter()
    for i, item in enumerate(content["annotations"]):
        where = f"annotations[{i}]"
        check.expect_type(item, dict, where, "an object")
        image_id = check.id(item.get("image_id"), f"{where}.image_id")
        if image_id not in sizes:
            skipped["belong to no image of the file"].append(f"{where}.image_id {image_id!r}")
            continue
        annotation = check.annotation(item, where, names)
        if annotation.outline is None and annotation.box is None:
            skipped["have neither an outline nor a box with an area"].append(where)
            continue
        if "id" in item:
            ids[check.id(item["id"], f"{where}.id")] += 1
        if _is_outside(annotation, sizes[image_id]):
            skipped["are outside their image"].append(where)
            continue
        annotations[image_id].append(annotation)

    _check_known(path, content, skipped["belong to no image of the file"])
    _check_units(path, annotations)
    warnings = [f"{path}: {len(elements)} of {len(content['annotations'])} annotations {reason} and are left out, the "
                f"first is {elements[0]}" for reason, elements in skipped.items() if elements]
    repeated = [key for key, count in ids.items() if count > 1]
    if repeated:
        warnings.append(f"{path}: {len(repeated)} ids are given to several annotations, the first is {repeated[0]!r}; "
                        "all of these annotations are used")
    return CocoFile(path, images, annotations, names, parents, warnings)


class _Checker:
    """Checks of single elements, whose errors name the file and the element."""

    def __init__(self, path: Path):
        self.file = path

    def error(self, where: str, expected: str, received: Any, fix: str = "") -> DataError:
        return DataError(
            f"an annotation file is not in COCO's format: {where or 'the file'}: expected {expected}", where=self.file,
            received=reprlib.repr(received),
            fix=fix or "correct or remove this element; https://cocodataset.org/#format-data describes the format")

    def expect_type(self, value: Any, expected_type: type, where: str, expected: str) -> Any:
        if not isinstance(value, expected_type):
            raise self.error(where, expected, value)
        return value

    def id(self, value: Any, where: str) -> Hashable:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise self.error(where, "a whole number or text", value)
        return value

    def by_id(self, items: list, part: str) -> dict[Hashable, tuple[str, dict]]:
        """Return id -> position in the file and element."""
        found: dict[Hashable, tuple[str, dict]] = {}
        for i, item in enumerate(items):
            where = f"{part}[{i}]"
            self.expect_type(item, dict, where, "an object")
            key = self.id(item.get("id"), f"{where}.id")
            if key in found:
                raise self.error(f"{where}.id", f"a different id from {found[key][0]}", key,
                                  "give each element its own id")
            found[key] = where, item
        return found

    def name(self, value: Any, where: str) -> str:
        """Return the name of a category, which must fit on one line of classes.txt."""
        if not _is_line(value) or "#" in value:
            raise self.error(where, "a name of one line without '#'", value, "rename this category")
        return value.strip()

    def image(self, key: Hashable, where: str, image: dict) -> CocoImage:
        height, width = (self._side(image.get(side), f"{where}.{side}") for side in ("height", "width"))
        if height * width > pixel_limit():
            raise self.error(where, f"at most {pixel_limit()} pixels", f"{height} x {width}")
        return CocoImage(key, self._path(image.get("file_name"), f"{where}.file_name"), height, width)

    def _side(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= HIGHEST_LIMIT \
                or value != int(value):
            raise self.error(where, "a whole number of pixels, at least 1", value)
        return int(value)

    def _path(self, value: Any, where: str) -> str:
        """Return the normalised path of an image, which may begin with '..'."""
        if not _is_line(value):
            raise self.error(where, "the name of an image", value)
        path = value.replace("\\", "/")
        if path.startswith(("/", "~")) or path[1:2] == ":":
            raise self.error(where, "a path relative to this file", value,
                              "write the path below the folder of this file, or only the name of the image")

        path = os.path.normpath(path)
        if not path.lower().endswith(IMAGE_SUFFIXES):
            raise self.error(where, f"a name that ends in {', '.join(IMAGE_SUFFIXES)}", value,
                              "convert the image, or remove it and its annotations")
        if any(part.startswith(".") and part != ".." for part in path.split("/")):
            raise self.error(where, "a name without a leading dot, since hidden files are skipped", value,
                              "rename this file or folder")
        return path

    def annotation(self, item: dict, where: str, names: dict[Hashable, str]) -> Annotation:
        category = self.id(item.get("category_id"), f"{where}.category_id")
        if category not in names:
            raise self.error(f"{where}.category_id", "the id of a category of this file", category,
                              "add the category, or remove this annotation; categories: " +
                              reprlib.repr(sorted(map(str, names))))
        outline = item.get("segmentation")
        box = self._box(item.get("bbox"), f"{where}.bbox")
        if outline in _NO_OUTLINE or (isinstance(outline, list) and all(part == [] for part in outline)):
            return Annotation(where, category, None, box)

        outline_where = f"{where}.segmentation"
        if isinstance(outline, dict):
            self._runs(outline, outline_where)
        else:
            self.expect_type(outline, list, outline_where, "a list of polygons, or run lengths")
            for i, part in enumerate(outline):
                self._polygon(part, f"{outline_where}[{i}]")
        return Annotation(where, category, outline, box)

    def _polygon(self, part: Any, where: str) -> None:
        self.expect_type(part, list, where, "a list of numbers [x, y, x, y, ...]")
        if len(part) < 6:
            raise self.error(where, "at least 6 numbers, x and y of 3 corners", part)
        if len(part) % 2:
            raise self.error(where, "an even number of numbers, x and y of each corner", part)
        self._numbers(part, where)

    def _runs(self, runs: dict, where: str) -> None:
        size, counts = runs.get("size"), runs.get("counts")
        if not isinstance(size, list) or [type(side) for side in size] != [int, int]:
            raise self.error(f"{where}.size", "[height, width]", size)
        if isinstance(counts, list):
            for i, count in enumerate(counts):
                if type(count) is not int or not 0 <= count <= HIGHEST_LIMIT:
                    raise self.error(f"{where}.counts[{i}]", "a number of pixels", count)
        elif not isinstance(counts, str):
            raise self.error(f"{where}.counts", "a list of numbers, or a text", counts)

    def _box(self, box: Any, where: str) -> tuple[float, float, float, float] | None:
        if box in (None, []):
            return None
        self.expect_type(box, list, where, "[left, top, width, height]")
        if len(box) != 4:
            raise self.error(where, "4 numbers: left, top, width, height", box)
        self._numbers(box, where)
        return tuple(box) if box[2] > 0 and box[3] > 0 else None

    def _numbers(self, values: list, where: str) -> None:
        are_numbers = set(map(type, values)) <= {int, float}
        if are_numbers and -_MAX_COORDINATE <= min(values) and max(values) <= _MAX_COORDINATE \
                and sum(values) == sum(values):  # a sum with NaN in it is not equal to itself
            return
        for i, value in enumerate(values):
            if type(value) not in (int, float) or not -_MAX_COORDINATE <= value <= _MAX_COORDINATE:
                raise self.error(f"{where}[{i}]", f"a number of pixels, at most {_MAX_COORDINATE:.0f}", value)


def _is_line(value: Any) -> bool:
    """Return whether a value is text of one line without control characters and surrogates."""
    return isinstance(value, str) and bool(value.strip()) and not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value)


def _is_outside(annotation: Annotation, image: CocoImage) -> bool:
    """Return whether the outline, or the box if there is no outline, is completely outside the image."""
    if isinstance(annotation.outline, dict):
        return False
    if annotation.outline is None:
        left, top, width, height = annotation.box
        x, y = (left, left + width), (top, top + height)
    else:
        x, y = (tuple(v for part in annotation.outline for v in part[axis::2]) for axis in (0, 1))
    return max(x) <= 0 or max(y) <= 0 or min(x) >= image.width or min(y) >= image.height


def _check_known(path: Path, content: dict, unknown: list[str]) -> None:
    """Refuse a file if none of its annotations belongs to an image, for instance because of ids '7' instead of 7."""
    if unknown and len(unknown) == len(content["annotations"]):
        ids = reprlib.repr([image["id"] for image in content["images"]])
        raise DataError("no annotation belongs to an image of its file", where=path,
                        received=f"{unknown[0]}; the images have the ids {ids}",
                        fix="set the image_id of each annotation to the id of its image")


def _check_units(path: Path, annotations: dict[Hashable, list[Annotation]]) -> None:
    """Refuse coordinates given as fractions of the image's size, which would all fall into the first pixel."""
    polygons = [part for found in annotations.values() for a in found if isinstance(a.outline, list)
                for part in a.outline if part]
    if polygons and max(map(max, polygons)) <= 1:
        raise DataError("the corners of all polygons are within one pixel, so they seem to be fractions of the image's "
                        "size", where=path, received=reprlib.repr(polygons[0]),
                        fix="export the annotations again with coordinates in pixels")
