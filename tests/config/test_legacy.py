"""MXNetSeg's flat configuration and wandb's exports: their translation, and invalid files."""
import json
import logging
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.config import Config, load_config
from mxnetseg.config.legacy import from_mxnetseg
from mxnetseg.data import DATASETS
from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.tools.main import main

# a run of MXNetSeg, with its keys
FLAT = {
    "model_name": "fcn", "backbone": "resnet18", "dilate": True, "aux": False, "aux_weight": 0.5, "norm": "sbn",
    "backbone_init": {"manner": "cls", "backbone_ckpt": None, "prior_classes": None}, "resume": None,
    "data_name": "Cityscapes", "crop_size": 768, "base_size": 2048, "lr": 1e-3, "target_lr": 0, "wd": 1e-4,
    "lr_mult": 10, "momentum": 0.9, "optimizer": "sgd", "lr_scheduler": "poly", "poly": {"power": 0.9},
    "step": {"step_factor": 0.5, "step_epoch": [5]}, "adam": {"adam_beta1": 0.9, "adam_beta2": 0.999},
    "epochs": 200, "bs_train": 8, "bs_val": 16, "ctx": [f"gpu({i})" for i in range(4)],
    "num_train": 2975, "num_valid": 500, "start_time": "20210115_161917",
}


def imported(**changes):
    flat = {**FLAT, **changes}
    return Config.from_dict(from_mxnetseg({k: v for k, v in flat.items() if v is not ...})[0])


