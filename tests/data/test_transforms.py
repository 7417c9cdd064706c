"""Transforms: image and mask stay aligned, no label is invented, padding is IGNORE."""
import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mxnetseg.data.base import IGNORE
from mxnetseg.data.recipes import RECIPES
from mxnetseg.data.source import ArraySource
from mxnetseg.data.transforms import (
    MEAN_COLOR,
    ColorJitter,
    Compose,
    Cutout,
    PhotometricDistortion,
    RandomBlur,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ScaleCrop,
    resize_long_side,
    train_transform,
)
from mxnetseg.errors import ConfigError

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(20, 90)


def chart(height, width):
    """Make an image whose red and green are x and y of each pixel, and a mask that is x (at most 250)."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([x, y, np.full_like(x, 80)], -1), x.copy()


def generator(seed):
    return np.random.default_rng(seed)


def scale_crop(base_size, size, **crop):
    return ScaleCrop(scale=RandomScale(base_size=base_size), crop=RandomCrop(size=size, **crop))


def geometric_transforms(height, width):
    """Return the transforms that move pixels, and the recipes that do not change colours."""
    base = max(height, width)
    return [RandomScale(base_size=base), RandomScale(base_size=base, step=0.1), RandomCrop(size=(height, 37)),
            RandomCrop(size=(30, 37), cat_max_ratio=0.2), RandomCrop(size=(30, 37), class_uniform=1.0),
            RandomFlip(p=1.0), RandomBlur(p=1.0), Cutout(p=1.0),
            scale_crop(base, (48, 40)), scale_crop(base // 6 + 1, (8, 9)),
            scale_crop(base, (48, 40), class_uniform=0.5),
            train_transform(base_size=base, crop_size=(48, 40)),
            *(RECIPES[name](base_size=base, crop_size=(48, 40)) for name in ("mxnetseg", "flattenet", "ovenet"))]


# ---- properties

@settings(max_examples=150)
@given(height=sides, width=sides, seed=seeds, which=st.integers(0, 14))
def test_image_and_mask_stay_aligned(height, width, seed, which):
    transform = geometric_transforms(height, width)[which]
    image, mask = transform(*chart(height, width), generator(seed))
    assert image.shape[:2] == mask.shape and image.dtype == mask.dtype == np.uint8
    # not near padding, which a blur with a radius of 3 pixels may have spread inwards
    kernel = np.ones((7, 7), np.uint8)
    added = cv2.dilate((mask == IGNORE).astype(np.uint8), kernel).astype(bool)
    added[:3] = added[-3:] = added[:, :3] = added[:, -3:] = True
    red, label = image[..., 0].astype(int), mask.astype(int)
    # neighbouring pixels of the result may be several pixels apart in the source
    zoom = max(np.abs(np.diff(label, axis=1))[~added[:, 1:] & ~added[:, :-1]].max(initial=1), 1)
    assert (abs(red - label) <= 1 + zoom)[~added].all()
    # all pixels of a row come from one source row, all pixels of a column from one source column
    for row in range(0, len(label), 7):
        assert np.ptp(image[row, ~added[row], 1].astype(int)) <= 1 if (~added[row]).any() else True
    for column in range(0, label.shape[1], 7):
        assert np.ptp(label[~added[:, column], column]) == 0 if (~added[:, column]).any() else True


@settings(max_examples=40)
@given(seed=seeds, degrees=st.floats(0, 180))
def test_a_rotated_mask_stays_aligned_with_its_image(seed, degrees):
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 15:50] = 200
    image, mask = RandomRotation(p=1.0, degrees=degrees)(np.repeat(labels[..., None], 3, 2), labels, generator(seed))
    assert set(np.unique(mask)) <= {0, 200, IGNORE}
    for value, region in ((200, mask == 200), (0, mask == 0)):
        inside = cv2.erode(region.astype(np.uint8), np.ones((5, 5), np.uint8),
                           borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)
        assert (image[inside] == value).all()
    assert (mask == 200).sum() > 0.9 * 20 * 35 or degrees > 5


@pytest.mark.parametrize("size", [37, 50, 75, 130, 200, 333])
def test_each_pixel_of_a_resized_mask_is_the_nearest(size):
    # OpenCV's plain nearest neighbour takes the pixel to the left, up to a whole pixel away
    mask = resize_long_side(chart(60, 100)[1], size)
    centres = (np.arange(size) + 0.5) * 100 / size - 0.5
    assert (abs(mask - centres) <= 0.51).all()


@settings(max_examples=40)
@given(height=sides, width=sides, seed=seeds, data=st.data())
def test_no_label_is_invented(height, width, seed, data):
    labels = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=5))
    rng = generator(seed)
    mask = rng.choice(np.array(labels, np.uint8), (height, width))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    transform = data.draw(st.sampled_from([
        train_transform(base_size=64, crop_size=50, jitter=0.4, photometric=True, cat_max_ratio=0.5, class_uniform=0.3,
                        rotation=30, cutout=0.5),
        *(recipe(base_size=64, crop_size=(50, 40)) for recipe in RECIPES.values())]))
    assert set(np.unique(transform(image, mask, rng)[1])) <= {*labels, IGNORE}


@settings(max_examples=40)
@given(height=sides, width=sides, crop=st.tuples(sides, sides), seed=seeds)
def test_padding_is_ignore_in_the_mask_and_the_mean_in_the_image(height, width, crop, seed):
    image = np.full((height, width, 3), 7, np.uint8)
    image, mask = RandomCrop(size=crop)(image, np.zeros((height, width), np.uint8), generator(seed))
    assert image.shape == (*crop, 3) and mask.shape == crop
    assert (mask == 0).sum() == min(height, crop[0]) * min(width, crop[1])
    assert (image[mask == 0] == 7).all() and (image[mask == IGNORE] == MEAN_COLOR).all()


@settings(max_examples=20)
@given(seed=seeds)
def test_same_seed_gives_same_result_and_inputs_are_unchanged(seed):
    image, mask = chart(50, 60)
    before = image.copy(), mask.copy()
    transform = train_transform(base_size=60, crop_size=40, jitter=0.5, photometric=True, cat_max_ratio=0.5,
                                class_uniform=0.5, rotation=10, cutout=0.5)
    first, second = transform(image, mask, generator(seed)), transform(image, mask, generator(seed))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


# ---- single transforms

@settings(max_examples=60)
@given(height=sides, width=sides, crop=st.tuples(sides, sides), seed=seeds)
@example(height=31, width=89, crop=(20, 20), seed=796064618)  # an odd side, read at 1/2
def test_scale_crop_equals_scale_followed_by_crop(height, width, crop, seed):
    """It gives the same window as cropping the whole resized image, up to rounding."""
    image, mask = chart(height, width)
    pixels, labels = scale_crop(80, crop)(image, mask, generator(seed))
    assert labels.shape == crop and pixels.shape == (*crop, 3)
    scale = RandomScale(base_size=80).draw(generator(seed)) / max(height, width)
    rows, columns = (labels != IGNORE).any(1).sum(), (labels != IGNORE).any(0).sum()
    # a window is a whole number of pixels at the reduced size: at 1/2 an odd side loses a pixel
    grid = max(grid for grid in (1, 2, 4, 8) if grid == 1 or scale * grid <= 1)
    for found_side, wanted, side in zip((rows, columns), crop, (height, width)):
        assert abs(found_side - min(wanted, side * scale)) <= 0.5 * max(scale, 1) + (grid - 1) * scale
    assert (labels[:rows, :columns] != IGNORE).all()
    # the distance of the first and last column in the source fits the scale
    distance = (columns - 1) / scale
    assert abs(int(labels[0, columns - 1]) - int(labels[0, 0]) - distance) <= 2 + 2 / scale


def test_only_the_window_is_read():
    class Counting(ArraySource):
        windows = []

        def image(self, rows, columns, size):
            self.windows.append((rows.stop - rows.start, columns.stop - columns.start, size))
            return super().image(rows, columns, size)

    fixed = ScaleCrop(scale=RandomScale(base_size=200, low=2.0, high=2.0), crop=RandomCrop(size=(40, 60)))
    fixed.read(Counting(*chart(80, 100)), generator(0))
    assert Counting.windows == [(10, 15, (40, 60))]


def test_scales_in_steps():
    transform, rng = RandomScale(base_size=10, low=0.5, high=2.1, step=0.1), generator(0)
    assert {transform.draw(rng) for _ in range(400)} == set(range(5, 22))


def test_crops_that_are_nearly_one_class_are_drawn_again():
    labels = np.zeros((40, 400), np.uint8)
    labels[:, 300:] = 1
    image = np.zeros((40, 400, 3), np.uint8)

    def classes(crop):
        return [np.unique(crop(image, labels, generator(s))[1]).size for s in range(200)]

    mixed, plain = classes(RandomCrop(size=40, cat_max_ratio=0.75)), classes(RandomCrop(size=40))
    assert np.mean(mixed) > np.mean(plain) + 0.2 and max(plain) == 2
    # if ten attempts fail, the last one is used
    assert RandomCrop(size=40, cat_max_ratio=0.1)(image, labels, generator(0))[1].shape == (40, 40)


def test_ignored_pixels_are_not_a_class():
    labels = np.full((20, 60), IGNORE, np.uint8)
    labels[:, 30] = 3
    image = np.zeros((20, 60, 3), np.uint8)
    for seed in range(20):
        cut = RandomCrop(size=10, class_uniform=1.0)(image, labels, generator(seed))[1]
        assert (cut == 3).any()
    unlabelled = np.full_like(labels, IGNORE)
    assert RandomCrop(size=10, class_uniform=1.0)(image, unlabelled, generator(0))[1].shape == (10, 10)


def test_rare_classes_are_seen_as_often_as_frequent_ones():
    labels = np.zeros((100, 100), np.uint8)
    labels[97:, 96:] = 7
    image = np.zeros((100, 100, 3), np.uint8)

    def fraction(crop):
        return np.mean([(crop(image, labels, generator(s))[1] == 7).any() for s in range(300)])

    assert fraction(RandomCrop(size=10)) < 0.1 < 0.4 < fraction(RandomCrop(size=10, class_uniform=1.0)) < 0.65


def test_rotation_by_0_degrees_changes_nothing():
    image, mask = chart(30, 41)
    for transform in (RandomRotation(degrees=0.0, p=1.0), RandomRotation(p=0.0)):
        assert all(np.array_equal(a, b) for a, b in zip(transform(image, mask, generator(0)), (image, mask)))


def test_cutout_covers_one_box_in_image_and_mask():
    image, mask = chart(40, 50)
    sizes = set()
    for seed in range(30):
        out, labels = Cutout(fraction=0.5, p=1.0)(image, mask, generator(seed))
        rows, columns = np.nonzero(labels == IGNORE)
        if rows.size:
            box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            assert (labels[box] == IGNORE).all() and (out[box] == MEAN_COLOR).all()
            sizes.add(labels[box].shape)
            labels[box], out[box] = mask[box], image[box]
        assert np.array_equal(labels, mask) and np.array_equal(out, image)
    assert len(sizes) > 10 and max(h for h, _ in sizes) <= 20 and max(w for _, w in sizes) <= 25


@pytest.mark.parametrize("options, kept", [
    ({"contrast": (1, 1), "saturation": (1, 1), "hue": 0}, lambda x: x.mean(-1) - x.mean()),  # brightness alone
    ({"brightness": 0, "saturation": (1, 1), "hue": 0}, lambda x: x / x.mean()),  # contrast alone: a factor
    ({"brightness": 0, "contrast": (1, 1), "hue": 0}, lambda x: x.max(-1)),  # saturation keeps HSV's value
    ({"brightness": 0, "contrast": (1, 1), "saturation": (1, 1)}, lambda x: x.max(-1)),  # hue too
])
def test_photometric_distortion_changes_one_thing(options, kept):
    rng = generator(3)
    image = rng.integers(80, 130, (16, 16, 3), dtype=np.uint8)
    mask = chart(16, 16)[1]
    results = [PhotometricDistortion(**options)(image, mask, generator(s)) for s in range(60)]
    changed = [out for out, _ in results if abs(out.astype(int) - image).max() > 3]
    assert 15 < len(changed) < 50 and all(same is mask for _, same in results)  # in every second image
    for out in changed:
        assert np.allclose(kept(out.astype(float)), kept(image.astype(float)), atol=3.0, rtol=0.03)


def test_photometric_distortion_at_its_limits():
    image, mask = generator(0).integers(0, 256, (9, 9, 3), dtype=np.uint8), chart(9, 9)[1]
    dark = [PhotometricDistortion(brightness=255, contrast=(0, 0))(image, mask, generator(s))[0] for s in range(20)]
    assert any(not out.any() for out in dark)


def test_recipes_repeat_their_sources():
    image, mask = np.full((50, 100, 3), 90, np.uint8), np.zeros((50, 100), np.uint8)
    for name, recipe in RECIPES.items():
        transform = recipe(base_size=100, crop_size=(60, 80))
        results = [transform(image, mask, generator(s)) for s in range(300)]
        assert all(i.shape == (60, 80, 3) and m.shape == (60, 80) for i, m in results)
        heights = {int((m != IGNORE).any(1).sum()) for _, m in results if (m == IGNORE).any(1).any()}
        padding = {tuple(i[-1, -1]) for i, m in results if (m[-8:] == IGNORE).all()}
        if name in ("flattenet", "ovenet"):
            assert heights == {25, 30, 35, 40, 45, 50, 55}
        else:
            assert min(heights) == 25 and len(heights) > 25
        assert padding == {MEAN_COLOR if name == "sfnet" else (0, 0, 0)}
        colors = {tuple(np.median(i[m != IGNORE], axis=0)) for i, m in results}
        assert (colors == {(90, 90, 90)}) == (name != "sfnet")


def test_scale_covers_its_whole_range():
    transform, rng = RandomScale(base_size=10, low=0.5, high=2.0), generator(0)
    sizes = {max(transform(*chart(5, 20), rng)[1].shape) for _ in range(400)}
    assert sizes == set(range(5, 21))


def test_scale_keeps_the_aspect_ratio():
    assert resize_long_side(chart(30, 90)[1], 45).shape == (15, 45)
    assert resize_long_side(chart(90, 30)[0], 45).shape == (45, 15, 3)
    assert resize_long_side(chart(1, 90)[0], 3).shape == (1, 3, 3)


def test_crop_covers_every_place():
    image, mask = chart(4, 5)
    found = {tuple(RandomCrop(size=(3, 3))(image, mask, generator(s))[0][0, 0, :2]) for s in range(100)}
    assert found == {(x, y) for x in range(3) for y in range(2)}


def test_flip():
    image, mask = chart(4, 5)
    flipped = RandomFlip(p=1.0)(image, mask, generator(0))
    assert flipped[0][0, :, 0].tolist() == flipped[1][0].tolist() == [4, 3, 2, 1, 0]
    assert RandomFlip(p=0.0)(image, mask, generator(0))[1][0].tolist() == [0, 1, 2, 3, 4]
    count = sum(RandomFlip()(image, mask, generator(s))[1][0, 0] == 4 for s in range(400))
    assert 150 < count < 250


def test_blur_softens_the_image_only():
    image, mask = np.zeros((20, 20, 3), np.uint8), chart(20, 20)[1]
    image[:, 10:] = 200
    rng = generator(1)
    soft = [RandomBlur(p=1.0)(image, mask, rng) for _ in range(10)]
    assert all(m is mask for _, m in soft)
    assert len({int(i[5, 9, 0]) for i, _ in soft}) > 3  # the strength varies
    assert all(i[5, 2, 0] == 0 and i[5, 17, 0] == 200 for i, _ in soft)


@pytest.mark.parametrize("options", [{"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 0.5}])
def test_jitter_changes_one_thing(options):
    rng = generator(3)
    image = rng.integers(60, 160, (16, 16, 3), dtype=np.uint8)
    mask = chart(16, 16)[1]
    out, same = ColorJitter(**options)(image, mask, rng)
    assert same is mask and not np.array_equal(out, image)
    before, after = image.astype(float), out.astype(float)
    kept = {
        "brightness": lambda x: x.mean(axis=(0, 1)) / x.mean(),  # the balance of the colours
        "contrast": lambda x: x.mean(),
        "saturation": lambda x: x @ (0.299, 0.587, 0.114),  # the grey image
        "hue": lambda x: x.max(axis=-1),  # the value of HSV
    }[next(iter(options))]
    assert np.allclose(kept(before), kept(after), atol=1.0)


def test_no_jitter_is_no_change():
    image, mask = chart(16, 16)
    assert ColorJitter()(image, mask, generator(0))[0] is image


def test_compose_keeps_the_order():
    steps = [RandomFlip(p=1.0), RandomCrop(size=(2, 2))]
    image, mask = Compose(steps)(*chart(2, 2), generator(0))
    assert mask.tolist() == [[1, 0], [1, 0]]


# ---- invalid arguments

@pytest.mark.parametrize("make", [
    lambda: RandomScale(base_size=0),
    lambda: RandomScale(base_size=9, low=2.0, high=1.0),
    lambda: RandomScale(base_size=9, low=0.0),
    lambda: RandomCrop(size=0),
    lambda: RandomCrop(size=(3, 4, 5)),
    lambda: RandomFlip(p=1.5),
    lambda: RandomBlur(max_sigma=-1.0),
    lambda: RandomScale(base_size=9, step=0.0),
    lambda: RandomCrop(size=3, cat_max_ratio=1.1),
    lambda: RandomCrop(size=3, class_uniform=-0.1),
    lambda: RandomRotation(degrees=181),
    lambda: Cutout(fraction=2.0),
    lambda: PhotometricDistortion(contrast=(2.0, 1.0)),
    lambda: PhotometricDistortion(brightness=-1),
    lambda: PhotometricDistortion(hue=91),
    lambda: ColorJitter(hue=0.6),
    lambda: ColorJitter(contrast=float("nan")),
])
def test_values_out_of_range(make):
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.where and error.value.fix
