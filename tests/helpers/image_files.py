"""Image files that Pillow and OpenCV cannot write, made byte by byte."""
import struct
import zlib

import numpy as np

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773


def tiff(*pages, order="<", big=False, compression=NONE, predictor=1, planar=False, tile=None, rows=5, tags=None):
    """Return the bytes of a TIFF file.

    Args:
        pages: arrays (H, W, bands) of any type; a pair (array, tags) adds tags to one page.
        order: ``'<'`` or ``'>'``.
        big: BigTIFF.
        compression: NONE, DEFLATE, or LZW and PACKBITS, which store the data without making it smaller.
        predictor: 1 none, 2 differences of samples, 3 differences of the bytes of floats.
        planar: store each band separately.
        tile: (height, width) of tiles instead of strips.
        rows: number of rows in a strip.
        tags: tag -> integers, added to every page or replacing the usual ones; the value None leaves a tag out.
    """
    offset, count = ("Q", "Q") if big else ("I", "H")
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
                    + (struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)))
    link = len(out) - (8 if big else 4)
    for page in pages:
        array, page_tags = page if isinstance(page, tuple) else (page, {})
        height, width, bands = array.shape
        blocks = []
        for plane in ([array[..., k:k + 1] for k in range(bands)] if planar else [array]):
            for y in range(0, height, tile[0] if tile else rows):
                for x in range(0, width, tile[1] if tile else width):
                    block = plane[y:y + (tile[0] if tile else rows), x:x + (tile[1] if tile else width)]
                    if tile:
                        block = np.pad(block, [(0, tile[0] - block.shape[0]), (0, tile[1] - block.shape[1]), (0, 0)])
                    blocks.append(_pack(_predict(block, predictor, order), compression))
        places = []
        for block in blocks:
            places.append(len(out))
            out += block
        sample_format = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
        entries = {256: [width], 257: [height], 258: [array.dtype.itemsize * 8] * bands, 259: [compression],
                   262: [2 if bands == 3 else 1], 277: [bands], 284: [2 if planar else 1], 317: [predictor],
                   339: [sample_format] * bands}
        entries.update({322: [tile[1]], 323: [tile[0]], 324: places, 325: [len(b) for b in blocks]} if tile else
                       {273: places, 278: [rows], 279: [len(b) for b in blocks]})
        entries.update(tags or {})
        entries.update(page_tags)
        entries = {tag: values for tag, values in sorted(entries.items()) if values is not None}
        out += bytes(-len(out) % 8)
        outside = {}
        for tag, values in entries.items():
            if len(values) > (2 if big else 1):
                outside[tag] = len(out)
                out += struct.pack(f"{order}{len(values)}I", *values)
        out += bytes(-len(out) % 8)
        struct.pack_into(order + offset, out, link, len(out))
        out += struct.pack(order + count, len(entries))
        for tag, values in entries.items():
            inline = struct.pack(order + offset, outside[tag]) if tag in outside else \
                struct.pack(f"{order}{len(values)}I", *values).ljust(8 if big else 4, b"\0")
            out += struct.pack(f"{order}HH{offset}", tag, 4, len(values)) + inline
        link = len(out)
        out += bytes(8 if big else 4)
    return bytes(out)


def _predict(block, predictor, order):
    """Return the bytes of a block, (h, w, c), as differences along its rows."""
    height, width, bands = block.shape
    if predictor == 2:
        whole = block.view(f"u{block.dtype.itemsize}")
        block = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    if predictor == 3:
        size = block.dtype.itemsize
        planes = block.astype(block.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * bands, size)
        row = planes.swapaxes(1, 2).reshape(height, size * width, bands)
        return np.concatenate([row[:, :1], row[:, 1:] - row[:, :-1]], axis=1).tobytes()
    return block.astype(block.dtype.newbyteorder(order)).tobytes()


def _pack(data, compression):
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        runs = [data[k:k + 128] for k in range(0, len(data), 128)]
        return b"".join(bytes([len(run) - 1]) + run for run in runs)
    if compression == LZW:  # codes of nine bits: the table is cleared before ten bits are needed
        codes = [code for k in range(0, len(data), 200) for code in (256, *data[k:k + 200])] + [257]
        bits = np.unpackbits(np.array(codes, ">u2").view(np.uint8)).reshape(-1, 16)[:, 7:]
        return np.packbits(bits).tobytes()
    return data


def png(*chunks):
    """Return the bytes of a PNG file with these chunks, pairs (name, data)."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks)


def png_of_claimed_size(width, height):
    """Return a PNG file of a few bytes whose header claims a size; its pixels are missing."""
    return png((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99))),
               (b"IEND", b""))
