"""ACDC: the 19 classes of Cityscapes in fog, at night, in rain and in snow, 1920 x 1080.

Sakaridis, Dai, Van Gool: ACDC: The adverse conditions dataset with correspondences for semantic driving scene
understanding, ICCV 2021.
"""
from __future__ import annotations

from typing import List, Tuple

from .base import Pair, SegDataset
from .cityscapes import Cityscapes
from .layouts import by_folder


class ACDC(SegDataset):
    """Swiss roads in four adverse conditions together: 1600 for training, 406 for validation, 2000 for testing.

    The masks hold the 34 ids of Cityscapes. The test split's masks are not public. The pictures of the same
    places in fair weather, ``*_ref``, have no masks and are left out. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments, and below for one condition alone.
    """

    name = "ACDC"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 1600, "val": 406, "test": 2000}
    conditions: Tuple[str, ...] = ("fog", "night", "rain", "snow")
    classes = Cityscapes.classes
    palette = Cityscapes.palette
    label_map = Cityscapes.label_map
    subdir = "ACDC"
    markers = ("rgb_anon",)
    home_page = "https://acdc.vision.ee.ethz.ch (rgb_anon_trainvaltest.zip, gt_trainval.zip)"
    licence = "non-commercial; see the home page"
    layout = """\
<root>/rgb_anon/{fog,night,rain,snow}/{train,val,test}/SEQUENCE/NAME_rgb_anon.png
<root>/gt/{fog,night,rain,snow}/{train,val}/SEQUENCE/NAME_gt_labelIds.png"""
    label_hint = "ACDC's *_gt_labelIds.png hold 0..33: unpack gt_trainval.zip again"

    def find_pairs(self) -> List[Pair]:
        pairs: List[Pair] = []
        for part in self.parts:
            for condition in self.conditions:
                place = f"{condition}/{part}"
                pairs += by_folder(self, images=f"rgb_anon/{place}", image_end="_rgb_anon.png", prefix=f"{place}/",
                                   masks=None if part == "test" else f"gt/{place}", mask_end="_gt_labelIds.png")
        return pairs


class ACDCFog(ACDC):
    """ACDC's pictures in fog: 400, 100 and 500."""

    name = "ACDC-fog"
    conditions = ("fog",)
    counts = {"train": 400, "val": 100, "test": 500}


class ACDCNight(ACDC):
    """ACDC's pictures at night: 400, 106 and 500."""

    name = "ACDC-night"
    conditions = ("night",)
    counts = {"train": 400, "val": 106, "test": 500}


class ACDCRain(ACDC):
    """ACDC's pictures in rain: 400, 100 and 500."""

    name = "ACDC-rain"
    conditions = ("rain",)
    counts = {"train": 400, "val": 100, "test": 500}


class ACDCSnow(ACDC):
    """ACDC's pictures in snow: 400, 100 and 500."""

    name = "ACDC-snow"
    conditions = ("snow",)
    counts = {"train": 400, "val": 100, "test": 500}
