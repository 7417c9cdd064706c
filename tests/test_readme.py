"""Every command and every Python block of the README runs, in its order, in a copy of the project's front yard.

Training commands get one small epoch on a smaller sample appended; apart from that they run as they stand.
`make demo` and `make test` are what this suite and the slow test below already are.
"""
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mxnetseg.data.sample import VERSION, make_sample
from mxnetseg.tools.main import COMMANDS, run_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = "--epochs 1 --crop 64 --set model.output_stride=32 --set eval.ms_scales=[0.5,1] --quiet"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands():
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    """A folder that looks like the root of the repository, with a small sample for a home."""
    yard = tmp_path_factory.mktemp("yard")
    for script in ("train.py", "eval.py"):
        (yard / script).symlink_to(ROOT / script)
    shutil.copytree(ROOT / "demo", yard / "demo")
    make_sample(yard / "home" / f"sample-{VERSION}", counts={"train": 16, "val": 4, "test": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(yard)
        patch.setenv("MXNETSEG_HOME", str(yard / "home"))
        yield yard


def run(line):
    words = shlex.split(line, comments=True)
    if words[0] == "mxnetseg":
        return run_command(words[1], words[2:])
    assert words[0] == "python", line
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", words[1:] + (shlex.split(SHORT) if words[1] == "train.py" else []))
        runpy.run_path(words[1], run_name="__main__")
    return stop.value.code or 0


def test_readme_has_commands():
    assert len(commands()) >= 10
    assert any(line.startswith("python eval.py --ms") for line in commands())


def test_all_of_it_in_its_order(yard, capsys):
    """One test, for a command needs what another before it has made, and tests are dealt out among processes."""
    for line in commands():
        assert run(line) == 0, (line, capsys.readouterr())
    best = sorted((yard / "weights" / "fcn").glob("fcn_resnet18_sample_*_best.params"))[-1]
    assert len(blocks("python")) >= 2
    for block in blocks("python"):
        exec(compile(block.replace("NAME_best.params", best.name), "README.md", "exec"), {})


def test_files_that_the_readme_points_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_commands_are_those_of_the_makefile():
    wanted = set(re.findall(r"^make ([\w-]+)$", README, re.MULTILINE))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert wanted and wanted <= targets


def test_commands_named_exist():
    assert set(re.findall(r"`mxnetseg ([a-z][\w-]*)", README)) <= set(COMMANDS)


@pytest.mark.slow
def test_demo_reaches_what_the_readme_says(tmp_path):
    """`make demo` without its set-up: mIoU of at least 0.60, and a control that stays low."""
    done = subprocess.run([sys.executable, "-m", "mxnetseg", "demo", "--ctx", "cpu"], cwd=tmp_path, text=True,
                          capture_output=True, env={**__import__("os").environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    miou = float(re.search(r"^mIoU\s+([\d.]+)", done.stdout, re.MULTILINE)[1])
    control = float(re.search(r"masks: mIoU ([\d.]+)", done.stdout)[1])
    assert miou >= 60 and control < miou / 2
