"""Masks that can be read in two ways, and masks that a library reads only in part."""
import image_files
import numpy as np
import pytest
from PIL import Image

from mxnetseg.data import get_dataset
from mxnetseg.data.audit import audit
from mxnetseg.data.base import IGNORE, voc_palette
from mxnetseg.data.masks import read_mask
from mxnetseg.data.prepare import prepare
from mxnetseg.errors import DataError

SHAPE = 24, 32
COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
IDS = (np.arange(24 * 32, dtype=np.uint8).reshape(SHAPE) % 3)


def palette_png(path, indices, palette):
    image = Image.fromarray(np.asarray(indices, np.uint8))
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path)
    return path


# ---- palette masks of classes with colours

def test_a_palette_that_agrees_is_read_by_index(tmp_path):
    path = palette_png(tmp_path / "m.png", np.where(IDS == 2, 255, IDS), [*COLORS, *[(9, 9, 9)] * 253])
    assert np.array_equal(read_mask(path, colors=COLORS), np.where(IDS == 2, 255, IDS))


def test_the_colour_of_255_does_not_matter_where_the_palette_lists_the_classes(tmp_path):
    colors = np.array([(0, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
    # the rest of a palette is often black, which is class 0
    path = palette_png(tmp_path / "m.png", np.where(IDS == 2, 255, IDS), [*colors, *[(0, 0, 0)] * 253])
    assert np.array_equal(read_mask(path, colors=colors), np.where(IDS == 2, 255, IDS))


def test_a_palette_that_swaps_classes_is_refused_with_both_readings(tmp_path):
    path = palette_png(tmp_path / "m.png", IDS, COLORS[[1, 0, 2]])
    with pytest.raises(DataError, match="two ways") as error:
        read_mask(path, colors=COLORS)
    assert error.value.where == path
    assert "value 0 (#00ff00, 258 pixels): class 0 by its value, class 1 by its colour" in error.value.received
    assert "value 2" not in error.value.received  # the same in both readings
    assert "remove the colours" in error.value.fix and "prepare colours" in error.value.fix


def test_a_palette_with_class_colours_at_other_indices_is_read_by_colour(tmp_path):
    palette = np.full((256, 3), 77, np.uint8)
    palette[[10, 20, 30]], palette[0] = COLORS, 0
    path = palette_png(tmp_path / "m.png", np.array([10, 20, 30], np.uint8)[IDS], palette)
    assert np.array_equal(read_mask(path, colors=COLORS), IDS)
    path = palette_png(tmp_path / "m.png", np.array([0, 20, 30], np.uint8)[IDS], palette)  # black is ignored
    assert np.array_equal(read_mask(path, colors=COLORS), np.array([IGNORE, 1, 2])[IDS])
    path = palette_png(tmp_path / "m.png", np.zeros(SHAPE), palette)  # ignored by colour, class 0 by value
    with pytest.raises(DataError, match="two ways"):
        read_mask(path, colors=COLORS)


@pytest.mark.parametrize("palette", [voc_palette(256) + np.uint8(1), np.arange(256).repeat(3).reshape(256, 3)],
                         ids=["unrelated", "grey"])
def test_an_unrelated_palette_is_read_by_index(tmp_path, palette):
    for ids in (IDS, np.zeros(SHAPE, np.uint8), np.where(IDS == 1, 255, IDS)):
        path = palette_png(tmp_path / "m.png", ids, palette)
        assert np.array_equal(read_mask(path, colors=COLORS), ids)


def test_the_default_palette_of_labelling_tools_is_read_by_index(tmp_path):
    ids = np.array([0, 1, 3])[IDS]  # VOC's colours; CamVid uses some of them, too
    colors = np.array([(128, 128, 128), (128, 0, 64), (192, 192, 128), (128, 64, 128)], np.uint8)
    assert np.array_equal(read_mask(palette_png(tmp_path / "m.png", ids, voc_palette(256)), colors=colors), ids)


def test_without_class_colours_a_palette_mask_is_read_by_index(tmp_path):
    path = palette_png(tmp_path / "m.png", IDS, COLORS[[1, 0, 2]])
    assert np.array_equal(read_mask(path), IDS)


def test_neither_reading_is_possible(tmp_path):
    path = palette_png(tmp_path / "m.png", IDS + 5, np.full((256, 3), 77))
    assert np.array_equal(read_mask(path, colors=COLORS), IDS + 5)  # the data set refuses these labels


def test_a_palette_tiff_is_read_likewise(tmp_path):
    palette = np.zeros((256, 3), np.uint8)
    palette[:3] = COLORS[[1, 0, 2]]
    palette[[10, 20, 30]] = COLORS
    tags = {262: [3], 320: (palette.T.ravel().astype(int) * 257).tolist()}
    path = tmp_path / "m.tif"
    path.write_bytes(image_files.tiff(np.array([10, 20, 30], np.uint8)[IDS][..., None], tags=tags))
    assert np.array_equal(read_mask(path, colors=COLORS), IDS)
    assert np.array_equal(read_mask(path), np.array([10, 20, 30])[IDS])
    path.write_bytes(image_files.tiff(IDS[..., None], tags=tags))
    with pytest.raises(DataError, match="two ways"):
        read_mask(path, colors=COLORS)


# ---- grey masks of classes with colours

BLACK_AND_WHITE = np.array([(0, 0, 0), (255, 255, 255)], np.uint8)


@pytest.mark.parametrize("values", [(0, 255), (255, 255)])
def test_0_and_255_with_black_and_white_classes_are_refused(tmp_path, values):
    Image.fromarray(np.array(values, np.uint8)[IDS % 2]).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="two ways") as error:
        read_mask(tmp_path / "m.png", colors=BLACK_AND_WHITE)
    assert "ignored by its value, class 1 by its colour" in error.value.received


@pytest.mark.parametrize("values", [(0, 1), (0, 0), (1, 1)])
def test_ids_with_black_and_white_classes_are_ids(tmp_path, values):
    ids = np.array(values, np.uint8)[IDS % 2]
    Image.fromarray(ids).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", colors=BLACK_AND_WHITE), ids)


def test_greys_that_are_not_ids_are_read_as_colours(tmp_path):
    colors = np.array([(64, 64, 64), (128, 128, 128), (200, 200, 200)], np.uint8)
    Image.fromarray(np.array([64, 128, 0], np.uint8)[IDS]).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", colors=colors), np.array([0, 1, IGNORE])[IDS])
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "m.png")  # unlabelled or of class 0
    with pytest.raises(DataError, match="two ways"):
        read_mask(tmp_path / "m.png", colors=colors)


def test_a_mask_of_one_class_is_ids_unless_all_classes_are_grey(tmp_path):
    colors = np.array([(128, 128, 128), (255, 0, 0)], np.uint8)
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "m.png")
    assert not read_mask(tmp_path / "m.png", colors=colors).any()


