"""Colours of classes; class maps and images as PNG files, each written atomically."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..files import PathLike, atomic_write
from .vision import distances, oklab

BLACK = (0, 0, 0)
GREY = (70, 70, 70)
# found by a search that maximises the least distance: 0.102 (0.168 with normal vision alone)
_DISTINCT = ("c8ff23 ff87c8 8705fa c88200 82fffa 0a82a0 f5c8a0 0a7300 "
             "9b7dff 730082 14dc2d 3714c3 c34664 5faf82 37c3ff f505be")
_BACKGROUND_IF_FIRST = ("unlabeled", "unlabelled", "none", "nothing", "other", "others",
                        "void")  # names of id 0 that mean background
Palette = Union[np.ndarray, Sequence[Sequence[int]]]


def make_palette(n: int, *, taken: Palette = ()) -> np.ndarray:
    """Return colours for ``n`` classes that differ from one another as much as possible.

    :func:`~mxnetseg.viz.vision.distances` measures the difference of two colours: the least distance in the perceptual
    space OKLab, seen with normal vision, protanopia and deuteranopia. Each colour is far from all earlier ones,
    from black, which marks ignored pixels, and from the grey of the background. The first 16 differ by at least 0.1
    (colours too near to ``taken`` are left out). Dichromacy leaves no room for many more, so further colours differ by
    less. ``make_palette(n)`` begins with ``make_palette(m)`` for m < n: adding a class changes no other colour.

    Args:
        n: number of classes, 1 to 255.
        taken: (m, 3) RGB, colours that other classes already have.

    Returns:
        (n, 3) uint8, RGB.

    Raises:
        UsageError: ``n`` out of range.
    """
    if not 1 <= n <= 255:
        raise UsageError("the number of colours must be from 1 to 255", received=f"n={n}")
    first = np.array([list(bytes.fromhex(colour)) for colour in _DISTINCT.split()])
    fixed = np.array([BLACK, GREY, *taken])
    chosen = [colour for colour, near in zip(first, distances(first, fixed).min(axis=1)) if near >= 0.1][:n]
    if len(chosen) == n:
        return np.array(chosen, np.uint8)

    levels = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = oklab(grid)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    grid = grid[(lightness > 0.38) & (lightness < 0.93) & (chroma > 0.05)]

    nearest = distances(grid, np.array([*fixed, *chosen])).min(axis=1)
    while len(chosen) < n:
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, distances(grid, chosen[-1][None])[:, 0])
    return np.array(chosen, np.uint8)


def class_palette(classes: Sequence[str], given: Mapping[int, Sequence[int]] | None = None) -> np.ndarray:
    """Return a colour for every class, uint8 (n, 3): the given one, grey for the background, or a distinct colour.

    Args:
        classes: n names, 1 to 255.
        given: class id -> RGB, 0 to 255.
    """
    colours = {**dict.fromkeys(background_ids(classes), GREY), **(given or {})}
    others = [i for i in range(len(classes)) if i not in colours]
    if others:
        colours.update(zip(others, make_palette(len(others), taken=list((given or {}).values()))))
    return np.array([colours[i] for i in range(len(classes))], np.uint8)


def background_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the ids of the classes that mean background, which an overlay does not tint.

    These are classes called ``background`` (``_background_`` in labelme), and id 0 if it is called ``unlabeled``,
    ``none``, ``nothing``, ``other`` or ``void``. Any other id 0, such as ``road`` or ``class 0``, is a class like all
    others.
    """
    names = [re.sub(r"[\W_]+", "", name.lower()) for name in classes]
    return tuple(i for i, name in enumerate(names)
                 if name in ("background", "bg") or (i == 0 and name in _BACKGROUND_IF_FIRST))


