"""Convert Supervisely projects to folder data."""
from __future__ import annotations

import base64
import re
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import DataError, MXNetSegError, reason
from ..base import list_files
from ..listing import nfc
from ..splits import split_of
from .base import read_json
from .checks import Checker
from .drawing import box_corners, draw_rings
from .outlines import Item, OutlinePreparation, Region

_NO_AREA = ("line", "point", "graph", "cuboid", "cuboid_2d", "polyline")
_MOST_BYTES = 1 << 26  # of an unpacked PNG
_EVIDENCE = 20  # files that are read to recognise the format


class Supervisely(OutlinePreparation):
    """Convert polygons and bitmaps of Supervisely.

    The classes are ``background`` and the classes of ``meta.json`` in their order. Later objects are painted over
    earlier ones. A data set called train, val or test is this split. Lines, points, graphs and cuboids have no area
    and are left out with a warning.
    """

    needs = "meta.json and, for each data set, img/NAME.jpg and ann/NAME.jpg.json, as Supervisely exports them"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return one line of evidence that a source is in this format, or None."""
        try:
            metas = _metas(src)
            if len(metas) == 1 and isinstance(content := read_json(metas[0]), dict) and _has_classes(content):
                for path in _annotation_files(metas[0].parent)[:_EVIDENCE]:
                    found = read_json(path)
                    if isinstance(found, dict) and {"size", "objects"} <= found.keys():
                        return f"meta.json with {len(content['classes'])} classes, and ann/NAME.json with objects"
        except MXNetSegError:
            pass
        return None

    def read(self) -> list[Item]:
        metas = _metas(self.source)
        if not metas:
            raise self.source_error("meta.json of a Supervisely project")
        if len(metas) > 1:
            raise DataError("the source holds several projects", where=self.source.absolute(),
                            received="\n".join(map(self.short, metas)), fix="give the folder of one of them as SRC")
        project = metas[0].parent
        names = self._read_meta(Checker(metas[0], "Supervisely"))

        images: dict[str, Path] = {}
        for path in self.images.values():
            if path.parent.name == "img":
                images[nfc(path.parent.parent.joinpath("ann", path.name).relative_to(self.folder).as_posix())] = path

        items: list[Item] = []
        missing: list[str] = []
        for file in _annotation_files(project):
            check = Checker(file, "Supervisely")
            content = check.dictionary(read_json(file), "")
            key = nfc(file.relative_to(self.folder).as_posix())[:-len(".json")]
            size, regions = self._annotation(check, content, names)
            # the first exports of Supervisely write NAME.json for NAME.jpg
            found = [images[key]] if key in images else [p for k, p in images.items() if k.rpartition(".")[0] == key]
            if len(found) != 1:
                missing.append(self.short(file))
                continue
            items.append(Item(found[0], split_of(file.parent.parent.relative_to(project)), regions, file, size))
        if missing:
            raise DataError(f"{len(missing)} of {len(missing) + len(items)} annotation files have no image in img/, or "
                            "several", where=project, received="\n".join(missing[:3]),
                            fix="download the project again, with the images: img/NAME.jpg for ann/NAME.jpg.json")
        return items

    def _read_meta(self, check: Checker) -> set[str]:
        content = check.dictionary(read_json(check.path), "")
        classes = check.array(content.get("classes"), "classes")
        self.labels = [check.name(check.dictionary(entry, f"classes[{i}]").get("title"), f"classes[{i}].title")
                       for i, entry in enumerate(classes)]
        if not classes or len(set(self.labels)) < len(classes):
            raise check.error("classes", "classes with different titles", self.labels)
        return set(self.labels)

    def _annotation(self, check: Checker, content: dict, names: set[str]) -> tuple[tuple[int, int], list[Region]]:
        """Return the size, (width, height), and the regions of an annotation file."""
        given = check.dictionary(content.get("size"), "size")
        width, height = (check.whole(given.get(side), f"size.{side}", least=1) for side in ("width", "height"))
        regions = []
        for i, entry in enumerate(check.array(content.get("objects"), "objects")):
            where = f"objects[{i}]"
            found = check.dictionary(entry, where)
            kind = found.get("geometryType", _guess(found))
            if kind in _NO_AREA:
                self.left_out.append((f"objects of the type {kind}, which has no area",
                                      f"{self.short(check.path)}, {where}"))
                continue
            label = check.name(found.get("classTitle"), f"{where}.classTitle")
            if label not in names:
                raise check.error(f"{where}.classTitle", "a class of meta.json", label)
            regions.append(_region(check, where, label, kind, found))
        return (width, height), regions


def _region(check: Checker, where: str, label: str, kind: Any, found: dict) -> Region:
    if kind == "bitmap":
        bitmap = check.dictionary(found.get("bitmap"), f"{where}.bitmap")
        data = check.text(bitmap.get("data"), f"{where}.bitmap.data")
        origin = check.array(bitmap.get("origin"), f"{where}.bitmap.origin")
        if len(origin) != 2:
            raise check.error(f"{where}.bitmap.origin", "[left, top]", origin)
        left, top = (check.whole(value, f"{where}.bitmap.origin[{i}]", least=-10 ** 6)
                     for i, value in enumerate(origin))
        return Region(f"{where}.bitmap", label, draw_bitmap, [left, top, data])
    if kind not in ("polygon", "rectangle"):
        raise check.error(f"{where}.geometryType", "polygon, bitmap or rectangle", kind,
                          "remove this object, or convert it to a polygon or bitmap in Supervisely")

    points = check.dictionary(found.get("points"), f"{where}.points")
    interior = check.array(points.get("interior", []), f"{where}.points.interior")
    if kind == "rectangle":
        corners = check.points(points.get("exterior"), f"{where}.points.exterior", least=2)
        if len(corners) > 2:
            raise check.error(f"{where}.points.exterior", "two opposite corners", corners)
        return Region(where, label, draw_rings, [box_corners(*corners[0], *corners[1])], is_box=True)
    return Region(where, label, draw_rings, [
        check.points(points.get("exterior"), f"{where}.points.exterior"),
        *(check.points(hole, f"{where}.points.interior[{i}]") for i, hole in enumerate(interior))])


def draw_bitmap(data: list, height: int, width: int, where: str) -> np.ndarray:
    """Return the pixels of a bitmap, bool (height, width).

    Args:
        data: left and top of the bitmap in pixels, and its PNG, compressed by zlib, as base64 text. Pixels that are not
            transparent belong to it; without transparency, pixels that are not 0.
        height, width: size of the image in pixels.
        where: location of the bitmap, for messages.

    Raises:
        DataError: the bitmap is damaged, or extends beyond the image.
    """
    left, top, text = data
    try:
        unpacker = zlib.decompressobj()
        png = unpacker.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise ValueError(f"it ends too early, or unpacks to more than {_MOST_BYTES} bytes")
        with Image.open(BytesIO(png), formats=("PNG",)) as image:
            w, h = image.size
            if left < 0 or top < 0 or left + w > width or top + h > height:  # checked before it is decoded
                raise DataError("a bitmap extends beyond its image", where=where,
                                received=f"{w} x {h} pixels at ({left}, {top}); image {width} x {height}",
                                fix="correct the object in Supervisely and export again")
            if "A" in image.mode or "transparency" in image.info:
                part = np.array(image.convert("RGBA"))[..., 3] > 0
            elif image.mode in ("1", "L", "P"):
                part = np.array(image) > 0
            else:
                raise ValueError(f"a PNG of the mode {image.mode}, without transparency")
    except (OSError, ValueError, SyntaxError, MemoryError, zlib.error, Image.DecompressionBombError) as error:
        raise DataError("expected a PNG image, compressed by zlib, as base64 text", where=where, received=reason(error),
                        fix="export the project again, or draw the object again") from error

    inside = np.zeros((height, width), bool)
    inside[top:top + h, left:left + w] = part
    return inside


def _guess(found: dict) -> str | None:
    """Return the type of an object of the first exports, which have no geometryType."""
    if isinstance(found.get("bitmap"), dict):
        return "bitmap"
    points = found.get("points")
    exterior = points.get("exterior") if isinstance(points, dict) else None
    return "polygon" if isinstance(exterior, list) and len(exterior) > 2 else None


def _metas(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.name == "meta.json" else []
    return [path for path in list_files(source, (".json",)) if path.name == "meta.json" and path.parent.name != "ann"]


def _annotation_files(project: Path) -> list[Path]:
    return [path for path in list_files(project, (".json",)) if path.parent.name == "ann"]


def _has_classes(content: dict) -> bool:
    classes = content.get("classes")
    return isinstance(classes, list) and bool(classes) and all(
        isinstance(entry, dict) and re.search(r"\S", str(entry.get("title", ""))) for entry in classes)
