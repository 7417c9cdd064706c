"""Transforms that move or cover pixels, in the image and in the mask alike.

Images are resized bilinearly, masks by nearest neighbour, so that no label is invented; every pixel that a transform
adds to a mask is IGNORE.
"""
from __future__ import annotations

import cv2
import numpy as np

from ..errors import ConfigError
from ._transform import MEAN_COLOR, Arrays, Color, Size, at_least, between_0_and, height_width
from .decoding import IGNORE
from .source import ArraySource, Source, resize

__all__ = ["Cutout", "Pad", "RandomCrop", "RandomFlip", "RandomRotation", "RandomScale", "ScaleCrop",
           "resize_long_side"]

_LARGEST_REDUCTION = 8  # JPEG files are decoded at 1/2, 1/4 or 1/8 of their size
_CROP_TRIALS = 10


class RandomScale:
    """Resize so that the long side is a random integer in ``[low * base_size, high * base_size]``.

    The aspect ratio is kept to the nearest pixel.

    Args:
        base_size: long side in pixels at scale 1.
        low, high: least and greatest scale.
        step: draw only from low, low + step, ...; None draws every long side of the range with equal probability.
    """

    def __init__(self, *, base_size: int, low: float = 0.5, high: float = 2.0, step: float | None = None):
        self.base_size = at_least("base_size", base_size, 1)
        if not 0 < low <= high:
            raise ConfigError("the range of scales is empty or not positive", where="scale",
                              received=f"{low} to {high}", fix="give 0 < low <= high, for example 0.5 to 2.0")
        if step is not None and not step > 0:
            raise ConfigError("the step between scales must be > 0", where="step", received=step, fix="for example 0.1")
        self.low, self.high, self.step = low, high, step

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a long side, in pixels."""
        if self.step is None:
            drawn = rng.integers(round(self.base_size * self.low), round(self.base_size * self.high) + 1)
        else:
            count = int((self.high - self.low) / self.step + 1e-6) + 1
            drawn = round(self.base_size * (self.low + self.step * int(rng.integers(count))))
        return max(int(drawn), 1)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        long_side = self.draw(rng)
        return resize_long_side(image, long_side), resize_long_side(mask, long_side)


class RandomCrop:
    """Cut a window of a fixed size at a random place.

    An image smaller than the window is padded, see :class:`Pad`.

    Args:
        size: (height, width) in pixels, or one number for a square.
        cat_max_ratio: a window in which one class covers more than this fraction of the labelled pixels, or in which
            only one class is labelled, is drawn again, ten times at most (mmsegmentation's rule). 1 accepts any window.
        class_uniform: probability that the window is placed on a class instead: a class of the image is drawn, each
            with equal probability, then one of its pixels, so that rare classes are seen more often. (Zhu et al.,
            CVPR 2019, draw the class from the whole data set, and then an image that contains it.)
        color: RGB of the padding; None does not pad, so that smaller images stay smaller.
    """

    def __init__(self, *, size: Size, cat_max_ratio: float = 1.0, class_uniform: float = 0.0,
                 color: Color | None = MEAN_COLOR):
        self.size = height_width(size)
        self.cat_max_ratio = between_0_and(1, "cat_max_ratio", cat_max_ratio)
        self.class_uniform = between_0_and(1, "class_uniform", class_uniform)
        self.pad = _unchanged if color is None else Pad(size=size, color=color)

    def place(self, source: Source, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw top and left of a window of ``height`` x ``width`` inside the source."""
        rows, columns = source.size[0] - height, source.size[1] - width
        if not rows and not columns:
            return 0, 0

        if self.class_uniform and rng.random() < self.class_uniform:
            point = _point_of_a_class(source.ids(slice(None), slice(None)), rng)
            if point is not None:
                top, left = (int(rng.integers(max(at - side + 1, 0), min(at, most) + 1))
                             for at, side, most in zip(point, (height, width), (rows, columns)))
                return top, left

        for _ in range(_CROP_TRIALS):
            top, left = int(rng.integers(rows + 1)), int(rng.integers(columns + 1))
            if self.cat_max_ratio == 1 or \
                    self._is_mixed(source.ids(slice(top, top + height), slice(left, left + width))):
                break
        return top, left

    def _is_mixed(self, ids: np.ndarray) -> bool:
        counts = np.bincount(ids.ravel(), minlength=IGNORE + 1)[:IGNORE]
        return np.count_nonzero(counts) > 1 and counts.max() < counts.sum() * self.cat_max_ratio

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        height, width = map(min, self.size, mask.shape)
        top, left = self.place(ArraySource(image, mask), height, width, rng)
        window = slice(top, top + height), slice(left, left + width)
        return self.pad(image[window], mask[window], rng)


class ScaleCrop:
    """:class:`RandomScale` and :class:`RandomCrop` in one: the window is chosen first, and only it is resized.

    The window is a whole number of the source's pixels, so that the aspect ratio changes by half a pixel of its
    sides at most, equally in image and mask. Given files instead of arrays (:meth:`read`), only what the window needs
    is decoded.

    Args:
        scale: draws the long side.
        crop: chooses the window and pads.
    """

    def __init__(self, *, scale: RandomScale, crop: RandomCrop):
        self.scale, self.crop = scale, crop

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        return self.read(ArraySource(image, mask), rng)

    def read(self, source: Source, rng: np.random.Generator) -> Arrays:
        """Cut the window from a source that need not be decoded yet."""
        scale = self.scale.draw(rng) / max(source.size)
        # images can be decoded at 1/2, 1/4 or 1/8 of their size: windows are whole pixels there too
        grid = 1
        while grid < _LARGEST_REDUCTION and scale * grid * 2 <= 1:
            grid *= 2

        box, target = zip(*(_window(side, crop, scale, grid) for side, crop in zip(source.size, self.crop.size)))
        top, left = (at // grid * grid for at in self.crop.place(source, box[0], box[1], rng))
        window = slice(top, top + box[0]), slice(left, left + box[1])
        mask = source.labels(*window, target)
        return self.crop.pad(source.image(*window, target), mask, rng)


class Pad:
    """Add pixels at the right and bottom until a size is reached: a colour in the image, IGNORE in the mask.

    Args:
        size: (height, width) in pixels, or one number for a square; a larger image stays as it is.
        color: RGB.
    """

    def __init__(self, *, size: Size, color: Color = MEAN_COLOR):
        self.size, self.color = height_width(size), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        return _pad(image, self.color, *self.size), _pad(mask, IGNORE, *self.size)


class RandomFlip:
    """Flip left and right.

    Args:
        p: probability.
    """

    def __init__(self, *, p: float = 0.5):
        self.p = between_0_and(1, "p", p)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() < self.p:
            return cv2.flip(image, 1), cv2.flip(mask, 1)
        return image, mask


class RandomRotation:
    """Rotate about the centre by an angle from U(-``degrees``, ``degrees``); the size stays.

    Corners that the image does not cover are IGNORE in the mask and have a colour in the image.

    Args:
        degrees: greatest angle, 0 to 180.
        p: probability.
        color: RGB of the corners.
    """

    def __init__(self, *, degrees: float = 10.0, p: float = 0.5, color: Color = MEAN_COLOR):
        self.degrees = between_0_and(180, "degrees", degrees)
        self.p, self.color = between_0_and(1, "p", p), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        height, width = mask.shape
        centre = (width - 1) / 2, (height - 1) / 2
        matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-self.degrees, self.degrees), 1)
        return (cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=self.color),
                cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE))


