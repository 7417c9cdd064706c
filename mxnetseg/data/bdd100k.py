"""BDD100K, semantic segmentation: roads in the USA, 1280 x 720, with the 19 classes of Cityscapes.

Yu et al.: BDD100K: A diverse driving dataset for heterogeneous multitask learning, CVPR 2020.
"""
from __future__ import annotations

from .base import Pair, SegDataset
from .cityscapes import Cityscapes
from .layouts import by_folder


class BDD100K(SegDataset):
    """Driving scenes at all hours and in all weathers: 7000 images for training, 1000 for validation, 2000 for testing.

    The masks hold train ids, and 255 for ignored pixels. The masks of the test split are not public. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "BDD100K"
    splits = ("train", "val", "test", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 7000, "val": 1000, "test": 2000}
    classes = Cityscapes.classes
    palette = Cityscapes.palette
    subdir = "BDD/seg"
    markers = ("images", "labels")
    split_markers = {"test": ("images/test|images/10k/test",)}
    home_page = "https://bdd-data.berkeley.edu (10K images, segmentation)"
    licence = "BDD100K licence: research and education, see the home page"
    layout = """\
<root>/images/{train,val,test}/NAME.jpg
<root>/labels/{train,val}/NAME_train_id.png           8 bits: 0..18, 255 = ignore
or the layout that the home page offers since 2021:
<root>/images/10k/{train,val,test}/NAME.jpg
<root>/labels/sem_seg/masks/{train,val}/NAME.png"""
    label_hint = "BDD100K's masks hold 0..18 and 255: take *_train_id.png or sem_seg/masks, not the colormaps"

    def find_pairs(self) -> list[Pair]:
        if (self.root / "images" / "10k").is_dir():
            images, masks, mask_end = "images/10k", "labels/sem_seg/masks", ".png"
        else:
            images, masks, mask_end = "images", "labels", "_train_id.png"
        return [pair for part in self.parts
                for pair in by_folder(self, images=f"{images}/{part}", prefix=f"{part}/", mask_end=mask_end,
                                      masks=None if part == "test" else f"{masks}/{part}")]
