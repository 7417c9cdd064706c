"""Gatech: outdoor videos in 8 classes of geometric context.

Raza, Grundmann, Essa: Geometric context from videos, CVPR 2013.
"""
from __future__ import annotations

from .base import IGNORE, Pair, SegDataset, hex_palette
from .layouts import by_name, hold_out


class GATECH(SegDataset):
    """Frames of outdoor videos: 63 videos for training and validation, 38 for testing.

    The masks hold 1..8, and 0 where the class is unknown. The name of a frame begins with the name of its video, up
    to the first underscore. ``val`` consists of whole videos of the training list, because neighbouring frames are
    nearly equal. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "GATECH"
    splits = ("train", "val", "test", "trainval")
    classes = ("sky", "ground", "solid", "porous", "cars", "humans", "vertical mix", "general mix")
    palette = hex_palette("ff0000 0082b4 00ff00 ffff00 7800ff ff00ff a0a0a0 404040")
    label_map = {0: IGNORE, **{i + 1: i for i in range(8)}}
    subdir = "GATECH"
    markers = ("images", "labels")
    home_page = "http://www.cc.gatech.edu/cpl/projects/videogeometriccontext"
    licence = "research use; see the home page"
    split_notes = ("trainval is the training list; val is a fixed tenth of its videos, train the rest. "
                   "MXNetSeg chose its best checkpoint on test")
    layout = """\
<root>/images/VIDEO_FRAME.jpg
<root>/labels/VIDEO_FRAME.png      8 bits: 1..8, 0 = ignore
<root>/{train,test}.txt            one NAME a line"""
    label_hint = "the masks of Gatech hold 0..8 in one channel: convert masks in colours to ids first"

    def find_pairs(self) -> list[Pair]:
        listed = "test" if self.split == "test" else "train"
        pairs = by_name(self, f"{listed}.txt", image="images/{}.jpg", mask="labels/{}.png")
        if self.split not in ("train", "val"):
            return pairs
        videos = hold_out(sorted({_video(pair) for pair in pairs}), exact=True)[self.split == "val"]
        return [pair for pair in pairs if _video(pair) in videos]


def _video(pair: Pair) -> str:
    return pair.name.partition("_")[0]
