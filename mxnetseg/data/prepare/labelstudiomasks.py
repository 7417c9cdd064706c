"""Convert Label Studio's export "Brush labels to PNG" to folder data."""
from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import DataError, DataNotFoundError, MXNetSegError
from ..base import list_files
from ..listing import nfc
from ..masks import read_mask
from .base import read_json
from .checks import Checker
from .exports import some
from .labelstudio import LabelStudio, image_names
from .outlines import Item, OutlinePreparation, Region

# the user's name has no hyphen, but a tag and a label may: Label Studio keeps letters, digits, '@' and '.' of it
_NAME = re.compile(r"task-(\d+)-annotation-(\d+)-by-[^-]*-(.+)-\d+\.png")
_OPAQUE = 128  # from this value on, the brush is at least half opaque
_NO_LABEL = "no_label"  # written for a region without a label
_EXPORT = "export the project once more, as 'JSON-MIN', and put this file beside the masks"


class _MaskFile(NamedTuple):
    """Mask of one brush region; ``tag_and_label`` is the part of its name that holds both."""

    path: Path
    annotation: str
    tag_and_label: str


class _Tasks(NamedTuple):
    """Tasks of the JSON files: task -> (file, position, names of the image), and the names of the tags, if known."""

    images: dict[str, tuple[Path, str, list[str]]]
    tags: set[str]


class LabelStudioMasks(OutlinePreparation):
    """Convert the brush masks of Label Studio, one PNG file for each region.

    The name of a mask gives its task, but not its image. A JSON export of the same project gives the image of a task.
    The classes are ``background`` and the sorted labels. Pixels count if the brush is at least half opaque there. The
    masks have no order, so a pixel with two labels is refused.
    """

    needs = "masks named task-N-annotation-N-by-USER-TAG-LABEL-N.png, the images, and a JSON-MIN export of the project"
    options = ("classes",)
    overlap_fix = "erase one of the regions in Label Studio and export again; or export as 'JSON', where later " \
                  "regions lie on top of earlier ones: mxnetseg prepare label-studio SRC DST"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        """Return one line of evidence that a source is in this format, or None."""
        try:
            count = len(_mask_files(src)) if src.is_dir() else 0
            complete = bool(count) and LabelStudio.recognises(src)  # this JSON export holds the masks too
        except (MXNetSegError, OSError):
            return None
        return None if complete or not count else \
            f"brush masks of Label Studio (task-N-annotation-N-by-...png), of {count} tasks"

    def read(self) -> list[Item]:
        masks = _mask_files(self.folder)
        if not masks:
            raise self.source_error("brush masks of Label Studio")
        paths = {mask.path for found in masks.values() for mask in found}
        self.images = {name: path for name, path in self.images.items() if path not in paths}

        tasks = self._read_tasks()
        unknown = [task for task in masks if task not in tasks.images]
        if unknown:
            raise DataError(f"{len(unknown)} of {len(masks)} tasks with masks are in no JSON file",
                            where=masks[unknown[0]][0].path, received=f"task {some(unknown)}", fix=_EXPORT)
        self.left_out += [("tasks without a mask", f"{self.short(file)}, {where}")
                          for task, (file, where, _) in tasks.images.items() if task not in masks]

        labels = self._labels([mask for found in masks.values() for mask in found], tasks.tags)
        self.labels = sorted(set(labels.values()))
        items: list[Item] = []
        missing: list[str] = []
        for task, found in masks.items():
            file, where, names = tasks.images[task]
            image = next(filter(None, (self.find_image(name, file, where) for name in names)), None)
            if image is None:
                missing.append(names[0][:200])
            else:
                items.append(Item(image, self.split_of(image, file), self._regions(found, labels), file))
        if missing:
            raise self.missing_images(missing, len(masks), tasks.images[next(iter(masks))][0])
        return items

    def _read_tasks(self) -> _Tasks:
        """Read the images of the tasks from JSON and JSON-MIN exports, which have the fields id and image."""
        tasks = _Tasks({}, set())
        for path in [self.source] if self.source.is_file() else list_files(self.source, (".json",)):
            content = read_json(path)
            if not isinstance(content, list) or not all(isinstance(task, dict) and "id" in task for task in content):
                self.left_out.append(("JSON files of other programs", self.short(path)))
                continue
            check = Checker(path, "Label Studio")
            for i, task in enumerate(content):
                number = str(check.whole(task["id"], f"[{i}].id"))
                if "data" in task:  # JSON
                    names = image_names(check, f"[{i}].data", task["data"], task.get("file_upload"))
                    tasks.tags.update(_tags(task))
                else:  # JSON-MIN: the results of a tag are a field of its name
                    names = image_names(check, f"[{i}]", task)
                    tasks.tags.update(task)
                before = tasks.images.setdefault(number, (path, f"[{i}]", names))
                if before[2] != names:
                    raise DataError("a task has two images", where=f"{before[0]}\n{path}",
                                    received=f"task {number}: {before[2][0]} and {names[0]}",
                                    fix="keep only the JSON file that was exported together with the masks")
        if not tasks.images:
            raise DataNotFoundError("the source lacks a JSON file, so the image of a mask is unknown",
                                    where=self.source.absolute(), fix=f"{_EXPORT}; or write such a file: "
                                    '[{"id": 3, "image": "photo.jpg"}, ...] with the number of each task')
        return tasks

    def _labels(self, masks: Sequence[_MaskFile], tags: set[str]) -> dict[str, str]:
        """Return the label of each ``tag_and_label``; a name with several hyphens may be readable in several ways.

        Raises:
            DataError: a name cannot be read, or in two ways.
        """
        classes = self.read_given_classes()
        labels = {mask.tag_and_label: _label(mask, tags, classes) for mask in masks}
        known = {*labels.values(), *(classes or ())}
        for mask in masks:
            parts = labels[mask.tag_and_label].split("-")
            splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
            two = next((split for split in splits if known.issuperset(split)), None)
            if two:
                raise DataError("the name of a mask can be read in two ways", where=mask.path,
                                received=f"one label: {'-'.join(parts)}\ntwo labels: {two[0]}, {two[1]}",
                                fix="give the region one label, since a pixel has one class, or rename the label "
                                    f"{'-'.join(parts)} to a name without a hyphen, and export again")
        return labels

    def _regions(self, masks: Iterable[_MaskFile], labels: Mapping[str, str]) -> list[Region]:
        return [Region(self.short(mask.path), labels[mask.tag_and_label], draw_mask, mask.path)
                for mask in masks]


