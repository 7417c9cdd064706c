"""Overlays, legends and contact sheets, checked by properties of their pixels."""
import numpy as np
import pytest

from mxnetseg.errors import UsageError
from mxnetseg.viz.overlay import grid, legend, overlay, side_by_side, with_legend
from mxnetseg.viz.palette import colorize, make_palette

PALETTE = np.array([[250, 0, 0], [0, 0, 250], [0, 250, 0]], np.uint8)
CLASSES = ["road", "car", "traffic light"]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def class_map():
    class_map = np.zeros((60, 80), np.uint8)
    class_map[:, 40:] = 1
    class_map[:10] = 255
    return class_map


def has_colour(image, colour):
    return (image == np.array(colour, np.uint8)).all(axis=-1).any()


# ---- overlay

@pytest.mark.parametrize("classes, background", [
    (("background", "cat", "dog"), 0), (("cat", "background", "dog"), 1), (("cat", "dog", "cow"), None), ((), None)])
def test_the_background_keeps_the_colours_of_the_image(image, class_map, classes, background):
    result = overlay(image, class_map, PALETTE, classes=classes)
    for i in (0, 1):
        assert (result[class_map == i] == image[class_map == i]).all() == (i == background)
    assert (result[class_map == 255] == image[class_map == 255]).all()


def test_the_legend_of_an_overlay_shows_the_background_without_a_colour(image):
    classes = ("background", "cat", "dog")
    assert has_colour(with_legend(image, classes, PALETTE)[60:], PALETTE[0])
    assert not has_colour(with_legend(image, classes, PALETTE, of_overlay=True)[60:], PALETTE[0])
    assert has_colour(with_legend(image, classes, PALETTE, of_overlay=True)[60:], PALETTE[1])


def test_overlay_blends(image, class_map):
    before = image.copy(), class_map.copy()
    result = overlay(image, class_map, PALETTE, alpha=0.25, edges=False)
    expected = 0.75 * image + 0.25 * colorize(class_map, PALETTE)
    np.testing.assert_allclose(result[10:], expected[10:], atol=0.51)
    assert (result[:10] == image[:10]).all(), "ignored pixels keep the colour of the image"
    assert (image == before[0]).all() and (class_map == before[1]).all()


def test_overlay_extremes(image, class_map):
    assert (overlay(image, class_map, PALETTE, alpha=0, edges=False) == image).all()
    assert (overlay(image, class_map, PALETTE, alpha=1)[10:] == colorize(class_map, PALETTE)[10:]).all()


def test_overlay_edges_lie_between_the_classes(image, class_map):
    plain = overlay(image, class_map, PALETTE, edges=False)
    edged = overlay(image, class_map, PALETTE)
    changed = (plain != edged).any(axis=-1)
    assert (edged[11:, 39] == PALETTE[0]).all() and (edged[11:, 40] == PALETTE[1]).all()
    assert not changed[11:, :39].any() and not changed[11:, 41:].any() and not changed[:10].any()


def test_edges_grow_with_the_image():
    class_map = np.zeros((1200, 1200), np.uint8)
    class_map[:, 600:] = 1
    edged = overlay(np.full((1200, 1200, 3), 77, np.uint8), class_map, PALETTE)
    assert (edged[:, 597] == PALETTE[0]).all() and not (edged[:, 596] == PALETTE[0]).all()


def test_invalid_overlays(image, class_map):
    with pytest.raises(UsageError, match="differ in size"):
        overlay(image, class_map[:-1], PALETTE)
    with pytest.raises(UsageError, match="strength"):
        overlay(image, class_map, PALETTE, alpha=1.5)
    with pytest.raises(UsageError, match="class map"):
        overlay(image, class_map + 3, PALETTE)


# ---- legend

