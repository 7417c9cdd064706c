"""Images per second of trained networks: ``python -m benchmarks.rate NETWORK [NETWORK ...] --size HEIGHT WIDTH``.

From a decoded image in memory to its class map, one image at a time: extension to sides that fit the network,
normalisation, the network, its resizes and the largest class. NETWORK is a checkpoint, an exported file, or
``included``. Each backend computes each network in each precision; all are processes that run alternately, as in
:mod:`.rounds`. The images have random colours, which change no time.
"""
from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .rounds import Competitor, Measurement, machine, run_rounds, table
from .serve import serve

BACKENDS = ("mxnet", "torch", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
IMAGES = 20  # in each round


def compete(task: dict[str, Any]) -> None:
    """Be one competitor.

    Args:
        task: ``{"network": "included", "backend": "mxnet", "precision": "float32", "size": [360, 480]}``.
    """
    import mxnetseg  # noqa: F401  (makes mxnet importable)

    # isort: split
    from mxnetseg.engine.inference import Segmenter
    from mxnetseg.engine.network import open_network
    from mxnetseg.engine.protocol import Protocol

    images = np.random.RandomState(0).randint(0, 256, (IMAGES, *task["size"], 3)).astype("uint8")
    network = open_network(task["network"], backend=task["backend"])
    precision = network.choose_precision(task["precision"]).precision
    if network.calibrates(precision):
        raise SystemExit("int8 of a checkpoint is calibrated on images: export it first")
    segment = Segmenter(network.load(precision), replace(Protocol.of(network.config()), base_size=None))
    began = time.perf_counter()
    for image in images[:3]:
        segment(image)

    def run() -> None:
        for image in images:
            segment(image)
    serve({"library": network.choice.backend, "warm_up_s": round(time.perf_counter() - began, 2)}, run)


def compare(networks: list[str], size: tuple[int, int], *, rounds: int, threads: int | None,
            backends: tuple[str, ...] = BACKENDS, precisions: tuple[str, ...] = PRECISIONS) -> list[Measurement]:
    """Measure each network in each backend and precision; a combination that is not offered has a failure."""
    competitors = [
        Competitor(f"{Path(network).name} {backend} {precision}", [sys.executable, "-m", "benchmarks.rate"],
                   {"network": network, "backend": backend, "precision": precision, "size": list(size)})
        for network in networks for backend in backends for precision in precisions]
    return run_rounds(competitors, rounds=rounds, threads=threads)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="(default: all physical cores)")
    args = parser.parse_args(argv)
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {', '.join(here['instructions'])}; load {here['load']}; "
          f"{IMAGES} images of {args.size[0]} x {args.size[1]} in each round")
    results = compare(args.networks, tuple(args.size), rounds=args.rounds, threads=args.threads,
                      backends=tuple(args.backends), precisions=tuple(args.precisions))
    print(table(results, columns=[("images/s", lambda r: f"{IMAGES / r.median:.1f}")]))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        compete(json.loads(sys.argv[1]))
    else:
        main()
