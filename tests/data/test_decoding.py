"""Images that do not fit 8-bit RGB: refused with the keys that convert them, and converted by these keys."""
import struct
import warnings
import zlib

import cv2
import image_files
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.audit import audit
from mxnetseg.data.decoding import Decoding, read_image
from mxnetseg.data.headers import DEFAULT_LIMIT, HIGHEST_LIMIT, LIMIT_VARIABLE
from mxnetseg.data.masks import read_mask
from mxnetseg.data.source import FileSource
from mxnetseg.errors import DataError, UsageError

SHAPE = 24, 32


def ramp(bands, dtype=np.uint16, high=3060):
    """Return values that rise from 0 to ``high``: (24, 32, bands)."""
    count = SHAPE[0] * SHAPE[1] * bands
    return np.linspace(0, high, count).astype(dtype).reshape(*SHAPE, bands)


def scaled(values, low, high):
    return np.rint(((values.astype(float) - low) / (high - low) * 255).clip(0, 255)).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def write(data, name="x.tif"):
        (tmp_path / name).write_bytes(bytes(data))
        return tmp_path / name
    return write


def png(array):
    return cv2.imencode(".png", array[..., ::-1] if array.shape[2] == 3 else array[..., [2, 1, 0, 3]])[1]


# ---- refused images

REFUSED = {
    "uint16 RGB": (image_files.tiff(ramp(3)), "TIFF, 3 bands of uint16, values 0..3060"),
    "uint16 grey": (image_files.tiff(ramp(1)), "TIFF, 1 band of uint16"),
    "int16": (image_files.tiff(ramp(1, np.int16) - 1000), "1 band of int16, values -1000..2060"),
    "int8": (image_files.tiff(ramp(3, np.int8, 127)), "3 bands of int8"),
    "float32": (image_files.tiff(ramp(3, np.float32, 1.5)), "3 bands of float32, values 0..1.5"),
    "planar": (image_files.tiff(ramp(3), planar=True), "3 bands of uint16, values 0..3060"),
    "tiles": (image_files.tiff(ramp(3), tile=(16, 16)), "3 bands of uint16, values 0..3060"),
    "big-endian BigTIFF": (image_files.tiff(ramp(3), order=">", big=True), "3 bands of uint16, values 0..3060"),
    "two bands": (image_files.tiff(ramp(2, np.uint8, 255)), "2 bands of uint8"),
    "four bands": (image_files.tiff(ramp(4, np.uint8, 255)), "4 bands of uint8"),
    "13 bands": (image_files.tiff(ramp(13)), "13 bands of uint16"),
    "two pages": (image_files.tiff(ramp(3, np.uint8, 255), ramp(3, np.uint8, 255)), "2 pages of 3 bands of uint8"),
    "16-bit PNG": (png(ramp(3)), "PNG, 3 bands of uint16, values 0..3060"),
    "16-bit RGBA PNG": (png(ramp(4)), "PNG, 3 bands and alpha of uint16"),
    "complex": (image_files.tiff(ramp(3, np.float32), tags={339: [6, 6, 6]}), "complex32"),
    "12 bits": (image_files.tiff(ramp(3), tags={258: [12, 12, 12]}), "uint12"),
    "JPEG of four bands": (image_files.tiff(ramp(4, np.uint8, 255), tags={259: [7]}), "4 bands of uint8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_images_that_do_not_fit_8_bit_rgb_are_refused(name, save):
    data, received = REFUSED[name]
    path = save(data)
    with pytest.raises(DataError) as error:
        read_image(path)
    assert error.value.where == path and received in f"{error.value.what} {error.value.received}"
    assert "data." in error.value.fix or "gdal_translate" in error.value.fix


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ("complex", "12 bits", "JPEG of four bands")])
def test_the_fix_that_is_shown_reads_the_image(name, save):
    path = save(REFUSED[name][0])
    with pytest.raises(DataError) as error:
        read_image(path)
    keys = {}
    for line in error.value.fix.splitlines():
        if line.startswith("data."):
            key, _, value = line.partition(":")
            keys[key[len("data."):]] = tuple(float(v) if "scale" in key else int(v)
                                             for v in value[value.index("[") + 1:value.index("]")].split(","))
    assert keys
    image = read_image(path, decoding=Decoding(**keys))
    assert image.shape == (*SHAPE, 3) and image.dtype == np.uint8 and image.max() - image.min() > 100


