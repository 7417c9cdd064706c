"""Errors: their content, and fixes that can be carried out."""
import pytest

from mxnetseg.config import load_config
from mxnetseg.data import get_dataset
from mxnetseg.errors import CheckpointError, UnknownNameError
from mxnetseg.models import get_model
from mxnetseg.models.backbones import BACKBONES, list_backbones
from mxnetseg.tools.common import choose_checkpoint
from mxnetseg.tools.main import COMMANDS, main


@pytest.mark.parametrize("ask", [
    lambda: load_config("zzz"), lambda: get_model("zzz"), lambda: get_dataset("zzz"),
    lambda: get_model("fcn", backbone="zzz"), lambda: load_config(overrides=["zzz=1"])])
def test_an_unknown_name_is_answered_with_all_names_or_the_command_that_lists_them(ask, capsys):
    with pytest.raises(UnknownNameError) as error:
        ask()
    fix = error.value.fix
    if "`" in fix:
        command = fix.split("`")[1].split()
        assert command[0] == "mxnetseg" and command[1] in COMMANDS
        assert main(command[1:]) == 0 and len(capsys.readouterr().out.splitlines()) > 25
    else:
        assert all(name in fix for name in list_backbones())  # no command lists these
        assert max(map(len, fix.splitlines())) <= 110


def test_the_message_lists_many_names_if_no_command_does():
    names = [f"name{i}" for i in range(90)]
    assert all(name in UnknownNameError("thing", "x", names).fix.replace("\n", " ") for name in names)
    assert len(BACKBONES.names()) > 40  # otherwise the rule is not used


def test_gluoncvs_argument_is_answered_with_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'pretrained_base'"):
        get_model("fcn", pretrained=True)


def test_without_a_checkpoint_the_fix_names_every_way_to_one(tmp_path):
    with pytest.raises(CheckpointError) as error:
        choose_checkpoint(None, tmp_path)
    commands = [line.split()[1] for line in error.value.fix.splitlines()]
    assert commands == ["demo", "train", "convert", "predict", "predict"] and set(commands) <= set(COMMANDS)
    assert "--model pspnet" in str(pytest.raises(CheckpointError, choose_checkpoint, None, tmp_path,
                                                 model="PSPNet").value)
