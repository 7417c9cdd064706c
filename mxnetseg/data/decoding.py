"""Image files as uint8 (H, W, 3) RGB arrays. Other images are refused unless a :class:`Decoding` converts them.

Eight-bit grey, RGB and palette images are decoded by OpenCV. The samples of all other images are read as they are
stored: 16-bit PNG by OpenCV, TIFF by :mod:`mxnetseg.data.tiff`.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import ImageFile

from ..errors import DataError, DataNotFoundError
from ..files import PathLike, no_file
from . import tiff
from .headers import Header, check_size, open_image, read_header

IGNORE = 255
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless: JPEG would invent labels along edges

RESTORE = "restore the file from its source, or take its pair out of the data set"

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}
_EXIF_ORIENTATION = 0x0112
_GREY_OR_RGB = (1, 2)  # values of the tag PhotometricInterpretation


@dataclass(frozen=True)
class Decoding:
    """Conversion of images that are not 8-bit grey or RGB; the configuration keys ``data.*`` of the same names.

    Args:
        scale_to_8bit: the values that become 0 and 255, the same in all images and bands. Values between them are
            scaled linearly and rounded, values outside are clipped, and NaN becomes 0.
        scale_percentiles: the percentiles that become 0 and 255, computed for each band of each image separately,
            without NaN.
        bands: the bands that become red, green and blue, counted from 1. The alpha channel is the last one; the
            numbers continue through further pages.

    Example::

        Decoding(scale_to_8bit=(0, 3060), bands=(4, 3, 2))  # near infrared, red, green of a four-band image
    """

    scale_to_8bit: tuple[float, float] | None = None
    scale_percentiles: tuple[float, float] | None = None
    bands: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, data: Any) -> Decoding:
        """Return the decoding that the section ``data`` of a configuration declares."""
        return cls(data.scale_to_8bit, data.scale_percentiles, data.bands)

    @property
    def scales(self) -> bool:
        """Return whether a scaling of values to 0..255 is given."""
        return self.scale_to_8bit is not None or self.scale_percentiles is not None


PLAIN = Decoding()


class UndeclaredImage(DataError):
    """Error for an image that is not 8-bit grey or RGB, without a declared conversion.

    Args:
        low, high: the range of its values.
        fix: may hold ``{low}``, ``{high}`` and ``{of}``, which :meth:`suggest` fills in.
    """

    def __init__(self, what: str, *, where: object, received: object, low: float, high: float, fix: str):
        super().__init__(what, where=where, received=received)
        self.low, self.high, self._template = low, high, fix
        self.suggest(low, high, "the range of this image")

    def suggest(self, low: float, high: float, of: str) -> None:
        """Put a range of values into the fix, with ``of``, the description of the range."""
        self.fix = self._template.format(low=low, high=high if high > low else low + 1, of=of)


def read_image(path: PathLike, *, reduce: int = 1, decoding: Decoding = PLAIN) -> np.ndarray:
    """Read an image as an image viewer shows it: uint8 (H, W, 3), RGB.

    Grey images become RGB, an opaque alpha channel is dropped, and an EXIF rotation is applied.

    Args:
        path: the file.
        reduce: 1, 2, 4 or 8: a JPEG file is decoded at 1/``reduce`` of its size, rounded up, which is faster; any
            other file, and any file that ``decoding`` converts, is decoded at its full size.
        decoding: how an image of more than 8 bits, of other than 1 or 3 bands, or of several pages is converted.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is empty, damaged, truncated, no image, larger than the limit, or not 8-bit grey or RGB
            and ``decoding`` does not declare the conversion.
    """
    return decode_image(read_bytes(path, "image"), path, reduce=reduce, decoding=decoding)


def decode_image(data: np.ndarray, path: PathLike, *, reduce: int = 1, decoding: Decoding = PLAIN) -> np.ndarray:
    """Decode an image from the bytes of a file; see :func:`read_image`.

    Args:
        data: uint8 (n,).
        path: the file, for the message.
        reduce, decoding: see :func:`read_image`.
    """
    header = read_header(data)
    check_size(header, data, path, "image")
    if header is None:
        raise _undecodable(data, path)
    if header.frames > 1 and not header.pages:  # before decoding: OpenCV 4.11 may crash on damaged animations
        raise DataError("an image is an animation", where=path, received=str(header),
                        fix="save the frames as separate images")
    if header.is_plain and decoding == PLAIN and header.format != "TIFF":
        flag = _REDUCED[reduce] if header.format == "JPEG" else cv2.IMREAD_COLOR
        return cv2.cvtColor(_decode(data, path, flag), cv2.COLOR_BGR2RGB)
    samples = decode_samples(data, header, path, every_page=decoding.bands is not None)
    return _convert(samples, header, path, decoding)


def read_bytes(path: PathLike, role: str) -> np.ndarray:
    """Read a whole file: uint8 (n,), n > 0.

    Args:
        path: the file.
        role: ``'image'`` or ``'mask'``, for the message.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: it is empty or cannot be read.
    """
    if no_file(path) == "is not a regular file":
        raise DataError(f"the {role} is not a regular file", where=path, fix=RESTORE)
    try:
        data = np.fromfile(os.fspath(path), np.uint8)  # unlike cv2.imread, it accepts any file name
    except FileNotFoundError:
        raise DataNotFoundError(f"a file is missing: no such {role}", where=path, fix=RESTORE) from None
    except OSError as error:
        raise DataError(f"the {role} cannot be read", where=path, received=error,
                        fix="check the file's permissions and the disk") from error
    if not data.size:
        raise DataError(f"the {role} is an empty file", where=path, received="0 bytes", fix=RESTORE)
    return data


def decode_samples(data: np.ndarray, header: Header, path: PathLike, *, every_page: bool = False) -> np.ndarray:
    """Decode a file without loss: (H, W, bands) of its stored type, in the order R, G, B, ..., alpha last.

    Args:
        data: uint8 (n,), the file.
        header: header of the file.
        path: the file, for the message.
        every_page: append the bands of further pages.

    Raises:
        DataError: the file is damaged, or of a type that is not supported.
    """
    if header.format == "TIFF":
        return _tiff_samples(data, header, path, every_page)
    if header.has_alpha and not header.key and (header.format == "BMP" or _is_palette_png(data, header)):
        return _pillow(data, path, "RGBA")
    if header.has_alpha and not header.key:
        image = _rotate_by_exif(_rgb(_decode(data, path, cv2.IMREAD_UNCHANGED)), data, header, path)
        return image if header.bands == 3 else image[..., [0, 3]]  # grey with alpha comes with three equal bands
    color = _rgb(_decode(data, path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))[..., :header.bands]
    if header.key:
        opaque = np.iinfo(color.dtype).max * (color != np.array(header.key)).any(axis=2, keepdims=True)
        color = np.concatenate([color, opaque.astype(color.dtype)], axis=2)
    return color


def is_opaque(alpha: np.ndarray) -> bool:
    """Return whether an alpha channel, (H, W), has its highest value everywhere."""
    return bool(alpha.min() == (1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max))


# ---- conversion -----------------------------------------------------------------------------


def _convert(samples: np.ndarray, header: Header, path: PathLike, decoding: Decoding) -> np.ndarray:
    """Convert samples, (H, W, bands), to uint8 (H, W, 3), or raise the error that names the missing settings."""
    missing = []
    if decoding.bands is not None:
        if max(decoding.bands) > samples.shape[2]:
            raise DataError(f"data.bands names band {max(decoding.bands)} of an image that has {samples.shape[2]}",
                            where=path, received=f"data.bands: {list(decoding.bands)}; {header}",
                            fix=f"name three bands from 1 to {samples.shape[2]}")
        color = samples[..., [band - 1 for band in decoding.bands]]
    else:
        if header.frames > 1 or header.bands not in (1, 3) or \
                header.has_alpha and not is_opaque(_alpha(samples)):
            missing.append("bands")
        color = samples[..., :header.bands]

    if color.dtype != np.uint8 and not decoding.scales:
        missing.append("scale")
    if missing:
        raise _not_plain(samples, header, path, missing)
    if color.dtype == np.uint8 and decoding.scale_to_8bit not in (None, (0, 255)):
        low, high = decoding.scale_to_8bit
        raise DataError("an image has 8 bits already, so data.scale_to_8bit cannot apply to it", where=path,
                        received=f"data.scale_to_8bit: [{low:g}, {high:g}]; {header}",
                        fix="leave data.scale_to_8bit out where all images have 8 bits (on the command line: "
                            "--scale-to-8bit 0 255);\nsave images of one data set with one depth")
    if color.dtype != np.uint8 or decoding.scale_percentiles:
        color = np.stack([_scale(color[..., k], decoding) for k in range(color.shape[2])], axis=2)
    if color.shape[2] == 1:
        return np.repeat(color, 3, axis=2)
    if color.base is samples and samples.shape[2] == 4:
        return cv2.cvtColor(samples, cv2.COLOR_RGBA2RGB)  # five times as fast as a copy of the slice
    return np.ascontiguousarray(color)


def _scale(band: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Scale one band, (H, W) of any type, to uint8."""
    if decoding.scale_to_8bit is not None:
        low, high = decoding.scale_to_8bit
    else:
        finite = band[np.isfinite(band)] if band.dtype.kind == "f" else band
        low, high = np.percentile(finite, decoding.scale_percentiles) if finite.size else (0, 0)
    values = np.arange(65536) if band.dtype == np.uint16 else band
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    table = np.rint(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255)).astype(np.uint8)
    return table[band] if band.dtype == np.uint16 else table