def test_transparency_is_refused_opaque_alpha_is_dropped(save, rng):
    color = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    alpha = np.full((*SHAPE, 1), 255, np.uint8)
    for end, options in ((".png", {}), (".webp", {"lossless": True}), (".tif", {})):
        path = save(b"", f"x{end}")
        Image.fromarray(np.concatenate([color, alpha], axis=2)).save(path, **options)
        assert np.array_equal(read_image(path), color), end
        alpha[3, 4] = 254
        Image.fromarray(np.concatenate([color, alpha], axis=2)).save(path, **options)
        with pytest.raises(DataError, match="partly transparent") as error:
            read_image(path)
        assert "data.bands: [1, 2, 3]" in error.value.fix and "alpha 254..255" in error.value.received
        assert np.array_equal(read_image(path, decoding=Decoding(bands=(1, 2, 3))), color), end
        alpha[3, 4] = 255


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_other_ways_to_be_transparent(mode, save, rng):
    grey = Image.fromarray(rng.integers(0, 4, SHAPE, dtype=np.uint8) * 60)
    path = save(b"", "x.png")
    if mode == "LA":
        grey.putalpha(Image.fromarray(np.full(SHAPE, 200, np.uint8)))
        grey.save(path)
    else:
        grey.convert(mode).save(path, transparency={"P": 0, "L": 60, "RGB": (60, 60, 60)}[mode])
    with pytest.raises(DataError, match="partly transparent"):
        read_image(path)
    if mode != "LA":  # the transparent colour does not occur
        grey.convert(mode).save(path, transparency={"P": bytes([255] * 256), "L": 7, "RGB": (7, 7, 7)}[mode])
        assert np.array_equal(read_image(path), np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("end", [".png", ".webp"])
def test_an_animation_is_refused(end, save):
    frames = [Image.fromarray(np.full((*SHAPE, 3), v, np.uint8)) for v in (9, 200)]
    path = save(b"", f"x{end}")
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="animation") as error:
        read_image(path)
    assert "2 frames" in error.value.received
    frames[0].save(path, save_all=True)
    assert read_image(path).shape == (*SHAPE, 3)


# ---- conversion

@pytest.mark.parametrize("dtype, low, high", [(np.uint16, 0, 3060), (np.int16, -1000, 2060), (np.float32, 0, 1.5),
                                              (np.uint32, 100, 5000), (np.float64, -2, 2)])
def test_scaling_keeps_every_grey_level(dtype, low, high, save):
    values = np.linspace(low, high, SHAPE[0] * SHAPE[1] * 3).astype(dtype).reshape(*SHAPE, 3)
    image = read_image(save(image_files.tiff(values)), decoding=Decoding(scale_to_8bit=(low, high)))
    assert np.array_equal(image, scaled(values, low, high)) and len(np.unique(image)) == 256


def test_16_bit_png_and_tiff_are_read_alike(save):
    decoding = Decoding(scale_to_8bit=(100, 3000))
    assert np.array_equal(read_image(save(png(ramp(3)), "x.png"), decoding=decoding), scaled(ramp(3), 100, 3000))
    assert np.array_equal(read_image(save(image_files.tiff(ramp(3))), decoding=decoding), scaled(ramp(3), 100, 3000))


def test_percentiles_are_computed_for_each_band(save):
    values = ramp(3)
    values[..., 1] //= 7
    image = read_image(save(image_files.tiff(values)), decoding=Decoding(scale_percentiles=(2, 98)))
    for k in range(3):
        assert np.array_equal(image[..., k], scaled(values[..., k], *np.percentile(values[..., k], (2, 98))))


def test_nan_is_left_out_of_percentiles_and_becomes_0(save):
    values = ramp(3, np.float32, 10)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    image = read_image(save(image_files.tiff(values)), decoding=Decoding(scale_percentiles=(0, 100)))
    assert image[0, 0].tolist() == [0, 0, 0] and image[0, 1].tolist() == [255] * 3 and len(np.unique(image)) > 200
    image = read_image(save(image_files.tiff(values)), decoding=Decoding(scale_to_8bit=(0, 10)))
    assert image[0, 0].tolist() == [0, 0, 0] and image[0, 1].tolist() == [255] * 3
    values[:] = np.nan
    assert not read_image(save(image_files.tiff(values)), decoding=Decoding(scale_percentiles=(0, 100))).any()


def test_bands_are_counted_from_1(save):
    values = ramp(5, np.uint8, 255)
    path = save(image_files.tiff(values))
    assert np.array_equal(read_image(path, decoding=Decoding(bands=(5, 3, 1))), values[..., [4, 2, 0]])
    with pytest.raises(DataError, match="band 6 of an image that has 5"):
        read_image(path, decoding=Decoding(bands=(6, 3, 1)))


