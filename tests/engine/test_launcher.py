"""Processes that a command starts for itself: exit codes."""
import signal
import sys

import pytest

from mxnetseg.engine import launcher
from mxnetseg.engine.launcher import start_processes


@pytest.fixture
def program(monkeypatch):
    """Function that replaces the started command by Python code, which sees RANK."""
    popen = launcher.subprocess.Popen

    def replace(code):
        command = [sys.executable, "-c", f"import os, sys, time\n{code}"]
        monkeypatch.setattr(launcher.subprocess, "Popen", lambda arguments, env: popen(command, env=env))
    return replace


@pytest.mark.parametrize("code, wanted", [
    ("0", 0), ("2 * int(os.environ['RANK'])", 2), ("75 if os.environ['RANK'] == '0' else 1", 75)])
def test_the_worst_exit_code(program, code, wanted):
    program(f"sys.exit({code})")
    assert start_processes([], 2) == wanted


def test_a_process_that_stays_is_killed(program, monkeypatch):
    monkeypatch.setattr(launcher, "_PARTING", 0.5)
    program("sys.exit(1) if os.environ['RANK'] == '0' else time.sleep(1000)")
    assert start_processes([], 2) == 75


def test_a_signal_reaches_all(program, monkeypatch):
    program("time.sleep(1000)")
    wait = launcher._wait

    def signalled(children, received):
        signal.raise_signal(signal.SIGTERM)
        return wait(children, received)
    monkeypatch.setattr(launcher, "_wait", signalled)
    assert start_processes([], 2) == 143


def test_the_command_itself(capfd):
    assert start_processes(["--version"], 2) == 0
    assert capfd.readouterr().out.count("mxnetseg 0.") == 2
