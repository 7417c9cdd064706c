"""`mxnetseg eval`: the protocol that follows from options and a sidecar."""
from functools import partial

import pytest

from mxnetseg.config import Config
from mxnetseg.engine.protocol import Protocol
from mxnetseg.errors import UsageError
from mxnetseg.tools import eval as command
from mxnetseg.tools.main import Parser

TRAINED = {"data.crop_size": [100, 200], "eval.base_size": 500, "eval.ms_scales": [0.5, 1.0]}
of_training = partial(Protocol, size_divisor=32, remainders=(100 % 32, 200 % 32))
WHOLE = of_training("whole", 500, (100, 200))


def protocol(*arguments, **trained):
    parser = Parser(prog="eval")
    command.add_arguments(parser)
    config = Config().replace({**TRAINED, **{key.replace("__", "."): value for key, value in trained.items()}})
    args = parser.parse_args(arguments)
    return command._protocol(args, command._configuration(args, config))


@pytest.mark.parametrize("arguments, wanted", [
    ([], WHOLE),
    (["--ms"], of_training("whole", 500, (100, 200), scales=(0.5, 1.0), flip=True)),
    (["--base", "2048"], of_training("whole", 2048, (100, 200))),
    (["--crop", "768"], of_training("slide", 500, (768, 768))),
    (["--crop", "768", "--base", "2048", "--ms"],
     of_training("slide", 2048, (768, 768), scales=(0.5, 1.0), flip=True)),
    (["--crop", "768", "--whole"], of_training("whole", 500, (768, 768))),
    (["--crop", "768", "--gluoncv"], of_training("gluoncv", 500, (768, 768))),
    (["--crop", "768", "--set", "eval.stride=0.5", "--eval.batch=4"],
     of_training("slide", 500, (768, 768), stride=0.5, batch=4)),
])
def test_options_change_the_protocol_of_the_training(arguments, wanted):
    assert protocol(*arguments) == wanted


def test_a_network_whose_configuration_says_sliding_windows():
    assert protocol(eval__mode="slide") == of_training("slide", 500, (100, 200))
    assert protocol("--whole", eval__mode="slide") == WHOLE


def test_a_zip_belongs_to_the_test_split():
    parser = Parser(prog="eval")
    command.add_arguments(parser)
    with pytest.raises(UsageError, match="--zip writes the predictions of the test split") as error:
        command._check_zip(parser.parse_args(["--zip", "a.zip"]))
    assert "--mode val" in str(error.value)
    command._check_zip(parser.parse_args(["--zip", "a.zip", "--mode", "test"]))


@pytest.mark.parametrize("one, other, same", [
    ("citys", "Cityscapes", True), ("camvid", "CamVid", True), ("folder:a", "folder:a", True),
    ("folder:a", "folder:b", False), ("camvid", "cityscapes", False)])
def test_one_data_set_by_two_names_keeps_its_root(one, other, same):
    assert command._same_data(one, other) is same
