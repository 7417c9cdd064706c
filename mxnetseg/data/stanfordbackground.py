"""Stanford background: outdoor scenes in 8 classes, about 320 x 240.

Gould, Fulton, Koller: Decomposing a scene into geometric and semantically consistent regions, ICCV 2009.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError, DataNotFoundError
from .base import IGNORE, IMAGE_SUFFIXES, Pair, SegDataset, list_files, voc_palette
from .layouts import by_name, hold_out

_LISTS = {"train": "trainList.txt", "val": "evalList.txt"}


class StanfordBackground(SegDataset):
    """715 scenes with foreground objects: 572 images for training, 143 for validation.

    The release has a text file for each image, with -1 for unknown, and no lists. Without lists, a fifth of the images
    is held out for validation, the same on every machine. See
    :class:`~mxnetseg.data.base.SegDataset` for the arguments.
    """

    name = "StanfordBackground"
    splits = ("train", "val", "trainval")
    combined = {"trainval": ("train", "val")}
    counts = {"train": 572, "val": 143}
    classes = ("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground object")
    palette = voc_palette(9)[1:]
    subdir = "Stanford10"
    markers = ("images", "labels")
    home_page = "http://dags.stanford.edu/projects/scenedataset.html (iccv09Data.tar.gz)"
    licence = "none is given; research use"
    split_notes = "there is no official split; publications use five-fold cross-validation, 572 and 143 images"
    layout = """\
<root>/images/NAME.jpg
<root>/labels/NAME.png, 8 bits: 0..7, 255 = unknown; or NAME.regions.txt, the file of the release
<root>/trainList.txt, evalList.txt      optional: one NAME a line"""
    label_hint = "masks hold 0..7 and 255, *.regions.txt -1..7; *.surfaces.txt and *.layers.txt hold other labels"

    def find_pairs(self) -> list[Pair]:
        suffix = ".png" if list_files(self.root / "labels", (".png",)) else ".regions.txt"
        pairs: list[Pair] = []
        for part in self.parts:
            if (self.root / _LISTS[part]).is_file():
                pairs += by_name(self, _LISTS[part], image="images/{}.jpg", mask="labels/{}" + suffix)
            else:
                images = list_files(self.root / "images", IMAGE_SUFFIXES)
                images = hold_out(images, name=lambda i: i.stem, fraction=0.2, exact=True)[part == "val"]
                pairs += [Pair(i.stem, i, self.root / "labels" / (i.stem + suffix)) for i in images]
        return pairs

    def read_raw_mask(self, path: Path) -> np.ndarray:
        if path.suffix != ".txt":
            return super().read_raw_mask(path)
        try:
            ids = np.array([line.split() for line in path.read_text(encoding="utf-8").splitlines()], int)
        except FileNotFoundError:
            raise DataNotFoundError("a mask file is missing", where=path, fix="unpack labels again") from None
        except (OSError, ValueError) as error:
            raise DataError("a mask is not a table of whole numbers", where=path, received=error,
                            fix="unpack labels again") from error

        if ids.ndim != 2 or ids.min() < -1 or ids.max() >= IGNORE:
            raise DataError("a mask is not a table of label ids", where=path, fix="unpack labels again",
                            received=f"shape {ids.shape}" + (f", values {ids.min()}..{ids.max()}" if ids.size else ""))
        return np.where(ids < 0, IGNORE, ids).astype(np.uint8)
