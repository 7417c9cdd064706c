"""Augmentation of an image and its mask together, in NumPy and OpenCV.

A transform is called as ``t(image, mask, rng) -> (image, mask)`` with image uint8 (H, W, 3) RGB, mask
uint8 (H, W) and a :class:`numpy.random.Generator`, from which all chance comes: the same generator state
gives the same result. Inputs are never written to. Images are resized bilinearly, masks by nearest
neighbour, so that no label is invented; whatever is added to a mask is IGNORE.
"""
from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from ..errors import ConfigError
from .base import IGNORE
from .source import ArraySource, Source, resize

MEAN_COLOR = (124, 116, 104)  # ImageNet's mean: padding in it is about 0 after normalisation

Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], Tuple[np.ndarray, np.ndarray]]
Arrays = Tuple[np.ndarray, np.ndarray]


class Compose:
    """One transform after the other.

    Args:
        transforms: in the order of their application.
    """

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = tuple(transforms)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        for transform in self.transforms:
            image, mask = transform(image, mask, rng)
        return image, mask

    def read(self, source: Source, rng: np.random.Generator) -> Arrays:
        """As calling it with the arrays of the source, of which the first transform reads only what it needs.

        Raises:
            AttributeError: the first transform cannot read; see :attr:`reads`.
        """
        image, mask = self.transforms[0].read(source, rng)
        return Compose(self.transforms[1:])(image, mask, rng)

    @property
    def reads(self) -> bool:
        """Whether the first transform takes a source instead of arrays."""
        return bool(self.transforms) and hasattr(self.transforms[0], "read")


