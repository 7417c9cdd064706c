"""``train.py --model NAME`` and ``eval.py --model NAME`` for every network, with its configuration."""
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from mxnetseg.models import build_model, list_models
from mxnetseg.models._cost import count_parameters

ROOT = Path(__file__).resolve().parents[2]


def train_all():
    """Return scripts/train_all.py as a module; it contains the settings that make each network small."""
    spec = importlib.util.spec_from_file_location("train_all", ROOT / "scripts" / "train_all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


QUICK = ("fastscnn", "fcn")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in list_models()])
def test_trains_and_evaluates(name, data, command, tmp_path):
    settings = {text.partition("=")[0]: text for text in train_all().settings(name)}
    settings.update({key: f"{key}={value}" for key, value in (
        ("train.epochs", 1), ("train.batch_size", 2), ("data.crop_size", "[48, 64]"), ("data.base_size", 64))})
    overrides = [word for text in settings.values() for word in ("--set", text)]
    weights = tmp_path / "weights"
    result = command("train", "--model", name, "--data", data, "--workers", "1", "--quiet", "--weights", weights,
                     *overrides)
    assert result.code == 0, result.err
    assert "mIoU" in result.out

    result = command("eval", "--model", name, "--weights", weights, "--quiet", "--save-dir", tmp_path / "out")
    assert result.code == 0, result.err
    scores, = (tmp_path / "out").glob("*/val/scores.json")
    assert 0 <= json.loads(scores.read_text())["miou"] <= 1 and f"network     {name} on" in result.out
    shutil.rmtree(weights)


def test_the_networks_that_train_in_minutes_are_smaller():
    module = train_all()
    for name in module.SMALLER:
        options = dict(text.removeprefix("model.").removeprefix("options.").split("=") for text in module.SMALLER[name])
        options = {key: int(value) if value.isdigit() else value for key, value in options.items()}
        small, whole = build_model(name, nclass=9, **options), build_model(name, nclass=9)
        assert count_parameters(small) < 0.9 * count_parameters(whole)