@pytest.mark.parametrize("width", [1, 64, 480, 4096])
def test_legend_shows_every_colour_at_any_width(width):
    strip = legend(CLASSES, PALETTE, width)
    assert strip.dtype == np.uint8 and strip.shape[1] >= width
    for colour in PALETTE:
        assert has_colour(strip, colour)
    frame = np.concatenate([strip[0], strip[-1], strip[:, 0], strip[:, -1]])
    assert (frame == 255).all(), "nothing may be cut off at the border"


def test_legend_type_is_anti_aliased_and_present():
    greys = legend(["building"], [[255, 255, 255]], 200).min(axis=-1)
    assert greys.min() < 60 and len(np.unique(greys)) > 10


def test_legend_wraps():
    names = [f"class {i}" for i in range(19)]
    wide, narrow = legend(names, make_palette(19), 1200), legend(names, make_palette(19), 300)
    assert wide.shape[1] == 1200 and narrow.shape[1] == 300
    assert narrow.shape[0] > wide.shape[0]


def test_invalid_legends():
    with pytest.raises(UsageError):
        legend([], np.zeros((0, 3), int), 100)
    with pytest.raises(UsageError, match="one colour for each class"):
        legend(["a"], PALETTE, 100)


def test_with_legend_lists_the_classes_present(image, class_map):
    result = with_legend(image * 0, CLASSES, PALETTE, present=class_map)
    assert (result[:60, (result.shape[1] - 80) // 2:][:, :80] == 0).all()
    assert has_colour(result, PALETTE[0]) and has_colour(result, PALETTE[1])
    assert not has_colour(result, PALETTE[2])
    assert has_colour(with_legend(image * 0, CLASSES, PALETTE), PALETTE[2])


def test_with_legend_keeps_the_width_of_a_wide_image():
    assert with_legend(np.zeros((50, 640, 3), np.uint8), CLASSES, PALETTE).shape[1] == 640


def test_with_legend_widens_and_centres_a_narrow_image():
    result = with_legend(np.zeros((8, 8, 3), np.uint8), ["a rather long class name"], PALETTE[:1])
    dark = np.flatnonzero((result[4] == 0).all(axis=-1))
    assert len(dark) == 8
    assert abs((dark[0] + dark[-1] + 1) - result.shape[1]) <= 1


def test_with_legend_of_ignored_pixels_only(image):
    assert (with_legend(image, CLASSES, PALETTE, present=np.full((60, 80), 255)) == image).all()


# ---- side by side

def test_side_by_side_without_captions(image):
    other = 255 - image
    result = side_by_side([image, other])
    assert result.shape[0] == 60
    assert (result[:, :80] == image).all() and (result[:, -80:] == other).all()


def test_captions_stand_above(image):
    result = side_by_side([image, image], ["a", "b"])
    head = result.shape[0] - 60
    assert head > 12 and (result[:head, :80] < 128).any() and (result[:head, -80:] < 128).any()
    assert (result[head:, :80] == image).all() and (result[head:, -80:] == image).all()


def test_smaller_images_are_centred_not_resized(image):
    small = np.zeros((20, 40, 3), np.uint8)
    result = side_by_side([image, small])
    assert (result[20:40, -60:-20] == 0).all()
    assert (result[:20, -80:] == 255).all()


def test_long_captions_widen_the_columns():
    tiny = np.zeros((4, 4, 3), np.uint8)
    result = side_by_side([tiny, tiny], ["a long caption for a tiny image", "b"])
    assert result.shape[1] > 300
    assert (result[:, 0] == 255).all() and (result[:, -1] == 255).all()


def test_grid(image):
    result = grid([[image, image], [image, 255 - image]])
    assert (result[:60, :80] == image).all() and (result[-60:, -80:] == 255 - image).all()


def test_invalid_grids(image):
    for rows in ([], [[]], [[image], [image, image]]):
        with pytest.raises(UsageError, match="equally many"):
            grid(rows)
    with pytest.raises(UsageError, match="one caption"):
        side_by_side([image], ["a", "b"])
    with pytest.raises(UsageError, match="image"):
        side_by_side([image.astype(float)])
