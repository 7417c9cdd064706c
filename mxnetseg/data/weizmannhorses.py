"""Weizmann horses: horses from the side, in two classes.

Borenstein, Ullman: Class-specific, top-down segmentation, ECCV 2002.
"""
from __future__ import annotations

import numpy as np

from .base import IMAGE_SUFFIXES, Pair, SegDataset, list_files
from .layouts import by_line, hold_out


class WeizmannHorses(SegDataset):
    """328 images of one horse each, without an official split.

    Without lists, a fifth of the images is held out for validation, the same on every machine. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "WeizmannHorses"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"trainval": 328}
    classes = ("background", "horse")
    palette = np.array([(0, 0, 0), (255, 255, 255)], np.uint8)
    label_map = {0: 0, 1: 1, 255: 1}  # there are copies with 1 and copies with 255
    subdir = "WeizHorses"
    markers = ("horse", "mask")
    home_page = "https://www.msri.org/people/members/eranb"
    licence = "research use"
    split_notes = "there is no official split; without lists, val is a fixed fifth of the images"
    layout = """\
<root>/horse/NAME.jpg                or .png
<root>/mask/NAME.png                 8 bits: 1 or 255 = horse
<root>/train.txt, val.txt            optional: one NAME.SUFFIX of horse/ a line, or NAME.jpg NAME.png"""
    label_hint = "the masks hold 0 for background and 1 or 255 for horse; masks saved as JPEG also hold values between"

    def find_pairs(self) -> list[Pair]:
        pairs: list[Pair] = []
        for part in self.parts:
            if (self.root / f"{part}.txt").is_file():
                pairs += by_line(self, f"{part}.txt", images="horse", masks="mask", fallback=".png")
            else:
                images = list_files(self.root / "horse", IMAGE_SUFFIXES)
                images = hold_out(images, name=lambda i: i.stem, fraction=0.2, exact=True)[part == "val"]
                pairs += [Pair(i.stem, i, self.root / "mask" / f"{i.stem}.png") for i in images]
        return pairs
