"""Check a JSON file of labelme, AnyLabeling or X-AnyLabeling once, on reading."""
from __future__ import annotations

import base64
import math
import reprlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError
from .base import fingerprint
from .exports import as_class_name
from .shapes import circle, polygon

_KEYS = ("shapes", "imagePath", "imageData", "imageHeight", "imageWidth")
_MAX_COORDINATE = 1e6  # pixels; a larger coordinate is a mistake
_MAX_PIXELS = 2 ** 30
_POINT_COUNTS = {  # shape_type -> possible numbers of points of a finished shape, for types with an area
    "polygon": range(3, 10 ** 6), "rectangle": (2, 4), "circle": (2,), "mask": (1, 2),
    "oriented_rectangle": (4,), "rotation": (4,), "quadrilateral": (4,)}  # rotated boxes of labelme and X-AnyLabeling
_FIX = "correct it in the tool that wrote the file and save it again, or remove the file"


class Shape(NamedTuple):
    """A shape with an area.

    Attributes:
        label: class name, in Unicode form NFC.
        shape_type: ``'polygon'``, ``'circle'`` (centre, a point on it) or ``'mask'`` (its upper left corner).
        points: x and y in pixels.
        mask: base64 text of a PNG, for a mask only.
        where: position in the JSON file: ``shapes[3]``.
    """

    label: str
    shape_type: str
    points: list[tuple[float, float]]
    mask: str | None
    where: str


class LabelmeFile(NamedTuple):
    """Checked content of a file.

    Attributes:
        path: path of the file.
        height, width: size of its image in pixels.
        shapes: shapes with an area, the last on top.
        left_out: (shape_type, label and position) of the other shapes.
        image: imagePath with forward slashes; empty if missing.
        embedded: fingerprint of the image inside the file; None without one.
        suffix: suffix of the image inside the file: ``.jpg`` or ``.png``.
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
        """Return the mask, uint8 (height, width), with the id of each label, and ``uncovered`` outside all shapes."""
        mask = np.full((self.height, self.width), uncovered, np.uint8)
        for shape in self.shapes:
            if shape.shape_type == "mask":
                inside = _mask_pixels(shape, self.height, self.width, self.path)
            elif shape.shape_type == "circle":
                inside = circle(shape.points[0], shape.points[1], self.height, self.width)
            else:
                inside = polygon(np.array(shape.points), self.height, self.width)
            mask[inside] = ids[shape.label]
        return mask


def is_labelme(content: Any) -> bool:
    """Return whether the content seems to be labelme's, even if it is damaged."""
    return isinstance(content, dict) and ("shapes" in content or sum(key in content for key in _KEYS) > 1)


def parse(path: Path, content: dict[str, Any]) -> LabelmeFile:
    """Check the structure of a file.

    Raises:
        DataError: an element has an unexpected type or value; the message names the first one.
    """
    if not isinstance(content.get("shapes"), list):
        raise _wrong(path, "shapes", "a list", content.get("shapes"))
    height, width = (_size(path, key, content.get(key)) for key in ("imageHeight", "imageWidth"))
    if height * width > _MAX_PIXELS:
        raise _wrong(path, "imageHeight, imageWidth", f"at most {_MAX_PIXELS} pixels", f"{height} x {width}")
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
    """Return the image inside a file, unchanged if it has the format of ``suffix``, else converted to PNG.

    Raises:
        DataError: it is not an image, or an 8-bit RGB PNG cannot hold it.
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


def _shape(path: Path, where: str, entry: Any) -> Shape | tuple[str, str]:
    """Return the shape, or its type and name if it has no area."""
    if not isinstance(entry, dict):
        raise _wrong(path, where, "an object", entry)
    label, shape_type, points, mask = (entry.get(key) for key in ("label", "shape_type", "points", "mask"))
    shape_type = "polygon" if shape_type is None else shape_type
    if not isinstance(shape_type, str):
        raise _wrong(path, f"{where}.shape_type", "a text", shape_type)

    name = f"{reprlib.repr(label)} ({path.name}, {where})"
    if shape_type not in _POINT_COUNTS:
        return reprlib.repr(shape_type).strip("'"), name
    if not isinstance(points, list):
        raise _wrong(path, f"{where}.points", "a list", points)
    if len(points) not in _POINT_COUNTS[shape_type]:
        return f"{shape_type} of {len(points)} points", name

    label = _label(path, f"{where}.label", label)
    points = [_point(path, f"{where}.points[{i}]", point) for i, point in enumerate(points)]
    if shape_type == "mask":
        if not isinstance(mask, str):
            raise _wrong(path, f"{where}.mask", "a PNG image as base64 text", mask)
        return Shape(label, shape_type, points[:1], mask, where)
    if shape_type == "rectangle":
        points = _box(path, where, points)
    return Shape(label, "circle" if shape_type == "circle" else "polygon", points, None, where)


def _label(path: Path, where: str, label: Any) -> str:
    """Return a label as a class name, which must fit on one line of classes.txt."""
    if not isinstance(label, str):
        raise _wrong(path, where, "a text", label)
    name = as_class_name(label)
    if name is None:
        raise _wrong(path, where, "a class name: not empty, on one line, without #", label)
    return name


def _point(path: Path, where: str, point: Any) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
        raise _wrong(path, where, "two numbers", point)
    if not all(abs(value) <= _MAX_COORDINATE for value in point):  # also refuses NaN
        raise _wrong(path, where, f"two numbers between -{_MAX_COORDINATE:.0f} and {_MAX_COORDINATE:.0f}", point)
    return float(point[0]), float(point[1])


def _box(path: Path, where: str, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of an upright box, given as two opposite corners (labelme) or all four (X-AnyLabeling)."""
    (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
    for i, (x, y) in enumerate(points):
        if min(abs(x - left), abs(x - right)) > 1 or min(abs(y - top), abs(y - bottom)) > 1:
            raise DataError(
                "the points of a rectangle are not the corners of an upright box",
                where=f"{path}, {where}.points[{i}]", received=points,
                fix="set shape_type to 'rotation' if the box is rotated, else to 'polygon'; as a rectangle it would be "
                    f"the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _size(path: Path, key: str, value: Any) -> int:
    if not _is_number(value) or not 1 <= value <= _MAX_PIXELS or value != math.floor(value):
        raise _wrong(path, key, "a whole number of pixels", value)
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mask_pixels(shape: Shape, height: int, width: int, path: Path) -> np.ndarray:
    """Return the pixels of a shape given as a PNG at its upper left corner: bool (height, width)."""
    try:
        with Image.open(BytesIO(_decode(path, f"{shape.where}.mask", shape.mask)), formats=("PNG",)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            part = np.array(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise _wrong(path, f"{shape.where}.mask", "a PNG image as base64 text", error) from error

    left, top = (int(round(value)) for value in shape.points[0])
    part = part[max(-top, 0):, max(-left, 0):]
    inside = np.zeros((height, width), bool)
    window = inside[max(top, 0):, max(left, 0):][:part.shape[0], :part.shape[1]]
    window |= part[:window.shape[0], :window.shape[1]]
    return inside


def _decode(path: Path, where: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text)
    except (ValueError, TypeError) as error:
        raise _wrong(path, where, "base64 text", error) from error


def _wrong(path: Path, where: str, expected: str, received: Any) -> DataError:
    text = str(received) if isinstance(received, Exception) else reprlib.repr(received)  # short for any depth
    return DataError(f"{where}: expected {expected}", where=path, received=text[:200], fix=_FIX)
