"""SBD, the semantic boundaries dataset: 11355 images of VOC 2011 in VOC's 21 classes.

Hariharan, Arbelaez, Bourdev, Maji, Malik: Semantic contours from inverse detectors, ICCV 2011.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import Pair, SegDataset
from .layouts import by_name
from .mat import read_mat_mask
from .pascalvoc import PascalVOC


class SBD(SegDataset):
    """Photographs with 20 classes of objects: 8498 images for training, 2857 for validation.

    The masks are MATLAB files (SciPy is needed) with a struct ``GTcls``. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "SBD"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 8498, "val": 2857}
    classes = PascalVOC.classes
    palette = PascalVOC.palette
    subdir = "VOCdevkit/SBD"
    markers = ("img", "cls")
    home_page = "http://home.bharathh.info/pubs/codes/SBD/download.html (benchmark.tgz, its folder dataset)"
    licence = "photographs from flickr, under flickr's terms of use"
    split_notes = ("train holds images of VOC's val: to report results on VOC's val, train on pascalvocaug. MXNetSeg "
                   "trains on trainval and validates on val")
    layout = """\
<root>/img/NAME.jpg
<root>/cls/NAME.mat             struct GTcls, its field Segmentation: 0..20
<root>/train.txt, val.txt       one NAME a line"""
    label_hint = "the masks of SBD hold 0..20: unpack cls again; the folder inst holds instances"

    def find_pairs(self) -> list[Pair]:
        return [pair for part in self.parts
                for pair in by_name(self, f"{part}.txt", image="img/{}.jpg", mask="cls/{}.mat")]

    def read_raw_mask(self, path: Path) -> np.ndarray:
        return read_mat_mask(path, variable="GTcls", field="Segmentation")
