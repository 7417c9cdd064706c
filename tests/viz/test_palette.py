"""Palettes, coloured class maps, and the contents of the PNG files."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg import files
from mxnetseg.data.sample.street import PALETTE as PALETTE_OF_SAMPLE
from mxnetseg.errors import UsageError
from mxnetseg.viz.palette import (
    GREY,
    background_ids,
    class_palette,
    colorize,
    make_palette,
    save_color_png,
    save_id_png,
    save_rgb_png,
)
from mxnetseg.viz.vision import distances, oklab

PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0]], np.uint8)
CLASS_MAP = np.array([[0, 1], [2, 255]], np.uint8)


@pytest.mark.parametrize("n", [1, 2, 19, 150, 255])
def test_palette_is_distinct_and_leaves_black_to_ignored_pixels(n):
    palette = make_palette(n)
    assert palette.shape == (n, 3) and palette.dtype == np.uint8
    assert len({tuple(c) for c in palette.tolist()}) == n
    assert palette.max(axis=1).min() > 60


def least_distance(palette):
    """Return the least distance of two colours in OKLab, with normal vision, protanopia and deuteranopia."""
    return (distances(palette, palette) + 9 * np.eye(len(palette))).min()


@pytest.mark.parametrize("palette", [make_palette(16), PALETTE_OF_SAMPLE], ids=["default", "sample"])
def test_colours_differ_in_red_green_deficient_vision_too(palette):
    assert least_distance(palette) >= 0.10
    assert distances(palette, np.array([(0, 0, 0)])).min() >= 0.10  # black marks ignored pixels


def test_further_colours_still_differ():
    assert least_distance(make_palette(20)) > 0.08 and least_distance(make_palette(30)) > 0.06


def test_red_and_green_are_nearer_in_red_green_deficient_vision():
    red, green = (np.array([colour]) for colour in ((200, 60, 40), (110, 110, 30)))
    normal = np.linalg.norm(oklab(red) - oklab(green))
    assert distances(red, green)[0, 0] < 0.6 * normal
    np.testing.assert_allclose(oklab(np.array([255, 255, 255])), [1, 0, 0], atol=1e-3)
    for vision in ("protanopia", "deuteranopia"):  # greys look the same in every vision
        np.testing.assert_allclose(oklab(np.array([90, 90, 90]), vision), oklab(np.array([90, 90, 90])), atol=2e-3)


def test_taken_colours_are_left_out():
    taken = make_palette(16)[[0, 5]]
    palette = make_palette(8, taken=taken)
    assert distances(palette, taken).min() >= 0.10 and least_distance(palette) >= 0.10


@pytest.mark.parametrize("classes, ids", [
    (("background", "cat"), (0,)), (("_background_", "cat"), (0,)), (("cat", "Background"), (1,)),
    (("void", "cat"), (0,)), (("unlabeled", "cat"), (0,)), (("road", "other"), ()), (("ground", "cat"), ()),
    (("other", "road"), (0,))])
def test_background_classes(classes, ids):
    assert background_ids(classes) == ids


def test_classes_without_a_colour_get_an_unused_one():
    palette = class_palette(("background", "a", "b", "c"), {1: tuple(make_palette(1)[0])})
    assert tuple(palette[0]) == GREY and (palette[1] == make_palette(1)[0]).all()
    assert least_distance(palette) >= 0.10


def test_adding_a_class_changes_no_other_colour():
    assert (make_palette(30)[:7] == make_palette(7)).all()


@pytest.mark.parametrize("n", [0, 256])
def test_palette_of_invalid_size(n):
    with pytest.raises(UsageError):
        make_palette(n)


def test_colorize():
    image = colorize(CLASS_MAP, PALETTE, ignore_colour=(1, 2, 3))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[10, 20, 30], [200, 0, 0]], [[0, 200, 0], [1, 2, 3]]]


def test_colorize_takes_any_integers_and_plain_lists():
    expected = colorize(CLASS_MAP, PALETTE)
    assert (colorize(CLASS_MAP.astype(np.int64), PALETTE.tolist()) == expected).all()
    assert (colorize([[0, 1], [2, 7]], PALETTE, ignore=7) == expected).all()


@pytest.mark.parametrize("class_map, palette", [
    (np.array([[3]]), PALETTE),                # a class without a colour
    (np.array([[-1]]), PALETTE),
    (np.array([[256]]), PALETTE),
    (np.array([0, 1]), PALETTE),               # not two-dimensional
    (np.array([[0.0]]), PALETTE),
    (np.zeros((0, 4), np.uint8), PALETTE),
    (np.array([[0]]), PALETTE[:, :2]),
    (np.array([[0]]), PALETTE / 255),
    (np.array([[0]]), [[0, 0, 256]]),
    (np.array([[0]]), np.zeros((0, 3), int)),
])
def test_invalid_class_maps_and_palettes(class_map, palette, tmp_path):
    with pytest.raises(UsageError):
        colorize(class_map, palette)
    with pytest.raises(UsageError):
        save_color_png(class_map, palette, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_the_class_without_a_colour():
    with pytest.raises(UsageError) as caught:
        colorize(np.array([[0, 9, 254]]), PALETTE)
    assert caught.value.received == "values 9, 254"


def test_id_png_holds_the_ids(tmp_path):
    path = tmp_path / "new folder" / "x.png"
    save_id_png(CLASS_MAP, path)
    with Image.open(path) as image:
        assert image.mode == "L"
        assert (np.array(image) == CLASS_MAP).all()


def test_color_png_holds_the_ids_and_shows_the_colours(tmp_path):
    path = tmp_path / "x.png"
    save_color_png(CLASS_MAP, PALETTE, path)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.array(image) == CLASS_MAP).all()
        assert (np.array(image.convert("RGB")) == colorize(CLASS_MAP, PALETTE)).all()


def test_rgb_png_is_lossless(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_rgb_png(image, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as saved:
        assert (np.array(saved) == image).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                   np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_invalid_images(image, tmp_path):
    with pytest.raises(UsageError):
        save_rgb_png(image, tmp_path / "x.png")


def test_a_failed_write_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    save_id_png(CLASS_MAP, path)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError):
        save_id_png(CLASS_MAP * 0, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
