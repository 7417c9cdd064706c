"""Completion in a shell: bash completes commands, options and their values."""
import subprocess
import sys

import pytest

from mxnetseg.tools.main import COMMANDS, main

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """Function that returns what bash completes for some words."""
    from mxnetseg.tools.completion import script

    path = tmp_path_factory.mktemp("completion") / "mxnetseg"
    path.write_text(script("bash"))

    def complete(*words):
        command = (f"source {path}; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
                   "$(complete -p mxnetseg | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\"")
        done = subprocess.run(["bash", "--norc", "-c", command], capture_output=True, text=True, timeout=60)
        assert not done.stderr
        return done.stdout.split()
    return complete


def test_commands(bash):
    assert set(bash("mxnetseg", "")) >= set(COMMANDS)
    assert bash("mxnetseg", "do") == ["doctor"]


def test_options_and_values(bash):
    assert bash("mxnetseg", "train", "--tens") == ["--tensorboard"]
    assert bash("mxnetseg", "eval", "--mode", "") == ["val", "testval", "test"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "check-data" in capsys.readouterr().out


def test_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) != 0
    assert "pip install 'mxnetseg[completion]'" in capsys.readouterr().err
