"""One JSON file of labelme, AnyLabeling or X-AnyLabeling, checked once, on reading."""
from __future__ import annotations

import base64
import math
import reprlib
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError
from .base import composed, fingerprint
from .shapes import circle, polygon

_KEYS = ("shapes", "imagePath", "imageData", "imageHeight", "imageWidth")
_FURTHEST = 1e6  # pixels: a coordinate beyond is a mistake
_MOST_PIXELS = 2 ** 30
_WITH_AREA = {  # shape_type -> numbers of points of a finished shape
    "polygon": range(3, 10 ** 6), "rectangle": (2, 4), "circle": (2,), "mask": (1, 2),
    "oriented_rectangle": (4,), "rotation": (4,), "quadrilateral": (4,)}  # a turned box: labelme's, X-AnyLabeling's
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines
_FIX = "correct it in the tool that wrote the file and save it again, or remove the file"


class Shape(NamedTuple):
    """A shape with an area.

    Attributes:
        label: class name, in Unicode's composed form.
        kind: ``'polygon'``, ``'circle'`` (centre, a point of the edge) or ``'mask'`` (its upper left corner).
        points: x and y in pixels.
        mask: base64 of a PNG, of kind mask only.
        place: path in the JSON file: ``shapes[3]``.
    """

    label: str
    kind: str
    points: list[tuple[float, float]]
    mask: str | None
    place: str


class LabelmeFile(NamedTuple):
    """What is needed of a file.

    Attributes:
        path: the file.
        height, width: of its image, pixels.
        shapes: those with an area, the last on top.
        left_out: (shape_type, label and place) of the others.
        image: imagePath as written, with ``/``; '' if there is none.
        embedded: fingerprint of the image inside; None without one.
        suffix: of the image inside: ``.jpg`` or ``.png``.
    """

    path: Path
    height: int
    width: int
    shapes: list[Shape]
    left_out: list[tuple[str, str]]
    image: str
    embedded: str | None
    suffix: str

    def paint(self, ids: dict[str, int], uncovered: int) -> np.ndarray:
        """Draw the mask, uint8 (height, width): ``ids`` of the labels, ``uncovered`` where no shape is."""
        mask = np.full((self.height, self.width), uncovered, np.uint8)
        for shape in self.shapes:
            if shape.kind == "mask":
                inside = _painted(shape, self.height, self.width, self.path)
            elif shape.kind == "circle":
                inside = circle(shape.points[0], shape.points[1], self.height, self.width)
            else:
                inside = polygon(np.array(shape.points), self.height, self.width)
            mask[inside] = ids[shape.label]
        return mask


def is_labelme(content: Any) -> bool:
    """Return whether JSON seems to be labelme's, damaged or not."""
    return isinstance(content, dict) and ("shapes" in content or sum(key in content for key in _KEYS) > 1)


def parse(path: Path, content: dict[str, Any]) -> LabelmeFile:
    """Check the structure of a file.

    Raises:
        DataError: names the first element that is not as it should be.
    """
    if not isinstance(content.get("shapes"), list):
        raise _wrong(path, "shapes", "a list", content.get("shapes"))
    height, width = (_size(path, key, content.get(key)) for key in ("imageHeight", "imageWidth"))
    if height * width > _MOST_PIXELS:
        raise _wrong(path, "imageHeight, imageWidth", f"at most {_MOST_PIXELS} pixels", f"{height} x {width}")
    for key in ("imagePath", "imageData"):
        if not isinstance(content.get(key), (str, type(None))):
            raise _wrong(path, key, "a text", content[key])
    shapes, left_out = [], []
    for i, entry in enumerate(content["shapes"]):
        shape = _shape(path, f"shapes[{i}]", entry)
        (shapes if isinstance(shape, Shape) else left_out).append(shape)
    data = content.get("imageData")
    return LabelmeFile(path, height, width, shapes, left_out, (content.get("imagePath") or "").replace("\\", "/"),
                       fingerprint(data) if data else None, ".jpg" if data and data.startswith("/9j/") else ".png")


def unpack(path: Path, content: dict[str, Any], suffix: str) -> bytes:
    """Return the image inside a file as it is, if that fits the ``suffix``; else as PNG.

    Raises:
        DataError: it is no image, or one that an 8-bit RGB PNG cannot hold.
    """
    data = _decode(path, "imageData", content["imageData"])
    if data.startswith(b"\x89PNG") or suffix == ".jpg":
        return data
    try:
        with Image.open(BytesIO(data)) as image:
            if image.mode not in ("1", "L", "P", "RGB"):
                raise _wrong(path, "imageData", "an image of 8 bits in grey or RGB", f"mode {image.mode}")
            stream = BytesIO()
            image.convert("RGB").save(stream, format="PNG")
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise _wrong(path, "imageData", "an image", error) from error
    return stream.getvalue()


