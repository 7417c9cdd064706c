"""SIFT Flow: outdoor scenes of LabelMe in 33 classes, 256 x 256.

Liu, Yuen, Torralba: Nonparametric scene parsing: label transfer via dense scene alignment, CVPR 2009.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import IGNORE, Pair, SegDataset, list_files, read_list, voc_palette
from .layouts import by_name
from .mat import read_mat_mask

_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"


class SiftFlow(SegDataset):
    """Coasts, forests, roads, mountains and towns: 2488 images for training, 200 for validation.

    The masks hold 1..33, and 0 for unlabelled. The release has MATLAB files (SciPy is needed). See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "SiftFlow"
    splits = ("train", "val")
    counts = {"train": 2488, "val": 200}
    classes = ("awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert",
               "door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road",
               "rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window")
    palette = voc_palette(34)[1:]
    label_map = {0: IGNORE, **{i + 1: i for i in range(33)}}
    subdir = "SiftFlow"
    markers = ("images|Images", "labels|SemanticLabels")
    home_page = "https://people.csail.mit.edu/celiu/SIFTflow (SiftFlowDataset.zip)"
    licence = "none is given; images of LabelMe, research use"
    split_notes = "val is the list of 200 images that publications call the test set"
    layout = f"""\
<root>/images/NAME.jpg
<root>/labels/NAME.png            8 bits: 1..33, 0 = unlabelled
<root>/train.txt, val.txt         one NAME a line
or the layout of the release:
<root>/Images/{_FOLDER}/NAME.jpg
<root>/SemanticLabels/{_FOLDER}/NAME.mat      matrix S
<root>/TestSet1.txt               one NAME.jpg of val a line; train is the rest"""
    label_hint = "the masks of SIFT Flow hold 0..33: take SemanticLabels, not GeoLabels, and unpack them again"

    def find_pairs(self) -> list[Pair]:
        if (self.root / "labels").is_dir():
            return by_name(self, f"{self.split}.txt", image="images/{}.jpg", mask="labels/{}.png")
        held_out = {line.replace("\\", "/").rpartition("/")[2] for line in read_list(self.root / "TestSet1.txt")}
        images, masks = self.root / "Images" / _FOLDER, self.root / "SemanticLabels" / _FOLDER
        return [Pair(image.stem, image, masks / f"{image.stem}.mat") for image in list_files(images, (".jpg",))
                if (image.name in held_out) == (self.split == "val")]

    def read_raw_mask(self, path: Path) -> np.ndarray:
        return read_mat_mask(path, variable="S") if path.suffix == ".mat" else super().read_raw_mask(path)
