"""Recipes of augmentation: from the keys of the configuration, or the same as in one of the sources.

Padding of a mask is IGNORE in every recipe (MXNetSeg itself pads with class 0). Padding of an image is the same as in
the source: black, or the colour that becomes 0 after normalisation.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from ..errors import UnknownNameError
from .transforms import (
    Compose,
    Pad,
    PhotometricDistortion,
    RandomBlur,
    RandomCrop,
    RandomFlip,
    RandomScale,
    ScaleCrop,
    train_transform,
)

if TYPE_CHECKING:
    from ..config.schema import Data

BLACK = (0, 0, 0)
Size = tuple[int, int]


def mxnetseg(*, base_size: int, crop_size: Size) -> Compose:
    """Make the augmentation of MXNetSeg and GluonCV.

    Long side from U{0.5 base .. 2 base}, crop, flip (1/2), blur (1/2, sigma from U(0, 1) pixels); black padding.
    """
    scale, crop = RandomScale(base_size=base_size, low=0.5, high=2.0), RandomCrop(size=crop_size, color=BLACK)
    return Compose([ScaleCrop(scale=scale, crop=crop), RandomFlip(), RandomBlur(p=0.5, max_sigma=1.0)])


def flattenet(*, base_size: int, crop_size: Size) -> Compose:
    """Make the augmentation of FlatteNet.

    Long side base times one of 0.5, 0.6, ... 2.1, crop, flip (1/2); black padding; colours as they are.
    """
    scale = RandomScale(base_size=base_size, low=0.5, high=2.1, step=0.1)
    return Compose([ScaleCrop(scale=scale, crop=RandomCrop(size=crop_size, color=BLACK)), RandomFlip()])


def sfnet(*, base_size: int, crop_size: Size) -> Compose:
    """Make the augmentation of SFNet's port to mmsegmentation.

    Long side from 0.5 to 2 times base, a crop in which no class covers more than 3/4, flip (1/2), photometric
    distortion; padding that becomes 0 after normalisation.

    mmsegmentation also limits the short side, on Cityscapes to half the long side, where both rules agree.
    """
    scale = RandomScale(base_size=base_size, low=0.5, high=2.0)
    crop = RandomCrop(size=crop_size, cat_max_ratio=0.75, color=None)
    return Compose([ScaleCrop(scale=scale, crop=crop), RandomFlip(), PhotometricDistortion(), Pad(size=crop_size)])


def ovenet(*, base_size: int, crop_size: Size) -> Compose:
    """Make the augmentation of HRNet's code, which OVeNet and FlatteNet use; see :func:`flattenet`."""
    return flattenet(base_size=base_size, crop_size=crop_size)


RECIPES: dict[str, Callable[..., Compose]] = {
    "mxnetseg": mxnetseg, "flattenet": flattenet, "sfnet": sfnet, "ovenet": ovenet}


def make_transform(data: Data) -> Compose:
    """Make the training transform that the section ``data`` of a configuration describes.

    Raises:
        UnknownNameError: no such recipe.
    """
    size = data.crop_size
    if data.recipe is not None:
        if data.recipe not in RECIPES:
            raise UnknownNameError("recipe", data.recipe, RECIPES, where="data.recipe")
        return RECIPES[data.recipe](base_size=data.base_size, crop_size=size)
    return train_transform(base_size=data.base_size, crop_size=size, scale=data.scale, flip=data.flip,
                           blur=data.blur, jitter=data.jitter, photometric=data.photometric,
                           cat_max_ratio=data.cat_max_ratio, class_uniform=data.class_uniform, rotation=data.rotation,
                           cutout=data.cutout)
