"""Size, depth, bands, transparency and frames of an image file, read from its header alone.

The properties that a library reports after decoding come too late: by then it has dropped everything beyond 8 bits
and three bands, and has allocated the memory that a header claims.
"""
from __future__ import annotations

import os
import struct
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import BmpImagePlugin, Image, PngImagePlugin, TiffImagePlugin

from ..errors import DataError, UsageError
from . import tiff

LIMIT_VARIABLE = "MXNETSEG_MAX_PIXELS"
DEFAULT_LIMIT = 2 ** 28  # pixels of an image or mask: 16384 x 16384
HIGHEST_LIMIT = 2 ** 30  # OpenCV reads no more
_LONGEST_SIDE = 2 ** 20  # likewise

# no intact file holds more pixels a byte; other formats have no bound
_PIXELS_PER_BYTE = {"PNG": 8 * 1040, "JPEG": 1024, "BMP": 1 << 14}
_PLUGINS = {b"\x89PN": PngImagePlugin.PngImageFile, b"II*": TiffImagePlugin.TiffImageFile,
            b"MM\0": TiffImagePlugin.TiffImageFile, b"II+": TiffImagePlugin.TiffImageFile}


class Header(NamedTuple):
    """Properties of an image file, as its header states them.

    Attributes:
        format: ``'PNG'``, ``'JPEG'``, ``'BMP'``, ``'WebP'``, ``'TIFF'``, or Pillow's name of it.
        width, height: in pixels, as stored.
        dtype: type of a sample; fewer than 8 bits count as ``'uint8'``, since they are decoded to it.
        bands: bands without a declared alpha channel; a palette and CMYK count as 3, since they are decoded to RGB.
        has_alpha: transparency is declared.
        frames: images in the file, without thumbnails.
        has_exif: metadata may hold a rotation.
        key: the colour that means transparency, in 8 or 16 bits as decoded; empty if there is none.
        pages: the pages of a TIFF file; empty for other formats.
    """

    format: str
    width: int
    height: int
    dtype: str = "uint8"
    bands: int = 3
    has_alpha: bool = False
    frames: int = 1
    has_exif: bool = False
    key: tuple[int, ...] = ()
    pages: tuple[tiff.Page, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Return whether 8-bit RGB keeps everything in the file."""
        return self.dtype == "uint8" and self.bands in (1, 3) and not self.has_alpha and self.frames == 1

    def __str__(self) -> str:
        bands = f"{self.bands} band{'s' * (self.bands != 1)}{' and alpha' if self.has_alpha else ''} of {self.dtype}"
        frames = f"{self.frames} {'pages' if self.pages else 'frames'} of " if self.frames > 1 else ""
        return f"{self.format}, {frames}{bands}"


def read_header(data: np.ndarray) -> Header | None:
    """Read the header of a file, uint8 (n,); None if it is damaged or of no known format."""
    start = bytes(data[:12])
    try:
        if start[:2] == b"\xff\xd8":
            return _jpeg(memoryview(data))  # single bytes are read faster from a memoryview
        if start[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(memoryview(data))
        if start[:2] == b"BM":
            return _bmp(data)
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            return _webp(data)
        if start[:4] in tiff.SIGNATURES:
            return _tiff(data)
    except (struct.error, IndexError, tiff.TiffError):
        return None
    return _other(data)


def check_size(header: Header | None, data: np.ndarray, path: object, role: str) -> None:
    """Refuse, before it is decoded, an image above the limit or larger than its file can hold.

    Args:
        header: header of the file; None passes.
        data: uint8 (n,), the file.
        path: the file, for the message.
        role: ``'image'`` or ``'mask'``, for the message.

    Raises:
        DataError: it is too large.
        UsageError: the environment variable with the limit is not a number in its range.
    """
    if header is None:
        return
    pixels, limit = header.width * header.height, pixel_limit()
    if pixels > limit or max(header.width, header.height) > _LONGEST_SIDE:
        fix = "cut it into tiles, or scale it down"
        if pixels <= HIGHEST_LIMIT and max(header.width, header.height) <= _LONGEST_SIDE:
            fix += f"; or raise the limit, where memory allows: export {LIMIT_VARIABLE}={pixels}"
        raise DataError(f"the {role} is larger than the limit on its pixels", where=path,
                        received=f"{header.width} x {header.height} = {pixels} pixels; the limit is {limit}, with "
                                 f"sides of at most {_LONGEST_SIDE}", fix=fix)
    most = _PIXELS_PER_BYTE.get(header.format)
    if most and pixels > most * data.size:
        raise DataError(f"the {role} cannot be decoded: its header claims more pixels than its bytes can hold",
                        where=path, received=f"{header.width} x {header.height} pixels in {data.size} bytes",
                        fix="restore the file from its source, or take its pair out of the data set")


def pixel_limit() -> int:
    """Return the largest number of pixels that an image or a mask may have.

    Raises:
        UsageError: the environment variable is not a number in its range.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT
    if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= HIGHEST_LIMIT:
        raise UsageError(f"{LIMIT_VARIABLE} must be a number of pixels from 1 to {HIGHEST_LIMIT}",
                         where=f"environment variable {LIMIT_VARIABLE}", received=text[:40],
                         fix=f"export {LIMIT_VARIABLE}={DEFAULT_LIMIT}")
    return int(text)


def open_image(stream: BinaryIO) -> Image.Image:
    """Open a file with Pillow, lazily and without Pillow's limit on pixels: :func:`check_size` checks ours."""
    start = stream.read(3)
    stream.seek(0)
    plugin = BmpImagePlugin.BmpImageFile if start[:2] == b"BM" else _PLUGINS.get(start)
    return plugin(stream) if plugin else Image.open(stream)


# ---- formats --------------------------------------------------------------------------------


def _png(data: memoryview) -> Header | None:
    width, height, depth, color_type = struct.unpack_from(">IIBB", data, 16)
    has_alpha, has_exif, frames, key, at = color_type in (4, 6), False, 1, (), 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + length + 12 > len(data):
            return None  # OpenCV would allocate the size that it claims
        if name == b"IEND":
            break
        if name == b"tRNS":
            has_alpha = True
            if color_type in (0, 2):
                factor = 255 // (2 ** depth - 1) if depth < 8 else 1
                key = tuple(factor * v for v in struct.unpack_from(">H" if color_type == 0 else ">HHH", data, at + 8))
        elif name == b"eXIf":
            has_exif = True
        elif name == b"acTL":
            frames, = struct.unpack_from(">I", data, at + 8)
        at += length + 12

    return Header("PNG", width, height, "uint16" if depth == 16 else "uint8", 1 if color_type in (0, 4) else 3,
                  has_alpha, max(frames, 1), has_exif, key)


def _jpeg(data: memoryview) -> Header | None:
    at = 2
    while True:
        marker, code = data[at], data[at + 1]
        if marker != 0xFF or code in (0, 0xFF):  # stray or fill bytes, which libjpeg skips
            at += 1
            continue
        if code == 0xDA:  # the pixels begin before any size
            return None
        if 0xD0 <= code <= 0xD8 or code == 1:
            at += 2
            continue
        length, = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            depth, height, width, bands = struct.unpack_from(">BHHB", data, at + 4)
            return Header("JPEG", width, height, "uint8" if depth == 8 else f"uint{depth}", 1 if bands == 1 else 3)
        at += 2 + length


def _bmp(data: np.ndarray) -> Header:
    size, = struct.unpack_from("<I", data, 14)
    if size == 12:
        return Header("BMP", *struct.unpack_from("<HH", data, 18))
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    has_alpha = size >= 56 and bits == 32 and compression in (3, 6) and any(data[66:70])
    return Header("BMP", abs(width), abs(height), has_alpha=has_alpha)


def _webp(data: np.ndarray) -> Header | None:
    chunk = bytes(data[12:16])
    if chunk == b"VP8X":
        flags = int(data[20])
        width, height = (1 + int.from_bytes(bytes(data[at:at + 3]), "little") for at in (24, 27))
        frames = data.tobytes().count(b"ANMF") if flags & 2 else 1
        return Header("WebP", width, height, has_alpha=bool(flags & 16), frames=max(frames, 1),
                      has_exif=bool(flags & 8))
    if chunk == b"VP8L":
        bits, = struct.unpack_from("<I", data, 21)
        return Header("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), has_alpha=bool(bits >> 28 & 1))
    if chunk == b"VP8 ":
        return Header("WebP", *(side & 0x3FFF for side in struct.unpack_from("<HH", data, 26)))
    return None


def _tiff(data: np.ndarray) -> Header:
    pages = tuple(tiff.read_pages(data))
    page, bands = pages[0], pages[0].samples
    dtype = "uint8" if page.dtype in ("uint1", "uint2", "uint4") and bands == 1 else page.dtype
    if page.photometric == tiff.CMYK and bands == 4 and dtype == "uint8" or page.photometric == 3 and bands == 1:
        bands = 3
    bands -= page.has_alpha
    return Header("TIFF", *page.size, dtype, bands, page.has_alpha, len(pages), pages=pages)


def _other(data: np.ndarray) -> Header | None:
    """Read the header of a format that has no reader here, such as PPM or JPEG 2000, with Pillow."""
    try:
        with Image.open(BytesIO(data)) as image:
            depth = "uint8" if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr") else \
                "float32" if image.mode == "F" else "uint16"
            return Header(image.format or "?", image.width, image.height, depth, frames=getattr(image, "n_frames", 1),
                          has_alpha=image.mode in ("LA", "PA", "RGBA"))
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError, ...; DecompressionBombError too
        return None
