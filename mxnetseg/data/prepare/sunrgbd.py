"""SUN RGB-D and its toolbox -> pictures, and masks of 37 classes."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List

import numpy as np

from ...errors import DataError
from ..base import list_files, read_mask
from ..mat import read_mat
from ..sunrgbd import SUNRGBD
from .base import Job, Preparation, fingerprint, place, write_png
from .matlab import referred

_META, _SEG, _SPLIT = "Metadata/SUNRGBDMeta.mat", "Metadata/SUNRGBD2Dseg.mat", "traintestSUNRGBD/allsplit.mat"
_ABOVE = "SUNRGBD/"  # the authors' paths begin differently: what follows is the same everywhere


class SUNRGBDToolbox(Preparation):
    """From the toolbox' MATLAB files, or from masks that somebody has extracted from them as PNG.

    In the first form, pictures are called by their place in the toolbox, from 00001 to 10335. In the second,
    the masks of the test pictures come first, as in A. Handa's sunrgbd-meta-data.
    """

    dataset = "sunrgbd"
    needs = SUNRGBD.prepared_from
    makes = "images/, labels/ (1..37, 0 = unlabelled), train.txt (5285), test.txt (5050)"
    walks = True

    def jobs(self) -> List[Job]:
        toolbox = self.find(_META, _SEG, _SPLIT, what="the toolbox", optional=True)
        self.lists: Dict[str, List[str]] = {"train": [], "test": []}
        return self._from_toolbox(toolbox) if toolbox else self._from_pictures()

    def finish(self) -> None:
        for split, names in self.lists.items():
            self.write_list(f"{split}.txt", [f"{name}.jpg {name}.png" for name in names])

    def _from_toolbox(self, toolbox: Path) -> List[Job]:
        pictures = self.find("SUNRGBD", what="the pictures") / "SUNRGBD"
        seg, origin = read_mat(toolbox / _SEG), fingerprint(toolbox / _SEG, toolbox / _META)
        try:
            entries = np.atleast_1d(read_mat(toolbox / _META)["SUNRGBDMeta"])
            chosen = read_mat(toolbox / _SPLIT)
            folders = {split: {_below(str(path)) for path in np.atleast_1d(chosen[f"all{split}"])}
                       for split in self.lists}
            labels = np.asarray(seg["SUNRGBD2Dseg"]["seglabel"]).ravel()
            places = [(_below(str(entry.rgbpath).rsplit("/", 2)[0]), str(entry.rgbpath).rsplit("/", 1)[1])
                      for entry in entries]
        except (KeyError, AttributeError, TypeError, IndexError) as error:
            raise DataError("the toolbox' files are not what they should be", where=toolbox, received=repr(error),
                            fix="unpack SUNRGBDtoolbox.zip again") from error
        if len(labels) != len(places):
            raise DataError("the toolbox' files do not belong together", where=toolbox,
                            received=f"{len(places)} pictures, {len(labels)} masks", fix="unpack it again")
        jobs = []
        for number, ((folder, image), reference) in enumerate(zip(places, labels), 1):
            split = next((split for split in self.lists if folder in folders[split]), None)
            if split is not None:
                name = f"{number:05d}"
                self.lists[split].append(name)
                jobs += self._pair(name, pictures / folder / "image" / image, origin,
                                   lambda reference=reference: referred(seg, reference))
        return jobs

    def _from_pictures(self) -> List[Job]:
        found: Dict[str, List[Path]] = {"train": [], "test": [], "mask": []}
        for path in list_files(self.source, (".jpg", ".png")):
            folder = path.parent.name.lower()
            kind = "mask" if path.suffix.lower() == ".png" else next((s for s in self.lists if s in folder), None)
            if kind and re.search(r"\d+$", path.stem):
                found[kind].append(path)
        for paths in found.values():
            paths.sort(key=lambda path: (path.parent.as_posix(), path.stem))
        if not (found["train"] and found["test"] and found["mask"]):
            raise self.lacking("the toolbox, and pictures with masks extracted from it")
        pictures = found["test"] + found["train"]
        if len(pictures) != len(found["mask"]):
            raise DataError("there is not one mask for each picture", where=self.source.absolute(),
                            received=f"{len(pictures)} pictures, {len(found['mask'])} masks",
                            fix="give a folder that holds the masks of 37 classes alone, not those of 13 as well")
        jobs = []
        for number, (image, mask) in enumerate(zip(pictures, found["mask"]), 1):
            name = f"{number:05d}"
            self.lists["test" if number <= len(found["test"]) else "train"].append(name)
            jobs += self._pair(name, image, fingerprint(mask), lambda mask=mask: read_mask(mask))
        return jobs

    def _pair(self, name: str, image: Path, origin: str, read) -> List[Job]:
        picture, mask = self.target / "images" / f"{name}.jpg", self.target / "labels" / f"{name}.png"
        return [Job(picture, lambda: place(image, picture), fingerprint(image), image),
                Job(mask, lambda: write_png(read(), mask), origin)]


def _below(path: str) -> str:
    """What follows the folder SUNRGBD in a path of the authors' machine."""
    return path.rstrip("/").partition(_ABOVE)[2]
