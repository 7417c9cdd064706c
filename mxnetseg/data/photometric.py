"""Transforms that change the colours of the image and leave the mask as it is."""
from __future__ import annotations

import cv2
import numpy as np

from ..errors import ConfigError
from ._transform import Arrays, at_least, between_0_and

__all__ = ["ColorJitter", "PhotometricDistortion", "RandomBlur"]

_LEAST_SIGMA = 0.1  # pixels; below this the kernel is a single 1 in 8-bit arithmetic


class RandomBlur:
    """Gaussian blur of the image, with a standard deviation from U(0, ``max_sigma``) pixels.

    Args:
        p: probability.
        max_sigma: greatest standard deviation, in pixels.
    """

    def __init__(self, *, p: float = 0.5, max_sigma: float = 1.0):
        self.p = between_0_and(1, "p", p)
        self.max_sigma = at_least("max_sigma", max_sigma, 0)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        if rng.random() >= self.p:
            return image, mask
        sigma = rng.uniform(0, self.max_sigma)
        if sigma < _LEAST_SIGMA:
            return image, mask
        return cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma), mask


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in this order; the mask stays as it is.

    Args:
        brightness, contrast, saturation: greatest relative change; 0.4 means a factor from U(0.6, 1.4).
        hue: greatest shift of the hue, as a fraction of the colour circle, at most 0.5.
    """

    def __init__(self, *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0,
                 hue: float = 0.0):
        self.brightness = between_0_and(1, "brightness", brightness)
        self.contrast = between_0_and(1, "contrast", contrast)
        self.saturation = between_0_and(1, "saturation", saturation)
        self.hue = between_0_and(0.5, "hue", hue)

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Arrays:
        brightness, contrast, saturation = (
            1 + rng.uniform(-x, x) for x in (self.brightness, self.contrast, self.saturation))
        hue_shift = rng.uniform(-self.hue, self.hue)
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            return image, mask

        x = image.astype(np.float32) * brightness
        x = (x - x.mean()) * contrast + x.mean()
        grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
        x = (x - grey) * saturation + grey
        image = np.rint(x).clip(0, 255).astype(np.uint8)

        if self.hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255, so uint8 arithmetic wraps correctly
            hsv[..., 0] += np.uint8(round(hue_shift * 256) % 256)
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
        return image, mask


class PhotometricDistortion:
    """Random change of brightness, contrast, saturation and hue.

    Each of the four changes with probability 1/2, in this order: brightness by U(-32, 32); contrast by a factor from
    U(0.5, 1.5); saturation likewise; hue by up to 18 of 180 degrees of OpenCV's circle. With probability 1/2, contrast
    comes last instead. The mask stays as it is.

    Source: SSD (Liu et al. 2016); mmsegmentation does the same.

    Args:
        brightness: greatest change of a value, 0 to 255.
        contrast, saturation: (least, greatest) factor.
        hue: greatest shift of the hue, of a circle of 180.
    """

    def __init__(self, *, brightness: float = 32.0, contrast: tuple[float, float] = (0.5, 1.5),
                 saturation: tuple[float, float] = (0.5, 1.5), hue: int = 18):
        self.brightness = between_0_and(255, "brightness", brightness)
        self.hue = between_0_and(90, "hue", hue)
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

        change_saturation, change_hue = rng.random() < 0.5, rng.random() < 0.5
        if change_saturation or change_hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in 0..179
            tables = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
            if change_saturation:
                tables[:, 1] = _to_uint8(values * rng.uniform(*self.saturation))
            if change_hue:
                tables[:180, 0] = (np.arange(180) + int(rng.integers(-self.hue, self.hue + 1))) % 180
            image = cv2.cvtColor(cv2.LUT(hsv, tables[None]), cv2.COLOR_HSV2RGB)

        if contrast_last:
            image = self._contrast(image, values, rng)
        return image, mask

    def _contrast(self, image: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.LUT(image, _to_uint8(values * rng.uniform(*self.contrast))) if rng.random() < 0.5 else image


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)
