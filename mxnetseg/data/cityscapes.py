"""Cityscapes with its fine annotations: 2048 x 1024, 19 classes.

Cordts et al.: The Cityscapes dataset for semantic urban scene understanding, CVPR 2016. Ids and colours
are those of ``cityscapesscripts/helpers/labels.py``.
"""
from __future__ import annotations

from typing import List

import numpy as np

from .base import IGNORE, Pair, SegDataset, list_files

_IMAGE_END = "_leftImg8bit.png"
_MASK_END = "_gtFine_labelIds.png"
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


class Cityscapes(SegDataset):
    """Street scenes of 50 cities: 2975 for training, 500 for validation, 1525 for testing.

    The masks hold the 34 official ids 0..33; the 19 that are evaluated become train ids, the others are
    ignored. The test split's masks are empty dummies and are not read. ``to_raw_ids`` gives the official
    ids that the evaluation server wants. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "Cityscapes"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
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
    markers = ("leftImg8bit",)
    home_page = "https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip)"
    licence = "non-commercial; see the home page"
    layout = """\
<root>/leftImg8bit/{train,val,test}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png
<root>/gtFine/{train,val}/CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png"""
    label_hint = ("Cityscapes' *_labelIds.png hold 0..33: unpack gtFine_trainvaltest.zip again, and do not "
                  "rename other masks, such as *_color.png or *_instanceIds.png, to *_labelIds.png")

    def find_pairs(self) -> List[Pair]:
        pairs = []
        for part in self.parts:
            folder = self.root / "leftImg8bit" / part
            for image in list_files(folder, (".png",)):
                if not image.name.endswith(_IMAGE_END):
                    continue
                city, stem = image.parent.name, image.name[:-len(_IMAGE_END)]
                mask = self.root / "gtFine" / part / city / (stem + _MASK_END)
                pairs.append(Pair(f"{city}/{stem}", image, None if part == "test" else mask))
        return pairs