def test_band_numbers_continue_through_further_pages(save):
    pages = [ramp(1, np.uint16, high) for high in (1000, 2000, 3000)]
    decoding = Decoding(bands=(3, 1, 2), scale_to_8bit=(0, 3000))
    image = read_image(save(image_files.tiff(*pages)), decoding=decoding)
    assert np.array_equal(image, scaled(np.concatenate([pages[k] for k in (2, 0, 1)], axis=2), 0, 3000))
    with pytest.raises(DataError, match="pages differ"):
        read_image(save(image_files.tiff(pages[0], pages[1][:9])), decoding=decoding)


def test_bands_swap_the_colours_of_plain_images(save, rng):
    color = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    for name in ("x.png", "x.bmp", "x.tif"):
        path = save(b"", name)
        Image.fromarray(color).save(path)
        assert np.array_equal(read_image(path, decoding=Decoding(bands=(3, 2, 1))), color[..., ::-1])


def test_scaling_does_not_apply_to_8_bits_unless_it_changes_nothing(save, rng):
    color = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    path = save(b"", "x.png")
    Image.fromarray(color).save(path)
    with pytest.raises(DataError, match="8 bits already") as error:
        read_image(path, decoding=Decoding(scale_to_8bit=(0, 3060)))
    assert "--scale-to-8bit 0 255" in error.value.fix
    assert np.array_equal(read_image(path, decoding=Decoding(scale_to_8bit=(0, 255))), color)
    assert np.array_equal(read_image(path, decoding=Decoding(scale_percentiles=(0, 100)))[..., 0],
                          scaled(color[..., 0], color[..., 0].min(), color[..., 0].max()))


@pytest.mark.parametrize("deep", [False, True])
def test_orientation_is_applied_at_every_depth(deep, save):
    values = ramp(4, np.uint16 if deep else np.uint8, 255)
    values[..., 3] = 65535 if deep else 255
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes()[6:]
    rows = b"".join(b"\0" + row.astype(">u2" if deep else np.uint8).tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SHAPE[1], SHAPE[0], 16 if deep else 8, 6, 0, 0, 0)
    path = save(image_files.png((b"IHDR", header), (b"eXIf", payload), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")),
                "x.png")
    image = read_image(path, decoding=Decoding(scale_to_8bit=(0, 255)))
    assert np.array_equal(image, np.rot90(values[..., :3].astype(np.uint8), -1))
    with pytest.raises(DataError, match="band 5"):
        read_image(path, decoding=Decoding(bands=(5, 1, 1), scale_to_8bit=(0, 255)))


# ---- plain TIFF, which OpenCV and Pillow read only in part

@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"tile": (16, 32), "order": ">"}, {"planar": True},
                                    {"compression": image_files.LZW, "predictor": 2}, {"big": True}])
