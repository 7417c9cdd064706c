"""Convert COCO's instances to masks of VOC's 21 classes, for pre-training."""
from __future__ import annotations

import logging
import os
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from ...errors import DataError, DataNotFoundError
from ..coco import COCO
from .base import Job, Preparation, fingerprint, place, read_json, write_png
from .cocofile import Annotation, parse
from .shapes import segment

# COCO's category for each of VOC's classes 1 to 20, in their order
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
_MAX_PIXELS_LEFT_OUT = 1000  # images with at most this number of object pixels are left out
_log = logging.getLogger(__name__)


class COCOtoVOC(Preparation):
    """Convert instances; the earlier one in the file wins. Images with at most 1000 object pixels are left out."""

    dataset = "coco"
    needs = COCO.prepared_from
    makes = "{train2017,val2017}/ID.jpg and voc_masks/{train2017,val2017}/ID.png (0..20)"

    def jobs(self) -> list[Job]:
        jobs = []
        for folder in ("train2017", "val2017"):
            json_path = f"annotations/instances_{folder}.json"
            root = self.find(json_path, folder, what=folder, optional=True)
            if root is not None:
                jobs += self._split_jobs(root / json_path, root / folder)
        if not jobs:
            raise self.source_error("both train2017 and val2017 with their annotations")
        return jobs

    def _split_jobs(self, json_path: Path, images: Path) -> list[Job]:
        file = parse(json_path, read_json(json_path))
        for warning in file.warnings:
            _log.warning("%s", warning)

        ids: dict[Hashable, int] = {category: i for i, category in enumerate(CATEGORIES, 1)}
        jobs = []
        for image in file.images:
            instances = [(ids[a.category], a) for a in file.annotations.get(image.id, ()) if a.category in ids]
            boxes_only = [a for _, a in instances if a.outline is None]
            if boxes_only or "/" in image.path:
                raise DataError("an annotation file is not COCO's own: " + (
                    "an object has no outline" if boxes_only else "the name of an image holds a folder"),
                    where=json_path,
                    received=f"{boxes_only[0].where}, image {image.path!r}" if boxes_only else image.path,
                    fix="take instances_train2017.json and instances_val2017.json; for other annotations in COCO's "
                        "format use mxnetseg prepare coco-json")

            if instances and not os.path.isfile(images / image.path):
                raise DataNotFoundError("a source file is missing", where=images,
                                        received=f"{json_path} names {image.path!r}", fix="unpack the source again")
            if instances:
                jobs.append(self._job(json_path, images / image.path, instances, image.height, image.width))
        return jobs

    def _job(self, json_path: Path, image: Path, instances: list[tuple[int, Annotation]], height: int,
             width: int) -> Job:
        target = self.target / "voc_masks" / image.parent.name / f"{image.stem}.png"

        def write() -> None:
            mask = np.zeros((height, width), np.uint8)
            for class_id, instance in instances:
                inside = segment(instance.outline, height, width, where=f"{json_path}: {instance.where}")
                mask[(mask == 0) & inside] = class_id
            if np.count_nonzero(mask) > _MAX_PIXELS_LEFT_OUT:
                place(image, self.target / image.parent.name / image.name)
                write_png(mask, target)  # last: the mask marks the pair as complete

        return Job(target, write, fingerprint(image, height, width, [(i, a.outline) for i, a in instances]))