def save(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


def export(flat):
    wandb = {"desc": None, "value": {"cli_version": "0.10", "t": {1: [1, 2], 2: [3]}}}
    return {"wandb_version": 1, "_wandb": wandb, **{k: {"desc": None, "value": v} for k, v in flat.items()}}


def test_the_published_run_is_the_file_of_its_name(tmp_path):
    shipped = load_config("pretty-surf-1")
    assert load_config(save(tmp_path / "config.yml", FLAT)) == shipped
    assert load_config(save(tmp_path / "wandb.yaml", export(FLAT))) == shipped


PUBLISHED = json.loads((Path(__file__).parents[1] / "golden" / "published-configs.json").read_text())["runs"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_run_is_the_file_of_its_name(tmp_path, name):
    flat = dict(PUBLISHED[name])
    flat["ctx"] = [f"gpu({i})" for i in range(flat.pop("n_gpu"))]
    config, shipped = load_config(save(tmp_path / "wandb.yaml", export(flat))), load_config(name)
    assert DATASETS.resolve(config.data.name) == shipped.data.name
    assert config.replace({"data.name": shipped.data.name}) == shipped
    dataset = DATASETS.get(shipped.data.name)
    assert {shipped.data.train_split, shipped.data.val_split} <= set(dataset.splits)
    assert dataset.published_count(shipped.data.train_split) in (flat["num_train"], None)


def test_wandb_exports_of_mxnetseg_runs_load(tmp_path):
    config = Config().replace({"train.epochs": 3, "loss.ohem.thresh": 0.6})
    assert load_config(save(tmp_path / "config.yaml", export(config.to_dict()))) == config


def test_the_translation_is_logged_and_the_file_may_be_a_base(tmp_path, caplog):
    save(tmp_path / "old.yml", FLAT)
    (tmp_path / "new.yaml").write_text("_base_: old.yml\ntrain: {epochs: 3}\n")
    with caplog.at_level(logging.INFO):
        config = load_config(tmp_path / "new.yaml", overrides=["optimizer.momentum=0.8"])
    assert (config.train.epochs, config.optimizer.momentum, config.model.backbone) == (3, 0.8, "resnet18")
    assert "lr 0.001 acted as 0.0005: f = 4 devices / 8 images" in caplog.text


@given(lr=st.floats(1e-6, 1), wd=st.floats(1e-8, 1e-2), devices=st.integers(1, 16), batch=st.integers(1, 64))
def test_one_step_of_sgd_is_the_same(lr, wd, devices, batch):
    """Compare MXNetSeg's update, from f times the gradient, with the update from the gradient."""
    optimizer = imported(lr=lr, wd=wd, bs_train=batch, ctx=[f"gpu({i})" for i in range(devices)]).optimizer
    weight, gradient, f = 0.7, -0.3, devices / batch
    theirs = weight - lr * (f * gradient + wd * weight)
    assert weight - optimizer.lr * (gradient + optimizer.weight_decay * weight) == pytest.approx(theirs, rel=1e-9)


def test_adam_keeps_its_rate():
    config = imported(optimizer="adam", lr_scheduler="poly", adam={"adam_beta1": 0.8, "adam_beta2": 0.99})
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.schedule.name) == (1e-3, 2e-4, "constant")
    assert (config.optimizer.beta1, config.optimizer.beta2) == (0.8, 0.99)


@pytest.mark.parametrize("changes, key, value", [
    ({"dilate": False}, "model.output_stride", 32),
    ({"model_name": "DeepLabv3Plus"}, "model.name", "deeplabv3plus"),
    ({"model_name": "pspnet"}, "model.output_stride", None),  # it had no choice
    ({"backbone": "mobilenet_v2_1_0", "dilate": True}, "model.output_stride", None),
    ({"norm": ..., "norm_layer": "SyncBN"}, "model.norm", "auto"),
    ({"norm": "GN"}, "model.norm", "gn"),
    ({"backbone_init": {"manner": None}}, "model.pretrained_base", False),
    ({"backbone_init": {"manner": "cls", "backbone_ckpt": "x.params"}}, "model.pretrained_path", "x.params"),
    ({"resume": "y.params"}, "train.init_from", "y.params"),
    ({"aux": True, "aux_weight": 0.2}, "loss.aux_weight", 1.0),
    ({"num_train": 3475}, "data.train_split", "trainval"),
    ({"data_name": "VOCAug"}, "eval.ms_scales", (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)),
    ({"data_name": "gatech"}, "eval.ms_scales", (0.5, 0.8, 1.0, 1.2, 1.4)),
    ({"lr_scheduler": "step", "step": {"step_factor": 0.1, "step_epoch": [5, 10]}}, "schedule.step_epochs", (5, 10)),
    ({"lr_scheduler": "step"}, "schedule.step_factor", 0.5),
    ({"target_lr": 1e-4}, "schedule.target_lr", 5e-5),
    ({"ctx": "[gpu(0), gpu(1)]"}, "optimizer.lr", 2.5e-4),
    ({"ctx": ...}, "optimizer.lr", 1.25e-4),
])
def test_each_key(changes, key, value):
    section, name = key.split(".")
    assert getattr(getattr(imported(**changes), section), name) == value


@pytest.mark.parametrize("changes, words", [
    ({"model_nam": "x"}, "did you mean 'model_name'"),
    ({"poly": {"powr": 1}}, "did you mean 'poly.power'"),
    ({"poly": 0.9}, "must be a mapping"),
    ({"norm": "LN"}, "one of SyncBN, BN, GN"),
    ({"ctx": "all"}, "list of devices"),
    ({"lr": "fast"}, "must be a number"),
    ({"bs_train": 0}, "must be a number"),
    ({"epochs": 0}, "'train.epochs'"),
    ({"backbone_init": {"manner": "seg"}}, "train.init_from"),
])
def test_values_without_a_counterpart_are_refused(tmp_path, changes, words):
    path = save(tmp_path / "config.yml", {**FLAT, **changes})
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        load_config(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_without_devices_a_note_names_the_assumption():
    assert any("1 is assumed" in note for note in from_mxnetseg({k: v for k, v in FLAT.items() if k != "ctx"})[1])


def test_the_command_imports(tmp_path, capsys):
    path = save(tmp_path / "config.yml", FLAT)
    assert main(["config", "import", str(path), "--save", str(tmp_path / "new.yaml")]) == 0
    assert load_config(tmp_path / "new.yaml") == load_config("pretty-surf-1")
    text = (tmp_path / "new.yaml").read_text()
    assert "# wd 0.0001 acted as 0.0002" in text and "momentum" not in text
    capsys.readouterr()
    assert main(["config", "import", "fcn"]) == 2 and "does not exist" in capsys.readouterr().err
    assert main(["config", "import"]) == 2 and main(["config", "a", "b"]) == 2


def test_the_command_shows(capsys):
    assert main(["config", "show", "pretty-surf-1"]) == 0
    assert Config.from_dict(yaml.safe_load(capsys.readouterr().out)) == load_config("pretty-surf-1")