def test_bilevel_masks(tmp_path):
    for end in (".png", ".tif", ".bmp"):
        Image.fromarray(IDS % 2 == 1).save(tmp_path / f"m{end}")
        assert np.array_equal(read_mask(tmp_path / f"m{end}", colors=COLORS), IDS % 2), end
        assert np.array_equal(read_mask(tmp_path / f"m{end}", colors=BLACK_AND_WHITE), IDS % 2), end


# ---- fixes

def test_both_fixes_work(folder, tmp_path, write):
    (folder / "classes.txt").write_text("ground #ff0000\ncat #00ff00\nbig dog #0000ff\n")
    for i in range(10):
        palette_png(folder / "masks" / f"a{i}.png", IDS, COLORS[[1, 0, 2]])
    result = audit(str(folder))
    assert result.counts["mask"] == 10 and "two ways" in str(result.findings[0].error)
    prepare("colours", folder, tmp_path / "out")
    assert np.array_equal(get_dataset(str(tmp_path / "out"))[0].mask, np.array([1, 0, 2])[IDS])
    (folder / "classes.txt").write_text("ground\ncat\nbig dog\n")
    assert np.array_equal(get_dataset(str(folder))[0].mask, IDS)


def test_masks_of_0_and_255_by_their_colours(folder, tmp_path):
    (folder / "classes.txt").write_text("ground #000000\ncat #ffffff\n")
    for i in range(10):
        Image.fromarray(IDS % 2 * np.uint8(255)).save(folder / "masks" / f"a{i}.png")
    with pytest.raises(DataError, match="two ways"):
        _ = get_dataset(str(folder))[0]
    prepare("colours", folder, tmp_path / "out")
    assert np.array_equal(get_dataset(str(tmp_path / "out"))[0].mask, IDS % 2)


