"""PASCAL-Context: the images of VOC 2010 with every pixel labelled, in 59 classes, or 60 with background.

Mottaghi et al.: The role of context for object detection and semantic segmentation in the wild, CVPR 2014. The classes
are the 59 most frequent of 459, in the order of their original ids.
"""
from __future__ import annotations

from .base import IGNORE, Pair, SegDataset, voc_palette
from .layouts import by_name


class PascalContext60(SegDataset):
    """60 classes, in which 0 means none of the other 59: 4998 images for training, 5105 for validation.

    See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "PascalContext60"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 4998, "val": 5105}
    classes: tuple[str, ...] = (
        "background", "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
        "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain",
        "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light",
        "motorbike", "mountain", "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep",
        "shelves", "sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor",
        "wall", "water", "window", "wood")
    palette = voc_palette(60)
    subdir = "VOCdevkit/VOC2010|PContext"
    markers = ("JPEGImages", "SegmentationClassContext|Labels_59")
    home_page = "https://cs.stanford.edu/~roozbeh/pascal-context, and VOCtrainval_03-May-2010.tar of VOC 2010"
    licence = "photographs from flickr, under flickr's terms of use"
    split_notes = "some publications report the mIoU of 59 classes times 59/60 as the mIoU of 60"
    prepared_by = "pascalcontext"
    prepared_from = ("VOC 2010's JPEGImages, and either trainval_merged.json or Context's trainval/NAME.mat with VOC "
                     "2010's ImageSets/Main")
    layout = """\
<root>/JPEGImages/NAME.jpg
<root>/SegmentationClassContext/NAME.png                     8 bits: 1..59, 0 = background
<root>/ImageSets/SegmentationContext/{train,val}.txt         one NAME a line
or the layout of MXNetSeg:
<root>/Labels_59/NAME.png, train.txt, val.txt"""
    label_hint = ("SegmentationClassContext holds 0..59; the original annotations hold 0..459: run mxnetseg prepare "
                  "pascalcontext")

    def find_pairs(self) -> list[Pair]:
        lists, masks = "ImageSets/SegmentationContext/", "SegmentationClassContext"
        if not (self.root / masks).is_dir():
            lists, masks = "", "Labels_59"
        return [pair for part in self.parts
                for pair in by_name(self, f"{lists}{part}.txt", image="JPEGImages/{}.jpg", mask=masks + "/{}.png")]


class PascalContext(PascalContext60):
    """59 classes, with background ignored: 4998 images for training, 5105 for validation.

    See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "PascalContext"
    classes = PascalContext60.classes[1:]
    palette = PascalContext60.palette[1:]
    label_map = {0: IGNORE, **{i + 1: i for i in range(59)}}
