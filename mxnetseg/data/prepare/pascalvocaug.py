"""PASCAL VOC 2012 and SBD -> the augmented VOC, with 10582 pictures to train on."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from ..base import read_list, read_mask
from ..mat import read_mat_mask
from ..pascalvocaug import PascalVOCAug
from .base import Job, Preparation, fingerprint, place, write_png


class VOCandSBD(Preparation):
    """The training list is (SBD's train and val, and VOC's train) without VOC's val.

    Where both have a mask, VOC's is taken: it was drawn with more care, and its seams are ignored.
    """

    dataset = "pascalvocaug"
    needs = PascalVOCAug.prepared_from
    makes = "img_aug/NAME.jpg, cls_aug/NAME.png (0..20, 255 = seams), train_aug.txt and the other lists"

    def jobs(self) -> List[Job]:
        voc = self.find("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt",
                        "ImageSets/Segmentation/val.txt", what="VOC 2012")
        sbd = self.find("img", "cls", "train.txt", "val.txt", what="SBD")
        drawn = {split: read_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt") for split in ("train", "val")}
        val = set(drawn["val"])
        added = [name for split in ("train", "val") for name in read_list(sbd / f"{split}.txt")]
        aug = sorted({*added, *drawn["train"]} - val)
        self.lists: Dict[str, List[str]] = {
            "train": drawn["train"], "val": drawn["val"], "train_aug": aug, "trainval_aug": sorted({*aug, *val})}
        by_voc = {*drawn["train"], *drawn["val"]}
        jobs = []
        for name in self.lists["trainval_aug"]:
            jobs.append(self._image(name, voc, sbd))
            jobs.append(self._drawn(name, voc) if name in by_voc else self._added(name, sbd))
        return jobs

    def finish(self) -> None:
        for name, lines in self.lists.items():
            self.write_list(f"{name}.txt", lines)

    def _image(self, name: str, voc: Path, sbd: Path) -> Job:
        image, target = voc / "JPEGImages" / f"{name}.jpg", self.target / "img_aug" / f"{name}.jpg"
        image = image if image.is_file() else sbd / "img" / f"{name}.jpg"
        return Job(target, lambda: place(image, target), fingerprint(image), image)

    def _drawn(self, name: str, voc: Path) -> Job:
        mask, target = voc / "SegmentationClass" / f"{name}.png", self.target / "cls_aug" / f"{name}.png"
        return Job(target, lambda: write_png(read_mask(mask), target), fingerprint(mask))

    def _added(self, name: str, sbd: Path) -> Job:
        mask, target = sbd / "cls" / f"{name}.mat", self.target / "cls_aug" / f"{name}.png"
        return Job(target, lambda: write_png(read_mat_mask(mask, variable="GTcls", field="Segmentation"), target),
                   fingerprint(mask))