def _not_plain(samples: np.ndarray, header: Header, path: PathLike, missing: list[str]) -> DataError:
    """Return the error for an image whose conversion to 8-bit RGB is not declared."""
    stored = samples[..., :header.bands]
    finite = stored[np.isfinite(stored)] if stored.dtype.kind == "f" else stored
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    what = "an image is not 8-bit grey or RGB, and how to convert it is not given"
    received, keys, options = f"{header}, values {low:g}..{high:g}", [], []

    if "bands" in missing:
        count = sum(page.samples for page in header.pages) if header.frames > 1 else header.bands
        bands = [1, 2, 3] if count >= 3 else [1, 1, 1]
        meaning = "which bands are red, green and blue, counted from 1; the numbers continue through further pages"
        if header.has_alpha and header.frames == 1:
            received += f", alpha {_alpha(samples).min():g}..{_alpha(samples).max():g}"
            if header.bands in (1, 3):
                meaning = "the stored colours, without the alpha channel;\nor save the files as they look over a " \
                          "background: magick FILE -background white -alpha remove -alpha off FILE"
                if missing == ["bands"]:
                    what = "an image is partly transparent: its stored colours are not what a viewer shows"
        keys.append(f"data.bands: {bands}    {meaning}")
        options.append("--bands " + " ".join(map(str, bands)))
    if "scale" in missing:
        keys += ["data.scale_to_8bit: [{low:.10g}, {high:.10g}]    the values that become 0 and 255, the same in all "
                 "images; here {of}", "or data.scale_percentiles: [2, 98]    each band of each image separately"]
        options.append("--scale-to-8bit {low:.10g} {high:.10g}")
    keys.append("in the configuration (train: --set KEY=VALUE); check-data, browse, pack, predict and eval take "
                + " ".join(options))
    return UndeclaredImage(what, where=path, received=received, low=float(low), high=float(high),
                           fix="\n".join(keys))


