"""Augmentation of an image and its mask together, in NumPy and OpenCV.

A transform is called as ``t(image, mask, rng) -> (image, mask)`` with image uint8 (H, W, 3) RGB, mask
uint8 (H, W) and a :class:`numpy.random.Generator`, from which all chance comes: the same generator state
gives the same result. Inputs are never written to. Images are resized bilinearly, masks by nearest
neighbour, so that no label is invented; whatever is added to a mask is IGNORE.
"""
from __future__ import annotations

from typing import Callable, Sequence, Tuple, Union

import cv2
import numpy as np

from ..errors import ConfigError
from .base import IGNORE

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


class RandomScale:
    """Resize so that the long side is a random integer in ``[low * base_size, high * base_size]``.

    The aspect ratio is kept to the nearest pixel.

    Args:
        base_size: long side in pixels at scale 1.
        low, high: least and greatest scale.
    """

    def __init__(self, *, base_size: int, low: float = 0.5, high: float = 2.0):
        self.base_size = _at_least("base_size", base_size, 1)
        if not 0 < low <= high:
            raise ConfigError("the range of scales is empty or not positive", where="scale",
                              received=f"{low} to {high}", fix="give 0 < low <= high, for example 0.5 to 2.0")
        self.low, self.high = low, high

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        long_side = rng.integers(round(self.base_size * self.low), round(self.base_size * self.high) + 1)
        long_side = max(int(long_side), 1)
        return resize_long_side(image, long_side), resize_long_side(mask, long_side)


class RandomCrop:
    """Cut a window of a fixed size at a random place.

    An image smaller than the window is padded at the right and bottom first: the image with the mean
    colour, the mask with IGNORE.

    Args:
        size: (height, width) in pixels, or one number for a square.
    """

    def __init__(self, *, size: Union[int, Tuple[int, int]]):
        self.size = _height_width(size)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        height, width = self.size
        image, mask = _pad(image, MEAN_COLOR, height, width), _pad(mask, IGNORE, height, width)
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        window = slice(top, top + height), slice(left, left + width)
        return image[window], mask[window]


class RandomFlip:
    """Mirror left and right.

    Args:
        p: probability.
    """

    def __init__(self, *, p: float = 0.5):
        self.p = _share("p", p)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() < self.p:
            return image[:, ::-1], mask[:, ::-1]
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


def train_transform(*, base_size: int, crop_size: Union[int, Tuple[int, int]],
                    scale: Tuple[float, float] = (0.5, 2.0), flip: bool = True, blur: bool = True,
                    jitter: float = 0.0) -> Compose:
    """The usual augmentation: scale, crop, flip, then colour jitter and blur.

    Args:
        base_size: long side in pixels at scale 1.
        crop_size: (height, width) or one number, in pixels.
        scale: least and greatest scale.
        flip: mirror every other image.
        blur: blur every other image, by at most one pixel.
        jitter: relative change of brightness, contrast and saturation; the hue turns by a quarter of it
            at most. 0 is none.

    Returns:
        A transform whose results all have the size ``crop_size``.
    """
    low, high = scale
    steps = [RandomScale(base_size=base_size, low=low, high=high), RandomCrop(size=crop_size)]
    if flip:
        steps.append(RandomFlip())
    if jitter:
        steps.append(ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter, hue=jitter / 4))
    if blur:
        steps.append(RandomBlur())
    return Compose(steps)


def resize_long_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a long side of ``size`` pixels, keeping the aspect ratio to the nearest pixel.

    Args:
        image: uint8 (H, W, 3), resized bilinearly, or uint8 (H, W), a mask, resized by nearest neighbour.
        size: pixels, at least 1.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    if scale == 1:
        return image
    # NEAREST_EXACT samples at pixel centres, as LINEAR does; plain NEAREST would shift the mask
    interpolation = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST_EXACT
    target = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(image, target, interpolation=interpolation)


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
