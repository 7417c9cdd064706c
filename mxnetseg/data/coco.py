"""MS COCO with the 21 classes of PASCAL VOC, for pre-training.

Lin et al.: Microsoft COCO: common objects in context, ECCV 2014. As is usual, instances of VOC's 20 categories
become their class, everything else background; an earlier instance goes before a later one; images with at
most 1000 pixels of objects are left out.
"""
from __future__ import annotations

from typing import List

from .base import Pair, SegDataset, list_files
from .pascalvoc import PascalVOC


class COCO(SegDataset):
    """Photographs of COCO 2017 that show what VOC knows.

    How many there are depends on the rounding of the polygons (about 92500 for training), so no number is
    published. See :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "COCO"
    splits = ("train", "val")
    classes = PascalVOC.classes
    palette = PascalVOC.palette
    subdir = "COCO"
    markers = ("voc_masks",)
    home_page = "https://cocodataset.org (train2017.zip, val2017.zip, annotations_trainval2017.zip)"
    licence = "annotations CC BY 4.0; images under flickr's terms of use"
    split_notes = "images with at most 1000 pixels of VOC's 20 categories are left out, in both splits"
    prepared_by = "coco"
    prepared_from = "train2017/, val2017/ and annotations/instances_train2017.json, instances_val2017.json"
    layout = """\
<root>/{train2017,val2017}/ID.jpg
<root>/voc_masks/{train2017,val2017}/ID.png       8 bits: 0..20; an image without mask is left out"""
    label_hint = "voc_masks hold VOC's ids 0..20: make them again with mxnetseg prepare coco"

    def find_pairs(self) -> List[Pair]:
        folder = f"{self.split}2017"
        return [Pair(mask.stem, self.root / folder / f"{mask.stem}.jpg", mask)
                for mask in list_files(self.root / "voc_masks" / folder, (".png",))]
