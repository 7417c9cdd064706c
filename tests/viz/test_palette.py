"""Palettes, coloured class maps, and what the PNG files hold when read back."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg import files
from mxnetseg.data import street
from mxnetseg.data.base import voc_palette
from mxnetseg.errors import UsageError
from mxnetseg.viz.palette import (
    BLACK,
    GREY,
    background_ids,
    class_palette,
    colorize,
    make_palette,
    save_color_png,
    save_id_png,
    save_rgb_png,
)
from mxnetseg.viz.vision import VISIONS, distances, oklab

PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0]], np.uint8)
CLASS_MAP = np.array([[0, 1], [2, 255]], np.uint8)


@pytest.mark.parametrize("n", [1, 2, 19, 150, 255])
def test_palette_is_distinct_and_leaves_black_to_ignored_pixels(n):
    palette = make_palette(n)
    assert palette.shape == (n, 3) and palette.dtype == np.uint8
    assert len({tuple(c) for c in palette.tolist()}) == n
    assert palette.max(axis=1).min() > 60


def nearest(palette):
    """The least distance of two colours, in the vision in which it is least."""
    apart = distances(palette, palette)
    return apart[np.triu_indices(len(palette), 1)].min()


def test_palette_colours_are_far_apart():
    """16 classes differ by more than 60 of 255 in some channel, every two of them."""
    palette = make_palette(16).astype(int)
    apart = np.abs(palette[:, None] - palette[None]).max(axis=2) + 255 * np.eye(16, dtype=int)
    assert apart.min() > 60


def test_sixteen_classes_are_told_apart_by_the_colour_blind_too():
    """OKLab distance of 0.1 or more, also under protanopia and deuteranopia, and from black and the background."""
    for n in range(1, 17):
        assert nearest(np.array([*make_palette(n), BLACK, GREY])) >= 0.1
    assert nearest(make_palette(24)) > 0.06  # there is no room for 24, but none coincide
    assert nearest(voc_palette(8)) < 0.03  # the default before


def test_the_sample_s_classes_are_told_apart_by_the_colour_blind_too():
    assert nearest(np.array([*street.PALETTE, BLACK])) >= 0.1


def test_vision_is_that_of_the_published_matrices():
    """Greys stay as they are; red and green lose their difference, and red looks dark to protanopes."""
    for vision in VISIONS:
        np.testing.assert_allclose(oklab([[128, 128, 128]], vision), oklab([[128, 128, 128]]), atol=2e-3)
        np.testing.assert_allclose(VISIONS[vision].sum(axis=1), 1, atol=1e-5)
    red = [oklab([255, 0, 0], vision) for vision in ("normal", "deuteranopia", "protanopia")]
    assert red[0][1] > 0.2 and abs(red[1][1]) < 0.05 and abs(red[2][1]) < 0.05 and red[2][0] < red[0][0] - 0.1
    np.testing.assert_allclose(oklab([255, 255, 255]), [1, 0, 0], atol=1e-3)


def test_colours_keep_away_from_those_that_are_given():
    taken = make_palette(3)
    assert nearest(np.array([*make_palette(9, taken=taken), *taken])) >= 0.1
    palette = class_palette(["background", "cat", "dog"], {1: taken[0]})
    assert tuple(palette[0]) == GREY and (palette[1] == taken[0]).all() and (palette[2] == taken[1]).all()
    assert (class_palette(["cat", "dog"]) == make_palette(2)).all()


@pytest.mark.parametrize("classes, ids", [
    (["background", "cat"], (0,)), (["cat", "Background"], (1,)), (["_background_", "cat"], (0,)), (["bg"], (0,)),
    (["other", "cat"], (0,)), (["unlabeled", "cat", "background"], (0, 2)), (["cat", "other", "void"], ()),
    (["road", "car"], ()), (["ground", "cat"], ()), (["class 0", "class 1"], ()), ([], ()), (["空", "cat"], ()),
])
def test_which_class_is_the_background(classes, ids):
    assert background_ids(classes) == ids


def test_adding_a_class_recolours_none():
    assert (make_palette(30)[:7] == make_palette(7)).all()


@pytest.mark.parametrize("n", [0, 256])
def test_palette_of_impossible_size(n):
    with pytest.raises(UsageError):
        make_palette(n)


def test_colorize():
    picture = colorize(CLASS_MAP, PALETTE, ignore_colour=(1, 2, 3))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[10, 20, 30], [200, 0, 0]], [[0, 200, 0], [1, 2, 3]]]


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
def test_what_cannot_be_coloured(class_map, palette, tmp_path):
    with pytest.raises(UsageError):
        colorize(class_map, palette)
    with pytest.raises(UsageError):
        save_color_png(class_map, palette, tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_the_class_without_a_colour_is_named():
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
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_rgb_png(picture, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert (np.array(image) == picture).all()


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                     np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_a_picture(picture, tmp_path):
    with pytest.raises(UsageError):
        save_rgb_png(picture, tmp_path / "x.png")


def test_an_older_picture_survives_a_failed_write(tmp_path, monkeypatch):
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
