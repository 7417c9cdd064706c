"""Convert Label Studio's JSON export to folder data."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from ...errors import DataError, MXNetSegError
from ..base import IMAGE_SUFFIXES, list_files
from .base import read_json
from .brush import draw_brush
from .checks import Checker
from .drawing import draw_ellipse, draw_fractions, draw_rings, rotated_box
from .outlines import Item, OutlinePreparation, Region

_LABELS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "labels")
_NO_AREA = ("keypointlabels", "vectorlabels", "keypoint", "vector")
_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio writes it before the name of an uploaded file
_EXPORT = "export again, as 'JSON' (not 'JSON-MIN')"


class _Task(NamedTuple):
    """A task of an export, and its position."""

    where: str
    content: dict


class LabelStudio(OutlinePreparation):
    """Convert polygons, ellipses and brush strokes of Label Studio.

    The classes are ``background`` and the sorted labels. Later regions are painted over earlier ones. A task needs one
    annotation; if it has several, one of them must be the ground truth. Predictions are not read. A task without an
    annotation is left out, and one whose annotation has no region is background. Pixels of a brush count if the brush
    is at least half opaque there.
    """

    needs = "the JSON export of Label Studio (not JSON-MIN), and the images"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return one line of evidence that a source is in this format, or None."""
        try:
            for path in [src] if src.is_file() else list_files(src, (".json",)):
                with open(path, "rb") as stream:
                    start = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
                if start[:1] == b"[":
                    content = read_json(path)
                    if _is_export(content):
                        return f"{path.name} with {len(content)} tasks of Label Studio (data, annotations)"
        except (MXNetSegError, OSError):
            pass
        return None

    def read(self) -> list[Item]:
        files = []
        for path in [self.source] if self.source.is_file() else list_files(self.source, (".json",)):
            content = read_json(path)
            if _is_export(content) or path == self.source:
                files.append((path, content))
            elif isinstance(content, list) and any(isinstance(task, dict) and "annotation_id" in task
                                                   for task in content):
                raise DataError("this file is an export in the format JSON-MIN, which lacks the sizes of brush strokes",
                                where=path, fix=_EXPORT)
            else:
                self.left_out.append(("JSON files of other programs", self.short(path)))
        if not files:
            raise self.source_error("a JSON export of Label Studio: a list of tasks with 'data' and 'annotations'")

        items: list[Item] = []
        missing: list[str] = []
        for path, content in files:
            check = Checker(path, "Label Studio")
            for i, task in enumerate(check.array(content, "")):
                self._add(check, _Task(f"[{i}]", check.dictionary(task, f"[{i}]")), items, missing)
        if missing:
            raise self.missing_images(missing, len(missing) + len(items), files[0][0])
        self.labels = sorted({region.label for item in items for region in item.regions})
        if not self.labels and not self.find_classes_file():
            raise DataError("no region has a label", where=self.source.absolute(), received=f"{len(items)} tasks",
                            fix="label regions, or give the classes: --classes FILE")
        return items

    def _add(self, check: Checker, task: _Task, items: list[Item], missing: list[str]) -> None:
        where = f"{self.short(check.path)}, {task.where}"
        annotation = _annotation(check, task)
        if annotation is None:
            self.left_out.append(("tasks without an annotation", where))
            return
        results_where, results = annotation
        regions, size = self._regions(check, results_where, results)

        names = image_names(check, f"{task.where}.data", task.content.get("data"), task.content.get("file_upload"))
        for name in names:
            path = self.find_image(name, check.path, task.where)
            if path is not None:
                items.append(Item(path, self.split_of(path, check.path), regions, check.path, size))
                return
        missing.append(names[0][:200])

    def _regions(self, check: Checker, where: str, results: list) -> tuple[list[Region], tuple[int, int] | None]:
        """Return the regions of an annotation, and the size of the image that they give."""
        labels: dict[Any, str] = {}
        for i, result in enumerate(results):  # a tag Labels with a tag Polygon writes two results with the same id
            result = check.dictionary(result, f"{where}[{i}]")
            found = _label(check, f"{where}[{i}].value", result.get("value"))
            if found and isinstance(result.get("id"), str):
                if labels.setdefault(result["id"], found) != found:
                    raise check.error(f"{where}[{i}]", f"the label {labels[result['id']]!r} of the same region", found)

        regions: list[Region] = []
        size: tuple[int, int] | None = None
        shapes: dict[str, dict] = {}
        for i, result in enumerate(results):
            place, value, key = f"{where}[{i}]", result.get("value"), result.get("id")
            if result.get("type") in _NO_AREA:
                self.left_out.append(("key points and vectors, which have no area",
                                      f"{self.short(check.path)}, {place}"))
                continue
            if not isinstance(value, dict) or not {"points", "rle", "width", "radiusX"} & value.keys():
                continue  # choices, ratings, texts and relations
            shape = {name: entry for name, entry in value.items() if name not in _LABELS}
            if isinstance(key, str) and shapes.setdefault(key, shape) is not shape:
                if shapes[key] != shape:
                    raise check.error(f"{place}.id", "a different id from the regions before", key)
                continue

            label = labels.get(key) if isinstance(key, str) else _label(check, f"{place}.value", value)
            if label is None:
                raise check.error(place, "a region with a label", result.get("type"))
            if result.get("image_rotation", 0) != 0:
                raise check.error(f"{place}.image_rotation", "0, since the points of a rotated image are not supported",
                                  result["image_rotation"], "rotate the image file, annotate it, and export again")
            if value.get("closed") is False:
                self.left_out.append(("polygons that are not closed", f"{self.short(check.path)}, {place}"))
                continue
            width, height = (check.whole(result.get(f"original_{side}"), f"{place}.original_{side}", least=1)
                             for side in ("width", "height"))
            if size not in (None, (width, height)):
                raise check.error(place, f"the size of the other results, {size[0]} x {size[1]}", (width, height))
            size = width, height
            regions.append(_region(check, f"{place}.value", label, value, width, height))
        return regions, size


