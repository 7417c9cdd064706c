"""The items of a data set: the pair of files on the disk, and the arrays that are read from it."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..viz import notebook
from ..viz.overlay import side_by_side, with_legend
from ..viz.palette import colorize, make_palette
from ..viz.sheet import scale_down

_IGNORE = 255


class _Arrays(NamedTuple):
    image: np.ndarray
    mask: np.ndarray | None
    name: str


class Sample(_Arrays):
    """One item of a data set, a tuple of three. It draws itself in a notebook.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: uint8 (H, W) train ids, or None where the split has no labels.
        name: path-like id, unique in the split, without extension: ``'val/0016E5_07959'``.
        classes, palette: names and colours, uint8 (n, 3), of the classes; empty and None where they are not known.
    """

    classes: tuple[str, ...] = ()
    palette: np.ndarray | None = None

    def with_classes(self, classes: Sequence[str], palette: np.ndarray) -> Sample:
        """Add the names and colours of the classes, with which it is drawn; return the sample itself."""
        self.classes, self.palette = tuple(classes), palette
        return self

    def draw(self) -> np.ndarray:
        """Return image and mask side by side, with a legend of the classes present: uint8 (H', W', 3) RGB."""
        if self.mask is None:
            return self.image
        classes, palette = self._named_classes()
        pair = side_by_side([self.image, colorize(self.mask, palette)])
        return with_legend(pair, classes, palette, present=self.mask)

    def show(self) -> None:
        """Display it: in a notebook as it draws itself, on a desktop in the image viewer, elsewhere as a file."""
        notebook.show(self, self.name, self.draw)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Sample({self.name!r}, image {height} x {width}, {self._content()})"

    def _repr_html_(self) -> str:
        panels = [notebook.Panel("image", f"Image {self.name}", self.image)]
        if self.mask is None:
            return notebook.make_html(repr(self), panels, {}, {})
        classes, palette = self._named_classes()
        colours = colorize(scale_down(self.mask), palette)
        panels.append(notebook.Panel("mask", f"Mask of {self.name}: {self._content()}", colours))
        return notebook.make_html(repr(self), panels, notebook.shares_of(self.mask, classes),
                                  notebook.colours_of(classes, palette))

    def _content(self) -> str:
        if self.mask is None:
            return "no mask"
        return notebook.describe_shares(notebook.shares_of(self.mask, self._named_classes()[0]))

    def _named_classes(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the classes and colours; numbers and distinct colours where they are not known."""
        if self.palette is not None:
            return self.classes, self.palette
        n = max(1 + int(np.max(self.mask, initial=0, where=self.mask != _IGNORE)), 1)
        return [f"class {i}" for i in range(n)], make_palette(n)


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
