"""Run every command and every Python block of the README, in order, in a copy of the repository's root.

Training commands get one small epoch on a smaller sample appended; apart from that they run as they stand.
`make demo` and `make test` are covered by this suite and by the slow tests below.
"""
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mxnetseg.data.sample.dataset import VERSION, make_sample
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


@pytest.mark.timeout(900)  # several short trainings
def test_commands_run_in_order(yard, capsys):
    """One test, because commands need the files of earlier ones, and tests are split across processes."""
    for line in commands():
        assert run(line) == 0, (line, capsys.readouterr())
    best = sorted((yard / "weights" / "fcn").glob("fcn_resnet18_sample_*_best.params"))[-1]
    assert len(blocks("python")) >= 2
    for block in blocks("python"):
        exec(compile(block.replace("NAME_best.params", best.name), "README.md", "exec"), {})


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_commands_are_those_of_the_makefile():
    wanted = set(re.findall(r"^make ([\w-]+)$", README, re.MULTILINE))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert wanted and wanted <= targets


def test_commands_named_exist():
    assert set(re.findall(r"`mxnetseg ([a-z][\w-]*)", README)) <= set(COMMANDS)


def section_commands(section):
    """Return the commands of a section of the README."""
    text = README.split(f"## {section}\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
            for line in block.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_first_commands_as_they_stand(tmp_path):
    """Run in a user's checkout and environment, without any setting of threads.

    Training is stopped after its first ten steps; they took longer than ten minutes when each number of --ctx was a CPU
    context of its own.
    """
    commands = section_commands("Train, evaluate, predict")
    train = "python train.py --model fcn --ctx 0 1 2 3"
    assert train in commands
    others = [line for line in commands if not line.startswith("python train.py")]
    assert len(others) >= 4
    checkout = tmp_path / "mxnetseg"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("OMP_", "MXNET", "GOMP_", "KMP_", "DNNL_", "OPENBLAS_"))}
    environment.update(HOME=str(tmp_path / "home"), PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                       PYTHONPATH=str(checkout))

    began = time.monotonic()
    with subprocess.Popen(shlex.split(train), cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None and time.monotonic() - began < 600:
                logs = list(checkout.glob("weights/fcn/*.jsonl"))
                if logs and logs[0].read_text().count("\n"):  # a row is ten steps
                    break
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGINT, err
    assert logs and err.count("no GPU here") == 1 and "on cpu(0) in" in err and "--resume" in out
    for line in others:
        words = shlex.split(line)
        words = [sys.executable, "-m", *words] if words[0] == "mxnetseg" else words
        done = subprocess.run(words, cwd=checkout, env=environment, text=True, capture_output=True, timeout=900)
        assert done.returncode == 0, (line, done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_demo_reaches_what_the_readme_says(tmp_path):
    """`make demo` without its set-up reaches an mIoU of 75 %, and chance level stays low."""
    # a home of its own: that of `yard`, which lives until the end of this module, has a small sample
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MXNETSEG_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-m", "mxnetseg", "demo", "--ctx", "cpu"], cwd=tmp_path, text=True,
                          capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    miou = float(re.search(r"^mIoU\s+([\d.]+)", done.stdout, re.MULTILINE)[1])
    control = float(re.search(r"masks\)?: mIoU ([\d.]+)", done.stdout)[1])
    assert miou >= 75 and control < miou / 2
