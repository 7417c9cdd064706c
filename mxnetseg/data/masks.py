"""Mask files as uint8 (H, W) label ids. A mask that can be read in two ways is refused; the error shows both.

A mask holds values. Its palette, or the grey that a viewer shows, gives each value a colour. Where the classes have
colours too, the value and the colour of a pixel may mean different classes.
"""
from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ImageFile

from ..errors import DataError
from . import tiff
from .decoding import IGNORE, RESTORE, PathLike, decode_samples, is_opaque, read_bytes
from .headers import Header, check_size, open_image, read_header

_INVALID = -1
_AS_8_BIT = "map its values to class ids and save them as 8-bit grey:\n" \
            "Image.fromarray(ids.astype(numpy.uint8)).save('mask.png')"


class AmbiguousMask(DataError):
    """Error for a mask whose values and colours mean different classes."""


def read_mask(path: PathLike, *, colors: np.ndarray | None = None, by_color: bool = False) -> np.ndarray:
    """Read the label ids of a mask: uint8 (H, W), as the file holds them.

    Args:
        path: a single-channel image of a lossless format. Values of more than 8 bits are read if they are ids.
        colors: uint8 (n, 3), the colours of classes 0 to n-1; if given, a mask in these colours is accepted, and
            each pixel becomes the index of its colour. Black becomes IGNORE unless it is one of the colours. Grey
            and palette masks are read by their values or by their colours, if only one of the two is possible.
        by_color: read palette masks by their colours only, and grey masks too if a class is grey.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is damaged, holds an RGB image (without ``colors``, or with a colour that is not among
            them), values above 255 or several pages, is larger than the limit, or can be read in two ways.
    """
    values, color = _read(path)
    if values is None:
        return ids_from_colors(color, path, colors)
    if colors is None:
        return values
    return _ids(values, color, path, colors, by_color)


def ids_from_colors(rgb: np.ndarray, path: PathLike, colors: np.ndarray | None) -> np.ndarray:
    """Convert colours, (H, W, 3), to their indices in ``colors``: see :func:`read_mask`."""
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
        raise DataError("an RGB mask holds colours that belong to no class", where=path, received=found,
                        fix="correct the mask, or give each colour a class in classes.txt, as in\n" + block)
    raise DataError(
        "a mask is an RGB image; it must hold class ids in one channel", where=path, received=found,
        fix="save the ids as 8-bit grey or palette PNG. Folder data may keep RGB masks if classes.txt gives "
            "every class its colour; with the classes' true names and order:\n" + block,
    )


# ---- files ----------------------------------------------------------------------------------


class _Stored(NamedTuple):
    """Contents of a mask file.

    Attributes:
        values: uint8 (H, W); None if the mask is in RGB.
        color: the pixels of an RGB mask, uint8 (H, W, 3); otherwise the colour of each value, uint8 (n, 3).
    """

    values: np.ndarray | None
    color: np.ndarray


def _read(path: PathLike) -> _Stored:
    data = read_bytes(path, "mask")
    header = read_header(data)
    check_size(header, data, path, "mask")
    if header is not None:
        _check_header(header, path)
        if header.dtype != "uint8":
            return _Stored(_narrow(_samples(data, header, path)[..., 0], header, path), _GREYS)
        if header.has_alpha and header.bands == 3 and not _is_palette(data, header):
            return _Stored(None, _opaque(_samples(data, header, path), header, path))
        if header.pages and header.pages[0].dtype == "uint8" and tiff.is_read(header.pages[0]):
            return _read_tiff(data, header, path)

    # GluonCV switches this on when it is imported; a truncated mask would then be filled with class 0
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:  # with Pillow: OpenCV would turn palette indices into colours
        with open_image(BytesIO(data)) as image:
            mode, tile = image.mode, image.tile
            array = np.asarray(image)  # read-only: the code below returns a copy
            palette = image.getpalette() if mode == "P" else None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error, ...
        raise DataError("a mask cannot be decoded: it is damaged, truncated or no image", where=path,
                        received=f"{data.size} bytes ({error})", fix=RESTORE) from error

    if mode in ("1", "L", "P"):
        step = _grey_step(mode, tile)
        values = array.astype(np.uint8) if step == 1 else array // step
        return _Stored(values, _colors_of(mode, step, palette))
    if mode == "RGB":
        return _Stored(None, array)
    raise _unusual(f"mode {mode!r}, values {array.min()}..{array.max()}", path)


