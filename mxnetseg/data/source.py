"""Sources of a crop: an image and its mask in memory, or two files of which only what is needed is decoded."""
from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from ..errors import DataError
from .base import SegDataset
from .pairs import check_sizes

Size = tuple[int, int]


class Source(Protocol):
    """An image and its mask, from which windows are read.

    Attributes:
        size: (H, W), in pixels.
    """

    size: Size

    def ids(self, rows: slice, columns: slice) -> np.ndarray:
        """Return train ids and IGNORE of a window: uint8 (h, w)."""

    def labels(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        """Return train ids and IGNORE of a window, resized to ``size`` (height, width)."""

    def image(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        """Return the pixels of a window, resized to ``size``: uint8 (height, width, 3), RGB."""


class ArraySource:
    """A :class:`Source` in memory.

    Args:
        image: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W), train ids and IGNORE.
    """

    def __init__(self, image: np.ndarray, mask: np.ndarray):
        self._image, self._mask = image, mask
        self.size: Size = mask.shape[0], mask.shape[1]

    def ids(self, rows: slice, columns: slice) -> np.ndarray:
        return self._mask[rows, columns]

    def labels(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        return resize(self._mask[rows, columns], size)

    def image(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        return resize(self._image[rows, columns], size)


class FileSource:
    """Item ``i`` of a data set as a :class:`Source`.

    The mask is decoded whole and its ids are checked, but train ids are looked up only in the windows that are read.
    The image is decoded when its window is known: a JPEG file at 1/2, 1/4 or 1/8 of its size where the window is to
    shrink by as much (which also averages pixels that bilinear resizing would skip).

    Raises:
        DataError, DataNotFoundError: see :class:`~mxnetseg.data.base.SegDataset`.
    """

    def __init__(self, dataset: SegDataset, i: int):
        self._dataset, self._i = dataset, i
        self._raw = dataset.load_raw_mask(i)
        self.size: Size = self._raw.shape[0], self._raw.shape[1]
        self._check_ids()

    def ids(self, rows: slice, columns: slice) -> np.ndarray:
        return self._train_ids(self._raw[rows, columns])

    def labels(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        return self._train_ids(resize(self._raw[rows, columns], size))

    def image(self, rows: slice, columns: slice, size: Size) -> np.ndarray:
        reduce = _reduction(rows, columns, size)
        image = self._dataset.load_image(self._i, reduce=reduce)
        if image.shape[:2] == self.size:
            reduce = 1  # the format does not support reduced decoding
        elif image.shape[:2] != tuple(-(-side // reduce) for side in self.size):
            check_sizes(self._dataset.load_image(self._i), self._raw, self._dataset.pair(self._i))

        window = image[_reduced(rows, reduce), _reduced(columns, reduce)]
        crop = resize(window, size)
        return crop.copy() if crop is window else crop  # a view would keep the whole image in memory

    def _check_ids(self) -> None:
        """Refuse ids outside the classes anywhere in the mask: a histogram costs less than looking every pixel up."""
        counts = cv2.calcHist([self._raw], [0], None, [256], [0, 256])
        try:
            self._train_ids(np.flatnonzero(counts).astype(np.uint8))
        except DataError:
            self._train_ids(self._raw)  # its message states the numbers of pixels
            raise

    def _train_ids(self, raw: np.ndarray) -> np.ndarray:
        return self._dataset.to_train_ids(raw, self._dataset.mask_path(self._i))


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize to ``size`` (height, width): uint8 (H, W, 3) bilinearly, a mask (H, W) by nearest neighbour."""
    if image.shape[:2] == tuple(size):
        return image
    # NEAREST_EXACT samples at pixel centres, as LINEAR does; plain NEAREST would shift the mask
    interpolation = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST_EXACT
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation)


def _reduction(rows: slice, columns: slice, size: Size) -> int:
    """Return the greatest of 8, 4, 2, 1 at which the window still has ``size`` or more and no pixel is cut in two."""
    ends = (rows.start, rows.stop, columns.start, columns.stop)
    shrinks = min((rows.stop - rows.start) / size[0], (columns.stop - columns.start) / size[1])
    return next(r for r in (8, 4, 2, 1) if r == 1 or (shrinks >= r and not any(end % r for end in ends)))


def _reduced(window: slice, reduce: int) -> slice:
    return slice(window.start // reduce, window.stop // reduce)