# ---- helpers --------------------------------------------------------------------------------


def _alpha(samples: np.ndarray) -> np.ndarray:
    """Return the last band, (H, W)."""
    last = samples.shape[2] - 1  # for 8 bits, OpenCV extracts it faster than NumPy compares a slice
    return cv2.extractChannel(samples, last) if samples.dtype == np.uint8 else samples[..., last]


def _decode(data: np.ndarray, path: PathLike, flag: int) -> np.ndarray:
    try:
        image = cv2.imdecode(data, flag)  # refuses a truncated JPEG; imread would return it half grey
    except cv2.error as error:  # OpenCV has its own limits, set by environment variables
        raise DataError("an image cannot be decoded by OpenCV", where=path, received=error.err or error,
                        fix=RESTORE) from error
    if image is None:
        raise _undecodable(data, path)
    return image


def _undecodable(data: np.ndarray, path: PathLike) -> DataError:
    return DataError("an image cannot be decoded: it is damaged, truncated or no image", where=path,
                     received=f"{data.size} bytes, the first are {bytes(data[:8])!r}", fix=RESTORE)


def _rgb(image: np.ndarray) -> np.ndarray:
    """Convert OpenCV's array to (H, W, bands) in the order R, G, B, alpha."""
    if image.ndim == 2:
        return image[..., None]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _is_palette_png(data: np.ndarray, header: Header) -> bool:
    return header.format == "PNG" and int(data[25]) == 3


