"""Samples of TIFF files written byte by byte, by OpenCV and by Pillow."""
import itertools

import cv2
import image_files
import numpy as np
import pytest
from image_files import DEFLATE, LZW, NONE, PACKBITS
from PIL import Image

from mxnetseg.data.tiff import TiffError, read_pages, read_samples, rotate

TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64)
_CASES = list(itertools.product(TYPES, (NONE, DEFLATE, LZW, PACKBITS), (1, 2, 3), ("<", ">"), (False, True)))


def values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=shape) * 1000).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def read(data, page=0):
    data = np.frombuffer(data, np.uint8)
    return read_samples(data, read_pages(data)[page])


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 13])
def test_samples_are_read_back_unchanged(bands):
    # each type meets each compression, predictor and byte order; the layout changes from case to case
    for k, (dtype, compression, predictor, order, big) in enumerate(_CASES):
        if predictor == 3 and np.dtype(dtype).kind != "f":
            continue
        wanted = values(dtype, (23, 37, bands), seed=k)
        data = image_files.tiff(wanted, order=order, big=big, compression=compression, predictor=predictor,
                                planar=k % 3 == 0, tile=(16, 32) if k % 4 == 1 else None, rows=(5, 23, 1000)[k % 3])
        found = read(data)
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted), (dtype, compression, predictor, order, k)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_files_written_by_opencv(dtype, compression):
    wanted = values(dtype, (40, 30))  # not three bands, since OpenCV writes floats as LogLuv
    _, data = cv2.imencode(".tif", wanted, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert np.array_equal(read(data)[..., 0], wanted)
    if np.dtype(dtype).kind != "f":
        wanted = values(dtype, (40, 30, 3))
        _, data = cv2.imencode(".tif", wanted, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        assert np.array_equal(read(data)[..., ::-1], wanted)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_files_written_by_pillow(tmp_path, compression):
    for name, wanted in (("rgba", values(np.uint8, (40, 30, 4))), ("16 bits", values(np.uint16, (40, 30))),
                         ("float", values(np.float32, (40, 30)))):
        Image.fromarray(wanted).save(tmp_path / "x.tif", compression=compression)
        found = read((tmp_path / "x.tif").read_bytes())
        assert np.array_equal(found if wanted.ndim == 3 else found[..., 0], wanted), name


def test_pages_without_thumbnails_and_masks():
    first, second = values(np.uint16, (6, 8, 1)), values(np.uint16, (6, 8, 1), seed=1)
    small = values(np.uint16, (3, 4, 1))
    data = image_files.tiff(first, (small, {254: [1]}), (small, {254: [4]}), second, (small, {255: [2]}))
    assert len(read_pages(np.frombuffer(data, np.uint8))) == 2
    assert np.array_equal(read(data, page=1), second)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_opencv_does(orientation, tmp_path):
    wanted = values(np.uint8, (6, 8, 3))
    data = image_files.tiff(wanted, tags={274: [orientation]})
    ours = read(data)
    assert np.array_equal(ours, rotate(wanted, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(wanted).save(tmp_path / "x.jpg", exif=exif, quality=100, subsampling=0)
    theirs = cv2.imread(str(tmp_path / "x.jpg"))[..., ::-1].astype(int)
    assert theirs.shape == ours.shape and np.abs(theirs - ours).mean() < 30 < np.abs(theirs - ours[::-1]).mean()


_WHOLE = image_files.tiff(values(np.uint16, (20, 20, 4)), compression=DEFLATE, predictor=2)


@pytest.mark.parametrize("data", [
    _WHOLE[:200], _WHOLE[:-9], _WHOLE[:4] + b"\xff" * 4 + _WHOLE[8:], _WHOLE[:30] + bytes(60) + _WHOLE[90:],
    image_files.tiff(values(np.uint16, (20, 20, 1)), tags={279: [10 ** 9] * 4}),
    image_files.tiff(values(np.uint16, (20, 20, 1)), tags={273: [8], 279: [40]}),
    image_files.tiff(values(np.uint16, (20, 20, 1)), tags={256: [10 ** 6], 257: [10 ** 6]}),
    image_files.tiff(values(np.uint16, (20, 20, 1)), tags={257: [0]}),
    image_files.tiff(values(np.uint8, (20, 20, 1)), tile=(16, 16), tags={322: [0]}),
    image_files.tiff(values(np.uint8, (20, 20, 1)), compression=LZW, tags={279: [3] * 4}),
], ids=["start", "end", "offset", "pixels", "counts", "too few strips", "size", "no size", "tiles", "strips"])
def test_damage_raises_our_error(data):
    with pytest.raises(TiffError) as error:
        read(data)
    assert error.value.is_damaged


def test_an_endless_list_of_pages():
    data = bytearray(image_files.tiff(values(np.uint8, (4, 4, 1))))
    data[-4:] = data[4:8]  # the next page is the first one
    with pytest.raises(TiffError, match="does not end"):
        read(bytes(data))


@pytest.mark.parametrize("tags", [{259: [7]}, {259: [50000]}, {266: [2]}, {339: [5]}, {258: [12]}, {258: [8, 16, 8]}])
def test_unsupported_types_of_tiff(tags):
    with pytest.raises(TiffError) as error:
        read(image_files.tiff(values(np.uint16, (4, 4, 3)), tags=tags))
    assert not error.value.is_damaged
