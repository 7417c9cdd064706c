"""COCO's instances -> masks of VOC's 21 classes, for pre-training."""
from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import List, Tuple

import numpy as np

from ...errors import DataError, DataNotFoundError
from ..coco import COCO
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .cocofile import Annotation, parse
from .shapes import segment

# COCO's category for each of VOC's classes 1 to 20, in their order
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
_LEAST = 1000  # an image with so few pixels of objects, or fewer, is left out
_log = logging.getLogger(__name__)


class COCOtoVOC(Preparation):
    """Where instances overlap, the earlier one in the file counts; images with at most 1000 pixels are left out."""

    dataset = "coco"
    needs = COCO.prepared_from
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
        file = parse(listed, read_json(listed))
        for warning in file.warnings:
            _log.warning("%s", warning)
        ids = {category: i for i, category in enumerate(CATEGORIES, 1)}
        jobs = []
        for image in file.images:
            instances = [(ids[a.category], a) for a in file.annotations.get(image.id, ()) if a.category in ids]
            bare = [a for _, a in instances if a.outline is None]
            if bare or "/" in image.path:
                raise DataError("a file of annotations is not COCO's: " + (
                    "an object has no outline" if bare else "the name of an image holds a folder"), where=listed,
                    received=f"{bare[0].where}, image {image.path!r}" if bare else image.path,
                    fix="take instances_train2017.json and instances_val2017.json; mxnetseg prepare coco-json is for "
                        "other annotations in this form")
            if instances and not os.path.isfile(images / image.path):
                raise DataNotFoundError("a file of the source is missing", where=images,
                                        received=f"{listed} names {image.path!r}", fix="unpack the source again")
            if instances:
                jobs.append(self._job(listed, images / image.path, instances, image.height, image.width))
        return jobs

    def _job(self, listed: Path, image: Path, instances: List[Tuple[int, Annotation]], height: int,
             width: int) -> Job:
        target = self.target / "voc_masks" / image.parent.name / f"{image.stem}.png"

        def write() -> None:
            mask = np.zeros((height, width), np.uint8)
            for class_id, instance in instances:
                inside = segment(instance.outline, height, width, where=f"{listed}: {instance.where}")
                mask[(mask == 0) & inside] = class_id
            if np.count_nonzero(mask) > _LEAST:
                place(image, self.target / image.parent.name / image.name)
                write_png(mask, target)  # last: it says that the pair is whole

        return Job(target, write, fingerprint(image, height, width, [(i, a.outline) for i, a in instances]))
