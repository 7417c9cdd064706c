"""Class maps laid over their images, with a legend below, alone or side by side.

Every image here is an (H, W, 3) uint8 RGB array; no function changes its arguments.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..errors import UsageError
from .palette import Palette, as_class_map, as_image, as_palette, background_ids, colorize
from .text import default_font, label, type_size

PAPER, RULE, INK = (255, 255, 255), (150, 150, 150), (40, 40, 40)


def overlay(image: np.ndarray, class_map: np.ndarray, palette: Palette, *, classes: Sequence[str] = (),
            alpha: float = 0.5, edges: bool = True, ignore: int = 255) -> np.ndarray:
    """Tint an image by class. The background, see :func:`~.palette.background_ids`, keeps its colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        class_map: (H, W) integers, 0 to n-1 or ``ignore``; ignored pixels keep the colour of the image.
        palette: (n, 3) RGB, 0 to 255.
        classes: n names, by which the background is recognised; without them, all classes are tinted.
        alpha: strength of the tint, from 0 (image only) to 1 (classes only).
        edges: draw the border of each class in its full colour; its width grows with the image, from 1 pixel.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: image and class map differ in size, or one of them is invalid; ``alpha`` out of range.
    """
    image, colours = as_image(image), colorize(class_map, palette, ignore=ignore)
    class_map = as_class_map(class_map, len(palette), ignore)
    if image.shape[:2] != class_map.shape:
        raise UsageError("image and class map differ in size",
                         received=f"image {image.shape[:2]}, class map {class_map.shape}")
    if not 0 <= alpha <= 1:
        raise UsageError("the strength of an overlay must be from 0 to 1", received=f"alpha={alpha}")

    blended = cv2.addWeighted(image, 1 - alpha, colours, alpha, 0)
    if edges:
        border = find_borders(class_map)
        blended[border] = colours[border]
    untinted = np.isin(class_map, [ignore, *background_ids(classes)])
    blended[untinted] = image[untinted]
    return blended


def legend(classes: Sequence[str], palette: Palette, width: int, *, untinted: Sequence[int] = (),
           numbers: Sequence[int] | None = None) -> np.ndarray:
    """Draw a strip with a colour patch and the name of each class, in as many columns as fit.

    Args:
        classes: n names.
        palette: (n, 3) RGB, 0 to 255.
        width: width of the strip in pixels, which also determines the size of the type. If the longest name
            does not fit, the strip is wider.
        untinted: indices of classes without a tint: their patches are empty and crossed out.
        numbers: n numbers, shown as ``#3`` where no font can draw a name; by default 0 to n-1.

    Returns:
        (H, at least width, 3) uint8 RGB.

    Raises:
        UsageError: there is no class, or not one colour for each.
    """
    palette = as_palette(palette)
    if len(classes) != len(palette):
        raise UsageError("a legend needs one colour for each class",
                         received=f"{len(classes)} classes, {len(palette)} colours")
    size = type_size(width)
    labels = [label(name, number, size) for name, number in zip(classes, numbers or range(len(classes)))]
    patch, space = size, size // 2
    entry = patch + space + max(one.length for one in labels)
    columns = max(1, (width - space) // (entry + 2 * space))
    rows = -(-len(classes) // columns)
    columns = -(-len(classes) // rows)  # even out: 5 entries in 2 rows are 3 + 2, not 4 + 1
    line = round(1.6 * size)
    pitch = max(entry + 2 * space, (width - space) // columns)

    strip, draw = _paper(rows * line + 2 * space, max(width, pitch * columns + space))
    for i, one in enumerate(labels):
        x, middle = 2 * space + i % columns * pitch, space + i // columns * line + line / 2
        top = round(middle - patch / 2)
        draw.rectangle((x, top, x + patch - 1, top + patch - 1), outline=RULE,
                       fill=PAPER if i in untinted else tuple(palette[i].tolist()))
        if i in untinted:
            draw.line((x, top + patch - 1, x + patch - 1, top), fill=RULE)
        draw.text((x + patch + space, middle), one.text, font=one.font, fill=INK, anchor="lm")
    return np.array(strip)


def with_legend(image: np.ndarray, classes: Sequence[str], palette: Palette, *,
                present: np.ndarray | Sequence[int] | None = None, of_overlay: bool = False) -> np.ndarray:
    """Add a legend below an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        classes: n names.
        palette: (n, 3) RGB, 0 to 255.
        present: the class ids to list, such as the class map that is shown, of any shape; values
            that are not class ids (ignored pixels) are left out. All classes if not given.
        of_overlay: the image is an :func:`overlay`, which does not tint the background.

    Returns:
        (H + strip, W or more, 3) uint8 RGB: if long class names need a strip that is wider than the
        image, the image is centred above it. The image itself if no class is present.
    """
    image, palette = as_image(image), as_palette(palette)
    ids = range(len(classes)) if present is None else np.unique(np.asarray(present)).tolist()
    ids = [i for i in ids if 0 <= i < len(classes)]
    if not ids:
        return image
    untinted = [k for k, i in enumerate(ids) if i in background_ids(classes)] if of_overlay else ()
    strip = legend([classes[i] for i in ids], palette[ids], image.shape[1], untinted=untinted, numbers=ids)
    return np.concatenate([_centred(image, image.shape[0], strip.shape[1]), strip])


def side_by_side(images: Sequence[np.ndarray], captions: Sequence[str] | None = None) -> np.ndarray:
    """Put images in a row, each below its caption; a :func:`grid` with one row."""
    return grid([images], captions)


def grid(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str] | None = None) -> np.ndarray:
    """Put images in rows and columns, with a caption above each column.

    Args:
        rows: rows of equally many (H, W, 3) uint8 RGB images. They are never resized: all cells
            are as large as the largest image, and smaller ones are centred.
        captions: one for each column.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: there is no image, rows differ in length, or there is not one caption for each column.
    """
    rows = [[as_image(image) for image in row] for row in rows]
    columns = len(rows[0]) if rows else 0
    if columns == 0 or any(len(row) != columns for row in rows):
        raise UsageError("the rows of a grid must hold equally many images",
                         received=f"rows of {[len(row) for row in rows]} images")
    if captions is not None and len(captions) != columns:
        raise UsageError("a grid needs one caption for each column",
                         received=f"{len(captions)} captions, {columns} columns")

    height = max(image.shape[0] for row in rows for image in row)
    width = max(image.shape[1] for row in rows for image in row)
    font = default_font(type_size(columns * width))
    head = 0
    if captions is not None:
        width = max([width, *(round(font.getlength(caption)) + font.size for caption in captions)])
        head = 2 * font.size
    gap = font.size // 2

    sheet, draw = _paper(head + len(rows) * (height + gap) - gap, columns * (width + gap) - gap)
    for column in range(columns):
        left = column * (width + gap)
        if captions is not None:
            draw.text((left + width / 2, head / 2), captions[column], font=font, fill=INK, anchor="mm")
        for i, row in enumerate(rows):
            cell = Image.fromarray(_centred(row[column], height, width))
            sheet.paste(cell, (left, head + i * (height + gap)))
    return np.array(sheet)


def find_borders(class_map: np.ndarray) -> np.ndarray:
    """Find the pixels near a pixel of another class: uint8 (H, W) -> (H, W) bool."""
    thickness = max(1, round(min(class_map.shape) / 400))
    window = np.ones((2 * thickness + 1,) * 2, np.uint8)
    return cv2.dilate(class_map, window) != cv2.erode(class_map, window)


def _centred(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Put an image in the middle of a sheet of at least its size."""
    h, w = image.shape[:2]
    top, left = (height - h) // 2, (width - w) // 2
    return cv2.copyMakeBorder(image, top, height - h - top, left, width - w - left,
                              cv2.BORDER_CONSTANT, value=PAPER)


def _paper(height: int, width: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, ImageDraw.Draw(sheet)
