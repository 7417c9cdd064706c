"""Schema: checked values, a description that reads back, and changes that make copies."""
import copy
import dataclasses
import json
from typing import get_args

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.config import Config
from mxnetseg.config.options import describe_fields, dotted_keys, section_type
from mxnetseg.config.schema import Eval, Loss, Ohem, Optimizer, merge
from mxnetseg.errors import ConfigError, UnknownNameError


def leaf_options(section=Config):
    """Yield (annotation, option) of every key that is not a section."""
    for hint, opt in describe_fields(section).values():
        nested = section_type(hint)
        if nested is None:
            yield hint, opt
        else:
            yield from leaf_options(nested)


def test_defaults_are_valid_and_survive_json_and_yaml():
    config = Config()
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict(yaml.safe_load(config.to_yaml())) == config


def test_every_key_is_documented():
    for hint, opt in leaf_options():
        assert len(opt.doc) > 4 and not opt.doc.endswith(".")
        assert (type(None) in get_args(hint)) == (opt.null is not None), opt.doc


@pytest.mark.parametrize("changes", [
    {},
    {"loss.ohem.thresh": 0.6, "loss.class_weights": [1, 2.5], "schedule.step_epochs": [3, 9]},
    {"model.name": "null", "data.name": "folder:/a b/c", "data.root": "1e3", "model.backbone": "yes"},
])
def test_description_reads_back(changes):
    config = Config().replace(changes)
    described = config.describe()
    assert Config.from_dict(yaml.safe_load(described)) == config
    assert max(map(len, described.splitlines())) <= 100


def test_description_shows_the_keys_of_an_optional_section_that_is_off():
    assert "ohem: null\n" in Config().describe() and "#   thresh: 0.7\n" in Config().describe()


def test_replace_makes_a_checked_copy():
    config = Config()
    other = config.replace({"train.epochs": 3, "loss.ohem.thresh": 0.5})
    assert (other.train.epochs, other.loss.ohem) == (3, Ohem(thresh=0.5))
    assert (config.train.epochs, config.loss.ohem) == (Config().train.epochs, None)
    assert other.replace({"loss.ohem": None}).loss.ohem is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train.epochs = 4


def test_default_mappings_are_not_shared():
    Config().model.options["x"] = 1
    assert Config().model.options == {}


@pytest.mark.parametrize("given_value, kept", [
    (480, (480, 480)), ([192, 288], (192, 288)), ((64.0, 96), (64, 96)), (np.int64(32), (32, 32)),
])
def test_one_number_is_a_square_crop(given_value, kept):
    crop = Config().replace({"data.crop_size": given_value}).data.crop_size
    assert crop == kept and all(type(side) is int for side in crop)


def test_numbers_of_numpy_become_plain_ones():
    optimizer = Optimizer(lr=np.float32(0.5))
    assert type(optimizer.lr) is float and optimizer.lr == 0.5


@pytest.mark.parametrize("key, value, words", [
    ("optimizer.lr", 0, "> 0"),
    ("optimizer.lr", "fast", "a number"),
    ("optimizer.lr", float("nan"), "a number"),
    ("optimizer.lr", True, "a number"),
    ("optimizer.momentum", 1.0, "< 1"),
    ("train.epochs", 2.5, "a whole number"),
    ("train.epochs", 0, "epochs"),
    ("train.seed", 2**31, "<= 2147483647"),
    ("model.aux", 1, "true or false"),
    ("model.output_stride", 12, "8, 16, 32"),
    ("model.name", None, "text"),
    ("model.options", [1], "a mapping"),
    ("model.options", {1: 2}, "a mapping"),
    ("data.crop_size", [1, 2, 3], "a list of 2 whole numbers"),
    ("data.crop_size", [480, 4], "pixels"),
    ("eval.scales", [], "a list of numbers"),
    ("eval.scales", 1.0, "a list of numbers"),
    ("schedule.name", "polly", "one of poly"),
    ("train", 3, "must be a mapping"),
    ("train", None, None),
])
def test_a_wrong_value_is_refused_with_the_allowed_ones(key, value, words):
    if words is None:  # an empty section in a file is no mistake
        assert Config().replace({key: value}) == Config()
        return
    with pytest.raises(ConfigError) as caught:
        Config().replace({key: value}, where="my.yaml")
    message = str(caught.value)
    assert words in message and key in message and "my.yaml" in message and caught.value.exit_code == 2


