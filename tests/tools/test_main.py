"""The console command: its output, its streams and its exit codes."""
import argparse
import errno
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import mxnetseg
from mxnetseg.errors import DataError, UsageError
from mxnetseg.tools import main as console
from mxnetseg.tools.main import COMMANDS, Parser, main, run_command


@pytest.fixture
def command(monkeypatch):
    """Return a function that registers a command ``try`` with the given ``run`` and one option, --epochs."""
    def register(run):
        module = types.ModuleType("try_command")
        module.add_arguments = lambda parser: parser.add_argument("--epochs", type=int)
        module.run = run
        monkeypatch.setitem(sys.modules, "try_command", module)
        monkeypatch.setitem(COMMANDS, "try", ("try_command", "try something"))
    return register


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out and summary in out for name, (_, summary) in COMMANDS.items())


def test_no_argument_is_wrong_use(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "usage:" in captured.err and captured.out == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mxnetseg {mxnetseg.__version__}\n"


def test_unknown_command_suggests(capsys):
    assert main(["tarin"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_result_of_the_command_is_the_exit_code(command):
    seen = []
    command(lambda args: seen.append(args.epochs) or 1)
    assert main(["try", "--epochs", "3"]) == 1 and seen == [3]


@pytest.mark.parametrize("arguments, words", [
    (["--epoch", "3"], "for --epoch, did you mean --epochs?"),
    (["--epochs", "many"], "invalid int value"),
    (["--epochs"], "expected one argument"),
    (["surplus"], "unrecognized arguments: surplus"),
])
def test_wrong_options(command, capsys, arguments, words):
    command(lambda args: 0)
    assert main(["try", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and "usage: mxnetseg try" in captured.err and captured.out == ""


def test_a_usage_error_prints_one_line_of_usage(capsys):
    assert run_command("train", ["--epoch", "3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0] == "usage: mxnetseg train [options]   (all options: mxnetseg train --help)"
    assert run_command("predict", []) == 2
    assert "usage: mxnetseg predict [options] IMAGE|VIDEO|FOLDER|GLOB [...]" in capsys.readouterr().err


@pytest.fixture
def parser():
    parser = Parser(prog="p")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    return parser


@pytest.mark.parametrize("arguments, batch_size, overrides, files", [
    (["--batch_size=4"], 4, [], []), (["--batch_size", "4"], 4, [], []),
    (["--optimizer.lr=0.001", "a"], None, ["optimizer.lr=0.001"], ["a"]),
    (["--optimizer.lr", "0.001", "a"], None, ["optimizer.lr=0.001"], ["a"]),
    (["--set", "a.b=1", "--data.name=x=y"], None, ["a.b=1", "data.name=x=y"], []),
    (["--", "--optimizer.lr=1", "--batch_size=4"], None, [], ["--optimizer.lr=1", "--batch_size=4"]),
])
def test_options_as_a_sweep_agent_writes_them(parser, arguments, batch_size, overrides, files):
    args = parser.parse_args(arguments)
    assert (args.batch_size, args.overrides, args.files) == (batch_size, overrides, files)


def test_a_sweep_cannot_set_an_unknown_key(capsys):
    assert run_command("train", ["--optimizer.lrr=1"]) == 2
    assert "optimizer.lr" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # an unknown option, since this parser does not have --set
        Parser(prog="p").parse_args(["--optimizer.lr=1"])


ONE_SPELLING = {"--root": "--data-root", "--out": "--save-dir", "--model": "--network"}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_is_spelt_alike_in_all_commands_and_its_old_spelling_stays(name):
    parser = Parser(prog=name)
    console.import_module(COMMANDS[name][0]).add_arguments(parser)
    for action in parser._actions:
        for new, old in ONE_SPELLING.items() if name not in ("report", "merge") else ():  # newer than those
            assert (new in action.option_strings) == (old in action.option_strings), (name, action.option_strings)
        if "--set" in action.option_strings:
            assert action.dest == "overrides" and action.metavar == "KEY=VALUE"
        if action.type is int:  # it sets a configuration key, and the schema checks the range
            assert name in ("train", "eval"), (name, action.option_strings)


@pytest.mark.parametrize("arguments", [
    ["browse", "sample", "--count", "0"], ["browse", "sample", "--crops", "-1"],
    ["browse", "sample", "--seed", "-1"],
    ["check-data", "sample", "--workers", "0"], ["prepare", "--workers", "-2"], ["demo", "--epochs", "0"],
    ["summary", "fcn", "--size", "31"], ["summary", "fcn", "--nclass", "0"], ["summary", "fcn", "--depth", "x"],
    ["benchmark", "--rounds", "0"], ["benchmark", "--batch", "-1"], ["benchmark", "--threads", "0"],
    ["convert", "a", "b", "--model", "fcn", "--nclass", "-1"], ["train", "--epochs", "0"], ["train", "--workers", "0"],
    ["train", "--crop", "-8"], ["train", "--base", "0"], ["train", "--log-interval", "0"], ["train", "--seed", "-1"],
    ["train", "--batch-size", "0"], ["train", "--accumulate", "-1"], ["train", "--lr", "0"], ["train", "--wd", "-1"]])
def test_numbers_out_of_range_are_refused_with_the_range(capsys, arguments):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert (arguments[-2] in err or "--set" in err) and any(word in err for word in (">=", "> 0", "at least")), err


def test_no_option_is_suggested_for_a_value_that_looks_like_one(capsys):
    parser = Parser(prog="p")
    parser.add_argument("--epochs")
    with pytest.raises(SystemExit):
        parser.parse_args(["-7", "epochs"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["try", "--help"], ["try", "-h"], ["help", "try"]])
def test_help_of_a_command(command, capsys, arguments):
    command(lambda args: 0)
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "Try something." in out and "--epochs" in out and "--debug" in out


@pytest.mark.parametrize("kind, code", [(DataError, 1), (UsageError, 2)])
def test_errors_of_mxnetseg_are_messages_not_tracebacks(command, capsys, kind, code):
    def run(args):
        raise kind("the mask is damaged", where="a.png", fix="restore it")
    command(run)
    assert main(["try"]) == code
    err = capsys.readouterr().err
    assert err == "mxnetseg try: the mask is damaged\n  where:    a.png\n  fix:      restore it\n"
    assert main(["try", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_leading_tilde_is_the_home_folder(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []

    def add_arguments(parser):
        parser.add_argument("--out", type=Path)
        parser.add_argument("files", nargs="+", type=Path)
        parser.add_argument("--name")

    command(lambda args: seen.append((args.out, args.files, args.name)) or 0)
    monkeypatch.setattr(sys.modules["try_command"], "add_arguments", add_arguments)
    assert run_command("try", ["--out=~/x", "~/a", "b", "--name", "~c"]) == 0
    assert seen == [(tmp_path / "x", [tmp_path / "a", Path("b")], "~c")]


def test_errors_of_the_program_are_not_hidden(command):
    def run(args):
        raise ZeroDivisionError
    command(run)
    with pytest.raises(ZeroDivisionError):
        main(["try"])


def test_interrupt(command, capsys):
    def run(args):
        raise KeyboardInterrupt
    command(run)
    assert main(["try"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_scripts_print_their_own_name(command, capsys):
    command(lambda args: 0)
    assert run_command("try", ["--nope"], prog="try.py") == 2
    assert "usage: try.py" in capsys.readouterr().err


def test_log_of_the_library_is_shown_while_a_command_runs(command, capsys):
    log = logging.getLogger("mxnetseg.somewhere")

    def run(args):
        log.debug("detail")
        log.info("news")
        log.warning("beware")
        return 0
    command(run)
    before = list(logging.getLogger("mxnetseg").handlers)
    assert main(["try"]) == 0
    assert capsys.readouterr().err == "news\nwarning: beware\n"
    assert main(["try", "--debug"]) == 0
    assert capsys.readouterr().err == "debug: detail\nnews\nwarning: beware\n"
    assert logging.getLogger("mxnetseg").handlers == before


def python(*arguments):
    """Run Python in a separate process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_help_imports_neither_mxnet_nor_numpy():
    code = ("import sys; from mxnetseg.tools.main import main; main(['--help'])\n"
            "sys.exit(bool({'mxnet', 'numpy', 'cv2', 'yaml'} & set(sys.modules)))")
    assert python("-c", code).returncode == 0


def test_module_is_the_command():
    done = python("-m", "mxnetseg", "config", "fcn", "--set", "train.epoch=3")
    assert done.returncode == 2 and "'train.epochs'" in done.stderr and done.stdout == ""


def test_a_closed_pipe_is_no_error():
    done = python("-c", "import subprocess, sys\n"
                        "p = subprocess.Popen([sys.executable, '-m', 'mxnetseg', 'config', '--describe'],\n"
                        "                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
                        "p.stdout.close()\n"
                        "sys.stderr.buffer.write(p.stderr.read())\n"
                        "sys.exit(p.wait())")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["config", "datasets", "doctor", "models"])
def test_commands_declare_arguments_with_help(name):
    module = console.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert all(action.help for action in parser._actions)


# ---- hostile names, terminals and paths ------------------------------------------------------------


def test_control_characters_are_escaped(monkeypatch, capsys):
    from mxnetseg.tools import models

    monkeypatch.setattr(models, "run", lambda args: print("cat\x1b]0;owned\x07 \x9b31m \u202edog\tend") or 0)
    assert run_command("models", []) == 0
    assert capsys.readouterr().out == "cat\\x1b]0;owned\\x07 \\x9b31m \\u202edog\tend\n"

    def fail(args):
        logging.getLogger("mxnetseg.test").warning("class \x1b[2J")
        raise UsageError("no such class", received="\x1b[31mred\r")
    monkeypatch.setattr(models, "run", fail)
    assert run_command("models", []) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err and "\r" not in err and "\\x1b[31mred\\r" in err and "class \\x1b[2J" in err


def test_a_terminal_without_utf8_shows_escapes():
    code = ("import sys\nfrom mxnetseg.tools import main, models\n"
            "models.run = lambda args: print('Stra\\u00dfe \\u2192 \\udcff') or 0\n"
            "sys.exit(main.run_command('models', []))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120,
                          env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"Stra\\xdfe \\u2192 \\udcff\n"


@pytest.mark.parametrize("error, words", [
    (OSError(errno.EROFS, os.strerror(errno.EROFS), "/read/only"), "Read-only file system"),
    (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "x" * 5000), "the path is too long"),
    (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret"), "Permission denied")])
def test_a_file_error_that_no_other_code_handles(monkeypatch, capsys, error, words):
    from mxnetseg.tools import models

    monkeypatch.setattr(models, "run", lambda args: (_ for _ in ()).throw(error))
    assert run_command("models", []) in (1, 2)
    err = capsys.readouterr().err
    assert words in err and "fix:" in err and len(err) < 1000
    monkeypatch.setattr(models, "run", lambda args: (_ for _ in ()).throw(OSError("a bug")))
    with pytest.raises(OSError, match="a bug"):
        run_command("models", [])


LONG = "x" * 5000


@pytest.mark.parametrize("arguments", [
    ["train", "--config", LONG], ["train", "--resume", LONG], ["train", "--model", "fcn", "--weights", LONG],
    ["train", "--model", "fcn", "--data", f"folder:{LONG}"], ["train", "--model", "fcn", "--data-root", LONG],
    ["eval", "--checkpoint", LONG], ["eval", "--weights", LONG], ["predict", LONG, "--checkpoint", LONG],
    ["predict", LONG], ["convert", LONG, LONG, "--model", "fcn"], ["check-data", f"folder:{LONG}"],
    ["check-data", "sample", "--root", LONG], ["prepare", "labelme", LONG, LONG], ["prepare", "coco-json", LONG, "x"],
    ["browse", f"folder:{LONG}"], ["pack", f"folder:{LONG}", LONG], ["config", "--config", LONG],
    ["datasets", "--data-root", LONG], ["demo", "--out", LONG]], ids=lambda a: " ".join(a)[:30])
def test_a_path_of_5000_characters(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = run_command(arguments[0], arguments[1:])
    err = capsys.readouterr().err
    assert code in (1, 2) and "Traceback" not in err
    assert not list(tmp_path.iterdir())
