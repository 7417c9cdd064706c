"""Sheets that show how one image was segmented: image, true mask, prediction, and the wrong pixels."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .overlay import grid, with_legend
from .palette import Palette, as_class_map, as_image, colorize

CAPTIONS = ("image", "truth", "prediction", "errors")
SIDE = 512  # pixels, the longest side of an image on a sheet
_BRIGHTNESS = 0.45  # of the grey image that the errors are drawn on


def scale_down(array: np.ndarray, limit: int = SIDE) -> np.ndarray:
    """Return an image, (H, W, 3), or a class map, (H, W), with sides of at most ``limit`` pixels."""
    scale = limit / max(array.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(array)
    size = tuple(max(round(side * scale), 1) for side in array.shape[1::-1])
    return cv2.resize(np.ascontiguousarray(array), size,
                      interpolation=cv2.INTER_AREA if array.ndim == 3 else cv2.INTER_NEAREST_EXACT)


def draw_errors(image: np.ndarray, mask: np.ndarray, prediction: np.ndarray, palette: Palette, *,
                ignore: int = 255) -> np.ndarray:
    """Draw the wrong pixels in the colours of the classes that they are predicted as, on the darkened grey image.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) train ids; ``ignore`` marks pixels that are neither right nor wrong, which are black.
        prediction: (H, W) class ids.
        palette: (n, 3) RGB, 0 to 255.
        ignore: see ``mask``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: one of the arrays is invalid.
    """
    mask = as_class_map(mask, len(palette), ignore)
    grey = cv2.cvtColor(as_image(image), cv2.COLOR_RGB2GRAY)
    drawn = np.repeat((grey * _BRIGHTNESS).astype(np.uint8)[..., None], 3, axis=2)
    wrong = (prediction != mask) & (mask != ignore)
    drawn[wrong] = colorize(prediction, palette, ignore=ignore)[wrong]
    drawn[mask == ignore] = 0
    return drawn


def sheet(image: np.ndarray, mask: np.ndarray, prediction: np.ndarray, classes: Sequence[str],
          palette: Palette) -> np.ndarray:
    """Put image, true mask, prediction and :func:`draw_errors` side by side, above a legend of the present classes.

    The arguments are those of :func:`draw_errors`, with n class names. Images larger than :data:`SIDE` are scaled down.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image, mask, prediction = map(scale_down, (image, mask, prediction))
    row = grid([[image, colorize(mask, palette), colorize(prediction, palette),
                 draw_errors(image, mask, prediction, palette)]], CAPTIONS)
    return with_legend(row, classes, palette, present=np.union1d(mask, prediction))