def test_a_misspelt_choice_is_recognised():
    with pytest.raises(ConfigError, match="did you mean 'poly'"):
        Config().replace({"schedule.name": "polly"})


@pytest.mark.parametrize("key, meant", [
    ("train.epoch", "train.epochs"),
    ("trian.epochs", "train"),
    ("lr", "optimizer.lr"),
    ("train.lr", "optimizer.lr"),
    ("loss.ohem.treshold", "loss.ohem.thresh"),
    ("optimiser.weight_decay", "optimizer"),
])
def test_an_unknown_key_is_answered_with_the_nearest(key, meant):
    with pytest.raises(UnknownNameError) as caught:
        Config().replace({key: 1}, where="my.yaml")
    assert repr(meant) in caught.value.fix and caught.value.where == "my.yaml"


@pytest.mark.parametrize("changes, words", [
    ({"data.scale": [2, 1]}, "data.scale: [1, 2]"),
    ({"schedule.name": "step"}, "schedule.step_epochs"),
    ({"schedule.step_epochs": [9, 3, 3]}, "schedule.step_epochs: [3, 9]"),
    ({"train.epochs": 2, "schedule.warmup_epochs": 2}, "leaves nothing"),
    ({"schedule.target_lr": 1}, "above optimizer.lr"),
    ({"loss.ce": 0}, "every loss has weight 0"),
    ({"loss.ce": 0, "loss.dice": 1, "loss.ohem": {}}, "loss.ohem: null"),
    ({"loss.ce": 0, "loss.focal": 1, "loss.label_smoothing": 0.1}, "loss.label_smoothing: 0"),
    ({"loss.ce": 0, "loss.lovasz": 1, "loss.class_weights": [1, 2]}, "loss.class_weights: null"),
    ({"loss.ce": 0, "loss.lovasz": 1, "loss.class_weights_log": 1.1}, "loss.class_weights_log: null"),
    ({"loss.class_weights_log": 1.1, "loss.class_weights": [1, 2]}, "loss.class_weights=null, or loss.class_weights_"),
    ({"train.freeze_backbone_epochs": 2}, "model.pretrained_base=true, or train.init_from=CHECKPOINT"),
    ({"model.options": {"nclass": 3}}, "the data set has its number of classes"),
    ({"model.options": {"pretrained": True}}, "set model.pretrained_base"),
])
def test_contradictions_are_refused(changes, words):
    with pytest.raises(ConfigError) as caught:
        Config().replace(changes, where="here")
    assert words in str(caught.value) and "here" in str(caught.value)


def test_sections_check_themselves_when_made_in_python():
    with pytest.raises(ConfigError, match="Loss.aux_weight"):
        Loss(aux_weight=-1)
    with pytest.raises(ConfigError, match="Config.eval must be an object of class Eval"):
        Config(eval={"mode": "slide"})
    assert Loss(ohem=Ohem()).ohem.min_kept > 0
    assert Eval(crop_size=64).crop_size == (64, 64)


def test_dump_writes_a_file_that_reads_back(tmp_path):
    config = Config().replace({"train.epochs": 7, "data.root": "ä"})
    config.dump(tmp_path / "sub" / "config.yaml")
    text = (tmp_path / "sub" / "config.yaml").read_text(encoding="utf-8")
    assert Config.from_dict(yaml.safe_load(text)) == config


mappings = st.dictionaries(st.sampled_from("abc"), st.recursive(
    st.integers(), lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3), max_leaves=9))


@given(mappings, mappings)
def test_merging_keeps_the_upper_layer_and_the_rest_of_the_lower(below, above):
    before = copy.deepcopy((below, above))
    merged = merge(below, above)
    assert (below, above) == before
    assert merge(merged, above) == merged
    assert set(merged) == {*below, *above}
    for key, value in merged.items():
        lower, upper = below.get(key), above.get(key)
        if isinstance(lower, dict) and isinstance(upper, dict):
            assert value == merge(lower, upper)
        else:
            assert value == (upper if key in above else lower)


@given(st.dictionaries(st.sampled_from(dotted_keys(Config)), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.floats(0.1, 9), max_size=3)), max_size=4))
def test_any_value_is_kept_or_refused(changes):
    """Values raise no other exception, and a value that is kept survives a file."""
    try:
        config = Config().replace(changes)
    except (ConfigError, UnknownNameError):
        return
    assert Config.from_dict(yaml.safe_load(config.to_yaml())) == config
