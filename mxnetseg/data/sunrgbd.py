"""SUN RGB-D: rooms in 37 classes; the depth is not read.

Song, Lichtenberg, Xiao: SUN RGB-D: a RGB-D scene understanding benchmark suite, CVPR 2015. The classes and colours are
the first 37 of NYU depth's 40.
"""
from __future__ import annotations

from typing import List

from .base import IGNORE, Pair, SegDataset
from .layouts import by_line, hold_out
from .nyuv2 import NYUv2


class SUNRGBD(SegDataset):
    """Rooms seen by four depth cameras: 5285 to train on, 5050 to test on.

    The masks hold 1..37, and 0 for unlabelled. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "SUNRGBD"
    splits = ("train", "val", "test", "trainval")
    counts = {"train": 4757, "val": 528, "test": 5050, "trainval": 5285}
    classes = NYUv2.classes[:37]
    palette = NYUv2.palette[:37]
    label_map = {0: IGNORE, **{i + 1: i for i in range(37)}}
    subdir = "SUNRGBD"
    markers = ("images", "labels")
    home_page = "https://rgbd.cs.princeton.edu (SUNRGBD.zip, SUNRGBDtoolbox.zip)"
    licence = "research use; see the home page"
    split_notes = ("trainval is the official training list; val is a fixed tenth of it, train the rest. MXNetSeg "
                   "chose its best checkpoint on test")
    prepared_by = "sunrgbd"
    prepared_from = ("SUNRGBD/ and SUNRGBDtoolbox/, unpacked side by side; or a folder with train in its name and one "
                     "with test, of images img-NNNNNN.jpg, and a folder of masks img-NNNNNN.png")
    layout = """\
<root>/images/NAME.jpg
<root>/labels/NAME.png           8 bits: 1..37, 0 = unlabelled
<root>/train.txt, test.txt       NAME.jpg NAME.png a line"""
    label_hint = "the masks hold 0..37; the toolbox's seglabel is of thousands of names: see mxnetseg prepare"

    def find_pairs(self) -> List[Pair]:
        listed = "test" if self.split == "test" else "train"
        pairs = by_line(self, f"{listed}.txt", images="images", masks="labels", fallback=".png")
        if self.split in ("train", "val"):
            return hold_out(pairs, name=lambda pair: pair.name, exact=True)[self.split == "val"]
        return pairs
