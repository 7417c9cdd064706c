"""Measured efficiency of two training processes on this machine; ``python -m benchmarks.loopback`` prints a table.

Each process trains FCN-R18 on its own batch, with one thread. Three cases alternate, in rounds: one process; two
independent processes; two processes of one run. The first two show what is lost because both compute on one machine,
the last two what the exchange costs. The fastest round of each case counts, because other programs only slow a round
down. Beside them stands what :mod:`.scaling` computes for 10 Gb/s from the measured time of a step.
"""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .scaling import Workload, efficiency, measured_workloads

ROUNDS, STEPS, WARM_UP = 4, 8, 3
IMAGES, SIZE = 4, 64  # of each process
CASES = {"PyTorch, `norm: auto`": ("torch", "auto"), "PyTorch, `norm: bn`": ("torch", "bn"),
         "MXNet, `norm: bn`": ("mxnet", "bn")}


def seconds_of_a_step(backend: str, norm: str, *, processes: int, is_joined: bool,
                      steps: int = STEPS) -> float:
    """Return the mean time of a step in the slowest process.

    Args:
        backend: ``--backend``.
        norm: ``model.norm``.
        processes: their number.
        is_joined: whether they share one run.
        steps: number of timed steps.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(processes):
            settings = {"train.batch_size": IMAGES * (processes if is_joined else 1), "train.epochs": 1000,
                        "train.save_every": 1000, "train.precision": "float32", "model.norm": norm,
                        "data.workers": 1, "data.crop_size": SIZE, "data.base_size": SIZE}
            place = {"MXNETSEG_LAUNCHER": "torchrun", "RANK": str(rank), "LOCAL_RANK": str(rank),
                     "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            if not is_joined:
                place = {"MXNETSEG_LAUNCHER": "none"}
            children.append(subprocess.Popen(
                [sys.executable, "-m", "benchmarks.loopback", str(steps), "--model", "fcn", "--backbone", "resnet18",
                 "--backend", backend, "--ctx", "cpu", "--no-val", "--quiet",
                 "--weights", f"{folder}/{0 if is_joined else rank}",
                 *(f"--set={key}={value}" for key, value in settings.items())],
                env={**os.environ, "OMP_NUM_THREADS": "1", **place}, cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        outputs = [child.communicate()[0] for child in children]
    lines = [line for text in outputs for line in text.splitlines()]
    found = [float(line.split()[1]) for line in lines if line.startswith("seconds ")]
    if len(found) < processes:
        raise RuntimeError("\n".join(lines))
    return max(found)


def train(steps: int, arguments: list[str]) -> None:
    """Run a training until some steps after the first ones are done, and print their mean time."""
    from mxnetseg.engine.trainer import Trainer
    from mxnetseg.tools.main import run_command

    times: list[float] = []
    note_loss = Trainer._note_loss

    def timed(self: Any, step: int, loss: Any) -> None:
        note_loss(self, step, loss)  # it reads the loss, so the step is done
        times.append(time.monotonic())
        if len(times) > WARM_UP + steps:
            self.group.request_stop(15)
    Trainer._note_loss = timed  # type: ignore[method-assign]
    run_command("train", arguments)
    print("seconds", (times[WARM_UP + steps] - times[WARM_UP]) / steps)


def main() -> None:
    """Measure, and print the table in Markdown."""
    _, work = next(measured_workloads())
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| | one process, s | two independent, s | two of one run, s | one / one run | independent / one run "
          "| computed, 10 Gb/s |\n" + "|---" * 7 + "|")
    for title, (backend, norm) in CASES.items():
        rounds = [[seconds_of_a_step(backend, norm, processes=processes, is_joined=is_joined)
                   for processes, is_joined in ((1, False), (2, False), (2, True))] for _ in range(ROUNDS)]
        one, independent, joined = map(min, zip(*rounds))
        computed = efficiency(Workload(independent, work.gradients, work.norms), 2, 1e10 / 8,
                              synchronise_norm=norm == "auto")
        numbers = [one, independent, joined, one / joined, independent / joined, computed]
        print(f"| {title} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(int(sys.argv[1]), sys.argv[2:])
    else:
        main()
