"""Aeroscapes: images from a drone at 5 to 50 metres, 1280 x 720, in 12 classes.

Nigam, Huang, Ramanan: Ensemble knowledge transfer for semantic segmentation, WACV 2018.
"""
from __future__ import annotations

from .base import Pair, SegDataset, hex_palette
from .layouts import by_name


class Aeroscapes(SegDataset):
    """Frames of 141 videos: 2621 images for training, 648 for validation.

    See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "Aeroscapes"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 2621, "val": 648}
    classes = ("background", "person", "bike", "car", "drone", "boat", "animal", "obstacle", "construction",
               "vegetation", "road", "sky")
    palette = hex_palette("000000 c08080 008000 808080 800000 000080 c00080 c00000 c08000 004000 808000 008080")
    subdir = "Aeroscapes"
    markers = ("JPEGImages", "ImageSets")
    home_page = "https://github.com/ishann/aeroscapes"
    licence = "see the home page"
    layout = """\
<root>/JPEGImages/NAME.jpg
<root>/SegmentationClass/NAME.png      8 bits: 0..11
<root>/ImageSets/{trn,val}.txt         one NAME a line"""
    label_hint = "take the masks from SegmentationClass, which holds 0..11; the folder Visualizations holds colours"

    def find_pairs(self) -> list[Pair]:
        lists = {"train": "ImageSets/trn.txt", "val": "ImageSets/val.txt"}
        return [pair for part in self.parts
                for pair in by_name(self, lists[part], image="JPEGImages/{}.jpg", mask="SegmentationClass/{}.png")]
