"""Class names drawn on the regions of a class map."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..errors import UsageError
from .palette import as_class_map, as_image, background_ids
from .sheet import scale_down
from .text import Label, label, type_size

_SMALLER = (1.0, 0.8, 0.65)  # sizes that are tried, over the usual one
_SMALLEST = 10  # pixels, the smallest size of type that is drawn
_SEARCHED = 1024  # pixels, the longest side at which places are searched
_MARGIN = 2  # pixels between a name and the border of its region


class PlacedName(NamedTuple):
    """A name in its place.

    Attributes:
        class_id: index of the class.
        label: text and font.
        box: left, top, right, bottom of the drawn text with its outline, in pixels; the last two are excluded.
    """

    class_id: int
    label: Label
    box: tuple[int, int, int, int]

    @property
    def outline(self) -> int:
        """Width of the outline of the letters in pixels."""
        return _outline(self.label)


def draw_names(image: np.ndarray, class_map: np.ndarray, classes: Sequence[str], *, ignore: int = 255) -> np.ndarray:
    """Write the name of its class on each connected region that has room for it.

    Each name lies within its region, so that no two overlap. The background, see
    :func:`~mxnetseg.viz.palette.background_ids`, gets none. Letters are black or white, whichever differs more from
    what is below, with an outline in the other.

    Args:
        image: (H, W, 3) uint8 RGB, for example an overlay.
        class_map: (H, W) integers, 0 to n-1 or ``ignore``.
        classes: n names.
        ignore: the value of pixels without a class.

    Returns:
        (H, W, 3) uint8 RGB; the arguments are not changed.

    Raises:
        UsageError: image and class map differ in size, or one of them is invalid.
    """
    image = as_image(image)
    if image.shape[:2] != np.shape(class_map):
        raise UsageError("image and class map differ in size",
                         received=f"image {image.shape[:2]}, class map {np.shape(class_map)}")
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    for name in place_names(class_map, classes, ignore=ignore):
        left, top, right, bottom = name.box
        is_dark = image[top:bottom, left:right].mean(axis=(0, 1)) @ (0.299, 0.587, 0.114) < 128
        letters, outline = ((255, 255, 255), (0, 0, 0)) if is_dark else ((0, 0, 0), (255, 255, 255))
        x, y, _, _ = _bounds(name.label)
        draw.text((left - x, top - y), name.label.text, font=name.label.font, fill=letters,
                  stroke_width=name.outline, stroke_fill=outline)
    return np.array(drawn)


def place_names(class_map: np.ndarray, classes: Sequence[str], *, ignore: int = 255) -> Iterator[PlacedName]:
    """Yield a name for each connected region that can hold it, in the order of the classes.

    Of the places where the whole text lies within the region, it is the one whose centre is farthest from the region's
    border. A smaller type is tried before a region stays without a name. Large maps are searched at a reduced size, in
    which a box is a pixel larger on each side.

    Args:
        class_map: (H, W) integers, 0 to n-1 or ``ignore``.
        classes: n names.
        ignore: the value of pixels without a class.
    """
    class_map = as_class_map(class_map, len(classes), ignore)
    usual = type_size(class_map.shape[1])
    sizes = sorted({max(round(usual * factor), _SMALLEST) for factor in _SMALLER}, reverse=True)
    small = scale_down(class_map, _SEARCHED)
    factor = max(class_map.shape) / max(small.shape)
    slack = 0 if factor == 1 else 1
    unnamed = {ignore, *background_ids(classes)}
    for class_id in np.unique(small).tolist():
        if class_id in unnamed:
            continue
        labels = [label(classes[class_id], class_id, size) for size in sizes]
        rooms = [_room(one) for one in labels]
        boxes = [tuple(math.ceil(side / factor) + 2 * slack for side in room) for room in rooms]
        for inside, left, top in _regions(small == class_id, *boxes[-1]):
            for one, room, box in zip(labels, rooms, boxes):
                centre = _roomiest(inside, *box)
                if centre is not None:
                    x, y = (round((offset + position + 0.5) * factor - side / 2)
                            for offset, position, side in zip((left, top), centre, room))
                    yield PlacedName(class_id, one, (x + _MARGIN, y + _MARGIN, x + room[0] - _MARGIN,
                                                     y + room[1] - _MARGIN))
                    break


def _regions(of_class: np.ndarray, width: int, height: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the connected regions that may hold a box: the region, bool (h, w), and its left and top edge.

    Args:
        of_class: (H, W) bool.
        width, height: of the box.
    """
    pixels = of_class.view(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=4)
    is_large = (stats[:, 2] >= width) & (stats[:, 3] >= height) & (stats[:, 4] >= width * height)
    distance = cv2.distanceTransform(np.pad(pixels, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    for number in np.unique(regions[distance >= min(width, height) / 2]).tolist():
        left, top, w, h, _ = stats[number].tolist()
        if number and is_large[number]:  # 0 is what belongs to other classes
            yield regions[top:top + h, left:left + w] == number, left, top


def _roomiest(inside: np.ndarray, width: int, height: int) -> tuple[float, float] | None:
    """Return the centre (x, y) of the box within a region that is farthest from the region's border.

    Args:
        inside: (H, W) bool, the region.
        width, height: of the box.

    Returns:
        None if the box fits nowhere.
    """
    region = np.pad(inside, 1).view(np.uint8)  # what lies beyond the image is no part of the region
    covered = cv2.boxFilter(region, cv2.CV_32S, (width, height), normalize=False, borderType=cv2.BORDER_CONSTANT)
    fits = covered == width * height
    if not fits.any():
        return None
    distance = cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(np.where(fits, distance, -1).argmax(), fits.shape)
    # the box covers `width` columns from x - width // 2 on, in the padded region
    return int(x) - 1 - width // 2 + (width - 1) / 2, int(y) - 1 - height // 2 + (height - 1) / 2


def _bounds(one: Label) -> tuple[int, int, int, int]:
    return one.font.getbbox(one.text, stroke_width=_outline(one))


def _outline(one: Label) -> int:
    return max(1, round(one.font.size / 9))


def _room(one: Label) -> tuple[int, int]:
    """Return width and height that a text with its outline and margin needs."""
    left, top, right, bottom = _bounds(one)
    return right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
