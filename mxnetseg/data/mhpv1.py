"""Multi-human parsing, version 1: body parts and clothes in 18 classes.

Li et al.: Multiple-human parsing in the wild, 2017. The order of the classes and the colours follow GluonCV, except for
the colour of upper clothes, which GluonCV also gives to hat.
"""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import IGNORE, Pair, SegDataset, hex_palette, list_files, read_mask
from .layouts import by_name

_TRAIN = 3000  # entries of the training list to train on; the rest is for validation
_FIRST = re.compile(r"(.+)_(\d+)_0*1\.png$")  # NAME_PERSONS_PERSON.png


class MHPv1(SegDataset):
    """Groups of people: 3000 images for training, 1000 for validation, 980 for testing.

    Each person has a mask of their own, which holds 1..18, and 0 elsewhere. Where masks overlap, the lower person
    number wins. Pixels that belong to no person are ignored. See :class:`~mxnetseg.data.base.SegDataset` for the
    arguments.
    """

    name = "MHPv1"
    splits = ("train", "val", "test", "trainval")
    counts = {"train": 3000, "val": 1000, "test": 980, "trainval": 4000}
    classes = ("hat", "hair", "sunglasses", "upper clothes", "skirt", "pants", "dress", "belt", "left shoe",
               "right shoe", "face", "left leg", "right leg", "left arm", "right arm", "bag", "scarf", "torso skin")
    palette = hex_palette("""
        a52a2a ff0000 008000 ffa500 ff4500 ff1493 1e90ff 556b2f 008080 8b4513 4682b4 32cd32 0000cd 00bfff
        00ffff 00fa9a adff2f ffff00""")
    label_map = {0: IGNORE, **{i + 1: i for i in range(18)}}
    subdir = "MHP/v1"
    markers = ("images", "annotations", "train_list.txt")
    split_markers = {"test": ("images", "annotations", "test_list.txt")}
    home_page = "https://lv-mhp.github.io/dataset (LV-MHP-v1.zip)"
    licence = "research use; see the home page"
    split_notes = ("train is the first 3000 of the training list (three quarters of a shorter list), val the rest. "
                   "MXNetSeg leaves out the first image of val")
    layout = """\
<root>/images/NAME.jpg
<root>/annotations/NAME_PP_KK.png          person KK of PP: 8 bits, 1..18, 0 = elsewhere
<root>/train_list.txt, test_list.txt       one NAME.jpg a line"""
    label_hint = "the masks of MHP v1 hold 0..18; the masks of v2 are RGB, with more classes: take LV-MHP-v1.zip"

    def find_pairs(self) -> list[Pair]:
        listed = "test_list.txt" if self.split == "test" else "train_list.txt"
        firsts = self._first_masks()
        # an image without masks gets the name of a missing file, which _check_pairs reports
        pairs = [pair._replace(mask=firsts.get(pair.name, pair.mask))
                 for pair in by_name(self, listed, image="images/{}.jpg", mask="annotations/{}_01_01.png")]
        kept = min(_TRAIN, len(pairs) * 3 // 4)
        return {"train": pairs[:kept], "val": pairs[kept:]}.get(self.split, pairs)

    def read_raw_mask(self, path: Path) -> np.ndarray:
        whole = read_mask(path)
        match = _FIRST.match(path.name)
        for person in range(2, int(match[2]) + 1 if match else 0):
            other_path = path.with_name(f"{match[1]}_{match[2]}_{person:02d}.png")
            other = read_mask(other_path)
            if other.shape != whole.shape:
                raise DataError("the masks of two persons of one image differ in size", where=f"{path}\n{other_path}",
                                received=f"{whole.shape[1]} x {whole.shape[0]}, {other.shape[1]} x {other.shape[0]}",
                                fix="unpack the annotations again")
            whole = np.where(whole == 0, other, whole)
        return whole

    def _first_masks(self) -> dict[str, Path]:
        """Return name of the image -> mask of its first person."""
        found = {}
        for path in list_files(self.root / "annotations", (".png",)):
            match = _FIRST.match(path.name)
            if match:
                found[match[1]] = path
        return found
