"""`mxnetseg train`: the configuration that follows from options."""
import pytest

from mxnetseg.config import Config, load_config
from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.tools import train
from mxnetseg.tools.main import Parser


def configuration(*arguments):
    parser = Parser(prog="train")
    train.add_arguments(parser)
    return train._configuration(parser.parse_args([*arguments, "--weights", "no such folder"]))


@pytest.mark.parametrize("arguments, key, value", [
    (["--backbone", "resnet50"], "model.backbone", "resnet50"), (["--data", "camvid"], "data.name", "camvid"),
    (["--root", "/data"], "data.root", "/data"), (["--epochs", "40"], "train.epochs", 40),
    (["--batch-size", "16"], "train.batch_size", 16), (["--lr", "1e-3"], "optimizer.lr", 1e-3),
    (["--wd", "0"], "optimizer.weight_decay", 0.0), (["--crop", "96"], "data.crop_size", (96, 96)),
    (["--base", "520"], "data.base_size", 520), (["--seed", "7"], "train.seed", 7),
    (["--workers", "3"], "data.workers", 3), (["--log-interval", "5"], "train.log_every", 5),
    (["--set", "optimizer.momentum=0.5"], "optimizer.momentum", 0.5), (["--model", "PSPNet"], "model.name", "pspnet"),
])
def test_an_option_sets_its_key_and_nothing_else(arguments, key, value):
    config, resume = configuration("--model", "fcn", *arguments) if arguments[0] != "--model" else \
        configuration(*arguments)
    assert resume is None
    section, name = key.split(".")
    assert getattr(getattr(config, section), name) == value
    default = load_config(model=config.model.name)
    assert config == default.replace({key: list(value) if isinstance(value, tuple) else value})


def test_root_replaces_the_folder_in_a_configuration(tmp_path):
    (tmp_path / "pets.yaml").write_text("data: {name: 'folder:data/pets'}\n")
    data = configuration("--config", str(tmp_path / "pets.yaml"), "--root", "/moved/pets")[0].data
    assert (data.name, data.root) == ("folder", "/moved/pets")
    data = configuration("--data", "folder:data/pets", "--root", "/moved/pets")[0].data
    assert data.name == "folder:data/pets"  # both are on the command line: refused when the data set is opened
    data = configuration("--set", "data.name=folder:data/pets", "--root", "/moved/pets")[0].data
    assert data.name == "folder:data/pets"


def test_without_options_it_is_the_default(tmp_path):
    assert configuration() == (Config(), None)
    assert configuration("--model", "fcn") == (load_config(model="fcn"), None)
    assert configuration("--config", "fcn") == (load_config("fcn"), None)


def test_set_overrides_other_options_and_may_be_repeated():
    config, _ = configuration("--lr", "0.1", "--set", "optimizer.lr=0.2", "--set", "train.epochs=9", "--epochs", "8")
    assert (config.optimizer.lr, config.train.epochs) == (0.2, 9)


def test_an_unknown_key_or_value_names_the_option():
    with pytest.raises(UnknownNameError) as error:
        configuration("--set", "optimizer.lrr=1")
    assert "--set optimizer.lrr=1" in str(error.value)
    with pytest.raises(ConfigError):
        configuration("--epochs", "0")


def test_auto_without_a_checkpoint_starts_a_new_run():
    assert configuration("--model", "fcn", "--resume", "auto") == (load_config(model="fcn"), None)
