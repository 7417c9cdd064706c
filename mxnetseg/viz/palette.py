"""Colours for classes; class maps and pictures as PNG files, each written atomically."""
from __future__ import annotations

from typing import Sequence, Tuple, Union

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..files import PathLike, atomic_write

BLACK = (0, 0, 0)
Palette = Union[np.ndarray, Sequence[Sequence[int]]]


def make_palette(n: int) -> np.ndarray:
    """Colours for ``n`` classes that look as different from one another as can be.

    Each colour is the one farthest, in the perceptual space OKLab, from all colours before it and
    from black (which marks ignored pixels). Very light, very dark, grey and glaring ones are left
    out. ``make_palette(n)`` begins with ``make_palette(m)`` for m < n: adding a class recolours none.

    Args:
        n: number of classes, 1 to 255.

    Returns:
        (n, 3) uint8, RGB.

    Raises:
        UsageError: ``n`` out of range.
    """
    if not 1 <= n <= 255:
        raise UsageError("a palette has 1 to 255 colours", received=f"n={n}")
    levels = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    usable = (lightness > 0.38) & (lightness < 0.88) & (chroma > 0.07) & (chroma < 0.20)
    candidates, lab = candidates[usable], lab[usable]

    def distance_to(colour):
        return ((lab - colour) ** 2).sum(axis=1)

    nearest = distance_to(_oklab(np.array(BLACK)))
    chosen = []
    for _ in range(n):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distance_to(lab[chosen[-1]]))
    return candidates[chosen].astype(np.uint8)


def colorize(class_map: np.ndarray, palette: Palette, *, ignore: int = 255,
             ignore_colour: Tuple[int, int, int] = BLACK) -> np.ndarray:
    """A class map in colours.

    Args:
        class_map: (H, W) integers, 0 to n-1 or ``ignore``.
        palette: (n, 3) RGB, 0 to 255: the colour of each class.
        ignore: the value painted in ``ignore_colour``.
        ignore_colour: RGB.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UsageError: not a class map, not a palette, or a class without a colour.
    """
    return _colour_table(palette, ignore, ignore_colour)[as_class_map(class_map, len(palette), ignore)]


def save_id_png(class_map: np.ndarray, path: PathLike) -> None:
    """Write a class map as a grey PNG whose pixel values are the ids, (H, W), 0 to 255: for programs."""
    _write_png(Image.fromarray(as_class_map(class_map, 256)), path)


def save_color_png(class_map: np.ndarray, palette: Palette, path: PathLike, *, ignore: int = 255,
                   ignore_colour: Tuple[int, int, int] = BLACK) -> None:
    """Write a class map as a palette PNG: a viewer shows colours, Pillow still reads the ids.

    Takes the arguments of :func:`colorize`.
    """
    image = Image.fromarray(as_class_map(class_map, len(palette), ignore))
    image.putpalette(_colour_table(palette, ignore, ignore_colour).tobytes())
    _write_png(image, path)


def save_rgb_png(image: np.ndarray, path: PathLike) -> None:
    """Write a picture, (H, W, 3) uint8 RGB, as a PNG."""
    _write_png(Image.fromarray(as_image(image)), path)


def as_image(image: np.ndarray) -> np.ndarray:
    """``image`` if it is one: (H, W, 3) uint8 with at least one pixel; else a UsageError."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UsageError("a picture is a uint8 array (height, width, 3) in RGB order",
                         received=f"{image.dtype} array of shape {image.shape}")
    return np.ascontiguousarray(image)


def as_class_map(class_map: np.ndarray, n: int, ignore: int = 255) -> np.ndarray:
    """``class_map`` as (H, W) uint8 if it holds ids 0 to n-1 or ``ignore`` only; else a UsageError."""
    array = np.asarray(class_map)
    if array.ndim != 2 or array.dtype.kind not in "biu" or array.size == 0:
        raise UsageError("a class map is an array (height, width) of integers",
                         received=f"{array.dtype} array of shape {array.shape}")
    values = np.unique(array)
    strange = values[(values < 0) | ((values >= n) & (values != ignore))]
    if len(strange):
        raise UsageError(f"a class map holds ids from 0 to {n - 1}, or {ignore} for ignored pixels",
                         received=f"values {', '.join(map(str, strange[:5]))}",
                         fix="give one colour for each class, or correct the ids")
    return np.ascontiguousarray(array, dtype=np.uint8)


def as_palette(palette: Palette) -> np.ndarray:
    """``palette`` as (n, 3) uint8 if it is one, of 1 to 255 colours; else a UsageError."""
    array = np.asarray(palette)
    if (array.ndim != 2 or array.shape[1] != 3 or not 1 <= len(array) <= 255
            or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255):
        raise UsageError("a palette is 1 to 255 rows of red, green, blue, each from 0 to 255",
                         received=f"{array.dtype} array of shape {array.shape}")
    return array.astype(np.uint8)


def _colour_table(palette: Palette, ignore: int, ignore_colour: Tuple[int, int, int]) -> np.ndarray:
    """(256, 3) uint8: the colour of every value that a uint8 class map can hold."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = as_palette(palette)
    table[ignore] = ignore_colour
    return table


def _write_png(image: Image.Image, path: PathLike) -> None:
    with atomic_write(path) as stream:
        image.save(stream, format="PNG")


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3), 0 to 255, to OKLab (..., 3): lightness 0 to 1, green-red, blue-yellow.

    Björn Ottosson, "A perceptual color space for image processing", 2020,
    https://bottosson.github.io/posts/oklab/
    """
    rgb = rgb / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array([[0.4122214708, 0.2119034982, 0.0883024619],
                               [0.5363325363, 0.6806995451, 0.2817188376],
                               [0.0514459929, 0.1073969566, 0.6299787005]])
    return np.cbrt(cones) @ np.array([[0.2104542553, 1.9779984951, 0.0259040371],
                                      [0.7936177850, -2.4285922050, 0.7827717662],
                                      [-0.0040720468, 0.4505937099, -0.8086757660]])