class RandomScale:
    """Resize so that the long side is a random integer in ``[low * base_size, high * base_size]``.

    The aspect ratio is kept to the nearest pixel.

    Args:
        base_size: long side in pixels at scale 1.
        low, high: least and greatest scale.
        step: draw only from low, low + step, ...; None draws every long side between equally often.
    """

    def __init__(self, *, base_size: int, low: float = 0.5, high: float = 2.0, step: Optional[float] = None):
        self.base_size = _at_least("base_size", base_size, 1)
        if not 0 < low <= high:
            raise ConfigError("the range of scales is empty or not positive", where="scale",
                              received=f"{low} to {high}", fix="give 0 < low <= high, for example 0.5 to 2.0")
        if step is not None and not step > 0:
            raise ConfigError("a step between scales is above 0", where="step", received=step, fix="for example 0.1")
        self.low, self.high, self.step = low, high, step

    def draw(self, rng: np.random.Generator) -> int:
        """A long side, in pixels."""
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
        cat_max_ratio: a window of which one class covers more than this share of the pixels that count, or in which
            only one class counts, is drawn again, ten times at most (mmsegmentation's rule). 1 takes any.
        class_uniform: probability that the window is placed on a class instead: one of those in the image, each
            equally often, and on one of its pixels, so that rare classes are seen more. (Zhu et al., CVPR 2019, draw
            the class from the whole data set, and then an image that has it.)
        color: RGB of the padding; None does not pad, so that smaller images stay smaller.
    """

    def __init__(self, *, size: Union[int, Tuple[int, int]], cat_max_ratio: float = 1.0, class_uniform: float = 0.0,
                 color: Optional[Tuple[int, int, int]] = MEAN_COLOR):
        self.size = _height_width(size)
        self.cat_max_ratio = _share("cat_max_ratio", cat_max_ratio)
        self.class_uniform = _share("class_uniform", class_uniform)
        self.pad = Compose([]) if color is None else Pad(size=size, color=color)

    def place(self, source: Source, height: int, width: int, rng: np.random.Generator) -> Tuple[int, int]:
        """Top and left of a window of ``height`` x ``width`` inside the source."""
        rows, columns = source.size[0] - height, source.size[1] - width
        if not rows and not columns:
            return 0, 0
        if self.class_uniform and rng.random() < self.class_uniform:
            point = _point_of_a_class(source.ids(slice(None), slice(None)), rng)
            if point is not None:
                return tuple(int(rng.integers(max(at - side + 1, 0), min(at, most) + 1))
                             for at, side, most in zip(point, (height, width), (rows, columns)))
        for _ in range(10):
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
        """The window, from a source that may not have been decoded yet."""
        scale = self.scale.draw(rng) / max(source.size)
        # pictures can be decoded at 1/2, 1/4 or 1/8: windows are whole there too
        grid = 1
        while grid < 8 and scale * grid * 2 <= 1:
            grid *= 2
        box, target = zip(*(_window(side, crop, scale, grid) for side, crop in zip(source.size, self.crop.size)))
        top, left = (at // grid * grid for at in self.crop.place(source, *box, rng))
        window = slice(top, top + box[0]), slice(left, left + box[1])
        mask = source.labels(*window, target)
        return self.crop.pad(source.image(*window, target), mask, rng)


class Pad:
    """Add pixels at the right and bottom until a size is reached: a colour in the image, IGNORE in the mask.

    Args:
        size: (height, width) in pixels, or one number for a square; what is larger stays.
        color: RGB.
    """

    def __init__(self, *, size: Union[int, Tuple[int, int]], color: Tuple[int, int, int] = MEAN_COLOR):
        self.size, self.color = _height_width(size), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        return _pad(image, self.color, *self.size), _pad(mask, IGNORE, *self.size)


class RandomFlip:
    """Mirror left and right.

    Args:
        p: probability.
    """

    def __init__(self, *, p: float = 0.5):
        self.p = _share("p", p)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() < self.p:
            return cv2.flip(image, 1), cv2.flip(mask, 1)
        return image, mask


class RandomRotation:
    """Turn about the centre by an angle from U(-``degrees``, ``degrees``); the size stays.

    Corners that come in from outside are IGNORE in the mask and have a colour in the image.

    Args:
        degrees: greatest angle, 0 to 180.
        p: probability.
        color: RGB of the corners.
    """

    def __init__(self, *, degrees: float = 10.0, p: float = 0.5, color: Tuple[int, int, int] = MEAN_COLOR):
        self.degrees = _share("degrees", degrees, most=180)
        self.p, self.color = _share("p", p), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        height, width = mask.shape
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-self.degrees, self.degrees), 1)
        return (cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=self.color),
                cv2.warpAffine(mask, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE))


class Cutout:
    """Cover one box (DeVries & Taylor 2017): a colour in the image, IGNORE in the mask.

    Args:
        share: greatest height and width of the box, over those of the image; each is drawn from U(0, ``share``).
        p: probability.
        color: RGB of the box.
    """

    def __init__(self, *, share: float = 0.3, p: float = 0.5, color: Tuple[int, int, int] = MEAN_COLOR):
        self.share, self.p, self.color = _share("share", share), _share("p", p), color

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        box = []
        for side in mask.shape:
            length = round(side * rng.uniform(0, self.share))
            first = int(rng.integers(side - length + 1))
            box.append(slice(first, first + length))
        image, mask = image.copy(), mask.copy()
        image[tuple(box)], mask[tuple(box)] = self.color, IGNORE
        return image, mask


class RandomBlur:
    """Gaussian blur of the image, with a standard deviation from U(0, ``max_sigma``) pixels.

    Args:
        p: probability.
        max_sigma: greatest standard deviation, in pixels.
    """

    def __init__(self, *, p: float = 0.5, max_sigma: float = 1.0):
        self.p = _share("p", p)
        self.max_sigma = _at_least("max_sigma", max_sigma, 0)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        sigma = rng.uniform(0, self.max_sigma)
        if sigma < 0.1:  # below this the kernel is a single 1 in 8-bit arithmetic
            return image, mask
        return cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma), mask


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in this order; the mask stays as it is.

    Args:
        brightness, contrast, saturation: greatest relative change; 0.4 means a factor from U(0.6, 1.4).
        hue: greatest turn of the colour circle, as a share of it, at most 0.5.
    """

    def __init__(self, *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0,
                 hue: float = 0.0):
        self.brightness = _share("brightness", brightness)
        self.contrast = _share("contrast", contrast)
        self.saturation = _share("saturation", saturation)
        self.hue = _share("hue", hue, most=0.5)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        brightness, contrast, saturation = (
            1 + rng.uniform(-x, x) for x in (self.brightness, self.contrast, self.saturation))
        turn = rng.uniform(-self.hue, self.hue)
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            return image, mask
        x = image.astype(np.float32) * brightness
        x = (x - x.mean()) * contrast + x.mean()
        grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
        x = (x - grey) * saturation + grey
        image = np.rint(x).clip(0, 255).astype(np.uint8)
        if self.hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255, so uint8 wraps as it should
            hsv[..., 0] += np.uint8(round(turn * 256) % 256)
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
        return image, mask


class PhotometricDistortion:
    """Brightness, contrast, saturation and hue, each changed in every second image, as SSD does (Liu et al. 2016)
    and mmsegmentation after it.

    In this order: brightness by U(-32, 32); contrast by a factor from U(0.5, 1.5); saturation likewise; hue by up to
    18 of 180 degrees of OpenCV's circle. In every second image contrast comes last instead. The mask stays.

    Args:
        brightness: greatest change of a value, 0 to 255.
        contrast, saturation: (least, greatest) factor.
        hue: greatest turn, of a circle of 180.
    """

    def __init__(self, *, brightness: float = 32.0, contrast: Tuple[float, float] = (0.5, 1.5),
                 saturation: Tuple[float, float] = (0.5, 1.5), hue: int = 18):
        self.brightness = _share("brightness", brightness, most=255)
        self.hue = _share("hue", hue, most=90)
        for name, (low, high) in (("contrast", contrast), ("saturation", saturation)):
            if not 0 <= low <= high:
                raise ConfigError("a range of factors is empty or negative", where=name, received=f"{low} to {high}",
                                  fix="for example 0.5 to 1.5")
        self.contrast, self.saturation = contrast, saturation

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        values = np.arange(256, dtype=np.float32)
        if rng.random() < 0.5:
            image = cv2.LUT(image, _to_uint8(values + rng.uniform(-self.brightness, self.brightness)))
        contrast_last = rng.random() < 0.5
        if not contrast_last:
            image = self._contrast(image, values, rng)
        saturate, turn = rng.random() < 0.5, rng.random() < 0.5
        if saturate or turn:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in 0..179
            tables = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
            if saturate:
                tables[:, 1] = _to_uint8(values * rng.uniform(*self.saturation))
            if turn:
                tables[:180, 0] = (np.arange(180) + int(rng.integers(-self.hue, self.hue + 1))) % 180
            image = cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2RGB)
        if contrast_last:
            image = self._contrast(image, values, rng)
        return image, mask

    def _contrast(self, image: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.LUT(image, _to_uint8(values * rng.uniform(*self.contrast))) if rng.random() < 0.5 else image


def train_transform(*, base_size: int, crop_size: Union[int, Tuple[int, int]],
                    scale: Tuple[float, float] = (0.5, 2.0), flip: bool = True, blur: bool = True,
                    jitter: float = 0.0, photometric: bool = False, cat_max_ratio: float = 1.0,
                    class_uniform: float = 0.0, rotation: float = 0.0, cutout: float = 0.0) -> Compose:
    """The usual augmentation: scale and crop, turn, flip, then colours, blur and cutout.

    Args:
        base_size: long side in pixels at scale 1.
        crop_size: (height, width) or one number, in pixels.
        scale: least and greatest scale.
        flip: mirror every other image.
        blur: blur every other image, by at most one pixel.
        jitter: relative change of brightness, contrast and saturation; the hue turns by a quarter of it
            at most. 0 is none.
        photometric: see :class:`PhotometricDistortion`.
        cat_max_ratio, class_uniform: see :class:`RandomCrop`.
        rotation: greatest angle, in degrees, of every other image; 0 is none.
        cutout: greatest share of the sides that a box covers in every other image; 0 is none.

    Returns:
        A transform whose results all have the size ``crop_size``.
    """
    low, high = scale
    crop = RandomCrop(size=crop_size, cat_max_ratio=cat_max_ratio, class_uniform=class_uniform)
    steps: List[Transform] = [ScaleCrop(scale=RandomScale(base_size=base_size, low=low, high=high), crop=crop)]
    if rotation:
        steps.append(RandomRotation(degrees=rotation))
    if flip:
        steps.append(RandomFlip())
    if jitter:
        steps.append(ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter, hue=jitter / 4))
    if photometric:
        steps.append(PhotometricDistortion())
    if blur:
        steps.append(RandomBlur())
    if cutout:
        steps.append(Cutout(share=cutout))
    return Compose(steps)


