"""Files, inheritance and overrides: their precedence, and the origins that messages name."""
import os
import random
import subprocess
import sys
import time
import tracemalloc

import pytest

from mxnetseg.config import Config, configs_dir, find_config, list_configs, load_config
from mxnetseg.config.loader import parse_override
from mxnetseg.errors import ConfigError, MXNetSegError, UnknownNameError, UsageError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path
    return write


def test_by_default_the_defaults_of_the_schema():
    assert load_config() == Config()


@pytest.mark.parametrize("name", list_configs())
def test_every_configuration_that_comes_with_mxnetseg_is_valid(name):
    config = load_config(name)
    assert load_config(configs_dir() / f"{name}.yaml") == config


def test_the_default_of_a_model_is_its_file():
    assert load_config(model="fcn") == load_config("fcn")
    assert load_config(model="fcn").model.backbone == "resnet18"
    assert load_config(model="FCN").model.name == "FCN"  # the registry knows other spellings


def test_a_model_without_a_file_has_the_defaults():
    assert load_config(model="net-of-mine") == Config().replace({"model.name": "net-of-mine"})


def test_precedence(write):
    write("base.yaml", "train: {epochs: 5, batch_size: 2}\noptimizer: {lr: 0.5}\nloss: {ohem: {thresh: 0.6}}")
    write("other.yml", "train: {batch_size: 3}")
    path = write("deep/run.yaml",
                 "_base_: [../base.yaml, ../other.yml]\ntrain: {epochs: 6}\nmodel: {name: x}")
    config = load_config(path, model="b", overrides=["optimizer.lr=1e-2", "train.seed=1", "train.seed=2"])
    assert (config.train.epochs, config.train.batch_size, config.train.seed) == (6, 3, 2)
    assert (config.optimizer.lr, config.model.name, config.loss.ohem.thresh) == (0.01, "b", 0.6)


def test_a_base_may_be_a_name(write):
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


@pytest.mark.parametrize("text, error", [("train: {epoch: 5}", UnknownNameError),
                                         ("train: {epochs: none}", ConfigError)])
def test_the_file_that_holds_the_mistake_is_named(write, text, error):
    base = write("base.yaml", text)
    with pytest.raises(error) as caught:
        load_config(write("child.yaml", "_base_: base.yaml"))
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
    ("_base_: 3", "must be a file or a list"),
    ("_base_: [fcn, 3]", "must be a file or a list"),
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


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n  # every key is commented out\n"])
def test_empty_files_and_sections_are_no_mistake(write, text):
    assert load_config(write("x.yaml", text)) == Config()


