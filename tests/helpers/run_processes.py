"""Processes of one run, as a launcher starts them: ``python run_processes.py train ARGUMENTS`` is one of them.

The process knows the network ``toy`` and draws no curves. Environment variables of tests:

``TEST_SLOWLY``      seconds that each step takes longer
``TEST_NO_DROPOUT``  replace dropout by the identity
``TEST_IGNORED``     rank that sees unlabelled pixels only
"""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mxnetseg  # noqa: F401  # before MXNet, which it makes importable

ROOT = Path(__file__).resolve().parents[2]
LOST, MOST = 75, 60.0  # exit code after a loss; seconds in which all processes end
BACKENDS = ("torch", "mxnet")
_SETTINGS = {"model.name": "toy", "data.base_size": 32, "data.crop_size": 16, "data.workers": 1, "train.batch_size": 8,
             "train.epochs": 2, "train.log_every": 1, "optimizer.lr": 0.05}


def training_of_toy(backend: str, folder: Path, weights: Path, changes: Any = (), *more: str) -> list[str]:
    """Return the arguments of a short training on a folder of images, with changed settings and further arguments."""
    settings = {**_SETTINGS, "data.name": f"folder:{folder}", **dict(changes)}
    return [*(f"--set={key}={value}" for key, value in settings.items()), "--backend", backend, "--ctx", "cpu",
            "--weights", str(weights), *more]


def free_port() -> int:
    """Return a port that is free, as its successor is."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
                return port
            except (OSError, OverflowError):
                continue


def environment(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    """Return the environment of one process, with the variables of torchrun."""
    return {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers")]), **more}


def arguments(folder: Path | str, weights: Path, *more: str, backend: str = "torch", model: str = "toy",
              epochs: int = 500) -> list[str]:
    """Return the arguments of a run on few small images."""
    norm = "auto" if backend == "torch" else "gn"  # MXNet does not synchronise batch norm
    return ["--model", model, "--data", f"folder:{folder}", "--epochs", str(epochs), "--batch-size", "6", "--crop",
            "16", "--base", "32", "--workers", "1", "--lr", "0.05", "--set", "train.log_every=1", "--set",
            f"model.norm={norm}", "--backend", backend, "--ctx", "cpu", "--weights", str(weights), *more]


def check_checkpoints(weights: Path) -> int:
    """Read each checkpoint and verify its checksums; return the finished epochs of the newest run, 0 without any."""
    from mxnetseg.engine.checkpoint import Checkpoint
    from mxnetseg.engine.runs import newest

    for path in weights.glob("toy/*.json"):
        Checkpoint(path.with_suffix(".params")).read(state=not path.stem.endswith("_best"))
    last = newest(weights / "toy", resumable=True) if (weights / "toy").exists() else None
    return last.read_sidecar()["progress"]["epoch"] if last else 0


class Run:
    """Several processes of a run. What they print goes to files.

    Args:
        arguments: of ``mxnetseg train``; a function of the rank, or a list for all.
        folder: for their output.
        size: their number.
        program: another program and its first arguments.
        places: further environment variables of each process, by its rank; None removes a variable.
        prefixes: a command that starts the process, by its rank.
        more: further environment variables of all.

    Attributes:
        port: MASTER_PORT.
    """

    def __init__(self, arguments: Any, folder: Path, size: int = 2, *, program: Sequence[str] = (__file__, "train"),
                 places: Mapping[int, Mapping[str, str | None]] | None = None,
                 prefixes: Mapping[int, Sequence[str]] | None = None, **more: str):
        folder.mkdir(parents=True, exist_ok=True)
        port = self.port = free_port()
        self.logs = [folder / f"rank{rank}.log" for rank in range(size)]
        self.children: list[subprocess.Popen[Any]] = []
        for rank, log in enumerate(self.logs):
            env = {**environment(rank, size, port, **more), **(places or {}).get(rank, {})}
            with log.open("wb") as file:
                self.children.append(subprocess.Popen(
                    [*(prefixes or {}).get(rank, ()), sys.executable, *program,
                     *(arguments(rank) if callable(arguments) else arguments)],
                    env={name: value for name, value in env.items() if value is not None}, stdout=file,
                    stderr=subprocess.STDOUT, cwd=folder))

    def wait(self, timeout: float = 120.0) -> list[int]:
        """Return the exit codes; kill all that are left after the time-out."""
        deadline = time.monotonic() + timeout
        try:
            return [child.wait(max(deadline - time.monotonic(), 0.1)) for child in self.children]
        finally:
            self.kill()

    def end_without(self, lost: int | None, *, imports: float = 0.0) -> list[int]:
        """Wait until all processes but one have ended, in time; return their exit codes by rank.

        Args:
            lost: the rank that is not waited for.
            imports: seconds that processes may need before they can notice anything.
        """
        deadline = time.monotonic() + imports + MOST
        try:
            return [child.wait(max(deadline - time.monotonic(), 0.1)) for rank, child in enumerate(self.children)
                    if rank != lost]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {imports + MOST:g} s:\n{self.outputs()}") from None
        finally:
            self.kill()

    def outputs(self) -> str:
        """Return what all processes have printed."""
        return "\n".join(f"---- rank {rank}\n{self.output(rank)}" for rank in range(len(self.logs)))

    def kill(self) -> None:
        """Kill the processes that are left."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()

    def output(self, rank: int) -> str:
        """Return what a process has printed."""
        return self.logs[rank].read_text()

    @staticmethod
    def wait_for_port(port: int, timeout: float = 60.0) -> None:
        """Wait until a process listens at a port."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def wait_for(self, text: str, rank: int = 0, timeout: float = 90.0) -> None:
        """Wait until a process has printed a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output(rank):
            if time.monotonic() > deadline or self.children[rank].poll() is not None:
                self.kill()
                raise AssertionError(f"rank {rank} did not print {text!r}:\n{self.output(rank)}")
            time.sleep(0.1)


def train_in_two_parts(arguments: Sequence[str], folder: Path, sizes: tuple[int, int]) -> None:
    """Stop a run of ``sizes[0]`` processes after its first epoch, and end it with ``sizes[1]`` processes.

    Args:
        arguments: of ``mxnetseg train``, without ``--resume``.
        folder: for their output.
    """
    first = Run(arguments, folder / "first", sizes[0], TEST_NO_DROPOUT="1", TEST_SLOWLY="0.5")
    first.wait_for("epoch 1/", timeout=200)
    first.children[-1].terminate()
    assert first.wait() == [143] * sizes[0], first.outputs()
    second = Run([*arguments, "--resume", "auto"], folder / "second", sizes[1], TEST_NO_DROPOUT="1")
    assert second.wait(300) == [0] * sizes[1], second.outputs()


def main() -> int:
    """Run the command in this process."""
    import toy_network
    from mxnet import gluon

    import mxnetseg.engine.loggers
    from mxnetseg.engine.trainer import Trainer
    from mxnetseg.tools.main import run_command

    toy_network.register(lambda mapping, key, value: mapping.__setitem__(key, value))
    mxnetseg.engine.loggers.curves = lambda rows, path, **_: path.touch()
    if "TEST_NO_DROPOUT" in os.environ:
        gluon.nn.Dropout.hybrid_forward = lambda self, F, x: F.identity(x)

    send = Trainer._to_devices

    def change(self: Any, batch: Any) -> Any:
        time.sleep(float(os.environ.get("TEST_SLOWLY", 0)))
        if os.environ.get("TEST_IGNORED", "-") == os.environ.get("RANK"):
            batch.masks[:] = 255
        return send(self, batch)
    Trainer._to_devices = change
    return run_command(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