def _pillow(data: np.ndarray, path: PathLike, mode: str) -> np.ndarray:
    """Decode a file with Pillow, upright: uint8 (H, W, bands of ``mode``)."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # GluonCV switches this on when it is imported
    try:
        with open_image(BytesIO(data)) as opened:
            image = np.array(opened.convert(mode))
            # newer versions of Pillow rotate TIFF files themselves, and no others
            return tiff.rotate(image, opened.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, zlib.error, ...
        raise _undecodable(data, path) from error


def _rotate_by_exif(image: np.ndarray, data: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    """Apply the EXIF rotation, which OpenCV applies only to images without alpha."""
    if not header.has_exif:
        return image
    try:
        with open_image(BytesIO(data)) as opened:
            orientation = opened.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise _undecodable(data, path) from error
    return tiff.rotate(image, orientation)


def _is_stored_as_shown(page: tiff.Page) -> bool:
    """Return whether a page holds 8-bit grey or RGB samples that :mod:`mxnetseg.data.tiff` reads."""
    return page.photometric in _GREY_OR_RGB and page.dtype == "uint8" and tiff.is_read(page)


def _plain_tiff(data: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    """Decode a palette, inverted, bilevel, CMYK, YCbCr or JPEG-compressed TIFF file to 8-bit grey or RGB."""
    page = header.pages[0]
    tiff.check_blocks(data, page)
    if page.samples == 1:  # OpenCV reads neither 2 nor 4 bits
        return _pillow(data, path, "RGB")[..., :header.bands]
    return _rgb(_decode(data, path, cv2.IMREAD_COLOR))


def _tiff_samples(data: np.ndarray, header: Header, path: PathLike, every_page: bool) -> np.ndarray:
    pages = header.pages if every_page else header.pages[:1]
    try:
        if header.is_plain and not _is_stored_as_shown(pages[0]):
            return _plain_tiff(data, header, path)
        for page in pages:
            if page.photometric not in _GREY_OR_RGB:
                raise tiff.TiffError(f"its values are not grey or RGB (PhotometricInterpretation "
                                     f"{page.photometric})", is_damaged=False)
            if (page.size, page.dtype) != (pages[0].size, pages[0].dtype):
                raise tiff.TiffError("its pages differ in size or type, so they are not the bands of one image",
                                     is_damaged=False)
        arrays = [tiff.read_samples(data, page) for page in pages]
    except tiff.TiffError as error:
        if error.is_damaged:
            raise DataError("an image cannot be decoded: it is damaged or truncated", where=path,
                            received=f"{data.size} bytes; {error}", fix=RESTORE) from error
        raise DataError(f"this type of TIFF image is not supported: {error}", where=path, received=str(header),
                        fix="save it without compression and with 8 or 16 bits a band, for example by\n"
                            "gdal_translate -co COMPRESS=NONE FILE NEW.tif") from error

    return np.concatenate(arrays, axis=2) if len(arrays) > 1 else arrays[0]
