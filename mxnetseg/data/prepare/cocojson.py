"""Annotations of one's own in COCO's form -> folder data."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import numpy as np

from ...errors import DataError
from ..base import IGNORE, IMAGE_SUFFIXES, list_files
from .base import Job, Preparation, place, read_json, write_png
from .shapes import segment

_BACKGROUND = "background"


class COCOJson(Preparation):
    """Each category becomes a class, after a class ``background`` for what no instance covers.

    The classes are those of ``classes.txt``, if there is one; if it has no ``background``, the uncovered is
    ignored. Otherwise they are the categories in the order of their ids. Small instances lie over large ones.
    Of several files, those with train or val in their names make these splits.
    """

    needs = "COCO's JSON files, one for all or one for each split, and the images; classes.txt is optional"
    makes = "folder data: images/, masks/NAME.png and classes.txt"
    options = ("classes",)
    walks = True

    def jobs(self) -> List[Job]:
        folder = self.source if self.source.is_dir() else self.source.parent
        files = [self.source] if self.source.is_file() else list_files(self.source, (".json",))
        contents = {}
        for file in files:
            content = read_json(file)
            if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content):
                contents[file] = content
        if not contents:
            raise self.lacking("a JSON file with images, annotations and categories")
        self._named: Set[str] = set()
        self._places: Dict[str, List[Path]] = defaultdict(list)
        for path in list_files(folder, IMAGE_SUFFIXES):
            self._places[path.name].append(path)
        self.classes = self.named_classes() or self._classes_of(contents)
        jobs: List[Job] = []
        for file, content in contents.items():
            try:
                jobs += self._jobs_of(file, content, self._split_of(file, len(contents)))
            except (KeyError, TypeError) as error:
                raise DataError("a file of annotations is not in COCO's form", where=file, received=repr(error),
                                fix="see https://cocodataset.org/#format-data, object detection") from error
        return jobs

    def finish(self) -> None:
        given = self.given_classes()
        self.write_list("classes.txt", given.read_text(encoding="utf-8-sig").splitlines() if given else self.classes)

    def _classes_of(self, contents: Dict[Path, Any]) -> Tuple[str, ...]:
        by_id: Dict[int, str] = {}
        for file, content in contents.items():
            for category in content["categories"]:
                if by_id.setdefault(category["id"], category["name"]) != category["name"]:
                    raise DataError("two files give one category different names", where=file,
                                    received=f"{category['id']}: {by_id[category['id']]!r} and {category['name']!r}",
                                    fix="use the same categories in all files, or convert them one by one")
        names = [by_id[i] for i in sorted(by_id) if by_id[i] != _BACKGROUND]
        return (_BACKGROUND, *dict.fromkeys(names))

    @staticmethod
    def _split_of(file: Path, files: int) -> str:
        """The subfolder of a file's pictures: '' if there is only one file."""
        if files == 1:
            return ""
        for split in ("train", "val", "test"):
            if split in file.stem.lower():
                return split
        return file.stem

    def _jobs_of(self, file: Path, content: Any, split: str) -> List[Job]:
        names = {category["id"]: category["name"] for category in content["categories"]}
        ids = {name: i for i, name in enumerate(self.classes)}
        instances: Dict[Any, List[Any]] = defaultdict(list)
        for instance in content["annotations"]:
            name = names[instance["category_id"]]
            if name not in ids:
                raise DataError("a category has no class", where=file, received=name,
                                fix=f"add it to classes.txt; there are {', '.join(self.classes)}")
            instances[instance["image_id"]].append((ids[name], instance["segmentation"]))
        jobs = []
        for image in content["images"]:
            path = self._find_image(image["file_name"], file)
            parts = Path(image["file_name"].replace("\\", "/")).with_suffix("").parts
            name = "/".join([split] * bool(split) + [part for part in parts if part not in ("/", "..", split)])
            if name in self._named:
                raise DataError("two images share one name", where=file, received=name, fix="rename one of them")
            self._named.add(name)
            jobs.append(self._image(path, name))
            jobs.append(self._mask(f"{file}, {path.name}", name, instances[image["id"]],
                                   int(image["height"]), int(image["width"])))
        return jobs

    def _find_image(self, name: str, file: Path) -> Path:
        """Where the image of a JSON file is: beside it, below the source, or anywhere if its name is unique."""
        folder = self.source if self.source.is_dir() else self.source.parent
        for path in (file.parent / name, folder / name, folder / "images" / name, file.parent / "images" / name):
            if path.is_file():
                return path
        found = self._places.get(Path(name.replace("\\", "/")).name, [])
        if len(found) == 1:
            return found[0]
        raise DataError("an image is not there" if not found else "several images have this name",
                        where=file, received=name, fix=f"put the images below {folder}, as file_name says")

    def _image(self, path: Path, name: str) -> Job:
        target = self.target / "images" / f"{name}{path.suffix}"
        return Job(target, lambda: place(path, target))

    def _mask(self, where: str, name: str, instances: List[Any], height: int, width: int) -> Job:
        target = self.target / "masks" / f"{name}.png"
        uncovered = self.classes.index(_BACKGROUND) if _BACKGROUND in self.classes else IGNORE

        def write() -> None:
            filled = [(class_id, segment(outline, height, width, where=where)) for class_id, outline in instances]
            mask = np.full((height, width), uncovered, np.uint8)
            for class_id, inside in sorted(filled, key=lambda part: -np.count_nonzero(part[1])):
                mask[inside] = class_id
            write_png(mask, target)

        return Job(target, write)
