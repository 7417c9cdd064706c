"""Transforms: image and mask stay registered, labels are never invented, padding is IGNORE."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxnetseg.data.base import IGNORE
from mxnetseg.data.transforms import (
    MEAN_COLOR,
    ColorJitter,
    Compose,
    RandomBlur,
    RandomCrop,
    RandomFlip,
    RandomScale,
    resize_long_side,
    train_transform,
)
from mxnetseg.errors import ConfigError

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(20, 90)


def chart(height, width):
    """An image whose red and green are the pixel's own x and y, and a mask that is x (at most 250)."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([x, y, np.full_like(x, 80)], -1), x.copy()


def generator(seed):
    return np.random.default_rng(seed)


def transforms_of_place(height, width):
    return [RandomScale(base_size=max(height, width)), RandomCrop(size=(height, 37)), RandomFlip(p=1.0),
            RandomBlur(p=1.0), train_transform(base_size=max(height, width), crop_size=(48, 40))]


# ---- laws

@settings(max_examples=40)
@given(height=sides, width=sides, seed=seeds, which=st.integers(0, 4))
def test_image_and_mask_stay_registered(height, width, seed, which):
    transform = transforms_of_place(height, width)[which]
    image, mask = transform(*chart(height, width), generator(seed))
    assert image.shape[:2] == mask.shape and image.dtype == mask.dtype == np.uint8
    # away from the padding, which a blur of 3 pixels' reach may have carried inwards
    rows, columns = np.nonzero(mask != IGNORE)
    inside = (slice(rows.min() + 3, rows.max() - 2), slice(columns.min() + 3, columns.max() - 2))
    red, label = image[inside][..., 0].astype(int), mask[inside].astype(int)
    if red.size:
        assert abs(red - label).max() <= 2
        # the place of a row is the same in all columns, and that of a column in all rows
        assert np.ptp(label, axis=0).max() == 0
        assert np.ptp(image[inside][..., 1].astype(int), axis=1).max() <= 1


@pytest.mark.parametrize("size", [37, 50, 75, 130, 200, 333])
def test_each_pixel_of_a_resized_mask_is_the_nearest(size):
    # OpenCV's plain nearest neighbour takes the one to the left, up to a whole pixel away
    mask = resize_long_side(chart(60, 100)[1], size)
    centres = (np.arange(size) + 0.5) * 100 / size - 0.5
    assert (abs(mask - centres) <= 0.51).all()


@settings(max_examples=40)
@given(height=sides, width=sides, seed=seeds, data=st.data())
def test_labels_are_never_invented(height, width, seed, data):
    labels = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=5))
    rng = generator(seed)
    mask = rng.choice(np.array(labels, np.uint8), (height, width))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    transform = train_transform(base_size=64, crop_size=50, jitter=0.4)
    assert set(np.unique(transform(image, mask, rng)[1])) <= {*labels, IGNORE}


@settings(max_examples=40)
@given(height=sides, width=sides, crop=st.tuples(sides, sides), seed=seeds)
def test_padding_is_ignored_and_mean_colored(height, width, crop, seed):
    image = np.full((height, width, 3), 7, np.uint8)
    image, mask = RandomCrop(size=crop)(image, np.zeros((height, width), np.uint8), generator(seed))
    assert image.shape == (*crop, 3) and mask.shape == crop
    assert (mask == 0).sum() == min(height, crop[0]) * min(width, crop[1])
    assert (image[mask == 0] == 7).all() and (image[mask == IGNORE] == MEAN_COLOR).all()


@settings(max_examples=20)
@given(seed=seeds)
def test_same_seed_same_result_and_inputs_untouched(seed):
    image, mask = chart(50, 60)
    before = image.copy(), mask.copy()
    transform = train_transform(base_size=60, crop_size=40, jitter=0.5)
    first, second = transform(image, mask, generator(seed)), transform(image, mask, generator(seed))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


# ---- each by itself

def test_scale_reaches_its_whole_range():
    transform, rng = RandomScale(base_size=10, low=0.5, high=2.0), generator(0)
    sizes = {max(transform(*chart(5, 20), rng)[1].shape) for _ in range(400)}
    assert sizes == set(range(5, 21))


def test_scale_keeps_the_aspect_ratio():
    assert resize_long_side(chart(30, 90)[1], 45).shape == (15, 45)
    assert resize_long_side(chart(90, 30)[0], 45).shape == (45, 15, 3)
    assert resize_long_side(chart(1, 90)[0], 3).shape == (1, 3, 3)


def test_crop_reaches_every_place():
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
    assert len({int(i[5, 9, 0]) for i, _ in soft}) > 3  # of various strength
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
        "saturation": lambda x: x @ (0.299, 0.587, 0.114),  # the grey picture
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


# ---- wrong use

@pytest.mark.parametrize("make", [
    lambda: RandomScale(base_size=0),
    lambda: RandomScale(base_size=9, low=2.0, high=1.0),
    lambda: RandomScale(base_size=9, low=0.0),
    lambda: RandomCrop(size=0),
    lambda: RandomCrop(size=(3, 4, 5)),
    lambda: RandomFlip(p=1.5),
    lambda: RandomBlur(max_sigma=-1.0),
    lambda: ColorJitter(hue=0.6),
    lambda: ColorJitter(contrast=float("nan")),
])
def test_values_out_of_range(make):
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.where and error.value.fix