def _shape(path: Path, place: str, entry: Any) -> Shape | tuple[str, str]:
    """Return the shape, or its kind and name if it has no area."""
    if not isinstance(entry, dict):
        raise _wrong(path, place, "an object", entry)
    label, kind, points, mask = (entry.get(key) for key in ("label", "shape_type", "points", "mask"))
    kind = "polygon" if kind is None else kind
    if not isinstance(kind, str):
        raise _wrong(path, f"{place}.shape_type", "a text", kind)
    name = f"{reprlib.repr(label)} ({path.name}, {place})"
    if kind not in _WITH_AREA:
        return reprlib.repr(kind).strip("'"), name
    if not isinstance(points, list):
        raise _wrong(path, f"{place}.points", "a list", points)
    if len(points) not in _WITH_AREA[kind]:
        return f"{kind} of {len(points)} points", name
    label = _label(path, f"{place}.label", label)
    points = [_point(path, f"{place}.points[{i}]", point) for i, point in enumerate(points)]
    if kind == "mask":
        if not isinstance(mask, str):
            raise _wrong(path, f"{place}.mask", "a PNG image as base64 text", mask)
        return Shape(label, kind, points[:1], mask, place)
    if kind == "rectangle":
        points = _box(path, place, points)
    return Shape(label, "circle" if kind == "circle" else "polygon", points, None, place)


def _label(path: Path, place: str, label: Any) -> str:
    """Return a label as a class name, which is a line of classes.txt."""
    if not isinstance(label, str):
        raise _wrong(path, place, "a text", label)
    name = composed(label).strip()
    if not name or "#" in name or any(unicodedata.category(character) in _UNPRINTABLE for character in name):
        raise _wrong(path, place, "a class name: not empty, on one line, without #", label)
    return name


def _point(path: Path, place: str, point: Any) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
        raise _wrong(path, place, "two numbers", point)
    if not all(abs(value) <= _FURTHEST for value in point):  # false for NaN
        raise _wrong(path, place, f"two numbers between -{_FURTHEST:.0f} and {_FURTHEST:.0f}", point)
    return float(point[0]), float(point[1])


def _box(path: Path, place: str, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of an upright box, given as two opposite ones (labelme) or all four (X-AnyLabeling)."""
    (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
    for i, (x, y) in enumerate(points):
        if min(abs(x - left), abs(x - right)) > 1 or min(abs(y - top), abs(y - bottom)) > 1:
            raise DataError(
                "the four points of a rectangle are not the corners of an upright box",
                where=f"{path}, {place}.points[{i}]", received=points,
                fix="set shape_type to 'rotation' if the box is turned, or to 'polygon'; as a rectangle it would be "
                    f"the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _size(path: Path, key: str, value: Any) -> int:
    if not _is_number(value) or not 1 <= value <= _MOST_PIXELS or value != math.floor(value):
        raise _wrong(path, key, "a whole number of pixels", value)
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _painted(shape: Shape, height: int, width: int, path: Path) -> np.ndarray:
    """Return the pixels of a shape that is a PNG with its upper left corner at a point: bool (height, width)."""
    try:
        with Image.open(BytesIO(_decode(path, f"{shape.place}.mask", shape.mask)), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            part = np.array(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise _wrong(path, f"{shape.place}.mask", "a PNG image as base64 text", error) from error
    left, top = (int(round(value)) for value in shape.points[0])
    part = part[max(-top, 0):, max(-left, 0):]
    inside = np.zeros((height, width), bool)
    window = inside[max(top, 0):, max(left, 0):][:part.shape[0], :part.shape[1]]
    window |= part[:window.shape[0], :window.shape[1]]
    return inside


def _decode(path: Path, place: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text)
    except (ValueError, TypeError) as error:
        raise _wrong(path, place, "base64 text", error) from error


def _wrong(path: Path, place: str, expected: str, received: Any) -> DataError:
    text = str(received) if isinstance(received, Exception) else reprlib.repr(received)  # short, however deep it is
    return DataError(f"{place}: expected {expected}", where=path, received=text[:200], fix=_FIX)
