"""Runs of several processes of which one dies, stalls or differs: all end in time with a reason, nothing is lost."""
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_processes import BACKENDS, LOST, MOST, ROOT, Run, arguments, check_checkpoints, free_port
from toy_network import paint

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "mxnet" and sys.platform != "linux":
        pytest.skip("the wheel for Linux has the KVStore")
    return request.param


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("data") / "fields", train=12, val=4)


# MXNet's servers and its scheduler are killed in tests/backends/test_mxnet_kvstore.py
@pytest.mark.parametrize("backend, seed", [*(("torch", seed) for seed in range(4)), ("mxnet", 0), ("mxnet", 1)],
                         indirect=["backend"])
def test_a_killed_process_at_a_random_moment(images, tmp_path, backend, seed):
    """Five kills of one run, which is resumed with one process fewer or more each time."""
    choose, weights, size, epochs = random.Random(seed), tmp_path / "weights", 3, []
    more = ["--set", "train.start_timeout=40"]
    for number in range(5):
        run = Run(arguments(images, weights, "--resume", "auto", *more, backend=backend), tmp_path / str(number), size)
        lost, is_early = choose.randrange(size), choose.random() < 0.3
        try:
            if is_early:
                time.sleep(choose.uniform(0, 10))  # while it starts
            else:
                run.wait_for("epoch ", timeout=200)
                time.sleep(choose.uniform(0, 3))
            run.children[lost].kill()
            # on a busy machine, importing MXNet and PyTorch takes a minute
            codes = run.end_without(lost, imports=120.0 if is_early else 0.0)
        finally:
            run.kill()

        assert codes == [LOST] * (size - 1), run.outputs()
        others = [run.output(rank) for rank in range(size) if rank != lost]
        # during the start, others may only see that it does not arrive
        assert all(f"rank {lost}" in text or "missing" in text or "cannot be reached" in text
                   for text in others), run.outputs()
        epochs.append(check_checkpoints(weights))
        size = 2 if size == 3 else 3

    assert epochs == sorted(epochs) and epochs[-1] > 0
    path, = weights.glob("toy/*[0-9].params")
    run = Run(arguments(images, weights, "--resume", str(path), *more, backend=backend, epochs=epochs[-1] + 1)[2:],
              tmp_path / "end", 2)
    assert run.wait(200) == [0, 0], run.outputs()
    assert check_checkpoints(weights) == epochs[-1] + 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process(images, tmp_path, backend, rank):
    run = Run(arguments(images, tmp_path / "weights", backend=backend), tmp_path)
    run.wait_for("epoch ", timeout=200)
    run.children[rank].send_signal(signal.SIGSTOP)
    assert run.end_without(rank) == [LOST]
    text = run.output(1 - rank)
    assert f"rank {rank}" in text and "no sign of life" in text
    assert check_checkpoints(tmp_path / "weights") > 0


def test_a_process_that_hangs_in_a_step(images, tmp_path, backend):
    run = Run(arguments(images, tmp_path / "weights", "--set", "train.step_timeout=45", backend=backend), tmp_path,
              places={1: {"TEST_SLOWLY": "1000"}})
    run.wait_for("epochs 1 to", timeout=200)
    assert run.end_without(None) == [LOST, LOST]
    assert all("makes no progress" in run.output(r) and "rank 1 on" in run.output(r) for r in (0, 1)), run.outputs()


def test_a_damaged_image_ends_all_processes(images, tmp_path, backend):
    data = shutil.copytree(images, tmp_path / "fields")
    (data / "images/train3.png").write_bytes(b"no image")
    run = Run(arguments(data, tmp_path / "weights", backend=backend), tmp_path)
    assert run.end_without(None) == [1, 1]
    assert all("train3.png" in run.output(rank) for rank in (0, 1))


@pytest.mark.parametrize("what", ["configuration", "data", "backend"])
def test_processes_that_differ(images, tmp_path, backend, what):
    root = shutil.copytree(images, tmp_path / "other" / images.name)
    if what == "data":
        (root / "train.txt").write_text((images / "train.txt").read_text().replace("train3\n", ""))
    other_backend, = set(BACKENDS) - {backend}

    def of_rank(rank):
        more = {"configuration": ["--seed", "7"],
                "backend": ["--backend", other_backend]}.get(what, []) if rank else []
        # the paths of the data may differ between hosts
        return arguments("", tmp_path / "weights", "--data", "folder", "--root", str(root if rank else images), *more,
                         backend=backend)
    run = Run(of_rank, tmp_path)
    assert run.end_without(None) == [2, 2], run.outputs()
    words = {"configuration": "train.seed: 0 at rank 0 on", "data": "training split: '12 images",
             "backend": f"--backend: '{backend}' at rank 0 on"}[what]
    assert all(words in run.output(rank) and "at rank 1 on" in run.output(rank) for rank in (0, 1)), run.outputs()
    assert not list((tmp_path / "weights").glob("toy/*.params"))


def test_a_wrong_address(images, tmp_path, backend):
    run = Run(arguments(images, tmp_path / "weights", "--set", "train.start_timeout=10", backend=backend), tmp_path,
              places={1: {"MASTER_ADDR": "no-such-host.invalid"}})
    assert run.end_without(None) == [LOST, LOST]
    assert "no-such-host.invalid" in run.output(1) and "rank 0 cannot be reached" in run.output(1)
    assert "these ranks are missing: 1" in run.output(0)


def test_a_port_that_is_taken(images, tmp_path, backend):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        run = Run(arguments(images, tmp_path / "weights", "--set", "train.start_timeout=5", backend=backend), tmp_path,
                  MXNETSEG_CONTROL_PORT=str(port))
        assert run.end_without(None) == [2, LOST]
    assert f"port {port} on" in run.output(0) and "Address already in use" in run.output(0)
    assert str(port) in run.output(1) and "rank 0 does not answer" in run.output(1)


# ---- launchers --------------------------------------------------------------------------------


def train_py(folder, *more, env=None, program=()):
    return subprocess.Popen([sys.executable, *program, str(ROOT / "train.py"), *more], cwd=folder,
                            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def test_torchrun_from_a_checkout(images, tmp_path, backend):
    process = train_py(tmp_path, *arguments(images, tmp_path / "weights", "--backbone", "resnet18", model="fcn",
                                            epochs=1, backend=backend),
                       program=["-m", "torch.distributed.run", "--nproc-per-node", "2"])
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    assert "2 processes" in text and text.count("last checkpoint") == 1


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_variables_of_other_launchers(images, tmp_path, backend, launcher):
    def place(rank):
        cleared = dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"))
        if launcher == "srun":
            return {**cleared, "SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank),
                    "SLURM_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
        return {**cleared, "OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    run = Run(arguments(images, tmp_path / "weights", epochs=1, backend=backend), tmp_path,
              places={0: place(0), 1: place(1)})
    assert run.wait(200) == [0, 0], run.outputs()
    assert "2 processes" in run.output(0) and run.output(1).count("epoch") == 0


class TestProcessesOfOurOwn:
    """``--ctx cpu0 cpu1``."""

    def start(self, images, tmp_path, *more):
        options = [*arguments(images, tmp_path / "weights", *more, model="fastscnn"), "--crop", "64", "--base", "64"]
        at = options.index("--ctx") + 1
        process = train_py(tmp_path, *options[:at], "cpu0", "cpu1", *options[at + 1:])
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
