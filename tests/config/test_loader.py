"""Files, inheritance and overrides: who wins, and whom a message blames."""
import os
import subprocess
import sys

import pytest

from mxnetseg.config import Config, configs_dir, find_config, list_configs, load_config
from mxnetseg.config.loader import parse_override
from mxnetseg.errors import ConfigError, UnknownNameError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path
    return write


def test_without_anything_the_defaults():
    assert load_config() == Config()


@pytest.mark.parametrize("name", list_configs())
def test_every_configuration_that_comes_with_mxnetseg_is_valid(name):
    config = load_config(name)
    assert load_config(configs_dir() / f"{name}.yaml") == config


def test_the_default_of_a_model_is_its_file():
    assert load_config(model="fcn") == load_config("fcn")
    assert load_config(model="fcn").model.backbone == "resnet18"
    assert load_config(model="FCN").model.name == "FCN"  # names are the registry's business


def test_a_model_without_a_file_has_the_defaults():
    assert load_config(model="net-of-mine") == Config().replace({"model.name": "net-of-mine"})


def test_who_wins(write):
    write("base.yaml", "train: {epochs: 5, batch_size: 2}\noptimizer: {lr: 0.5}\nloss: {ohem: {thresh: 0.6}}")
    write("other.yml", "train: {batch_size: 3}")
    path = write("deep/run.yaml",
                 "_base_: [../base.yaml, ../other.yml]\ntrain: {epochs: 6}\nmodel: {name: x}")
    config = load_config(path, model="b", overrides=["optimizer.lr=1e-2", "train.seed=1", "train.seed=2"])
    assert (config.train.epochs, config.train.batch_size, config.train.seed) == (6, 3, 2)
    assert (config.optimizer.lr, config.model.name, config.loss.ohem.thresh) == (0.01, "b", 0.6)


def test_base_may_be_a_name(write):
    assert load_config(write("x.yaml", "_base_: fcn\ntrain: {seed: 4}")).model.backbone == "resnet18"


def test_a_child_switches_an_optional_section_off(write):
    write("base.yaml", "loss: {ohem: {thresh: 0.6}}")
    assert load_config(write("child.yaml", "_base_: base.yaml\nloss: {ohem: null}")).loss.ohem is None


def test_circle_is_detected(write):
    write("a.yaml", "_base_: b.yaml")
    write("b.yaml", "_base_: c.yaml")
    path = write("c.yaml", "_base_: a.yaml")
    with pytest.raises(ConfigError, match="circle") as caught:
        load_config(path)
    assert caught.value.received == "c.yaml -> a.yaml -> b.yaml -> c.yaml"


def test_one_base_reached_twice_is_no_circle(write):
    write("root.yaml", "train: {seed: 9}")
    write("l.yaml", "_base_: root.yaml")
    write("r.yaml", "_base_: root.yaml")
    assert load_config(write("x.yaml", "_base_: [l.yaml, r.yaml]")).train.seed == 9


def test_the_file_that_holds_the_mistake_is_named(write):
    base = write("base.yaml", "train: {epoch: 5}")
    child = write("child.yaml", "_base_: base.yaml")
    with pytest.raises(UnknownNameError) as caught:
        load_config(child)
    assert str(caught.value.where) == str(base.resolve())
    base.write_text("train: {epochs: none}")
    with pytest.raises(ConfigError) as caught:
        load_config(child)
    assert str(caught.value.where) == str(base.resolve())


def test_the_override_that_holds_the_mistake_is_named():
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["train.epochs=3", "optimizer.lr=-1"])
    assert caught.value.where == "--set optimizer.lr=-1"


@pytest.mark.parametrize("text, words", [
    ("train: [", "not valid YAML"),
    ("train:\n  epochs: 3\n  epochs: 4", "given twice, first in line 2"),
    ("3: 4", "is not text"),
    ("- a", "a mapping of sections"),
    ("train: 3", "section 'train' must be a mapping"),
    ("_base_: 3", "takes a file or a list"),
    ("_base_: [fcn, 3]", "takes a file or a list"),
    ("_base_: fcnn", "did you mean 'fcn'"),
    ("_base_: missing.yaml", "no such configuration file"),
    ("model: !!python/object:os.system {}", "not valid YAML"),
])
def test_broken_files(write, text, words):
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        load_config(write("x.yaml", text))
    assert words in str(caught.value)


def test_yaml_mistake_has_line_and_column(write):
    with pytest.raises(ConfigError, match=r"line 3, column"):
        load_config(write("x.yaml", "train:\n  seed: 1\n bad: 2\n"))


def test_file_that_is_not_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00train")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n  # all is commented out\n"])
def test_empty_files_and_sections_are_no_mistake(write, text):
    assert load_config(write("x.yaml", text)) == Config()


@pytest.mark.parametrize("text, value", [
    ("a.b=1e-2", 0.01), ("a.b=-1E+3", -1000.0), ("a.b=1.5e3", 1500.0), ("a.b=[1e-1, 2]", [0.1, 2]),
    ("a.b=null", None), ("a.b=", None), ("a.b=true", True), ("a.b=folder:/x=y", "folder:/x=y"),
    ("a.b=e5", "e5"), ("a.b=1e", "1e"), ("a.b='1e3'", "1e3"), ("a.b={c: 1}", {"c": 1}),
])
def test_overrides_are_yaml_as_people_write_it(text, value):
    key, parsed = parse_override(text)
    assert key == "a.b" and parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train.seed=[1"])
def test_overrides_without_sense(text):
    with pytest.raises(ConfigError):
        parse_override(text)


def test_options_of_a_network_are_reached_by_override():
    config = load_config(overrides=["model.options.bins=[1, 2]", "model.options.deep.er=x"])
    assert config.model.options == {"bins": [1, 2], "deep": {"er": "x"}}


def test_names_and_paths(write):
    assert find_config("FCN") == configs_dir() / "fcn.yaml"
    with pytest.raises(UnknownNameError, match="unknown configuration 'fcnn'"):
        find_config("fcnn")
    with pytest.raises(ConfigError, match="no such configuration file"):
        find_config("fcn.yaml", relative_to=write("x/y.yaml", "").parent)


def test_the_working_directory_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "fcn.yaml").write_text("train: {seed: 77}")
    (tmp_path / "fcn.yaml").write_text("train: {seed: 78}")
    monkeypatch.chdir(tmp_path)
    assert load_config("fcn").train.seed not in (77, 78)


def test_importing_the_configuration_imports_neither_mxnet_nor_numpy():
    code = "import sys, mxnetseg.config; sys.exit(bool({'mxnet', 'numpy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