def resize_long_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a long side of ``size`` pixels, keeping the aspect ratio to the nearest pixel.

    Args:
        image: uint8 (H, W, 3), resized bilinearly, or uint8 (H, W), a mask, resized by nearest neighbour.
        size: pixels, at least 1.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return resize(image, (max(round(height * scale), 1), max(round(width * scale), 1)))


def _window(side: int, crop: int, scale: float, grid: int) -> Tuple[int, int]:
    """Of one axis: the window's length in the source, and the length it is resized to.

    Args:
        side: of the source, in pixels.
        crop: of the crop.
        scale: from source to crop.
        grid: the window's length is a multiple of it, where the source is not smaller.
    """
    length = max(round(crop / scale / grid), 1) * grid
    if length <= side:
        return length, crop
    length = max(side // grid, 1) * grid if side >= grid else side
    return length, min(max(round(length * scale), 1), crop)


def _point_of_a_class(ids: np.ndarray, rng: np.random.Generator) -> Optional[Tuple[int, int]]:
    """Row and column of a pixel of a class, each class of ``ids`` equally often; None if nothing counts."""
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=IGNORE + 1)[:IGNORE])
    if not present.size:
        return None
    places = np.flatnonzero(ids.ravel() == rng.choice(present))
    return divmod(int(rng.choice(places)), ids.shape[1])


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def _pad(array: np.ndarray, value: Union[int, Tuple[int, ...]], height: int, width: int) -> np.ndarray:
    """Pad at the right and bottom to at least ``height`` x ``width``."""
    down, right = max(height - array.shape[0], 0), max(width - array.shape[1], 0)
    if not down and not right:
        return array
    return cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_CONSTANT, value=value)


def _height_width(size: Union[int, Tuple[int, int]]) -> Tuple[int, int]:
    pair = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(pair) != 2:
        raise ConfigError("a crop size is one number or (height, width)", where="crop_size", received=size,
                          fix="for example 480, or [360, 480]")
    return _at_least("crop_size", pair[0], 1), _at_least("crop_size", pair[1], 1)


def _at_least(name: str, value, least):
    if not value >= least:
        raise ConfigError(f"{name} is too small", where=name, received=value, fix=f"give at least {least}")
    return value


def _share(name: str, value: float, most: float = 1.0) -> float:
    if not 0 <= value <= most:
        raise ConfigError(f"{name} is out of range", where=name, received=value, fix=f"give 0 to {most:g}")
    return value
