"""Computed efficiency of training over several GPUs; ``python -m benchmarks.scaling`` prints the table of the docs.

For n GPUs, gradients of G bytes, a link of B bytes per second and GPU, and a latency of L:

    compute   T = 3 * 2 * multiply-adds * images / rate       (the backward pass costs twice the forward pass)
    gradients t = 2 (n - 1) / n * G / B + 2 (n - 1) * L       (ring all-reduce)
    exposed   e = max(t - 2/3 T, t * bucket / G)              (all but the last bucket overlap with the backward pass)
    norm      s = 2 * layers * ceil(log2 n) * L               (two small exchanges per layer, if it is synchronised)

The efficiency is T / (T + e), and T / (T + e + s) with synchronised batch norm.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

RATE = 75e12  # FLOP/s of one GPU, sustained: ResNet-50 at 3000 images/s with 24.6 GFLOP for each
LATENCY = 25e-6  # seconds
BUCKET = 25 * 2**20  # bytes of the gradients that travel together
IMAGES, SIZE = 4, 512  # per GPU
NETWORKS: dict[str, dict[str, Any]] = {
    "FCN-R18": {"name": "fcn", "backbone": "resnet18"}, "PSPNet-R101": {"name": "pspnet", "backbone": "resnet101"},
    "HRNet-W48": {"name": "hrnet", "width": 48}}
LINKS = {"1 Gb/s": 1e9 / 8, "10 Gb/s": 1e10 / 8, "100 Gb/s": 1e11 / 8}
GPUS = (1, 2, 4, 8, 16, 32, 64)


class Workload(NamedTuple):
    """One GPU's step.

    Attributes:
        seconds: of computing.
        gradients: bytes.
        norms: number of batch norms.
    """

    seconds: float
    gradients: int
    norms: int


def workload(macs: int, parameters: int, norms: int) -> Workload:
    """Return the step of a network with so many multiply-adds per image, trained parameters and batch norms."""
    return Workload(3 * 2 * macs * IMAGES / RATE, 4 * parameters, norms)


def efficiency(work: Workload, gpus: int, bandwidth: float, *, synchronise_norm: bool) -> float:
    """Return the time of a step on one GPU over that on several, each with the same number of images."""
    if gpus == 1:
        return 1.0
    transfer = 2 * (gpus - 1) / gpus * work.gradients / bandwidth + 2 * (gpus - 1) * LATENCY
    exposed = max(transfer - 2 / 3 * work.seconds, transfer * min(BUCKET / work.gradients, 1))
    norm = 2 * work.norms * math.ceil(math.log2(gpus)) * LATENCY if synchronise_norm else 0.0
    return work.seconds / (work.seconds + exposed + norm)


def measured_workloads() -> Iterator[tuple[str, Workload]]:
    """Yield the networks with their steps, counted from their graphs."""
    from mxnetseg.models import build_model
    from mxnetseg.models._cost import measure

    for title, arguments in NETWORKS.items():
        net = build_model(nclass=19, **arguments)
        cost = measure(net, (SIZE, SIZE))
        norms = sum(name.endswith("running_mean") for name in net._collect_params_with_prefix())
        yield title, workload(cost.layer_macs, cost.count(trainable=True), norms)


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| network | step, ms | gradients, MB | batch norms | link | " + " | ".join(map(str, GPUS)) + " |",
             "|" + "---|" * (5 + len(GPUS))]
    for title, work in measured_workloads():
        facts = f"{title} | {1000 * work.seconds:.1f} | {work.gradients / 1e6:.0f} | {work.norms}"
        for link, bandwidth in LINKS.items():
            cells = [f"{100 * efficiency(work, gpus, bandwidth, synchronise_norm=False):.0f} "
                     f"({100 * efficiency(work, gpus, bandwidth, synchronise_norm=True):.0f})" for gpus in GPUS]
            lines.append(f"| {facts} | {link} | " + " | ".join(cells) + " |")
            facts = " | | | "
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
