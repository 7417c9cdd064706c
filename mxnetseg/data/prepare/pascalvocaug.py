"""Combine PASCAL VOC 2012 and SBD to the augmented VOC, with 10582 images for training."""
from __future__ import annotations

from pathlib import Path

from ..base import read_list, read_mask
from ..mat import read_mat_mask
from ..pascalvocaug import PascalVOCAug
from .base import Job, Preparation, fingerprint, place, write_png


class VOCandSBD(Preparation):
    """Combine SBD's train and val with VOC's train to a training list, without VOC's val.

    If both have a mask, VOC's is used: it is more precise, and the borders of objects are ignored.
    """

    dataset = "pascalvocaug"
    needs = PascalVOCAug.prepared_from
    makes = "img_aug/NAME.jpg, cls_aug/NAME.png (0..20, 255 = borders), train_aug.txt and the other lists"

    def jobs(self) -> list[Job]:
        voc = self.find("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt",
                        "ImageSets/Segmentation/val.txt", what="VOC 2012")
        sbd = self.find("img", "cls", "train.txt", "val.txt", what="SBD")

        voc_names = {split: read_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt")
                     for split in ("train", "val")}
        sbd_names = [name for split in ("train", "val") for name in read_list(sbd / f"{split}.txt")]
        train_aug = sorted({*sbd_names, *voc_names["train"]} - set(voc_names["val"]))
        self.lists: dict[str, list[str]] = {
            **voc_names, "train_aug": train_aug, "trainval_aug": sorted({*train_aug, *voc_names["val"]})}

        with_voc_mask = {*voc_names["train"], *voc_names["val"]}
        jobs = []
        for name in self.lists["trainval_aug"]:
            jobs.append(self._image(name, voc, sbd))
            jobs.append(self._voc_mask(name, voc) if name in with_voc_mask else self._sbd_mask(name, sbd))
        return jobs

    def finish(self) -> None:
        for name, lines in self.lists.items():
            self.write_list(f"{name}.txt", lines)

    def _image(self, name: str, voc: Path, sbd: Path) -> Job:
        image, target = voc / "JPEGImages" / f"{name}.jpg", self.target / "img_aug" / f"{name}.jpg"
        image = image if image.is_file() else sbd / "img" / f"{name}.jpg"
        return Job(target, lambda: place(image, target), fingerprint(image), image)

    def _voc_mask(self, name: str, voc: Path) -> Job:
        mask, target = voc / "SegmentationClass" / f"{name}.png", self.target / "cls_aug" / f"{name}.png"
        return Job(target, lambda: write_png(read_mask(mask), target), fingerprint(mask))

    def _sbd_mask(self, name: str, sbd: Path) -> Job:
        mask, target = sbd / "cls" / f"{name}.mat", self.target / "cls_aug" / f"{name}.png"
        return Job(target, lambda: write_png(read_mat_mask(mask, variable="GTcls", field="Segmentation"), target),
                   fingerprint(mask))
