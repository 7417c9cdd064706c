"""COCO-Stuff: all pixels of COCO in 171 classes, 80 of things and 91 of stuff.

Caesar, Uijlings, Ferrari: COCO-Stuff: thing and stuff classes in context, CVPR 2018. The masks use COCO's ids
1..182, eleven of which never occur. There are two releases: 10k images of COCO 2014, and all 164k of COCO 2017.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import IGNORE, Pair, SegDataset, voc_palette
from .layouts import by_folder, by_name, hold_out
from .mat import read_mat_mask

# names of the ids 1..182
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "street sign", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep",
    "cow", "elephant", "bear", "zebra", "giraffe", "hat", "backpack", "umbrella", "shoe", "eye glasses", "handbag",
    "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
    "skateboard", "surfboard", "tennis racket", "bottle", "plate", "wine glass", "cup", "fork", "knife", "spoon",
    "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    "chair", "couch", "potted plant", "bed", "mirror", "dining table", "window", "desk", "toilet", "door", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "blender", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "hair brush", "banner",
    "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet", "ceiling-other",
    "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff",
    "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other",
    "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves", "light", "mat", "metal",
    "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow", "plant-other",
    "plastic", "platform", "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad",
    "sand", "sea", "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete",
    "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops", "window-blind",
    "window-other", "wood")
_NEVER_USED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_USED = [i for i in range(1, 183) if i not in _NEVER_USED]


class COCOStuff10k(SegDataset):
    """The 10k release, 171 classes: 9000 images for training and validation, 1000 for testing.

    The masks are MATLAB files (SciPy is needed) with a matrix ``S`` of ids 1..182, and 0 for unlabelled. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "COCOStuff10k"
    splits = ("train", "val", "test", "trainval")
    counts = {"train": 8100, "val": 900, "test": 1000, "trainval": 9000}
    classes = tuple(_NAMES[i - 1] for i in _USED)
    palette = voc_palette(172)[1:]
    label_map = {0: IGNORE, **{raw: train for train, raw in enumerate(_USED)}}
    subdir = "COCOStuff"
    markers = ("annotations", "imageLists")
    home_page = "https://github.com/nightrome/cocostuff10k (cocostuff-10k-v1.1.zip)"
    licence = "annotations CC BY 4.0; images under flickr's terms of use"
    split_notes = ("trainval is the official training list; val is a fixed tenth of it, train the rest. Published "
                   "results come from training on trainval and testing on test")
    layout = """\
<root>/images/NAME.jpg
<root>/annotations/NAME.mat              matrix S: 1..182, 0 = unlabelled
<root>/imageLists/{train,test}.txt       one NAME a line"""
    label_hint = "the matrix S of COCO-Stuff 10k holds 0..182: unpack annotations again"

    def find_pairs(self) -> list[Pair]:
        listed = "test" if self.split == "test" else "train"
        pairs = by_name(self, f"imageLists/{listed}.txt", image="images/{}.jpg", mask="annotations/{}.mat")
        if self.split in ("train", "val"):
            return hold_out(pairs, name=lambda pair: pair.name, exact=True)[self.split == "val"]
        return pairs

    def read_raw_mask(self, path: Path) -> np.ndarray:
        return read_mat_mask(path, variable="S")


class COCOStuff182(COCOStuff10k):
    """The 10k release with a class for each of the 182 ids, as in MXNetSeg; eleven classes never occur."""

    name = "COCOStuff182"
    classes = _NAMES
    palette = voc_palette(183)[1:]
    label_map = {0: IGNORE, **{i + 1: i for i in range(182)}}


class COCOStuff164k(SegDataset):
    """The 164k release, 171 classes: 118287 images for training, 5000 for validation.

    The masks hold COCO's ids minus 1, and 255 for unlabelled. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "COCOStuff164k"
    splits = ("train", "val")
    counts = {"train": 118287, "val": 5000}
    classes = COCOStuff10k.classes
    palette = COCOStuff10k.palette
    label_map = {raw - 1: train for train, raw in enumerate(_USED)}
    subdir = "COCOStuff164k"
    markers = ("images", "annotations")
    home_page = "https://github.com/nightrome/cocostuff (train2017.zip, val2017.zip, stuffthingmaps_trainval2017.zip)"
    licence = "annotations CC BY 4.0; images under flickr's terms of use"
    layout = """\
<root>/images/{train2017,val2017}/ID.jpg
<root>/annotations/{train2017,val2017}/ID.png        8 bits: 0..181, 255 = unlabelled"""
    label_hint = "the masks of stuffthingmaps_trainval2017.zip hold 0..181 and 255: unpack them again"

    def find_pairs(self) -> list[Pair]:
        folder = f"{self.split}2017"
        return by_folder(self, images=f"images/{folder}", masks=f"annotations/{folder}")
