"""Decode Label Studio's brush strokes: RGBA samples, packed by thi.ng's ``rle-pack``.

The bits, highest first: 32 bits for the number of samples, 5 for the bits of a sample minus 1, 4 x 4 for four lengths
minus 1. Then follow blocks: one bit that says whether one sample is repeated, 2 bits that choose a length, as many bits
as this length for a number minus 1, and either one sample to repeat this number of times, or this number of samples.

Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack (description of the format).
"""
from __future__ import annotations

import numpy as np

from ...errors import DataError

_OPAQUE = 128  # of 255


def draw_brush(data: bytes, height: int, width: int, where: str) -> np.ndarray:
    """Return the pixels in which a brush stroke is at least half opaque, bool (height, width).

    Args:
        data: packed RGBA samples of the image, row by row.
        height, width: size of the image in pixels.
        where: location of the stroke, for messages.

    Raises:
        DataError: the data are damaged, or of an image of another size.
    """
    samples = unpack(data, 4 * height * width, where)
    return samples.reshape(height, width, 4)[..., 3] >= _OPAQUE


def unpack(data: bytes, count: int, where: str) -> np.ndarray:
    """Return the samples, uint8 (count,).

    Raises:
        DataError: the data are damaged, or hold another number of samples.
    """
    def error(violation: str, received: object) -> DataError:
        return DataError(f"a brush stroke {violation}", where=where, received=received,
                         fix="export it again from Label Studio as JSON, or draw it again")

    at = 0

    def take(bits: int) -> int:
        nonlocal at
        end = at + bits
        if end > 8 * len(data):
            raise error("ends too early", f"{len(data)} bytes")
        value = int.from_bytes(data[at // 8:(end + 7) // 8], "big") >> (-end % 8) & ((1 << bits) - 1)
        at = end
        return value

    found = take(32)
    if found != count:
        raise error("is not of an image of this size", f"{found} samples; expected {count} = 4 x width x height")
    if (bits := take(5) + 1) != 8:
        raise error("has samples of an unknown size", f"{bits} bits; expected 8")
    lengths = [take(4) + 1 for _ in range(4)]

    samples = np.zeros(count, np.uint8)
    i = 0
    while i < count:
        repeated = take(1)
        number = take(lengths[take(2)]) + 1
        if i + number > count:
            raise error("has more samples than it states", f"{i + number}; expected {count}")
        if repeated:
            samples[i:i + number] = take(8)
        else:
            end = at + 8 * number
            if end > 8 * len(data):
                raise error("ends too early", f"{len(data)} bytes")
            block = np.unpackbits(np.frombuffer(data[at // 8:(end + 7) // 8], np.uint8))[at % 8:][:8 * number]
            samples[i:i + number] = np.packbits(block)
            at = end
        i += number
    return samples
