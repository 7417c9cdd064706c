"""TIFF files as arrays of the samples they store: any number of bands and pages, 8 to 64 bits, integer or float.

OpenCV and Pillow convert such files on reading: both drop the low byte of 16 bits, bands after the third, and pages
after the first; Pillow calls three bands of 16 bits ``RGB``. Both fill damaged blocks with black. Therefore tags and
samples are read here; the libtiff inside OpenCV and Pillow is used only to expand LZW and PackBits.

Source: TIFF 6.0 (Adobe, 1992); TIFF Technical Note 3 (predictor 3); BigTIFF.
"""
from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ImageFile, TiffImagePlugin

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO, CMYK = 0, 5  # values of the tag PhotometricInterpretation

_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}  # types of tags that hold integers
_SAMPLE_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "uint"}  # values of the tag SampleFormat
_NONE, _LZW, _DEFLATE, _PACKBITS, _OLD_DEFLATE = 1, 5, 8, 32773, 32946
_MOST_PAGES = 65536
_MOST_EXPANSION = 1400  # LZW makes at most 4096 bytes of 12 bits, and fewer on average


class TiffError(ValueError):
    """Error for a TIFF file that is damaged (``is_damaged``) or of a type that is not supported."""

    def __init__(self, what: str, is_damaged: bool = True):
        super().__init__(what)
        self.is_damaged = is_damaged


