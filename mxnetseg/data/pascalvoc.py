"""PASCAL VOC 2012, segmentation task: 21 classes.

Everingham et al.: The PASCAL visual object classes challenge: a retrospective, IJCV 2015.
"""
from __future__ import annotations

from .base import Pair, SegDataset, voc_palette
from .layouts import by_name


class PascalVOC(SegDataset):
    """Photographs with 20 classes of objects: 1464 images for training, 1449 for validation, 1456 for testing.

    The borders of objects, 255 in the masks, are ignored. The test split has no masks. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "PascalVOC"
    splits = ("train", "val", "test", "trainval")
    counts = {"train": 1464, "val": 1449, "test": 1456, "trainval": 2913}
    classes = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
               "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
               "train", "tvmonitor")
    palette = voc_palette(21)
    subdir = "VOCdevkit/VOC2012"
    markers = ("JPEGImages", "ImageSets/Segmentation")
    home_page = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar)"
    licence = "photographs from flickr, under flickr's terms of use"
    layout = """\
<root>/JPEGImages/NAME.jpg
<root>/SegmentationClass/NAME.png                     palette PNG, 255 = borders; none for test
<root>/ImageSets/Segmentation/{train,val,trainval,test}.txt    one NAME a line"""
    label_hint = ("the masks of VOC hold 0..20 and 255: unpack SegmentationClass again; masks that were saved by an "
                  "image editor have lost their ids")

    def find_pairs(self) -> list[Pair]:
        return by_name(self, f"ImageSets/Segmentation/{self.split}.txt", image="JPEGImages/{}.jpg",
                       mask=None if self.split == "test" else "SegmentationClass/{}.png")