@pytest.mark.parametrize("text, value", [
    ("a.b=1e-2", 0.01), ("a.b=-1E+3", -1000.0), ("a.b=1.5e3", 1500.0), ("a.b=[1e-1, 2]", [0.1, 2]),
    ("a.b=null", None), ("a.b=", None), ("a.b=true", True), ("a.b=folder:/x=y", "folder:/x=y"),
    ("a.b=e5", "e5"), ("a.b=1e", "1e"), ("a.b='1e3'", "1e3"), ("a.b={c: 1}", {"c": 1}),
    ("a.b=007", 7), ("a.b=1_000", 1000), ("a.b='010'", "010"),
    ("a.b=2024-01-01", "2024-01-01"), ("a.b=2001-99-99", "2001-99-99"), ("a.b=12:30", "12:30"), ("a.b=1:2.5", "1:2.5"),
])
def test_overrides_are_yaml_with_plain_exponents_and_without_dates(text, value):
    key, parsed = parse_override(text)
    assert key == "a.b" and parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train.seed=[1"])
def test_invalid_overrides(text):
    with pytest.raises(ConfigError):
        parse_override(text)


# ---- hostile and unusual files -----------------------------------------------------------------------

LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


@pytest.mark.parametrize("text, words", [
    pytest.param(LAUGHS, "more than 20,000 values", id="laughs"),
    pytest.param(f"model: {{options: {{a: &a '{'x' * 100_000}', b: [{', '.join(['*a'] * 100)}]}}}}",
                 "4,194,304 characters", id="a long text many times"),
    pytest.param("model: {options: &a {x: [*a]}}", "*a stands inside", id="a circle"),
    pytest.param("a: &a {b: 1}\nc: {<<: *a}", "merge keys", id="merge"),
    pytest.param("train: {seed: " + "9" * 5000 + "}", "5,000 digits", id="5000 digits"),
    pytest.param("train: {seed: 0x" + "f" * 5000 + "}", "5,002 digits", id="hexadecimal"),
    pytest.param("train: {seed: 010}", "as 10, as 8 (base 8)", id="octal"),
    pytest.param("train: {seed: 0x_}", "is no int", id="no digits"),
    pytest.param("train: {seed: !!int x}", "is no int", id="not an int"),
    pytest.param("train: {seed: !!bool x}", "is no bool", id="not a bool"),
    pytest.param("train: !!map x", "mapping node", id="not a mapping"),
    pytest.param("train: {seed: !!timestamp 2024-01-01}", "could not determine", id="tagged date"),
    pytest.param("train: {seed: 2024-01-01}", "'2024-01-01' (str)", id="a date for a number"),
    pytest.param("train: {seed: 12:30}", "'12:30' (str)", id="a time for a number"),
    pytest.param("optimizer: {lr: 1e999}", "must be a number", id="1e999"),
    pytest.param("optimizer: {lr: .nan}", "must be a number", id="nan"),
    pytest.param("model: {options: {x: [1, .inf]}}", "finite numbers", id="infinity among options"),
    pytest.param("[" * 100_000, "40 nested levels", id="deep lists"),
    pytest.param("{a: " * 100_000, "40 nested levels", id="deep mappings"),
    pytest.param("? " * 5000 + "a", "40 nested levels", id="deep keys"),
    pytest.param("- " * 5000 + "a", "40 nested levels", id="deep block lists"),
    pytest.param("[a]: 1", "is not text", id="list as key"),
    pytest.param("? {a: b}\n: 1", "is not text", id="mapping as key"),
    pytest.param("null: 1", "is not text", id="null as key"),
    pytest.param("train:\n\tseed: 1", "'\\t'", id="tab"),
    pytest.param("train: \0", "#x0000", id="zero byte"),
    pytest.param('data: {root: "a\\0b"}', "no file name", id="escaped zero byte"),
    pytest.param('data: {root: "\\ud800"}', "no file name", id="a lone surrogate"),
    pytest.param("a: 1\n---\nb: 2", "another document", id="two documents"),
    pytest.param("x" * 2_000_000, "too large", id="2 MB"),
    pytest.param(f"model: {{name: 3, options: {{{'x' * 900}: 1}}}}", "model.name", id="a long key"),
    pytest.param(f"{'x' * 900}: 1", "unknown configuration key", id="a long unknown key"),
    pytest.param(f"train: [{', '.join('1' * 9000)}]", "must be a mapping", id="a long list"),
    pytest.param("model_name: fcn\nbs_train: .inf", "must be a number", id="flat, infinite batch"),
    pytest.param("model_name: fcn\nnum_train: [1]\ndata_name: {a: b}", "data_name", id="flat, lists"),
])
def test_hostile_files_are_refused_shortly_and_quickly(write, text, words):
    path = write("x.yaml", text)
    begin = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as caught:
            load_config(path)
            raise AssertionError("read")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert words in str(caught.value), caught.value
    assert len(str(caught.value)) < 2500 and peak < 64 << 20 and time.process_time() - begin < 20


def test_ten_thousand_digits_on_the_command_line():
    with pytest.raises(ConfigError, match="10,000 digits") as caught:
        load_config(overrides=["train.seed=" + "9" * 10_000])
    assert len(str(caught.value)) < 600
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load_config(overrides=["model.options" + ".x" * 5000 + "=1"])


def test_aliases_may_be_used(write):
    path = write("x.yaml", "data: {crop_size: &size [64, 96], base_size: 80}\neval: {crop_size: *size}")
    assert load_config(path).eval.crop_size == load_config(path).data.crop_size == (64, 96)


def test_files_named_by_base_are_read_once_and_not_too_deep(write):
    for i in range(18):
        write(f"{i}.yaml", f"_base_: [{i + 1}.yaml, {i + 1}.yaml]")  # 2^18 ways to the last file
    write("18.yaml", "train: {seed: 5}")
    assert load_config(find_config("0.yaml", write("x", "").parent)).train.seed == 5
    for i in range(40):
        write(f"{i}.yaml", f"_base_: {i + 1}.yaml")
    with pytest.raises(ConfigError, match="more than 20 files"):
        load_config(find_config("0.yaml", write("x", "").parent))


def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in (("folder", "is a folder"), ("pipe", "not a regular file"), ("x" * 5000, "no such")):
        with pytest.raises(ConfigError, match=words):
            load_config(tmp_path / f"{name}.yaml")


def test_an_unreadable_file_is_refused(write, monkeypatch):
    path = write("x.yaml", "train: {seed: 1}")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_config(path)
    assert caught.value.received == "Permission denied"


def test_mutated_files_are_read_or_refused(write):
    originals = [path.read_text(encoding="utf-8") for path in sorted(configs_dir().glob("*.yaml"))[:5]]
    originals += [Config().describe(), "model_name: fcn\ndata_name: camvid\nbs_train: 8\nlr: 0.01\naux: true\n"
                  "ctx: [gpu(0), gpu(1)]\nbackbone_init: {manner: cls, backbone_ckpt: ~}\nnorm: SyncBN\nnum_train: 367"]
    tokens = ["&a ", "*a", "!!int ", "!!set ", "!!binary ", "!!map ", "[", "]", "{", "}", ": ", "- ", "? ", "\t", "\n",
              "|", ">", "'", '"', "\0", "\x85", "1e999", ".inf", ".nan", "0x", "2024-01-01", "12:30:45", "9" * 50, "<<",
              "=", "---\n", "%YAML 9.9\n", "null", "yes", "\ufeff", "_base_", "\\", "#", ",", "@", "`"]
    path, read = write("x.yaml", ""), 0
    for seed in range(400):
        generator = random.Random(seed)
        data = bytearray(generator.choice(originals).encode())
        for _ in range(generator.randint(1, 4)):
            at, mutation = generator.randrange(len(data) + 1), generator.randrange(4)
            length = generator.randint(1, 30)
            if mutation == 0:
                data[at:at + 1] = bytes([generator.randrange(256)])
            elif mutation == 1:
                data[at:at + generator.randint(0, 8)] = generator.choice(tokens).encode()
            elif mutation == 2:
                del data[at:at + length]
            else:
                data[at:at] = data[at:at + length]
        path.write_bytes(data)
        try:
            load_config(path)
            read += 1
        except MXNetSegError as error:
            assert len(str(error)) < 2500
    assert read > 20


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