@pytest.mark.parametrize("bands", [1, 3])
def test_8_bit_tiff_of_any_layout(layout, bands, save):
    values = ramp(bands, np.uint8, 255)
    assert np.array_equal(read_image(save(image_files.tiff(values, **layout))), np.broadcast_to(values, (*SHAPE, 3)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_grey_and_palette_tiff_of_few_bits(bits, photometric, save, rng):
    ids = rng.integers(0, 2 ** bits, SHAPE)
    packed = np.packbits(((ids[..., None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(SHAPE[0], -1), axis=1)
    palette = rng.integers(0, 256, (2 ** bits, 3))
    tags = {256: [SHAPE[1]], 258: [bits], 262: [photometric]}
    if photometric == 3:
        tags[320] = (palette.T.ravel() * 257).tolist()
    image = read_image(save(image_files.tiff(packed[..., None], tags=tags)))
    grey = ids * (255 // (2 ** bits - 1))
    wanted = palette[ids] if photometric == 3 else (255 - grey if photometric == 0 else grey)[..., None].repeat(3, 2)
    assert np.array_equal(image, wanted)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("role", ["image", "mask"])
def test_a_damaged_block_is_not_black(compression, role, save, rng):
    path = save(b"")
    array = rng.integers(0, 256, (*SHAPE, 3) if role == "image" else SHAPE, dtype=np.uint8)
    Image.fromarray(array).save(path, compression=compression)
    with Image.open(path) as opened:
        at, count = opened.tag_v2[273][0], opened.tag_v2[279][0]
    data = bytearray(path.read_bytes())
    data[at + count // 2:at + count] = bytes(count - count // 2)
    with pytest.raises(DataError, match="damaged"):
        (read_image if role == "image" else read_mask)(save(data))


# ---- the limit

def test_a_large_mask_and_image_below_the_limit_are_read(tmp_path):
    side = 13500  # Pillow's own limit is 13377 x 13377
    ids = np.zeros((side, side), np.uint8)
    ids[-1, -1] = 7
    for end in (".png", ".tif"):
        assert cv2.imwrite(str(tmp_path / f"m{end}"), ids)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mask = read_mask(tmp_path / f"m{end}")
        assert mask.shape == (side, side) and mask[-1, -1] == 7 and not mask[0].any(), end
    assert read_image(tmp_path / "m.png").shape == (side, side, 3)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("width, height", [(2 ** 14 + 1, 2 ** 14), (2 ** 16, 2 ** 15), (2 ** 31 - 1, 2 ** 31 - 1),
                                           (2 ** 20 + 1, 1)])
def test_a_size_above_the_limit_is_refused_before_decoding(read, width, height, save):
    path = save(image_files.png_of_claimed_size(width, height), "x.png")
    with pytest.raises(DataError, match="larger than the limit") as error:
        read(path)
    assert f"{width} x {height}" in error.value.received and str(DEFAULT_LIMIT) in error.value.received
    raises = f"export {LIMIT_VARIABLE}={width * height}"
    possible = width * height <= HIGHEST_LIMIT and width <= 2 ** 20
    assert (raises in error.value.fix) == possible and "tiles" in error.value.fix


@pytest.mark.parametrize("end", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_the_limit_is_the_same_for_all_formats(end, save, monkeypatch):
    path = save(b"", f"x{end}")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(path)
    size = SHAPE[0] * SHAPE[1]
    monkeypatch.setenv(LIMIT_VARIABLE, str(size - 1))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="larger than the limit") as error:
            read(path)
        assert f"the limit is {size - 1}" in error.value.received
    monkeypatch.setenv(LIMIT_VARIABLE, str(size))
    assert read_image(path).shape == (*SHAPE, 3)


@pytest.mark.parametrize("value", ["many", "0", "-1", str(2 ** 30 + 1), "9" * 5000, "1e9"])
def test_an_invalid_limit_is_refused(value, save, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(UsageError, match="must be a number of pixels from 1 to 1073741824"):
        read_image(save(image_files.png_of_claimed_size(8, 8), "x.png"))


def test_sizes_that_the_bytes_cannot_hold_are_not_allocated(save):
    claims = {"x.png": image_files.png_of_claimed_size(16000, 16000),
              "x.tif": image_files.tiff(ramp(3), tags={256: [16000], 257: [16000], 278: [16000], 273: [16], 279: [99]}),
              "y.tif": image_files.tiff(ramp(1), tags={256: [16000], 257: [16000], 258: [64] * 60000, 277: [60000],
                                                       339: [1] * 60000})}
    path = save(b"", "x.jpg")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(path)
    jpeg = bytearray(path.read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5:at + 9] = struct.pack(">HH", 16000, 16000)
    claims["x.jpg"] = jpeg
    for name, data in claims.items():
        with pytest.raises(DataError):
            read_image(save(data, name))


# ---- data sets

def test_a_data_set_of_16_bits(folder, tmp_path):
    for i in range(10):
        (folder / "images" / f"a{i}.jpg").unlink()
        (folder / "images" / f"a{i}.tif").write_bytes(image_files.tiff(ramp(3) + np.uint16(i)))
    with pytest.raises(DataError, match="not 8-bit"):
        _ = get_dataset(str(folder))[0]
    result = audit(str(folder))
    assert not result.passed and result.counts["image"] == 10
    assert set(result.splits["train"].modes) >= {"image TIFF 3 bands of uint16"}
    assert {f.error.fix for f in result.findings} == {result.findings[0].error.fix}  # the range of all images
    assert "data.scale_to_8bit: [0, 3069]" in result.findings[0].error.fix
    decoding = Decoding(scale_to_8bit=(0, 3069))
    assert audit(str(folder), decoding=decoding).passed
    dataset = get_dataset(str(folder), decoding=decoding)
    assert len(np.unique(dataset[0].image)) >= 255
    window = slice(0, 24), slice(0, 32)
    assert np.array_equal(FileSource(dataset, 0).image(*window, SHAPE), dataset[0].image)


def test_a_pack_holds_the_original_files_and_is_read_with_the_same_keys(folder, tmp_path):
    from mxnetseg.data.pack import write_pack

    for i in range(10):
        (folder / "images" / f"a{i}.jpg").unlink()
        (folder / "images" / f"a{i}.tif").write_bytes(image_files.tiff(ramp(3) + np.uint16(i)))
    target = tmp_path / "packs" / "train.pack"
    with pytest.raises(DataError, match="not 8-bit"):
        write_pack(get_dataset(str(folder)), target)
    decoding = Decoding(scale_percentiles=(2, 98))
    dataset = get_dataset(str(folder), decoding=decoding)
    write_pack(dataset, target)
    with pytest.raises(DataError, match="not 8-bit"):
        _ = get_dataset(f"pack:{target.parent}")[0]
    packed = get_dataset(f"pack:{target.parent}", decoding=decoding)
    assert np.array_equal(packed[0].image, dataset[0].image)
