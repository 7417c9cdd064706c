"""Large images in bounded memory: tiles whose margins are cut, and class maps that are enlarged band by band.

A tile is computed like an image of its own. Only its middle is kept: the borders between the kept parts lie in the
middle of the overlap, so that every kept pixel, except near the edges of the image, has at least half the overlap of
context around it. No score of the whole image is held, only one byte a pixel.

Tiles start at multiples of :data:`ALIGNMENT`, because a network with strides computes other values for an image that
is moved by less. The sides of all tiles are equal: the last one extends beyond the image by less than
:data:`ALIGNMENT`, where pixels of the edge are repeated.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..backends.runtime import first_argmax, resize_bilinearly
from ..errors import UsageError

ALIGNMENT = 32  # pixels; the largest output stride of a network
TILE = 1024  # side of a tile in pixels, if none is given
_BAND = 1 << 24  # scores of a band


class Tiling(NamedTuple):
    """Rule by which images are cut.

    Attributes:
        side: of a tile, in pixels, a multiple of :data:`ALIGNMENT`, or one more.
        overlap: pixels that neighbouring tiles share, a multiple of :data:`ALIGNMENT`.
        above: images of more pixels are cut.
        reason: why, for the log.
    """

    side: int = TILE
    overlap: int = TILE // 4
    above: int = 0
    reason: str = ""

    @classmethod
    def of(cls, side: int = TILE, overlap: int | None = None, *, extra: int = 0, above: int = 0,
           reason: str = "") -> Tiling:
        """Return a checked tiling.

        A network that ends with a resize with aligned corners stretches its result by up to its stride less one pixel,
        unless the side is a multiple of the stride plus 1, and it has learnt to do so from crops of one kind. Tiles
        are of the kind of these crops.

        Args:
            side: in pixels, a multiple of :data:`ALIGNMENT`.
            overlap: None: a quarter of the side.
            extra: 1 for a network that was trained on crops whose sides are a multiple of 8 plus 1; it is added.
            above, reason: see the attributes.

        Raises:
            UsageError: a number is out of its range, or not a multiple of :data:`ALIGNMENT`.
        """
        if side < 2 * ALIGNMENT or side % ALIGNMENT:
            fix = max(side // ALIGNMENT, 2) * ALIGNMENT
            raise UsageError(f"the side of a tile must be a multiple of {ALIGNMENT}, at least {2 * ALIGNMENT}",
                             received=f"tile {side}", fix=f"{fix} or {fix + ALIGNMENT}")
        if overlap is None:
            overlap = max(side // 4 // ALIGNMENT, 1) * ALIGNMENT
        if not 0 <= overlap <= side - ALIGNMENT or overlap % ALIGNMENT:
            raise UsageError(f"the overlap of tiles must be a multiple of {ALIGNMENT}, smaller than a tile",
                             received=f"overlap {overlap} of tiles of {side}",
                             fix=f"{ALIGNMENT} to {side - ALIGNMENT}, for example {side // 4 // ALIGNMENT * ALIGNMENT}")
        return cls(side + extra, overlap, above, reason)

    def cuts(self, size: tuple[int, int]) -> bool:
        """Return whether an image of this (height, width) is cut."""
        return size[0] * size[1] > self.above and max(size) > self.side


class Tile(NamedTuple):
    """A tile of an image.

    Attributes:
        rows, columns: the pixels that it reads.
        kept_rows, kept_columns: the pixels whose classes are kept, among those.
        size: (height, width) that it is extended to.
    """

    rows: slice
    columns: slice
    kept_rows: slice
    kept_columns: slice
    size: tuple[int, int]

    def read(self, image: np.ndarray) -> np.ndarray:
        """Return the tile's pixels, (height, width, 3)."""
        part = image[self.rows, self.columns]
        below, right = self.size[0] - part.shape[0], self.size[1] - part.shape[1]
        if below or right:
            return cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(part)

    def keep(self, values: np.ndarray, whole: np.ndarray) -> None:
        """Copy the kept part of a result, (..., height, width), into the result of the image, (..., H, W)."""
        rows, columns = (slice(kept.start - read.start, kept.stop - read.start)
                         for kept, read in ((self.kept_rows, self.rows), (self.kept_columns, self.columns)))
        whole[..., self.kept_rows, self.kept_columns] = values[..., rows, columns]


def cut(size: tuple[int, int], sides: tuple[int, int], overlap: int, alignment: int = ALIGNMENT) -> list[Tile]:
    """Return the tiles of an image of (height, width), row by row.

    Args:
        size: (height, width) of the image. A side that is shorter than a tile is not cut.
        sides: (height, width) of a tile.
        overlap: pixels that neighbours share at least.
        alignment: tiles start at multiples of it.
    """
    rows, columns = ([*_axis(length, side, overlap, alignment)] for length, side in zip(size, sides))
    return [Tile(r, c, kept_r, kept_c, (height, width))
            for r, kept_r, height in rows for c, kept_c, width in columns]


def _axis(length: int, side: int, overlap: int, alignment: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield of each tile the pixels that it reads, those that it keeps, and its side."""
    if length <= side:
        yield slice(0, length), slice(0, length), length
        return
    last = -(-(length - side) // alignment) * alignment
    starts = [*range(0, last, (side - overlap) // alignment * alignment), last]
    borders = [0, *((after + before + side) // 2 for before, after in zip(starts, starts[1:])), length]
    for start, first, end in zip(starts, borders, borders[1:]):
        yield slice(start, min(start + side, length)), slice(first, end), side


def argmax_of_enlarged(maps: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return the class map of the sum of score maps, each enlarged to ``size``, without holding enlarged scores.

    Args:
        maps: float32 (h, w, K) each.
        size: (H, W).

    Returns:
        uint8 (H, W).
    """
    height, width = size
    class_map = np.empty(size, np.uint8)
    band = max(_BAND // (width * maps[0].shape[2]), 1)
    for first in range(0, height, band):
        rows = np.arange(first, min(first + band, height))
        total = np.sum([_enlarged_rows(x, size, rows) for x in maps], axis=0) if len(maps) > 1 else \
            _enlarged_rows(maps[0], size, rows)
        class_map[rows[0]:rows[-1] + 1] = first_argmax(total, axis=2)
    return class_map


def _enlarged_rows(x: np.ndarray, size: tuple[int, int], rows: np.ndarray) -> np.ndarray:
    """Return some rows of a map, (h, w, K), that is resized bilinearly to ``size``, edges aligned: (n, W, K)."""
    position = np.clip((rows + np.float32(0.5)) * np.float32(x.shape[0] / size[0]) - np.float32(0.5), 0, x.shape[0] - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, x.shape[0] - 1)
    fraction = (position - low).astype(np.float32)[:, None, None]
    wide = resize_bilinearly(x[low[0]:high[-1] + 1], (int(high[-1] - low[0]) + 1, size[1]))
    return wide[low - low[0]] * (1 - fraction) + wide[high - low[0]] * fraction
