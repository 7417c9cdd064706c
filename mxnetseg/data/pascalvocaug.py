"""PASCAL VOC 2012 with the additional masks of SBD: 10582 pictures to train on.

Everingham et al., IJCV 2015, and Hariharan et al., ICCV 2011; see ``pascalvoc.py`` and ``sbd.py``. The training list
is (SBD's train and val, and VOC's train) without VOC's val.
"""
from __future__ import annotations

from typing import List

from .base import Pair, SegDataset
from .layouts import by_line
from .pascalvoc import PascalVOC

_LISTS = {"train": "train_aug.txt", "train_aug": "train_aug.txt", "val": "val.txt", "trainval": "trainval_aug.txt",
          "train_voc": "train.txt"}


class PascalVOCAug(SegDataset):
    """Photographs of 20 kinds of objects: 10582 for training, VOC's 1449 for validation.

    See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "PascalVOCAug"
    splits = tuple(_LISTS)
    counts = {"train": 10582, "train_aug": 10582, "val": 1449, "trainval": 12031, "train_voc": 1464}
    classes = PascalVOC.classes
    palette = PascalVOC.palette
    subdir = "VOCdevkit/VOCAug"
    markers = ("img_aug", "cls_aug")
    home_page = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012, http://home.bharathh.info/pubs/codes/SBD/download.html"
    licence = "photographs from flickr, under flickr's terms of use"
    split_notes = "train is train_aug; train_voc is VOC's own training list; trainval holds the pictures of val, too"
    prepared_by = "pascalvocaug"
    prepared_from = ("VOC2012 (JPEGImages, SegmentationClass, ImageSets/Segmentation) and SBD (img, cls, train.txt, "
                     "val.txt: benchmark_RELEASE/dataset)")
    layout = """\
<root>/img_aug/NAME.jpg
<root>/cls_aug/NAME.png                                      8 bits: 0..20, 255 = seams
<root>/{train,train_aug,val,trainval_aug}.txt                NAME, or NAME.jpg NAME.png, a line"""
    label_hint = PascalVOC.label_hint

    def find_pairs(self) -> List[Pair]:
        return by_line(self, _LISTS[self.split], images="img_aug", masks="cls_aug", fallback=".png")