def _unusual(received: object, path: PathLike) -> DataError:
    return DataError("a mask has more than 8 bits or an unusual mode; label ids must be 0..255 in one 8-bit channel",
                     where=path, received=received, fix=_AS_8_BIT)


def _check_header(header: Header, path: PathLike) -> None:
    """Refuse a mask that Pillow would invert or read in part."""
    if header.format == "JPEG":
        raise DataError("a mask is a JPEG file, whose compression invents labels along every edge",
                        where=path, fix="export the mask again from its source, as PNG")
    if header.frames > 1:
        raise DataError("a mask has several pages or frames; label ids must be in one", where=path,
                        received=str(header), fix="save the page that holds the ids as a separate file")
    samples = header.bands + header.has_alpha
    if header.dtype != "uint8" and samples > 1 or header.bands not in (1, 3):
        raise _unusual(header, path)
    if header.pages:
        page = header.pages[0]
        if page.photometric == 0 and page.dtype != "uint1" or page.tag(266, 1) != 1 and page.dtype != "uint1":
            raise DataError(
                "a mask is stored with white as 0 or its bits reversed, so its ids are not what a viewer shows",
                where=path, received=f"{header}, PhotometricInterpretation {page.photometric}, FillOrder "
                f"{page.tag(266, 1)}", fix="save the ids as 8-bit grey PNG")


