"""Convert SUN RGB-D and its toolbox to images and masks of 37 classes."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import numpy as np

from ...errors import DataError
from ..base import list_files, read_mask
from ..mat import read_mat
from ..sunrgbd import SUNRGBD
from .base import Job, Preparation, fingerprint, place, write_png
from .matlab import referenced_matrix

_META, _SEG, _SPLIT = "Metadata/SUNRGBDMeta.mat", "Metadata/SUNRGBD2Dseg.mat", "traintestSUNRGBD/allsplit.mat"
_TOP_FOLDER = "SUNRGBD/"  # paths in the toolbox begin with folders of its authors' machine, up to this one


class SUNRGBDToolbox(Preparation):
    """Convert the MATLAB files of the toolbox, or masks that were extracted from them as PNG.

    From the toolbox, images are named by their number in it, from 00001 to 10335. In a folder of extracted masks, the
    masks of the test images come first, as in A. Handa's sunrgbd-meta-data.
    """

    dataset = "sunrgbd"
    needs = SUNRGBD.prepared_from
    makes = "images/, labels/ (1..37, 0 = unlabelled), train.txt (5285), test.txt (5050)"
    takes_all_files = True

    def jobs(self) -> list[Job]:
        toolbox = self.find(_META, _SEG, _SPLIT, what="the toolbox", optional=True)
        self.lists: dict[str, list[str]] = {"train": [], "test": []}
        return self._from_toolbox(toolbox) if toolbox else self._from_extracted_masks()

    def finish(self) -> None:
        for split, names in self.lists.items():
            self.write_list(f"{split}.txt", [f"{name}.jpg {name}.png" for name in names])

    def _from_toolbox(self, toolbox: Path) -> list[Job]:
        images = self.find("SUNRGBD", what="the images") / "SUNRGBD"
        seg, origin = read_mat(toolbox / _SEG), fingerprint(toolbox / _SEG, toolbox / _META)
        try:
            entries = np.atleast_1d(read_mat(toolbox / _META)["SUNRGBDMeta"])
            splits = read_mat(toolbox / _SPLIT)
            folders = {split: {_relative(str(path)) for path in np.atleast_1d(splits[f"all{split}"])}
                       for split in self.lists}
            labels = np.asarray(seg["SUNRGBD2Dseg"]["seglabel"]).ravel()
            paths = [(_relative(str(entry.rgbpath).rsplit("/", 2)[0]), str(entry.rgbpath).rsplit("/", 1)[1])
                     for entry in entries]
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            raise DataError("the files of the toolbox have an unexpected structure", where=toolbox,
                            received=repr(error), fix="unpack SUNRGBDtoolbox.zip again") from error
        if len(labels) != len(paths):
            raise DataError("the files of the toolbox do not belong together", where=toolbox,
                            received=f"{len(paths)} images, {len(labels)} masks",
                            fix="unpack SUNRGBDtoolbox.zip again")

        jobs = []
        for number, ((folder, image), reference) in enumerate(zip(paths, labels), 1):
            split = next((split for split in self.lists if folder in folders[split]), None)
            if split is not None:
                name = f"{number:05d}"
                self.lists[split].append(name)
                jobs += self._pair(name, images / folder / "image" / image, origin,
                                   lambda reference=reference: referenced_matrix(seg, reference))
        return jobs

    def _from_extracted_masks(self) -> list[Job]:
        found: dict[str, list[Path]] = {"train": [], "test": [], "mask": []}
        for path in list_files(self.source, (".jpg", ".png")):
            folder = path.parent.name.lower()
            group = "mask" if path.suffix.lower() == ".png" else next((s for s in self.lists if s in folder), None)
            if group and re.search(r"\d+$", path.stem):
                found[group].append(path)
        for paths in found.values():
            paths.sort(key=lambda path: (path.parent.as_posix(), path.stem))
        if not (found["train"] and found["test"] and found["mask"]):
            raise self.source_error("the toolbox, and images with masks extracted from it")

        images = found["test"] + found["train"]
        if len(images) != len(found["mask"]):
            raise DataError("the numbers of images and masks differ", where=self.source.absolute(),
                            received=f"{len(images)} images, {len(found['mask'])} masks",
                            fix="give a folder with the masks of 37 classes only, without the masks of 13 classes")

        jobs = []
        for number, (image, mask) in enumerate(zip(images, found["mask"]), 1):
            name = f"{number:05d}"
            self.lists["test" if number <= len(found["test"]) else "train"].append(name)
            jobs += self._pair(name, image, fingerprint(mask), lambda mask=mask: read_mask(mask))
        return jobs

    def _pair(self, name: str, image: Path, origin: str, read: Callable[[], np.ndarray]) -> list[Job]:
        new_image, mask = self.target / "images" / f"{name}.jpg", self.target / "labels" / f"{name}.png"
        return [Job(new_image, lambda: place(image, new_image), fingerprint(image), image),
                Job(mask, lambda: write_png(read(), mask), origin)]


def _relative(path: str) -> str:
    """Return the part of a path after the folder SUNRGBD."""
    return path.rstrip("/").partition(_TOP_FOLDER)[2]
