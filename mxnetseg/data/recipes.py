"""How a training picture is augmented: as the configuration's keys say, or as one of the sources does.

What is added to a mask is IGNORE in every recipe; MXNetSeg itself adds class 0. What a source adds to an image is kept:
black, or the colour that normalisation makes 0.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Tuple

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
Size = Tuple[int, int]


def mxnetseg(*, base_size: int, crop_size: Size) -> Compose:
    """MXNetSeg's, which are GluonCV's: long side from U{0.5 base .. 2 base}, crop, flip (1/2), blur (1/2, sigma from
    U(0, 1) pixels); black padding."""
    scale, crop = RandomScale(base_size=base_size, low=0.5, high=2.0), RandomCrop(size=crop_size, color=BLACK)
    return Compose([ScaleCrop(scale=scale, crop=crop), RandomFlip(), RandomBlur(p=0.5, max_sigma=1.0)])


def flattenet(*, base_size: int, crop_size: Size) -> Compose:
    """FlatteNet's: long side base times one of 0.5, 0.6, ... 2.1, crop, flip (1/2); black padding; colours as they
    are."""
    scale = RandomScale(base_size=base_size, low=0.5, high=2.1, step=0.1)
    return Compose([ScaleCrop(scale=scale, crop=RandomCrop(size=crop_size, color=BLACK)), RandomFlip()])


def sfnet(*, base_size: int, crop_size: Size) -> Compose:
    """Those of SFNet's port to mmsegmentation: long side from 0.5 to 2 times base, a crop of which no class covers
    more than 3/4, flip (1/2), photometric distortion; padding that normalises to 0.

    mmsegmentation bounds the short side too, by half the long one on Cityscapes, where the two rules are one.
    """
    scale = RandomScale(base_size=base_size, low=0.5, high=2.0)
    crop = RandomCrop(size=crop_size, cat_max_ratio=0.75, color=None)
    return Compose([ScaleCrop(scale=scale, crop=crop), RandomFlip(), PhotometricDistortion(), Pad(size=crop_size)])


def ovenet(*, base_size: int, crop_size: Size) -> Compose:
    """Those of HRNet's code, on which OVeNet's stands, and FlatteNet's too: long side base times one of 0.5, 0.6, ...
    2.1, crop, flip (1/2); black padding; colours as they are."""
    return flattenet(base_size=base_size, crop_size=crop_size)


RECIPES: Dict[str, Callable[..., Compose]] = {
    "mxnetseg": mxnetseg, "flattenet": flattenet, "sfnet": sfnet, "ovenet": ovenet}


def make_transform(data: Data) -> Compose:
    """The training transform that the configuration's data section asks for.

    Raises:
        UnknownNameError: no such recipe.
    """
    size = tuple(data.crop_size)
    if data.recipe is not None:
        if data.recipe not in RECIPES:
            raise UnknownNameError("recipe", data.recipe, RECIPES, where="data.recipe")
        return RECIPES[data.recipe](base_size=data.base_size, crop_size=size)
    return train_transform(base_size=data.base_size, crop_size=size, scale=tuple(data.scale), flip=data.flip,
                           blur=data.blur, jitter=data.jitter, photometric=data.photometric,
                           cat_max_ratio=data.cat_max_ratio, class_uniform=data.class_uniform, rotation=data.rotation,
                           cutout=data.cutout)
