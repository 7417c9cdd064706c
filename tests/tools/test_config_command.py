"""``mxnetseg config``."""
import pytest
import yaml

from mxnetseg.config import Config, list_configs, load_config
from mxnetseg.tools.main import main


def test_shows_the_configuration_of_a_run(capsys):
    assert main(["config", "fcn", "--set", "train.epochs=3"]) == 0
    shown = Config.from_dict(yaml.safe_load(capsys.readouterr().out))
    assert shown == load_config("fcn", overrides=["train.epochs=3"])


def test_describes(capsys):
    assert main(["config", "--describe"]) == 0
    out = capsys.readouterr().out
    assert "# learning rate of the backbone" in out and Config.from_dict(yaml.safe_load(out)) == Config()


@pytest.mark.parametrize("section", list(Config().to_dict()))
def test_describes_one_section(section, capsys):
    assert main(["config", "--describe", section]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_load(out) == {section: Config().to_dict()[section]}
    assert out in Config().describe() and out.startswith("# ")


def test_a_section_that_does_not_exist(capsys):
    assert main(["config", "--describe", "fcn"]) == 2
    message = capsys.readouterr().err
    assert "one of model, data, loss" in message and "mxnetseg config fcn --describe" in message


def test_lists(capsys):
    assert main(["config", "--list"]) == 0
    assert capsys.readouterr().out.split() == list_configs()


def test_saves(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert main(["config", "--set", "train.seed=5", "--save", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert load_config(path).train.seed == 5
