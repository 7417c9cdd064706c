"""Augmentation of an image and its mask together, in NumPy and OpenCV.

A transform is called as ``t(image, mask, rng) -> (image, mask)`` with image uint8 (H, W, 3) RGB, mask uint8 (H, W)
and a :class:`numpy.random.Generator`, the only source of randomness: the same generator state gives the same result.
Inputs are never written to. The transforms are in :mod:`mxnetseg.data.geometric` and
:mod:`mxnetseg.data.photometric`, and can be imported from here.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._transform import MEAN_COLOR, Arrays, Size, Transform
from .geometric import Cutout, Pad, RandomCrop, RandomFlip, RandomRotation, RandomScale, ScaleCrop, resize_long_side
from .photometric import ColorJitter, PhotometricDistortion, RandomBlur
from .source import Source

__all__ = ["MEAN_COLOR", "ColorJitter", "Compose", "Cutout", "Pad", "PhotometricDistortion", "RandomBlur",
           "RandomCrop", "RandomFlip", "RandomRotation", "RandomScale", "ScaleCrop", "Transform", "resize_long_side",
           "train_transform"]


class Compose:
    """Transforms, applied one after the other.

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
        """Return the same as a call with the arrays of the source; the first transform reads only what it needs.

        Raises:
            AttributeError: the first transform cannot read from a source; see :attr:`reads`.
        """
        first: Any = self.transforms[0]
        image, mask = first.read(source, rng)
        return Compose(self.transforms[1:])(image, mask, rng)

    @property
    def reads(self) -> bool:
        """Return whether the first transform accepts a source instead of arrays."""
        return bool(self.transforms) and hasattr(self.transforms[0], "read")


def train_transform(*, base_size: int, crop_size: Size, scale: tuple[float, float] = (0.5, 2.0), flip: bool = True,
                    blur: bool = True, jitter: float = 0.0, photometric: bool = False, cat_max_ratio: float = 1.0,
                    class_uniform: float = 0.0, rotation: float = 0.0, cutout: float = 0.0) -> Compose:
    """Make the usual augmentation: scale and crop, rotation, flip, then colours, blur and cutout.

    Args:
        base_size: long side in pixels at scale 1.
        crop_size: (height, width) or one number, in pixels.
        scale: least and greatest scale.
        flip: flip every other image.
        blur: blur every other image, by at most one pixel.
        jitter: greatest relative change of brightness, contrast and saturation; the hue is shifted by at most a
            quarter of it. 0 is none.
        photometric: see :class:`PhotometricDistortion`.
        cat_max_ratio, class_uniform: see :class:`RandomCrop`.
        rotation: greatest angle, in degrees, of every other image; 0 is none.
        cutout: greatest fraction of the sides that a box covers in every other image; 0 is none.

    Returns:
        A transform whose results all have the size ``crop_size``.
    """
    low, high = scale
    crop = RandomCrop(size=crop_size, cat_max_ratio=cat_max_ratio, class_uniform=class_uniform)
    steps: list[Transform] = [ScaleCrop(scale=RandomScale(base_size=base_size, low=low, high=high), crop=crop)]
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
        steps.append(Cutout(fraction=cutout))
    return Compose(steps)
