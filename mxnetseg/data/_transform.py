"""Types and argument checks that the transforms share."""
from __future__ import annotations

from typing import Callable, TypeVar, Union

import numpy as np

from ..errors import ConfigError

MEAN_COLOR = (124, 116, 104)  # the mean of ImageNet: padding in it is about 0 after normalisation

Arrays = tuple[np.ndarray, np.ndarray]  # image uint8 (H, W, 3), mask uint8 (H, W)
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], Arrays]
Color = tuple[int, int, int]
Size = Union[int, tuple[int, int]]  # (height, width), or one number for a square

Number = TypeVar("Number", int, float)


def height_width(size: Size) -> tuple[int, int]:
    """Return a size as (height, width), each at least 1; a ConfigError otherwise."""
    pair = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(pair) != 2:
        raise ConfigError("a crop size is one number or (height, width)", where="crop_size", received=size,
                          fix="for example 480, or [360, 480]")
    return at_least("crop_size", pair[0], 1), at_least("crop_size", pair[1], 1)


def at_least(name: str, value: Number, least: Number) -> Number:
    """Return a value that is ``least`` or more; a ConfigError otherwise."""
    if not value >= least:
        raise ConfigError(f"{name} is too small", where=name, received=value, fix=f"give at least {least}")
    return value


def between_0_and(most: float, name: str, value: float) -> float:
    """Return a value from 0 to ``most``; a ConfigError otherwise."""
    if not 0 <= value <= most:
        raise ConfigError(f"{name} is out of range", where=name, received=value, fix=f"give 0 to {most:g}")
    return value