def _read_tiff(data: np.ndarray, header: Header, path: PathLike) -> _Stored:
    """Read an 8-bit TIFF mask without Pillow, which limits its size and fills damaged blocks with 0."""
    page = header.pages[0]
    try:
        samples = tiff.read_samples(data, page)
    except tiff.TiffError as error:
        raise DataError("a mask cannot be decoded: it is damaged or truncated", where=path,
                        received=f"{data.size} bytes; {error}", fix=RESTORE) from error
    if page.samples == 1:
        shades = np.array(page.tags.get(320, ()), np.int64) >> 8  # 16 bits, all reds first
        table = shades[:len(shades) // 3 * 3].reshape(3, -1).T.astype(np.uint8) if page.photometric == 3 else _GREYS
        return _Stored(samples[..., 0], table)
    if page.photometric == 2:
        return _Stored(None, samples[..., :3])
    raise _unusual(header, path)


def _samples(data: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    try:
        return decode_samples(data, header, path)
    except DataError as error:
        raise DataError(error.what.replace("an image", "a mask", 1), where=path, received=error.received,
                        fix=error.fix) from error


def _is_palette(data: np.ndarray, header: Header) -> bool:
    """Return whether a PNG file holds palette indices, which transparency does not affect."""
    return header.format == "PNG" and int(data[25]) == 3


def _opaque(samples: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    """Drop the alpha channel of (H, W, 4); a DataError if it is not opaque."""
    alpha = samples[..., 3]
    if not is_opaque(alpha):
        raise DataError(
            "a mask in colours is partly transparent: its stored colours are not what a viewer shows", where=path,
            received=f"{header}; {int((alpha != 255).sum())} pixels are not opaque",
            fix="save it without transparency:\nto keep the stored colours, magick FILE -alpha off FILE\n"
                "to lay them over black, magick FILE -background black -alpha remove -alpha off FILE")
    return samples[..., :3]


def _narrow(values: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    """Convert integers of more than 8 bits to uint8; a DataError unless all of them are ids."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 255:
        raise DataError(
            "a mask has more than 8 bits, and values that are not label ids; ids are whole numbers from 0 to 255",
            where=path, received=f"{header}, values {values.min():g}..{values.max():g}", fix=_AS_8_BIT)
    return values.astype(np.uint8)


def _grey_step(mode: str, tile: Sequence) -> int:
    """Return the factor by which Pillow multiplies the values of a grey image of 2 or 4 bits: 85 or 17, else 1."""
    raw_mode = tile[0][3] if mode == "L" and tile else ""
    return {"L;2": 85, "L;4": 17}.get(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode, 1)


# ---- values and colours ---------------------------------------------------------------------

_GREYS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)


def _colors_of(mode: str, step: int, palette: Sequence[int] | None) -> np.ndarray:
    """Return the colours that a viewer shows for the values of a mask: uint8 (n, 3)."""
    if mode == "1":
        return _GREYS[[0, 255]]
    if mode == "P":
        return np.array(palette or (), np.uint8)[:len(palette or ()) // 3 * 3].reshape(-1, 3)[:256]
    return _GREYS[::step]


def _ids(values: np.ndarray, table: np.ndarray, path: PathLike, colors: np.ndarray, by_color: bool) -> np.ndarray:
    """Read the ids of a grey or palette mask by its values or by its colours, if only one of them is possible.

    Args:
        values: uint8 (H, W).
        table: uint8 (m, 3), the colour of each value.
        path: the file, for the message.
        colors: uint8 (n, 3), the colours of the classes.
        by_color: read the mask by its colours in any case.
    """
    if by_color:
        if (table == table[:, :1]).all() and not (colors == colors[:, :1]).all(axis=1).any():
            return values  # no class is grey
        shown = np.zeros((256, 3), np.uint8)
        shown[:len(table)] = table
        return ids_from_colors(shown[values], path, colors)

    counts = cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    used = np.flatnonzero(counts)
    by_value = np.where(np.arange(256) < len(colors), np.arange(256), _INVALID)
    by_value[IGNORE] = IGNORE
    by_shade, names_class = _by_shade(table, colors)

    # a mask of black alone means "ignored" only if its palette holds the colours of the classes
    has_meaning = names_class[used].any() or set(_pack(colors).tolist()) <= set(_pack(table).tolist())
    differ = used[by_shade[used] != by_value[used]]
    if not has_meaning or not len(differ) or (by_shade[used] == _INVALID).any():
        return values
    if (by_value[used] == _INVALID).any():
        return by_shade.astype(np.uint8)[values]
    if np.array_equal(table[:len(colors)], colors):  # the palette lists the classes, so 255 is not its colour
        return values
    readings = "\n".join(f"value {v} (#{_pack(table[v]):06x}, {counts[v]} pixels): {_name(by_value[v])} by its value, "
                         f"{_name(by_shade[v])} by its colour" for v in differ[:8])
    raise AmbiguousMask(
        "a mask can be read in two ways: by its values, and by the colours that a viewer shows for them", where=path,
        received=readings,
        fix="to read all masks by their values, remove the colours from classes.txt;\n"
            "to read them by their colours, convert them: mxnetseg prepare colours SRC DST")


def _by_shade(table: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each value the class of its colour, int (256,): IGNORE for black, else -1; and whether it has one."""
    classes = {key: k for k, key in enumerate(_pack(colors).tolist())}
    keys = _pack(table).tolist()
    ids = np.full(256, _INVALID)
    ids[:len(keys)] = [classes.get(key, IGNORE if key == 0 else _INVALID) for key in keys]
    names_class = np.zeros(256, bool)
    names_class[:len(keys)] = [key in classes for key in keys]
    return ids, names_class


def _name(k: int) -> str:
    return "ignored" if k == IGNORE else f"class {k}"


def _pack(rgb: np.ndarray) -> np.ndarray:
    """Pack colours, uint8 (..., 3), into int64 (...), ``0xrrggbb``."""
    return rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
