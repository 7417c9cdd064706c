"""The items of a data set: the pair of files on the disk, and the arrays that are read from it."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError


class Sample(NamedTuple):
    """One item of a data set.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W) train ids, or None where the split has no labels.
        name: path-like id, unique in the split, without extension: ``'val/0016E5_07959'``.
    """

    image: np.ndarray
    mask: np.ndarray | None
    name: str


class Pair(NamedTuple):
    """Name and files of one :class:`Sample`; ``mask`` is None where the split has no labels."""

    name: str
    image: Path
    mask: Path | None


def check_sizes(image: np.ndarray, mask: np.ndarray, pair: Pair) -> None:
    """Refuse an image and a mask, (H, W, ...) both, that differ in size, with a DataError."""
    if image.shape[:2] == mask.shape:
        return
    (ih, iw), (mh, mw) = image.shape[:2], mask.shape
    fix = "give each image a mask of its own size: resize masks with nearest neighbour, never bilinear"
    if (ih, iw) == (mw, mh):
        fix = "one of them is rotated by 90 degrees, perhaps by the image's EXIF rotation: " \
              "save the image with its rotation applied, or rotate the mask"
    raise DataError("an image and its mask differ in size", where=f"{pair.image}\n{pair.mask}",
                    received=f"image {iw} x {ih}, mask {mw} x {mh} (width x height)", fix=fix)
