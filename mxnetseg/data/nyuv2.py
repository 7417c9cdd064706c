"""NYU depth v2: rooms in 40 classes, 640 x 480; the depth is not read.

Silberman, Hoiem, Kohli, Fergus: Indoor segmentation and support inference from RGBD images, ECCV 2012. The 40 classes
are those of Gupta, Arbelaez, Malik: Perceptual organization and recognition of indoor scenes from RGB-D images, CVPR
2013; the colours those of ScanNet.
"""
from __future__ import annotations

from typing import List

from .base import IGNORE, Pair, SegDataset, hex_palette, list_files
from .layouts import by_name


class NYUv2(SegDataset):
    """Rooms in New York: 795 for training, 654 for validation.

    The masks hold 1..40, and 0 for unlabelled. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "NYUv2"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 795, "val": 654}
    classes = ("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
               "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes",
               "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower curtain", "box",
               "whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure",
               "otherfurniture", "otherprop")
    palette = hex_palette("""
        aec7e8 98df8a 1f77b4 ffbb78 bcbd22 8c564b ff9896 d62728 c5b0d5 9467bd c49c94 17becf b24c4c f7b6d2 42bc66
        dbdb8d 8c39c5 cab934 33b0cb c83683 5cc13d 4e47b7 ac7252 ff7f0e 5ba38a 99629c 8c9965 9edae5 647d9a b27f87
        78b980 926fc2 2ca02c 708090 60cfd1 e377c2 d55cb0 5e6ad3 5254a3 645590""")
    label_map = {0: IGNORE, **{i + 1: i for i in range(40)}}
    subdir = "NYUv2"
    markers = ("images", "labels40")
    home_page = "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html (nyu_depth_v2_labeled.mat)"
    licence = "none is given; research use"
    split_notes = "val is the list of 654 that the literature calls the test set"
    prepared_by = "nyuv2"
    prepared_from = "nyu_depth_v2_labeled.mat, labels40.mat and splits.mat"
    layout = """\
<root>/images/NAME.png           or all of them .jpg
<root>/labels40/NAME.png         8 bits: 1..40, 0 = unlabelled
<root>/train.txt, val.txt        one NAME a line"""
    label_hint = "labels40 holds 0..40; the release's own labels are of 894 classes: see mxnetseg prepare"

    def find_pairs(self) -> List[Pair]:
        end = ".png" if list_files(self.root / "images", (".png",)) else ".jpg"
        return [pair for part in self.parts
                for pair in by_name(self, f"{part}.txt", image="images/{}" + end, mask="labels40/{}.png")]
