"""Cityscapes with fine or coarse annotations: 2048 x 1024, 19 classes.

Cordts et al.: The Cityscapes dataset for semantic urban scene understanding, CVPR 2016. Ids and colours follow
``cityscapesscripts/helpers/labels.py``.
"""
from __future__ import annotations

import numpy as np

from .base import IGNORE, Pair, SegDataset
from .layouts import by_folder

_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


class Cityscapes(SegDataset):
    """Street scenes of 50 cities: 2975 images for training, 500 for validation, 1525 for testing.

    The masks hold the 34 official ids 0..33. The 19 evaluated ids become train ids; the others are ignored. The
    masks of the test split are empty and are not read. ``to_raw_ids`` returns the official ids, which the evaluation
    server expects. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "Cityscapes"
    splits: tuple[str, ...] = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 2975, "val": 500, "test": 1525}
    classes = ("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
               "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
               "motorcycle", "bicycle")
    palette = np.array([
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)],
        np.uint8)
    label_map = {raw: _EVALUATED.index(raw) if raw in _EVALUATED else IGNORE for raw in range(34)}
    subdir = "Cityscapes"
    markers: tuple[str, ...] = ("leftImg8bit",)
    home_page = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)"
    licence = "non-commercial; see the home page"
    layout = """\
<root>/leftImg8bit/{train,val,test}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png
<root>/gtFine/{train,val}/CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png"""
    label_hint = ("the *_labelIds.png of Cityscapes hold 0..33: unpack gtFine_trainvaltest.zip again, and do not "
                  "rename other masks, such as *_color.png or *_instanceIds.png, to *_labelIds.png")

    def find_pairs(self) -> list[Pair]:
        return [pair for part in self.parts
                for pair in self._pairs_of(part, None if part == "test" else f"gtFine/{part}", "gtFine")]

    def _pairs_of(self, part: str, masks: str | None, annotation: str) -> list[Pair]:
        return by_folder(self, images=f"leftImg8bit/{part}", image_end="_leftImg8bit.png", masks=masks,
                         mask_end=f"_{annotation}_labelIds.png")


class CityCoarse(Cityscapes):
    """Coarse annotations of Cityscapes: 19998 further images for training, and the 500 fine ones for validation.

    ``train_coarse`` holds the coarse annotations of the 2975 images that also have fine annotations.
    """

    name = "CityCoarse"
    splits: tuple[str, ...] = ("train", "val", "train_coarse")
    combined = {}
    counts = {"train": 19998, "val": 500, "train_coarse": 2975}
    markers: tuple[str, ...] = ("leftImg8bit", "gtCoarse")
    split_markers = {"val": ("leftImg8bit/val", "gtFine/val")}
    home_page = ("https://www.cityscapes-dataset.com (leftImg8bit_trainextra.zip, gtCoarse.zip, and for val "
                 "leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)")
    split_notes = "train is train_extra, in which 2 of 20000 images are missing at the source; val has fine annotations"
    layout = """\
<root>/leftImg8bit/{train_extra,train,val}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png
<root>/gtCoarse/{train_extra,train}/CITY/CITY_SSSSSS_FFFFFF_gtCoarse_labelIds.png
<root>/gtFine/val/CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png"""
    label_hint = "the *_labelIds.png of Cityscapes hold 0..33: unpack gtCoarse.zip again"

    def find_pairs(self) -> list[Pair]:
        if self.split == "val":
            return self._pairs_of("val", "gtFine/val", "gtFine")
        part = "train_extra" if self.split == "train" else "train"
        return self._pairs_of(part, f"gtCoarse/{part}", "gtCoarse")
