"""COCO's instances -> masks of VOC's 21 classes, for pre-training."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from ...errors import DataError
from .base import Job, Preparation, place, read_json, write_png
from .shapes import segment

# COCO's category for each of VOC's classes 1 to 20, in their order
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
_LEAST = 1000  # an image with so few pixels of objects, or fewer, is left out


class COCOtoVOC(Preparation):
    """Where instances overlap, the earlier one in the file counts; images with at most 1000 pixels are left out."""

    dataset = "coco"
    needs = "train2017/, val2017/ and annotations/instances_train2017.json, instances_val2017.json"
    makes = "{train2017,val2017}/ID.jpg and voc_masks/{train2017,val2017}/ID.png (0..20)"

    def jobs(self) -> List[Job]:
        jobs = []
        for folder in ("train2017", "val2017"):
            listed = f"annotations/instances_{folder}.json"
            root = self.find(listed, folder, what=folder, optional=True)
            if root is not None:
                jobs += self._jobs_of(root / listed, root / folder)
        if not jobs:
            raise self.lacking("both train2017 and val2017 with their annotations")
        return jobs

    def _jobs_of(self, listed: Path, images: Path) -> List[Job]:
        content = read_json(listed)
        ids = {category: i for i, category in enumerate(CATEGORIES, 1)}
        instances: Dict[int, List[Any]] = defaultdict(list)
        try:
            for instance in content["annotations"]:
                if instance["category_id"] in ids:
                    instances[instance["image_id"]].append((ids[instance["category_id"]], instance["segmentation"]))
            pictures = [(images / image["file_name"], instances[image["id"]], image["height"], image["width"])
                        for image in content["images"] if image["id"] in instances]
        except (KeyError, TypeError) as error:
            raise DataError("a file of annotations is not COCO's", where=listed, received=repr(error),
                            fix="take instances_train2017.json and instances_val2017.json") from error
        return [self._job(listed, *picture) for picture in pictures]

    def _job(self, listed: Path, image: Path, instances: List[Any], height: int, width: int) -> Job:
        target = self.target / "voc_masks" / image.parent.name / f"{image.stem}.png"

        def write() -> None:
            mask = np.zeros((height, width), np.uint8)
            for class_id, outline in instances:
                mask[(mask == 0) & segment(outline, height, width, where=f"{listed}, {image.name}")] = class_id
            if np.count_nonzero(mask) > _LEAST:
                place(image, self.target / image.parent.name / image.name)
                write_png(mask, target)  # last: it says that the pair is whole

        return Job(target, write)
