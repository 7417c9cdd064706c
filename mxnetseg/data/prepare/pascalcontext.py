"""PASCAL-Context's annotations of VOC 2010 -> masks of 59 classes and background."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from ...errors import DataError
from ..base import read_list
from ..mat import read_mat
from ..pascalcontext import PascalContext60
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .shapes import segment

# of the 459 categories, those of the 59 classes in their order
CATEGORIES = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458)
_MOST = 459
_JSON = "trainval_merged.json"


class PascalContextAnnotations(Preparation):
    """From ``trainval_merged.json``, which also holds the splits, or from the original ``trainval/NAME.mat``.

    For these the splits are VOC 2010's own. Either way the Detail API is not needed.
    """

    dataset = "pascalcontext60"
    needs = PascalContext60.prepared_from
    makes = "JPEGImages/, SegmentationClassContext/NAME.png (0..59), ImageSets/SegmentationContext/{train,val}.txt"

    def jobs(self) -> List[Job]:
        self.table = np.zeros(_MOST + 1, np.uint8)
        self.table[list(CATEGORIES)] = np.arange(1, 60)
        self.images = self.find("JPEGImages", what="VOC 2010") / "JPEGImages"
        folder = self.find(_JSON, what="Context", optional=True)
        return self._from_json(folder / _JSON) if folder else self._from_matlab()

    def finish(self) -> None:
        for split, names in self.lists.items():
            self.write_list(f"ImageSets/SegmentationContext/{split}.txt", names)

    def _from_json(self, listed: Path) -> List[Job]:
        content, origin = read_json(listed), fingerprint(listed)
        self.lists: Dict[str, List[str]] = {"train": [], "val": []}
        regions: Dict[int, List[Any]] = defaultdict(list)
        jobs = []
        try:
            for region in content["annos_segmentation"]:
                regions[region["image_id"]].append((region["category_id"], region["segmentation"]))
            for image in content["images"]:
                if image["phase"] in self.lists:
                    name = Path(image["file_name"]).stem
                    self.lists[image["phase"]].append(name)
                    jobs += self._pair(name, origin, lambda image=image: self._paint(
                        regions[image["image_id"]], image["height"], image["width"], f"{listed}, {image['file_name']}"))
        except (KeyError, TypeError) as error:
            raise DataError(f"{_JSON} is not what it should be", where=listed, received=repr(error),
                            fix="download it again") from error
        return jobs

    def _from_matlab(self) -> List[Job]:
        folder = self.find("trainval", what="Context", optional=True)
        lists = self.find("ImageSets/Main/train.txt", "ImageSets/Main/val.txt", what="VOC 2010", optional=True)
        if folder is None or lists is None:
            raise self.lacking(f"{_JSON}, and trainval/ with ImageSets/Main")
        labels = folder / "trainval"
        self.lists = {split: [name for name in read_list(lists / "ImageSets" / "Main" / f"{split}.txt")
                              if (labels / f"{name}.mat").is_file()] for split in ("train", "val")}
        return [job for names in self.lists.values() for name in names
                for job in self._pair(name, fingerprint(labels / f"{name}.mat"),
                                      lambda name=name: self._matrix(labels / f"{name}.mat"))]

    def _pair(self, name: str, origin: str, read) -> List[Job]:
        original, image, mask = (self.images / f"{name}.jpg", self.target / "JPEGImages" / f"{name}.jpg",
                                 self.target / "SegmentationClassContext" / f"{name}.png")
        return [Job(image, lambda: place(original, image), fingerprint(original), original),
                Job(mask, lambda: write_png(self.table[read()], mask), origin)]

    @staticmethod
    def _paint(regions: List[Any], height: int, width: int, where: str) -> np.ndarray:
        categories = np.zeros((height, width), np.int64)
        for category, outline in regions:
            categories[segment(outline, height, width, where=where)] = category
        return categories

    @staticmethod
    def _matrix(path: Path) -> np.ndarray:
        variables = read_mat(path)
        categories = np.asarray(variables.get("LabelMap") if isinstance(variables, dict) else None)
        if categories.ndim != 2 or categories.min() < 0 or categories.max() > _MOST:
            raise DataError("a MATLAB file holds no LabelMap of Context's 459 categories", where=path,
                            fix="restore the file from the archive")
        return categories.astype(np.int64)
