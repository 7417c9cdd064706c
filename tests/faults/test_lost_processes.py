"""Runs of several processes of which one dies, stalls or differs: all end in time with a reason, nothing is lost."""
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_processes import ROOT, Run
from toy_network import paint

torch = pytest.importorskip("torch")

from mxnetseg.engine.checkpoint import Checkpoint  # noqa: E402
from mxnetseg.engine.runs import newest  # noqa: E402

LOST, MOST = 75, 60  # exit code; seconds in which all must end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def command(folder, weights, *more, model="toy", epochs=500):
    return ["--model", model, "--data", f"folder:{folder}", "--epochs", str(epochs), "--batch-size", "6", "--crop",
            "16", "--base", "32", "--workers", "1", "--lr", "0.05", "--set", "train.log_every=1", "--backend", "torch",
            "--ctx", "cpu", "--weights", str(weights), *more]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data") / "fields", train=12, val=4)


def end_of(run, lost):
    """Wait for all processes but the lost one; return their exit codes."""
    began, codes = time.monotonic(), []
    try:
        for rank, child in enumerate(run.children):
            if rank != lost:
                codes.append(child.wait(max(MOST - (time.monotonic() - began), 0.1)))
    finally:
        run.kill()
    return codes


def assert_whole(weights):
    """Check each checkpoint there; return the last one, None if there is none yet."""
    for path in weights.glob("toy/*.json"):
        Checkpoint(path.with_suffix(".params")).read(state=not path.stem.endswith("_best"))
    return newest(weights / "toy", resumable=True) if weights.exists() else None


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_at_a_random_moment(images, tmp_path, seed):
    """Five kills of one run, which is resumed with one process fewer or more each time."""
    choose, weights, size, epochs = random.Random(seed), tmp_path / "weights", 3, []
    for number in range(5):
        run = Run(command(images, weights, "--resume", "auto"), tmp_path / str(number), size)
        lost = choose.randrange(size)
        try:
            if choose.random() < 0.3:
                time.sleep(choose.uniform(0, 10))  # while it starts
            else:
                run.wait_for("epoch ", timeout=200)
                time.sleep(choose.uniform(0, 3))
            run.children[lost].kill()
            codes = end_of(run, lost)
        finally:
            run.kill()

        shown = "\n".join(run.output(rank) for rank in range(size))
        assert codes == [LOST] * (size - 1), shown
        others = [run.output(rank) for rank in range(size) if rank != lost]
        # during the start, others may only see that it does not arrive
        assert all(f"rank {lost}" in text or "missing" in text or "cannot be reached" in text for text in others), shown
        last = assert_whole(weights)
        epochs.append(last.read_sidecar()["progress"]["epoch"] if last else 0)
        size = 2 if size == 3 else 3
    assert epochs == sorted(epochs)
    if epochs[-1]:
        run = Run(command(images, weights, "--resume", str(last.path), epochs=epochs[-1] + 1)[2:], tmp_path / "end", 2)
        assert run.wait(200) == [0, 0], run.output(0)
        assert assert_whole(weights).read_sidecar()["progress"]["epoch"] == epochs[-1] + 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process(images, tmp_path, rank):
    run = Run(command(images, tmp_path / "weights"), tmp_path)
    run.wait_for("epoch ", timeout=200)
    run.children[rank].send_signal(signal.SIGSTOP)
    assert end_of(run, rank) == [LOST]
    text = run.output(1 - rank)
    assert f"rank {rank}" in text and "no sign of life" in text
    assert assert_whole(tmp_path / "weights") is not None


def test_a_process_that_hangs_in_a_step(images, tmp_path):
    run = Run(command(images, tmp_path / "weights", "--set", "train.step_timeout=15"), tmp_path,
              places={1: {"TEST_SLOWLY": "1000"}})
    assert end_of(run, None) == [LOST, LOST]
    assert all("makes no progress" in run.output(r) and "rank 1 on" in run.output(r) for r in (0, 1))