# ---- masks that a library reads only in part

@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32])
def test_ids_of_more_than_8_bits_are_read_without_truncation(dtype, tmp_path):
    path = tmp_path / "m.tif"
    path.write_bytes(image_files.tiff(IDS.astype(dtype)[..., None]))
    assert np.array_equal(read_mask(path), IDS)
    values = IDS.astype(dtype)
    values[3, 3] = 256 + 2
    path.write_bytes(image_files.tiff(values[..., None]))
    with pytest.raises(DataError, match="more than 8 bits") as error:
        read_mask(path)
    assert "values 0..258" in error.value.received
    if np.dtype(dtype).kind == "i":
        values[3, 3] = -1
        path.write_bytes(image_files.tiff(values[..., None]))
        with pytest.raises(DataError, match="more than 8 bits"):
            read_mask(path)


def test_ids_in_a_16_bit_png(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(IDS.astype(np.uint16)).save(path)
    assert read_mask(path).dtype == np.uint8 and np.array_equal(read_mask(path), IDS)
    with pytest.raises(DataError, match="two ways"):
        Image.fromarray(IDS.astype(np.uint16) % 2 * 255).save(path)
        read_mask(path, colors=BLACK_AND_WHITE)


REFUSED = {
    "16-bit RGB": image_files.tiff(np.zeros((*SHAPE, 3), np.uint16)),
    "float": image_files.tiff(np.ones((*SHAPE, 1), np.float32)),
    "int8": image_files.tiff(-np.ones((*SHAPE, 1), np.int8)),
    "two bands": image_files.tiff(np.zeros((*SHAPE, 2), np.uint8)),
    "grey and alpha": image_files.tiff(np.zeros((*SHAPE, 2), np.uint8), tags={338: [2]}),
    "four bands": image_files.tiff(np.zeros((*SHAPE, 4), np.uint8), tags={262: [2]}),
    "two pages": image_files.tiff(IDS[..., None], IDS[..., None]),
    "white is zero": image_files.tiff(IDS[..., None], tags={262: [0]}),
    "reversed bits": image_files.tiff(IDS[..., None], tags={266: [2]}),
    "cut off": image_files.tiff(IDS[..., None])[:300],
}


@pytest.mark.parametrize("name", REFUSED)
def test_masks_that_are_not_a_single_channel_of_ids(name, tmp_path):
    path = tmp_path / "m.tif"
    path.write_bytes(REFUSED[name])
    with pytest.raises(DataError) as error:
        read_mask(path, colors=COLORS)
    assert error.value.where == path and error.value.fix and "mask" in error.value.what


@pytest.mark.parametrize("end", [".png", ".tif"])
def test_a_colour_mask_with_transparency(end, tmp_path):
    rgba = np.concatenate([COLORS[IDS], np.full((*SHAPE, 1), 255, np.uint8)], axis=2)
    path = tmp_path / f"m{end}"
    Image.fromarray(rgba).save(path)
    assert np.array_equal(read_mask(path, colors=COLORS), IDS)
    rgba[3, 4, 3] = 0
    Image.fromarray(rgba).save(path)
    with pytest.raises(DataError, match="partly transparent") as error:
        read_mask(path, colors=COLORS)
    assert "1 pixels are not opaque" in error.value.received


def test_transparency_of_a_palette_does_not_matter(tmp_path):
    image = Image.fromarray(IDS)
    image.putpalette(COLORS.tobytes())
    image.save(tmp_path / "m.png", transparency=0)
    assert np.array_equal(read_mask(tmp_path / "m.png"), IDS)


@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"order": ">"}, {"compression": image_files.LZW},
                                    {"compression": image_files.DEFLATE, "predictor": 2}, {"big": True}])
def test_tiff_masks_of_any_layout(layout, tmp_path):
    (tmp_path / "m.tif").write_bytes(image_files.tiff(IDS[..., None], **layout))
    assert np.array_equal(read_mask(tmp_path / "m.tif"), IDS)
