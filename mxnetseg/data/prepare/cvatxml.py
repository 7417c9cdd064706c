"""Convert CVAT's XML files, "CVAT for images 1.1", to folder data."""
from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from ...errors import DataError, MXNetSegError, reason
from ...files import no_file
from ..base import list_files
from ..splits import split_of
from .checks import Checker
from .drawing import draw_ellipse, draw_rings, rotated_box
from .outlines import Item, OutlinePreparation, Region

_NO_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
_MOST_LEVELS = 40
_FORMAT = "export again as 'CVAT for images 1.1'"


class _Element(NamedTuple):
    """Element of an XML file, with its line."""

    tag: str
    attributes: dict[str, str]
    children: list
    text: list[str]
    line: int

    @property
    def where(self) -> str:
        return f"line {self.line}, <{self.tag[:40]}>"

    def find(self, *path: str) -> list[_Element]:
        """Return the elements below this one whose tags are ``path``; a tag ``*`` is any."""
        found = [self]
        for tag in path:
            found = [child for element in found for child in element.children if tag in ("*", child.tag)]
        return found


class CVATXml(OutlinePreparation):
    """Convert polygons, ellipses and masks of CVAT.

    The classes are ``background`` and the labels of the task or project in their order. Regions with a higher
    ``z_order`` are painted over others, and later ones over earlier ones of the same ``z_order``. The split of an image
    is its ``subset`` in a project, otherwise it follows from the name of its folder. Polylines, points, cuboids,
    skeletons and tags have no area and are left out with a warning.
    """

    needs = "annotations.xml of 'CVAT for images 1.1', one or several, and the images"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return one line of evidence that a source is in this format, or None."""
        try:
            for path in [src] if src.is_file() else list_files(src, (".xml",)):
                root = _read_if_cvat(path)
                if root is not None and root.find("image"):
                    return f"{path.name} with <annotations> and {len(root.find('image'))} <image> of CVAT"
        except MXNetSegError:
            pass
        return None

    def read(self) -> list[Item]:
        files = []
        for path in [self.source] if self.source.is_file() else list_files(self.source, (".xml",)):
            root = _read_if_cvat(path)
            if root is None:
                self.left_out.append(("XML files of other programs", self.short(path)))
            else:
                files.append((path, root))
        if not files:
            raise self.source_error("an XML file of CVAT, with <annotations> and <image>")

        items: list[Item] = []
        missing: list[str] = []
        for path, root in files:
            check = Checker(path, "CVAT")
            if root.find("track"):
                raise check.error(root.find("track")[0].where, "<image>, not <track> of 'CVAT for video 1.1'", "track",
                                  _FORMAT)
            declared = [check.name("".join(name.text), name.where) for name in root.find(
                "meta", "*", "labels", "label", "name")]
            self.labels += declared
            for image in root.find("image"):
                item = self._item(check, image, set(declared))
                if item:
                    items.append(item)
                else:
                    missing.append(image.attributes["name"][:200])
        if missing:
            raise self.missing_images(missing, len(missing) + len(items), files[0][0])
        return items

    def _item(self, check: Checker, image: _Element, declared: set[str]) -> Item | None:
        """Return an image, or None if the file is missing."""
        given = image.attributes
        name = check.text(given.get("name"), f"{image.where} name")
        width, height = (check.whole(given.get(side), f"{image.where} {side}", least=1) for side in ("width", "height"))
        subset = given.get("subset")
        split = split_of(subset) if subset else None

        regions = []
        for element in image.children:
            if element.tag in _NO_AREA:
                self.left_out.append((f"elements <{element.tag}> without an area",
                                      f"{self.short(check.path)}, line {element.line}"))
                continue
            region = _region(check, element)
            if declared and region.label not in declared:
                raise check.error(f"{element.where} label", "a label that <labels> of the file declares", region.label)
            self.labels.append(region.label)
            order = check.whole(element.attributes.get("z_order", "0"), f"{element.where} z_order", least=-10 ** 6)
            regions.append((order, region))
        regions.sort(key=lambda pair: pair[0])

        path = self.find_image(f"{subset}/{name}", check.path, image.where) if subset else None
        path = path or self.find_image(name, check.path, image.where, split=split)
        if path is None:
            return None
        split = split or self.split_of(path, check.path)
        return Item(path, split, [region for _, region in regions], check.path, (width, height))


def _region(check: Checker, element: _Element) -> Region:
    given, where = element.attributes, element.where
    label = check.name(given.get("label"), f"{where} label")

    def numbers(*keys: str) -> list[float]:
        return [check.parsed(given.get(key), f"{where} {key}") for key in keys]

    degrees = check.parsed(given.get("rotation", "0"), f"{where} rotation")
    if element.tag == "polygon":
        text = check.text(given.get("points"), f"{where} points")
        pairs = text.strip().strip(";").split(";")
        values = [value for pair in pairs for value in pair.split(",")]
        if any(pair.count(",") != 1 for pair in pairs):
            i = next(i for i, pair in enumerate(pairs) if pair.count(",") != 1)
            raise check.error(f"{where} points[{i}]", "x,y", pairs[i])
        coordinates = check.parsed_all(values, lambda i: f"{where} points[{i // 2}]")
        points = [list(point) for point in zip(coordinates[::2], coordinates[1::2])]
        return Region(where, label, draw_rings, [check.points(points, f"{where} points")])
    if element.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        corners = rotated_box(left, top, right - left, bottom - top, degrees, ((left + right) / 2, (top + bottom) / 2))
        return Region(where, label, draw_rings, [corners], is_box=True)
    if element.tag == "ellipse":
        return Region(where, label, draw_ellipse, (*numbers("cx", "cy", "rx", "ry"), degrees))
    if element.tag == "mask":
        window = [check.whole(given.get(key), f"{where} {key}", least=-10 ** 6) for key in ("left", "top")]
        size = [check.whole(given.get(key), f"{where} {key}", least=1) for key in ("width", "height")]
        texts = [run.strip() for run in check.text(given.get("rle"), f"{where} rle").strip().strip(",").split(",")]
        for i, run in enumerate(texts):
            if not run.isascii() or not run.isdecimal() or len(run) > 10:
                raise check.error(f"{where} rle[{i}]", "a whole number of pixels", run)
        runs = [int(run) for run in texts]
        if sum(runs) != size[0] * size[1]:
            raise check.error(f"{where} rle", f"runs of {size[0]} x {size[1]} pixels in all", sum(runs))
        return Region(where, label, draw_runs, [*window, *size, runs])
    raise check.error(where, "a polygon, box, ellipse or mask", element.tag,
                      "remove it, or report this element as an issue: it is not known here")


def draw_runs(data: list, height: int, width: int, where: str) -> np.ndarray:
    """Return the pixels of a mask of CVAT, bool (height, width).

    Args:
        data: left, top, width and height of a window in pixels, and its runs, alternately outside and inside, row by
            row.
        height, width: size of the image in pixels.
        where: location of the mask, for messages.
    """
    left, top, w, h, runs = data
    if left < 0 or top < 0 or left + w > width or top + h > height:
        raise DataError("a mask extends beyond its image", where=where,
                        received=f"{w} x {h} pixels at ({left}, {top}); image {width} x {height}",
                        fix="correct the mask in CVAT and export again")
    inside = np.zeros((height, width), bool)
    inside[top:top + h, left:left + w] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    return inside


# ---- XML ------------------------------------------------------------------------------------


def _read_if_cvat(path: Path) -> _Element | None:
    """Return the root of a file of CVAT, or None for XML of another program.

    Raises:
        DataError: the file is damaged, or declares entities, which can expand without bound.
    """
    problem = no_file(path)
    if problem:
        raise DataError(f"an annotation file {problem}", where=path, fix="restore it from the export, or remove it")
    top = _Element("", {}, [], [], 0)
    open_elements = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > _MOST_LEVELS:
            raise ValueError(f"line {parser.CurrentLineNumber}: more than {_MOST_LEVELS} nested elements")
        element = _Element(tag, attributes, [], [], parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def doctype(*_: object) -> None:
        raise ValueError(f"line {parser.CurrentLineNumber}: a document type, which CVAT does not write")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = lambda text: open_elements[-1].text.append(text)
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, OSError, ValueError, LookupError) as error:
        if not _seems_cvat(path):
            return None
        raise DataError("an annotation file is damaged or not XML", where=path, received=reason(error),
                        fix="restore it from the export of CVAT") from None
    (root,) = top.children
    is_cvat = root.tag == "annotations" and any(root.find(tag) for tag in ("image", "track", "meta"))
    return root if is_cvat else None


def _seems_cvat(path: Path) -> bool:
    try:
        return bool(re.search(rb"<annotations\b|CVAT", path.read_bytes()[:4096])) or path.name == "annotations.xml"
    except OSError:
        return True