def _is_export(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(task, dict) for task in content) and any(
        isinstance(task.get("data"), dict) and ("annotations" in task or "completions" in task) for task in content)


def _annotation(check: Checker, task: _Task) -> tuple[str, list] | None:
    """Return position and results of the annotation to use; None if the task has none.

    Raises:
        DataError: several annotations, of which none or several are the ground truth.
    """
    key = "annotations" if "annotations" in task.content else "completions"  # before version 1.0
    found = []
    for i, annotation in enumerate(check.array(task.content.get(key), f"{task.where}.{key}")):
        where = f"{task.where}.{key}[{i}]"
        annotation = check.dictionary(annotation, where)
        if not annotation.get("was_cancelled"):
            results = check.array(annotation.get("result"), f"{where}.result")
            found.append((f"{where}.result", results, annotation.get("ground_truth") is True))
    if len(found) > 1:
        truths = [entry for entry in found if entry[2]]
        if len(truths) != 1:
            raise check.error(f"{task.where}.{key}", "one annotation, or one that is the ground truth",
                              f"{len(found)} annotations, {len(truths)} of them ground truth",
                              "mark one annotation of the task as ground truth (the star), or delete the others")
        found = truths
    return found[0][:2] if found else None


def image_names(check: Checker, where: str, data: Any, upload: Any = None) -> list[str]:
    """Return the names under which the image of a task may be found, the most exact first.

    Args:
        check: checks of the file.
        where: position of ``data`` in the file, for messages.
        data: fields of the task, one of which is the path of its image.
        upload: name of the uploaded file, if the task has one.

    Raises:
        DataError: the task has no image, or several.
    """
    data = check.dictionary(data, where)
    paths = {}
    for key, value in data.items():
        path = _path_of(value) if isinstance(value, str) else ""
        if path.lower().endswith(IMAGE_SUFFIXES):
            paths[str(key)] = path
    if isinstance(upload, str) and upload.lower().endswith(IMAGE_SUFFIXES):
        paths = {"file_upload": upload}
    if len(paths) != 1:
        raise check.error(where, f"the path of one image, that ends in {', '.join(IMAGE_SUFFIXES)}",
                          paths or data, "export tasks with one image each")

    path = next(iter(paths.values())).replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return [path]  # refused when it is looked for
    names = ["/".join(parts[i:]) for i in range(len(parts))]
    return names + [_PREFIX.sub("", parts[-1])] * bool(_PREFIX.match(parts[-1]))


def _path_of(value: str) -> str:
    """Return the path of an image in a local path, an address, or Label Studio's address of a local file."""
    try:
        address = urlsplit(value)
        local = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/a.jpg
    except ValueError:
        return ""
    if local:
        return local[0]
    return unquote(address.path) if address.scheme else unquote(value) if value.startswith("/data/") else value


def _label(check: Checker, where: str, value: Any) -> str | None:
    """Return the label of a value, or None if it has none."""
    if not isinstance(value, dict):
        return None
    for key in _LABELS:
        if key in value:
            names = check.array(value[key], f"{where}.{key}")
            if len(names) != 1:
                raise check.error(f"{where}.{key}", "one label, since a pixel has one class", names)
            return check.name(names[0], f"{where}.{key}[0]")
    return None


def _region(check: Checker, where: str, label: str, value: dict, width: int, height: int) -> Region:
    def fraction(key: str) -> float:
        return check.number(value.get(key), f"{where}.{key}") / 100

    if "points" in value:
        points = check.points(value["points"], f"{where}.points")
        return Region(where, label, draw_fractions, [[[x / 100, y / 100] for x, y in points]])
    if "rle" in value:
        if value.get("format", "rle") != "rle":
            raise check.error(f"{where}.format", "'rle'", value["format"])
        codes = check.array(value["rle"], f"{where}.rle")
        for i, code in enumerate(codes):
            if type(code) is not int or not 0 <= code <= 255:
                raise check.error(f"{where}.rle[{i}]", "a byte, from 0 to 255", code)
        return Region(where, label, draw_brush, bytes(codes))

    degrees = check.number(value.get("rotation", 0), f"{where}.rotation")
    x, y = fraction("x") * width, fraction("y") * height
    if "radiusX" in value:
        return Region(where, label, draw_ellipse, (x, y, fraction("radiusX") * width, fraction("radiusY") * height,
                                                      degrees))
    corners = rotated_box(x, y, fraction("width") * width, fraction("height") * height, degrees, (x, y))
    return Region(where, label, draw_rings, [corners], is_box=True)