def test_a_damaged_image_ends_all_processes(images, tmp_path):
    data = shutil.copytree(images, tmp_path / "fields")
    (data / "images/train3.png").write_bytes(b"no image")
    run = Run(command(data, tmp_path / "weights"), tmp_path)
    assert end_of(run, None) == [1, 1]
    assert all("train3.png" in run.output(rank) for rank in (0, 1))


@pytest.mark.parametrize("what", ["configuration", "data", "backend"])
def test_processes_that_differ(images, tmp_path, what):
    other = shutil.copytree(images, tmp_path / "other" / images.name)
    if what == "data":
        (other / "train.txt").write_text((images / "train.txt").read_text().replace("train3\n", ""))

    def arguments(rank):
        more = {"configuration": ["--seed", "7"], "backend": ["--backend", "mxnet"]}.get(what, [])
        root = other if rank and what == "data" else images
        # the paths of the data may differ between hosts
        return command("", tmp_path / "weights", "--data", "folder", "--root", str(root), *(more if rank else []))
    run = Run(arguments, tmp_path)
    assert end_of(run, None) == [2, 2], run.output(0) + run.output(1)
    words = {"configuration": "train.seed: 0 at rank 0 on", "data": "training split: '12 images",
             "backend": "--backend: 'torch' at rank 0 on"}[what]
    assert all(words in run.output(rank) and "at rank 1 on" in run.output(rank) for rank in (0, 1))
    assert not list((tmp_path / "weights").glob("toy/*.params"))


# ---- launchers --------------------------------------------------------------------------------


def train_py(folder, *more, env=None, program=()):
    return subprocess.Popen([sys.executable, *program, str(ROOT / "train.py"), *more], cwd=folder,
                            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def test_torchrun_from_a_checkout(images, tmp_path):
    process = train_py(tmp_path, *command(images, tmp_path / "weights", "--backbone", "resnet18", model="fcn",
                                          epochs=1), program=["-m", "torch.distributed.run", "--nproc-per-node", "2"])
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    assert "(torch, 2 processes)" in text and text.count("last checkpoint") == 1


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_variables_of_other_launchers(images, tmp_path, launcher):
    def place(rank):
        cleared = dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"), "")
        if launcher == "srun":
            return {**cleared, "SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank),
                    "SLURM_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
        return {**cleared, "OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    run = Run(command(images, tmp_path / "weights", epochs=1), tmp_path, places={0: place(0), 1: place(1)})
    assert run.wait(200) == [0, 0], run.output(0) + run.output(1)
    assert "2 processes" in run.output(0) and run.output(1).count("epoch") == 0


class TestProcessesOfOurOwn:
    """``--ctx cpu0 cpu1``."""

    def start(self, images, tmp_path, *more):
        arguments = [*command(images, tmp_path / "weights", *more, model="fastscnn"), "--crop", "64", "--base", "64"]
        at = arguments.index("--ctx") + 1
        process = train_py(tmp_path, *arguments[:at], "cpu0", "cpu1", *arguments[at + 1:])
        lines = []
        while not any(line.startswith("epoch 1/") for line in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        children = [int(pid) for line in lines if line.startswith("started 2 processes")
                    for pid in line.rpartition(":")[2].split(",")]
        return process, children

    def assert_gone(self, children):
        deadline = time.monotonic() + MOST
        while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
                  for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def test_a_signal_is_forwarded(self, images, tmp_path):
        process, children = self.start(images, tmp_path)
        process.terminate()
        text, _ = process.communicate(timeout=MOST)
        assert process.returncode == 143 and text.count("the training state is saved") == 1
        assert "--ctx cpu0 cpu1 --backend torch" in text
        self.assert_gone(children)

    def test_a_killed_child_ends_the_other_one(self, images, tmp_path):
        process, children = self.start(images, tmp_path)
        os.kill(children[1], signal.SIGKILL)
        text, _ = process.communicate(timeout=MOST)
        assert process.returncode == LOST and "rank 1 on" in text and "was lost" in text
        self.assert_gone(children)

    def test_no_process_outlives_a_killed_parent(self, images, tmp_path):
        process, children = self.start(images, tmp_path)
        process.kill()
        self.assert_gone(children)
        process.stdout.close()
        process.wait()
