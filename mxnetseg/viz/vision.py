"""Visible difference of two colours, to people with normal and with red-green deficient colour vision."""
from __future__ import annotations

import numpy as np

# Dichromacy, severity 1.0, for linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency", IEEE TVCG 15(6), 2009,
# https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/CVD_Simulation.html
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868],
                            [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968],
                              [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}


def oklab(rgb: np.ndarray, vision: str = "normal") -> np.ndarray:
    """Convert sRGB (..., 3), 0 to 255, to OKLab (..., 3): lightness 0 to 1, green-red, blue-yellow.

    Args:
        rgb: colours.
        vision: a key of ``VISIONS``; the colours are converted as a person with this vision sees them.

    Source: Björn Ottosson, "A perceptual color space for image processing", 2020,
    https://bottosson.github.io/posts/oklab/
    """
    rgb = np.asarray(rgb) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ VISIONS[vision].T, 0, 1)
    cones = linear @ np.array([[0.4122214708, 0.2119034982, 0.0883024619],
                               [0.5363325363, 0.6806995451, 0.2817188376],
                               [0.0514459929, 0.1073969566, 0.6299787005]])
    return np.cbrt(cones) @ np.array([[0.2104542553, 1.9779984951, 0.0259040371],
                                      [0.7936177850, -2.4285922050, 0.7827717662],
                                      [-0.0040720468, 0.4505937099, -0.8086757660]])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance in OKLab of each colour of one list to each of another: the least one of all ``VISIONS``.

    Args:
        first: (n, 3) RGB, 0 to 255.
        second: (m, 3) RGB, 0 to 255.

    Returns:
        (n, m). Colours at a distance below 0.1 are hard to distinguish in an overlay.
    """
    return np.min([np.linalg.norm(oklab(first, vision)[:, None] - oklab(second, vision)[None], axis=-1)
                   for vision in VISIONS], axis=0)