class Page(NamedTuple):
    """One image of a TIFF file.

    Attributes:
        tags: tag -> its integers; tags of other types are left out.
        order: ``'<'`` or ``'>'``, the byte order of the file.
    """

    tags: dict[int, tuple[int, ...]]
    order: str

    def tag(self, number: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return self.tags.get(number, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as stored."""
        return self.tag(256), self.tag(257)

    @property
    def samples(self) -> int:
        """Number of bands, alpha included."""
        return self.tag(277, 1)

    @property
    def dtype(self) -> str:
        """Type of a sample, such as ``'uint16'``; with 1, 2 or 4 bits ``'uint1'``, ``'uint2'`` or ``'uint4'``."""
        bits, formats = set(self.tags.get(258, (1,))), set(self.tags.get(339, (1,)))
        name = _SAMPLE_FORMATS.get(next(iter(formats)), "complex")
        return f"{name}{next(iter(bits))}" if len(bits) == len(formats) == 1 else "mixed"

    @property
    def photometric(self) -> int:
        """Meaning of the values: 0 white is zero, 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, ..."""
        return self.tag(262, 1)

    @property
    def has_alpha(self) -> bool:
        """Return whether the last band is declared as transparency."""
        extra = self.tags.get(338, ())
        return bool(extra) and extra[-1] in (1, 2)

    @property
    def is_reduced(self) -> bool:
        """Return whether this is a thumbnail, an overview or a transparency mask of another page."""
        return bool(self.tag(254) & 5) or self.tag(255) == 2


def read_pages(data: np.ndarray) -> list[Page]:
    """Read the tags of the pages: the first one, and further ones except thumbnails, overviews and masks.

    Args:
        data: uint8 (n,), the file.

    Raises:
        TiffError: the file is damaged.
    """
    order = "<" if data[0] == ord("I") else ">"
    is_big = bytes(data[2:4]) in (b"+\0", b"\0+")
    try:
        offset, = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
        pages: list[Page] = []
        seen = set()
        while offset:
            if offset in seen or len(seen) == _MOST_PAGES:
                raise TiffError("its list of pages does not end")
            seen.add(offset)
            tags, offset = _read_directory(data, offset, order, is_big)
            page = Page(tags, order)
            if not pages or not page.is_reduced:
                pages.append(page)
    except (struct.error, OverflowError):  # an offset beyond the file, or beyond 64 bits
        raise TiffError("its tags lie outside the file") from None

    if not pages or not min(pages[0].size) > 0 or pages[0].samples < 1:
        raise TiffError("it holds no image")
    return pages


def read_samples(data: np.ndarray, page: Page) -> np.ndarray:
    """Read the samples of a page as they are stored, upright: (H, W, bands), of the page's type.

    Args:
        data: uint8 (n,), the file.
        page: a page returned by :func:`read_pages`.

    Raises:
        TiffError: the page is damaged, or of a type that is not supported.
    """
    name, compression, predictor = page.dtype, page.tag(259, _NONE), page.tag(317, 1)
    if name not in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"):
        raise TiffError(f"its samples are {name}", is_damaged=False)
    if not is_read(page):
        raise TiffError(f"its compression {compression} with predictor {predictor} is supported for 8-bit grey and "
                        "RGB only", is_damaged=False)

    dtype = np.dtype(name)
    (width, height), bands = page.size, page.samples
    planes, channels = (bands, 1) if page.tag(284, 1) == 2 and bands > 1 else (1, bands)
    if 322 in page.tags:
        block_width, block_height = page.tag(322), page.tag(323)
        offsets, counts = page.tags.get(324, ()), page.tags.get(325, ())
    else:
        block_width, block_height = width, min(page.tag(278, height), height)
        offsets, counts = page.tags.get(273, ()), page.tags.get(279, ())
        if len(offsets) == 1 and not counts:  # some old writers leave the count out
            counts = (data.size - offsets[0],)

    pixel = dtype.itemsize * channels
    if not 0 < block_width * block_height * pixel < 2 ** 31:
        raise TiffError("its blocks have no size, or an impossible one")
    across, down = -(-width // block_width), -(-height // block_height)
    if not len(offsets) == len(counts) == across * down * planes:
        raise TiffError("the number of its blocks of pixels does not fit its size")
    check_blocks(data, page)
    if width * height * bands * dtype.itemsize > _MOST_EXPANSION * data.size:
        raise TiffError("its tags claim more pixels than its bytes can hold")

    image = np.zeros((height, width, bands), dtype)  # the system allocates memory as it is filled
    for k, (at, count) in enumerate(zip(offsets, counts)):
        plane, block = divmod(k, across * down)
        y, x = block // across * block_height, block % across * block_width
        rows = block_height if 322 in page.tags else min(block_height, height - y)
        shape = (rows, block_width, channels)
        raw = _expand(data[at:at + count], compression, shape, dtype.itemsize)
        pixels = _undo_predictor(raw, predictor, shape, dtype, page.order)
        target = image[y:y + rows, x:x + block_width, plane:plane + channels]
        target[...] = pixels[:target.shape[0], :target.shape[1]]
    return rotate(image, page.tag(274, 1))


def is_read(page: Page) -> bool:
    """Return whether the compression and the order of bits of a page are supported here."""
    return (page.tag(259, _NONE) in (_NONE, _LZW, _DEFLATE, _PACKBITS, _OLD_DEFLATE)
            and page.tag(317, 1) in (1, 2, 3) and page.tag(266, 1) == 1)


def check_blocks(data: np.ndarray, page: Page) -> None:
    """Refuse a page whose blocks of pixels lie outside the file, with a TiffError."""
    for offsets, counts in ((324, 325), (273, 279)):
        if any(at + count > data.size for at, count in zip(page.tags.get(offsets, ()), page.tags.get(counts, ()))):
            raise TiffError("its blocks of pixels lie outside the file")


def rotate(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip an image, (H, W, ...), so that it is upright; ``orientation`` as in TIFF and EXIF, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


# ---- helpers --------------------------------------------------------------------------------


def _read_directory(data: np.ndarray, at: int, order: str, is_big: bool) -> tuple[dict, int]:
    """Read the integer tags of a directory, and the offset of the next directory, 0 after the last."""
    count, = struct.unpack_from(order + ("Q" if is_big else "H"), data, at)
    at += 8 if is_big else 2
    entry = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
    if count * entry.size > data.size:
        raise TiffError("its tags lie outside the file")

    tags = {}
    for _ in range(count):
        number, tag_type, length, value = entry.unpack_from(data, at)
        at += entry.size
        if tag_type not in _INTEGERS or not length:
            continue
        dtype = np.dtype(order + _INTEGERS[tag_type])
        source, start = np.frombuffer(value, np.uint8), 0
        if length * dtype.itemsize > len(value):
            source = data
            start, = struct.unpack(order + ("Q" if is_big else "I"), value)
        if start + length * dtype.itemsize > source.size:
            raise TiffError("its tags lie outside the file")
        tags[number] = tuple(source[start:start + length * dtype.itemsize].view(dtype).tolist())

    return tags, struct.unpack_from(order + ("Q" if is_big else "I"), data, at)[0]


def _expand(packed: np.ndarray, compression: int, shape: tuple[int, int, int], itemsize: int) -> np.ndarray:
    """Expand a compressed block of pixels: uint8 (bytes of ``shape``,)."""
    rows, row = shape[0], shape[1] * shape[2] * itemsize
    raw: np.ndarray | None = packed
    if compression in (_DEFLATE, _OLD_DEFLATE):
        try:
            stream = zlib.decompressobj()
            raw = np.frombuffer(stream.decompress(packed.tobytes(), rows * row), np.uint8)
            if not stream.eof:
                stream.decompress(stream.unconsumed_tail, 1)  # verifies the checksum, which comes last
        except zlib.error as error:
            raise TiffError(f"a block of pixels is damaged ({error})") from None
    elif compression != _NONE:
        raw = _expand_by_libtiff(packed, compression, rows, row)
    if raw is None or raw.size < rows * row:
        raise TiffError("a block of pixels is damaged or cut off")
    return raw[:rows * row]


def _expand_by_libtiff(packed: np.ndarray, compression: int, height: int, width: int) -> np.ndarray | None:
    """Expand a block as the only strip of a grey TIFF file, since libtiff does not interpret its bytes.

    Args:
        packed: uint8 (m,), the block.
        compression: compression of the block.
        height, width: size of the expanded block, in bytes.

    Returns:
        uint8 (height * width,), None if the block is damaged.
    """
    bits = 8
    if width % 2 == 0 or height % 2 == 0:
        bits, height, width = (16, height, width // 2) if width % 2 == 0 else (16, height // 2, width)
    tags = ((256, width), (257, height), (258, bits), (259, compression), (262, 1), (273, 146), (277, 1),
            (278, height), (279, packed.size), (284, 1), (339, 1))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + directory + bytes(4)
    file = head + packed.tobytes()

    if bits == 16:
        raw = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        return None if raw is None else raw.reshape(-1).view(np.uint8)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # GluonCV switches this on when it is imported
    try:
        with TiffImagePlugin.TiffImageFile(BytesIO(file)) as image:  # OpenCV ignores damage in 8-bit strips
            return np.asarray(image).reshape(-1)
    except Exception:  # Pillow raises OSError, ValueError, ...
        return None


def _undo_predictor(raw: np.ndarray, predictor: int, shape: tuple[int, int, int], dtype: np.dtype,
                    order: str) -> np.ndarray:
    """Return the samples of a block, ``shape``, by summing up the differences along each row."""
    rows, columns, channels = shape
    if predictor == 3:  # differences of the bytes of a row, the highest bytes of all samples first
        size = dtype.itemsize
        summed = np.cumsum(raw.reshape(rows, columns * size, channels), axis=1, dtype=np.uint8)
        planes = summed.reshape(rows, size, columns * channels).swapaxes(1, 2)
        return np.ascontiguousarray(planes).view(dtype.newbyteorder(">")).reshape(shape)
    samples = raw.view(np.dtype(f"{order}{dtype.str[1:]}")).astype(dtype, copy=False).reshape(shape)
    if predictor == 2:
        whole = samples.view(f"u{dtype.itemsize}")
        samples = np.cumsum(whole, axis=1, dtype=whole.dtype).view(dtype)
    return samples
