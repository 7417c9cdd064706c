"""The labelled part of NYU depth v2, MATLAB files -> pictures, and masks of 40 classes."""
from __future__ import annotations

from typing import Dict, List

import numpy as np

from ...errors import DataError
from ..nyuv2 import NYUv2
from .base import Job, Preparation, fingerprint, write_png
from .matlab import Stack, numbers

_LISTS = {"train": "trainNdxs", "val": "testNdxs"}


class NYUv2Mat(Preparation):
    """Pictures are called by their place in the release, from 0001 to 1449, and written without loss."""

    dataset = "nyuv2"
    needs = NYUv2.prepared_from
    makes = "images/NNNN.png, labels40/NNNN.png (1..40, 0 = unlabelled), train.txt (795), val.txt (654)"

    def jobs(self) -> List[Job]:
        files = ("nyu_depth_v2_labeled.mat", "labels40.mat", "splits.mat")
        folder = self.find(*files, what="NYU depth v2")
        release, labels, splits = (folder / name for name in files)
        images, masks = Stack(release, "images"), Stack(labels, "labels40")
        if images.shape[:2] + images.shape[3:] != masks.shape or images.shape[2:3] != (3,):
            raise DataError("pictures and labels of NYU depth do not belong together", where=f"{release}\n{labels}",
                            received=f"pictures {images.shape}, labels {masks.shape}",
                            fix="take both files whole, as they are published: 480 x 640 x 3 x 1449, 480 x 640 x 1449")
        self.lists: Dict[str, np.ndarray] = {split: numbers(splits, name) for split, name in _LISTS.items()}
        for split, chosen in self.lists.items():
            if not len(chosen) or chosen.min() < 1 or chosen.max() > len(images):
                raise DataError(f"the list {_LISTS[split]} names pictures that are not there", where=splits,
                                received=f"{len(chosen)} numbers", fix=f"its numbers go from 1 to {len(images)}")
        jobs = []
        for number in sorted({*self.lists["train"].tolist(), *self.lists["val"].tolist()}):
            for kind, stack, origin in (("images", images, fingerprint(release)),
                                        ("labels40", masks, fingerprint(labels))):
                jobs.append(self._job(kind, stack, number, origin))
        return jobs

    def finish(self) -> None:
        for split, chosen in self.lists.items():
            self.write_list(f"{split}.txt", [f"{number:04d}" for number in chosen])

    def _job(self, kind: str, stack: Stack, number: int, origin: str) -> Job:
        target = self.target / kind / f"{number:04d}.png"
        return Job(target, lambda: write_png(stack[number - 1].astype(np.uint8), target), origin)
