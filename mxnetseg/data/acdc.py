"""ACDC: driving scenes in fog, at night, in rain and in snow, 1920 x 1080, with the 19 classes of Cityscapes.

Sakaridis, Dai, Van Gool: ACDC: The adverse conditions dataset with correspondences for semantic driving scene
understanding, ICCV 2021.
"""
from __future__ import annotations

from .base import Pair, SegDataset
from .cityscapes import Cityscapes
from .layouts import by_folder


class ACDC(SegDataset):
    """Swiss roads in four adverse conditions: 1600 images for training, 406 for validation, 2000 for testing.

    The masks hold the 34 ids of Cityscapes. The masks of the test split are not public. Images of the same places
    in fair weather (``*_ref``) have no masks and are left out. The classes below hold one condition each. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "ACDC"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 1600, "val": 406, "test": 2000}
    conditions: tuple[str, ...] = ("fog", "night", "rain", "snow")
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

    def find_pairs(self) -> list[Pair]:
        pairs: list[Pair] = []
        for part in self.parts:
            for condition in self.conditions:
                folder = f"{condition}/{part}"
                pairs += by_folder(self, images=f"rgb_anon/{folder}", image_end="_rgb_anon.png", prefix=f"{folder}/",
                                   masks=None if part == "test" else f"gt/{folder}", mask_end="_gt_labelIds.png")
        return pairs


class ACDCFog(ACDC):
    """ACDC in fog: 400 images for training, 100 for validation, 500 for testing."""

    name = "ACDC-fog"
    conditions = ("fog",)
    counts = {"train": 400, "val": 100, "test": 500}


class ACDCNight(ACDC):
    """ACDC at night: 400 images for training, 106 for validation, 500 for testing."""

    name = "ACDC-night"
    conditions = ("night",)
    counts = {"train": 400, "val": 106, "test": 500}


class ACDCRain(ACDC):
    """ACDC in rain: 400 images for training, 100 for validation, 500 for testing."""

    name = "ACDC-rain"
    conditions = ("rain",)
    counts = {"train": 400, "val": 100, "test": 500}


class ACDCSnow(ACDC):
    """ACDC in snow: 400 images for training, 100 for validation, 500 for testing."""

    name = "ACDC-snow"
    conditions = ("snow",)
    counts = {"train": 400, "val": 100, "test": 500}
