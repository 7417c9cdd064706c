"""Colours of classes, as the files of data sets declare them."""
from __future__ import annotations

import numpy as np


def voc_palette(n: int) -> np.ndarray:
    """Return the first ``n`` colours of PASCAL VOC, uint8 (n, 3), for data without colours of its own.

    The bits of the class id, lowest first, are assigned alternately to red, green and blue; each channel is filled
    from its highest bit down (VOC development kit, ``VOClabelcolormap.m``).

    Example::

        >>> voc_palette(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    ids = np.arange(n)
    palette = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def hex_palette(text: str) -> np.ndarray:
    """Convert colours written as ``rrggbb``, separated by white space, to uint8 (n, 3).

    Example::

        >>> hex_palette("000000 c08080").tolist()
        [[0, 0, 0], [192, 128, 128]]
    """
    return np.frombuffer(bytes.fromhex("".join(text.split())), np.uint8).reshape(-1, 3).copy()
