"""Training transforms made from a configuration."""
import numpy as np
import pytest

from mxnetseg.config import Config, load_config
from mxnetseg.config.options import describe_fields
from mxnetseg.config.schema import Data
from mxnetseg.data.recipes import RECIPES, make_transform
from mxnetseg.data.transforms import Cutout, PhotometricDistortion, RandomRotation, ScaleCrop
from mxnetseg.errors import ConfigError


def transform_of(**data):
    return make_transform(Config().replace({f"data.{key}": value for key, value in data.items()}).data)


def step_names(transform):
    return [type(step).__name__ for step in transform.transforms]


def test_the_configuration_lists_all_recipes():
    assert set(RECIPES) == set(describe_fields(Data)["recipe"][1].choices)
    for name in RECIPES:
        image, mask = transform_of(recipe=name, crop_size=[40, 50], base_size=64)(
            np.zeros((60, 70, 3), np.uint8), np.zeros((60, 70), np.uint8), np.random.default_rng(0))
        assert image.shape == (40, 50, 3) and mask.shape == (40, 50) and RECIPES[name].__doc__


def test_each_key_adds_its_transform():
    assert step_names(transform_of()) == ["ScaleCrop", "RandomFlip", "RandomBlur"]
    assert step_names(transform_of(flip=False, blur=False)) == ["ScaleCrop"]
    everything = transform_of(rotation=7, jitter=0.2, photometric=True, cutout=0.4, cat_max_ratio=0.7,
                              class_uniform=0.3)
    assert step_names(everything) == ["ScaleCrop", "RandomRotation", "RandomFlip", "ColorJitter",
                                      "PhotometricDistortion", "RandomBlur", "Cutout"]
    steps = {type(step): step for step in everything.transforms}
    assert steps[RandomRotation].degrees == 7 and steps[Cutout].fraction == 0.4
    crop = steps[ScaleCrop].crop
    assert (crop.cat_max_ratio, crop.class_uniform) == (0.7, 0.3) and PhotometricDistortion in steps


@pytest.mark.parametrize("key, value", [("scale", [1, 2]), ("flip", False), ("blur", False), ("jitter", 0.5),
                                        ("rotation", 3), ("cutout", 0.1), ("photometric", True),
                                        ("cat_max_ratio", 0.5), ("class_uniform", 0.5)])
def test_a_recipe_allows_no_other_augmentation_key(key, value):
    with pytest.raises(ConfigError, match=f"sets data.{key} itself") as error:
        transform_of(recipe="sfnet", **{key: value})
    name, _, default = error.value.fix.rpartition(": ")[2].partition("=")  # may be used after --set
    changes = [f"data.{key}={value}", f"{name}={default}", "data.recipe=sfnet"]
    assert load_config(overrides=changes).data.recipe == "sfnet"
