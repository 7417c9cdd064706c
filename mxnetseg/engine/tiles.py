"""Large images in bounded memory: tiles whose margins are cut, and class maps that are enlarged band by band.

A tile is computed like an image of its own. Only its middle is kept: the borders between the kept parts lie in the
middle of the overlap, so that every kept pixel, except near the edges of the image, has at least half the overlap of
context around it. No score of the whole image is held, only one byte a pixel.

Tiles start at multiples of :data:`ALIGNMENT`, because a network with strides computes other values for an image that
is moved by less. The sides of all tiles are equal: the last one extends beyond the image by less than
:data:`ALIGNMENT`, where pixels of the edge are repeated.

A network that ends with a resize with aligned corners stretches its last map by up to its stride less one pixel, over
the whole image or over each tile. If that is its only resize (``aligned_stride``), the map of a tile is sampled where
the whole image would sample it, so that the results agree. Tiles are then a little smaller, so that the last one ends
with the image.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..backends.runtime import first_argmax, interpolate, resize_bilinearly
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

        A resize with aligned corners stretches a map by up to its stride less one pixel, unless the side is a multiple
        of the stride plus 1, and a network has learnt from crops of one kind. Tiles are of the kind of these crops.

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
        positions: rows and columns of its result at which the pixels of the image lie, from one before the kept ones,
            as fractions; None: each pixel has its own.
    """

    rows: slice
    columns: slice
    kept_rows: slice
    kept_columns: slice
    size: tuple[int, int]
    positions: tuple[np.ndarray, np.ndarray] | None = None

    def read(self, image: np.ndarray) -> np.ndarray:
        """Return the tile's pixels, (height, width, 3)."""
        part = image[self.rows, self.columns]
        below, right = self.size[0] - part.shape[0], self.size[1] - part.shape[1]
        if below or right:
            return cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(part)

    def _with_positions(self, size: tuple[int, int], stride: int) -> Tile:
        """Return the tile of an image of ``size`` with its positions, not extended."""
        rows, columns = (_positions(length, stride, read, kept.start - before, kept.stop) for length, read, kept, before
                         in zip(size, self[:2], self[2:4], self.before))
        size = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return self._replace(size=size, positions=(rows, columns))

    @property
    def before(self) -> tuple[int, int]:
        """Rows above and columns left of the kept pixels that are compared with the neighbours': 0 or 1."""
        return (int(self.kept_rows.start > self.rows.start), int(self.kept_columns.start > self.columns.start))

    def classes(self, result: np.ndarray) -> np.ndarray:
        """Return the classes of the kept pixels, and of those :attr:`before` them: uint8 (height, width).

        Args:
            result: of the tile: a class map (h, w); or probabilities (h, w, K), if the tile has :attr:`positions`.
        """
        if self.positions is None:
            return result[self._kept(self.before)]
        rows, columns = self.positions
        if result.ndim == 2:
            return result[np.ix_(np.rint(rows).astype(int), np.rint(columns).astype(int))]
        band = max(_BAND // result[0].size, 1)
        return np.concatenate([first_argmax(_logits_at(result, rows[first:first + band], columns), axis=2)
                               for first in range(0, len(rows), band)])

    def probabilities(self, result: np.ndarray) -> np.ndarray:
        """Return the probabilities of the kept pixels, (K, height, width), from those of the tile, (K, h, w)."""
        if self.positions is None:
            return result[(slice(None), *self._kept())]
        rows, columns = (position[before:] for position, before in zip(self.positions, self.before))
        values = np.exp(_logits_at(result.transpose(1, 2, 0), rows, columns))
        return (values / values.sum(axis=2, keepdims=True)).transpose(2, 0, 1)

    def _kept(self, before: tuple[int, int] = (0, 0)) -> tuple[slice, ...]:
        """Return the kept rows and columns, and those before them, of the tile's result."""
        return tuple(slice(kept.start - more - read.start, kept.stop - read.start)
                     for kept, more, read in zip(self[2:4], before, self[:2]))

    def keep(self, classes: np.ndarray, class_map: np.ndarray) -> tuple[int, int]:
        """Copy the kept part of what :meth:`classes` returned into the class map of the image, (H, W).

        Returns:
            numbers of the pixels before it that have the class that the neighbour gave them, and of all of these.
        """
        above, left = self.before
        pairs = [(classes[0, left:], class_map[self.kept_rows.start - 1, self.kept_columns])] * above
        pairs += [(classes[above:, 0], class_map[self.kept_rows, self.kept_columns.start - 1])] * left
        class_map[self.kept_rows, self.kept_columns] = classes[above:, left:]
        return sum(int((ours == theirs).sum()) for ours, theirs in pairs), sum(ours.size for ours, _ in pairs)


def _logits_at(probabilities: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return logits at fractional positions, less a number that is the same for all classes of a pixel.

    The logarithm of a probability is such a logit. A resize interpolates logits.

    Args:
        probabilities: (h, w, K).
        rows, columns: rising positions.
    """
    first = int(rows[0])
    logits = np.log(np.maximum(probabilities[first:int(rows[-1]) + 2], np.finfo(np.float32).tiny))
    return interpolate(interpolate(logits, rows - np.float32(first), 0), columns, 1)


def cut(size: tuple[int, int], sides: tuple[int, int], overlap: int, alignment: int = ALIGNMENT,
        aligned_stride: int = 1, whole: tuple[int, int] | None = None) -> list[Tile]:
    """Return the tiles of an image of (height, width), row by row.

    Args:
        size: (height, width) of the image. A side that is shorter than a tile is not cut.
        sides: (height, width) of a tile.
        overlap: pixels that neighbours share at least.
        alignment: tiles start at multiples of it.
        aligned_stride: see :class:`~mxnetseg.backends.runtime.Runtime`. Above 1, all tiles are smaller by less than
            the alignment, so that the last one ends with the image.
        whole: (height, width) that the network would compute the image at as a whole, larger by less than the
            alignment; with an aligned stride, tiles extend to it. None: ``size``.
    """
    whole = whole if whole and aligned_stride > 1 else size
    if aligned_stride > 1:
        sides = sides[0] - (sides[0] - whole[0]) % alignment, sides[1] - (sides[1] - whole[1]) % alignment
    rows, columns = ([*_axis(length, side, overlap, alignment, end)] for length, side, end in zip(whole, sides, size))
    tiles = [Tile(r, c, kept_r, kept_c, (height, width))
             for r, kept_r, height in rows for c, kept_c, width in columns]
    return [tile._with_positions(whole, aligned_stride) for tile in tiles] if aligned_stride > 1 else tiles


def _axis(length: int, side: int, overlap: int, alignment: int, end: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield of each tile the pixels that it reads, those that it keeps, which end with ``end``, and its side."""
    if length <= side:
        yield slice(0, length), slice(0, end), length
        return
    last = -(-(length - side) // alignment) * alignment
    starts = [*range(0, last, max((side - overlap) // alignment * alignment, alignment)), last]
    borders = [0, *((after + before + side) // 2 for before, after in zip(starts, starts[1:])), end]
    for start, first, last in zip(starts, borders, borders[1:]):
        yield slice(start, min(start + side, length)), slice(first, last), side


def _positions(length: int, stride: int, read: slice, first: int, end: int) -> np.ndarray:
    """Return where a tile's result has the pixels ``first`` to ``end`` of a stretched axis of the whole image.

    Both end with a resize of a map whose samples lie at multiples of the stride, so that the last sample is moved to
    the last pixel.
    """
    def last_sample(length):
        return (length - 1) // stride * stride

    side = read.stop - read.start
    if side == length:
        return np.arange(first, end, dtype=np.float32)
    place = np.arange(first, end) * (last_sample(length) / (length - 1)) - read.start
    return np.clip(place * ((side - 1) / last_sample(side)), 0, side - 1).astype(np.float32)


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
    first, part = int(position[0]), x[int(position[0]):int(position[-1]) + 2]
    return interpolate(resize_bilinearly(part, (len(part), size[1])), (position - first).astype(np.float32), 0)