def colorize(class_map: np.ndarray, palette: Palette, *, ignore: int = 255,
             ignore_colour: tuple[int, int, int] = BLACK) -> np.ndarray:
    """Convert a class map to colours.

    Args:
        class_map: (H, W) integers, 0 to n-1 or ``ignore``.
        palette: (n, 3) RGB, 0 to 255, the colour of each class.
        ignore: the value that gets ``ignore_colour``.
        ignore_colour: RGB.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UsageError: the class map or the palette is invalid, or a class has no colour.
    """
    return _colour_table(palette, ignore, ignore_colour)[as_class_map(class_map, len(palette), ignore)]


def save_id_png(class_map: np.ndarray, path: PathLike) -> None:
    """Write a class map, (H, W), 0 to 255, as a grey PNG whose pixel values are the ids, for other programs."""
    _write_png(Image.fromarray(as_class_map(class_map, 256)), path)


def save_color_png(class_map: np.ndarray, palette: Palette, path: PathLike, *, ignore: int = 255,
                   ignore_colour: tuple[int, int, int] = BLACK) -> None:
    """Write a class map as a palette PNG: a viewer shows colours, Pillow reads the ids.

    See :func:`colorize` for the arguments.
    """
    _write_png(palette_image(class_map, palette, ignore=ignore, ignore_colour=ignore_colour), path)


def palette_image(class_map: np.ndarray, palette: Palette, *, ignore: int = 255,
                  ignore_colour: tuple[int, int, int] = BLACK) -> Image.Image:
    """Return a class map as a palette image of Pillow; see :func:`colorize` for the arguments."""
    image = Image.fromarray(as_class_map(class_map, len(palette), ignore))
    image.putpalette(_colour_table(palette, ignore, ignore_colour).tobytes())
    return image


def save_rgb_png(image: np.ndarray, path: PathLike) -> None:
    """Write an image, (H, W, 3) uint8 RGB, as a PNG."""
    _write_png(Image.fromarray(as_image(image)), path)


def as_image(image: np.ndarray) -> np.ndarray:
    """Return an image, (H, W, 3) uint8 with at least one pixel; a UsageError for anything else."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UsageError("an image must be a uint8 array (height, width, 3) in RGB order",
                         received=f"{image.dtype} array of shape {image.shape}")
    return np.ascontiguousarray(image)


def as_class_map(class_map: np.ndarray, n: int, ignore: int = 255) -> np.ndarray:
    """Return a class map as (H, W) uint8; a UsageError unless all values are ids 0 to n-1 or ``ignore``."""
    array = np.asarray(class_map)
    if array.ndim != 2 or array.dtype.kind not in "biu" or array.size == 0:
        raise UsageError("a class map must be an array (height, width) of integers",
                         received=f"{array.dtype} array of shape {array.shape}")
    values = np.unique(array)
    wrong = values[(values < 0) | ((values >= n) & (values != ignore))]
    if len(wrong):
        raise UsageError(f"a class map must hold ids from 0 to {n - 1}, or {ignore} for ignored pixels",
                         received=f"values {', '.join(map(str, wrong[:5]))}",
                         fix="give one colour for each class, or correct the ids")
    return np.ascontiguousarray(array, dtype=np.uint8)


def as_palette(palette: Palette) -> np.ndarray:
    """Return a palette of 1 to 255 colours as (n, 3) uint8; a UsageError for anything else."""
    array = np.asarray(palette)
    if (array.ndim != 2 or array.shape[1] != 3 or not 1 <= len(array) <= 255
            or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255):
        raise UsageError("a palette must be 1 to 255 rows of red, green, blue, each from 0 to 255",
                         received=f"{array.dtype} array of shape {array.shape}")
    return array.astype(np.uint8)


def _colour_table(palette: Palette, ignore: int, ignore_colour: tuple[int, int, int]) -> np.ndarray:
    """Return the colour of every value that a uint8 class map can hold: (256, 3) uint8."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = as_palette(palette)
    table[ignore] = ignore_colour
    return table


def _write_png(image: Image.Image, path: PathLike) -> None:
    with atomic_write(path) as stream:
        image.save(stream, format="PNG")