class Cutout:
    """Cover one box (DeVries & Taylor 2017): a colour in the image, IGNORE in the mask.

    Args:
        fraction: greatest height and width of the box, as a fraction of the image's; each is drawn from
            U(0, ``fraction``).
        p: probability.
        color: RGB of the box.
    """

    def __init__(self, *, fraction: float = 0.3, p: float = 0.5, color: Color = MEAN_COLOR):
        self.fraction = between_0_and(1, "fraction", fraction)
        self.p, self.color = between_0_and(1, "p", p), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        box = []
        for side in mask.shape:
            length = round(side * rng.uniform(0, self.fraction))
            first = int(rng.integers(side - length + 1))
            box.append(slice(first, first + length))
        image, mask = image.copy(), mask.copy()
        image[tuple(box)], mask[tuple(box)] = self.color, IGNORE
        return image, mask


def resize_long_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a long side of ``size`` pixels, keeping the aspect ratio to the nearest pixel.

    Args:
        image: uint8 (H, W, 3), resized bilinearly, or uint8 (H, W), a mask, resized by nearest neighbour.
        size: pixels, at least 1.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return resize(image, (max(round(height * scale), 1), max(round(width * scale), 1)))


def _window(side: int, crop: int, scale: float, grid: int) -> tuple[int, int]:
    """Return, for one axis, the length of the window in the source and the length that it is resized to.

    Args:
        side: length of the source, in pixels.
        crop: length of the crop, in pixels.
        scale: from source to crop.
        grid: the window's length is a multiple of it, unless the source is smaller.
    """
    length = max(round(crop / scale / grid), 1) * grid
    if length <= side:
        return length, crop
    length = max(side // grid, 1) * grid if side >= grid else side
    return length, min(max(round(length * scale), 1), crop)


def _point_of_a_class(ids: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Draw a class of ``ids``, each with equal probability, and row and column of one of its pixels.

    None if every pixel is ignored.
    """
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=IGNORE + 1)[:IGNORE])
    if not present.size:
        return None
    places = np.flatnonzero(ids.ravel() == rng.choice(present))
    return divmod(int(rng.choice(places)), ids.shape[1])


def _unchanged(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
    return image, mask


def _pad(array: np.ndarray, value: int | Color, height: int, width: int) -> np.ndarray:
    """Pad at the right and bottom to at least ``height`` x ``width``."""
    down, right = max(height - array.shape[0], 0), max(width - array.shape[1], 0)
    if not down and not right:
        return array
    return cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_CONSTANT, value=value)