def draw_mask(path: Path, height: int, width: int, where: str = "") -> np.ndarray:
    """Return the pixels of a brush mask: bool (height, width).

    Raises:
        DataError: the mask has another size than its image, has no opaque pixel, or cannot be read.
    """
    mask = read_mask(path)
    if mask.shape != (height, width):
        raise DataError("a mask has another size than its image", where=path, received=f"{where}: mask "
                        f"{mask.shape[1]} x {mask.shape[0]}, image {width} x {height}",
                        fix="restore the image in the size that was annotated, or correct the JSON file")
    if 0 < mask.max() < _OPAQUE:
        raise DataError("no pixel of a brush mask is at least half opaque", where=path,
                        received=f"values up to {mask.max()}", fix="export the mask again; its values are 0 and 255")
    return mask >= _OPAQUE


def _mask_files(source: Path) -> dict[str, list[_MaskFile]]:
    """Return task -> its masks, ordered by task and name.

    Raises:
        DataError: a task has masks of several annotations, or a name is there twice.
    """
    found: dict[str, list[_MaskFile]] = defaultdict(list)
    names: dict[str, Path] = {}
    for path in list_files(source, (".png",)):
        match = _NAME.fullmatch(nfc(path.name))
        if not match:
            continue
        task, annotation, tag_and_label = match.groups()
        first = found[task][0] if found[task] else None
        if first and first.annotation != annotation:
            raise DataError("a task has masks of several annotations", where=f"{first.path}\n{path}",
                            received=f"task {task}: annotations {first.annotation} and {annotation}",
                            fix="keep the masks of one of them, and remove the others")
        if names.setdefault(path.name, path) != path:
            raise DataError("a mask is in two folders", where=f"{names[path.name]}\n{path}", fix="remove one of them")
        found[task].append(_MaskFile(path, annotation, tag_and_label))
    return {task: found[task] for task in sorted(found, key=int)}


def _tags(task: Mapping[str, Any]) -> set[str]:
    """Return the names of the tags in the results of a task of a JSON export; elements of other forms are skipped."""
    annotations = task.get("annotations", task.get("completions"))
    results = [result for annotation in annotations or () if isinstance(annotation, dict)
               for result in annotation.get("result") or () if isinstance(result, dict)]
    return {str(result.get("from_name")) for result in results}


def _label(mask: _MaskFile, tags: set[str], classes: Sequence[str] | None) -> str:
    """Return the label in the name of a mask; Label Studio writes '-' for slashes in it.

    Raises:
        DataError: there is none, or several readings are possible.
    """
    parts = mask.tag_and_label.split("-")
    readings = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    by_tag = {_written(tag) for tag in tags}
    readings = [reading for reading in readings if reading[0] in by_tag] or readings
    if classes is not None:
        readings = [(tag, name) for tag, label in readings for name in classes if _written(name) == label]
    readings = [(tag, label) for tag, label in readings if label != _NO_LABEL]

    if len(readings) == 1:
        return Checker(mask.path, "Label Studio").name(readings[0][1], "the label in the name")
    if not readings:
        raise DataError("the name of a mask holds no label" if classes is None else "a label has no class",
                        where=mask.path, received=mask.tag_and_label,
                        fix="give the region a label, and export again" if classes is None else
                        f"add its label to the file of classes, which has {some(list(classes))}")
    raise DataError("the name of a mask can be read in two ways", where=mask.path,
                    received="\n".join(f"tag {tag!r}, label {label!r}" for tag, label in readings),
                    fix="name the classes, one a line: --classes FILE; or " + _EXPORT)


def _written(name: str) -> str:
    """Return the name of a tag or label as it is written in the name of a file."""
    return re.sub(r"[/\\]", "-", nfc(name))
