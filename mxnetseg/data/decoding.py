"""Files of images and masks as arrays: uint8 (H, W, 3) RGB, and uint8 (H, W) label ids."""
from __future__ import annotations

import os
from io import BytesIO
from typing import Optional, Sequence, Union

import cv2
import numpy as np
from PIL import Image, ImageFile

from ..errors import DataError, DataNotFoundError

IGNORE = 255
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless: JPEG would invent labels along edges

PathLike = Union[str, "os.PathLike[str]"]

_JPEG = b"\xff\xd8"
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}
_RESTORE = "restore the file from its source, or take its pair out of the data set"


def read_image(path: PathLike, *, reduce: int = 1) -> np.ndarray:
    """Read an image as the viewer of a camera would show it: uint8 (H, W, 3), RGB.

    Grey pictures become RGB, alpha is dropped, 16 bits become 8, and an EXIF rotation is applied.

    Args:
        path: the file.
        reduce: 1, 2, 4 or 8: a JPEG file is decoded at one over it of its size, rounded up, which is faster; any
            other file at its size.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is empty, damaged, truncated or no image.
    """
    return decode_image(_read_bytes(path, "image"), path, reduce=reduce)


def decode_image(data: np.ndarray, path: PathLike, *, reduce: int = 1) -> np.ndarray:
    """As :func:`read_image`, from the bytes of a file.

    Args:
        data: uint8 (n,).
        path: where they come from, for the message.
        reduce: see :func:`read_image`.
    """
    flag = _REDUCED[reduce] if bytes(data[:2]) == _JPEG else cv2.IMREAD_COLOR
    # imdecode refuses a truncated JPEG; imread would return it half grey
    image = cv2.imdecode(data, flag)
    if image is None:
        raise DataError("an image cannot be decoded: it is damaged, truncated or no image", where=path,
                        received=f"{data.size} bytes, the first are {bytes(data[:8])!r}", fix=_RESTORE)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: PathLike, *, colors: Optional[np.ndarray] = None) -> np.ndarray:
    """Read the label ids of a mask: uint8 (H, W), as the file holds them.

    Palette pictures are read as their indices, whatever their colours.

    Args:
        path: a single-channel 8-bit picture of a lossless format.
        colors: uint8 (n, 3); if given, an RGB mask is accepted, and each pixel becomes the index
            of its colour. Black becomes IGNORE unless it is one of the colours.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is damaged, is an RGB picture (without ``colors``, or with a colour that is
            not among them), or has more than 8 bits.
    """
    data = _read_bytes(path, "mask")
    # GluonCV switches this on when it is imported; a truncated mask would then be filled with class 0
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:  # with Pillow: OpenCV would turn palette indices into colours
        with Image.open(BytesIO(data)) as picture:
            mode, suffix, tile = picture.mode, f".{picture.format}".lower(), picture.tile
            array = np.asarray(picture)  # read-only: what is returned below is a copy
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error, ...
        raise DataError("a mask cannot be decoded: it is damaged, truncated or no image", where=path,
                        received=f"{data.size} bytes ({error})", fix=_RESTORE) from error
    if suffix == ".jpeg":
        raise DataError("a mask is a JPEG file, whose compression invents labels along every edge",
                        where=path, fix="export the mask again from its source, as PNG")
    if mode in ("1", "L", "P"):
        step = _grey_step(mode, tile)
        return array.astype(np.uint8) if step == 1 else array // step
    if mode in ("RGB", "RGBA"):
        return ids_from_colors(array[..., :3], path, colors)
    raise DataError(
        "a mask has more than 8 bits or an unusual mode; label ids must be 0..255 in one 8-bit channel",
        where=path, received=f"mode {mode!r}, values {array.min()}..{array.max()}",
        fix="map its values to class ids and save them as 8-bit grey:\n"
            "Image.fromarray(ids.astype(numpy.uint8)).save('mask.png')",
    )


def _read_bytes(path: PathLike, kind: str) -> np.ndarray:
    try:
        data = np.fromfile(os.fspath(path), np.uint8)  # unlike cv2.imread, at home with any file name
    except FileNotFoundError:
        raise DataNotFoundError(f"a file is missing: no such {kind}", where=path, fix=_RESTORE) from None
    except OSError as error:
        raise DataError(f"the {kind} cannot be read", where=path, received=error,
                        fix="check the file's permissions and the disk") from error
    if not data.size:
        raise DataError(f"the {kind} is an empty file", where=path, received="0 bytes", fix=_RESTORE)
    return data


def _grey_step(mode: str, tile: Sequence) -> int:
    """By what Pillow multiplies the values of a grey PNG of 2 or 4 bits: 85 or 17, else 1."""
    raw_mode = tile[0][3] if mode == "L" and tile else ""
    return {"L;2": 85, "L;4": 17}.get(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode, 1)


def ids_from_colors(rgb: np.ndarray, path: PathLike, colors: Optional[np.ndarray]) -> np.ndarray:
    """Colours, (H, W, 3), as the indices of theirs in ``colors``: see :func:`read_mask`."""
    packed = _pack(rgb)
    if colors is not None:
        keys, ids = _pack(colors), np.arange(len(colors), dtype=np.uint8)
        if 0 not in keys:
            keys, ids = np.append(keys, 0), np.append(ids, np.uint8(IGNORE))
        order = np.argsort(keys)
        at = np.searchsorted(keys, packed, sorter=order).clip(max=len(keys) - 1)
        nearest = order[at]
        if (keys[nearest] == packed).all():
            return ids[nearest]
        packed = packed[keys[nearest] != packed]
    values, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:32]
    block = "\n".join(f"class{i} #{values[k]:06x}" for i, k in enumerate(order))
    found = f"{len(values)} colours, {'the 32 commonest' if len(values) > 32 else 'by frequency'}: " + \
        ", ".join(f"#{values[k]:06x} ({counts[k]} pixels)" for k in order)
    if colors is not None:
        raise DataError("an RGB mask holds colours that are no class's", where=path, received=found,
                        fix="correct the mask, or give each colour a class in classes.txt, as in\n" + block)
    raise DataError(
        "a mask is an RGB picture; it must hold class ids in one channel", where=path, received=found,
        fix="save the ids as 8-bit grey or palette PNG. Folder data may keep RGB masks if classes.txt gives "
            "every class its colour; with the classes' true names and order:\n" + block,
    )


def _pack(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int64, ``0xrrggbb``."""
    return rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
