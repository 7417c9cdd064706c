"""``mxnetseg benchmark``: this library beside plain MXNet and PyTorch, in turns, on this machine."""
from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

# name -> backbone and output stride; PyTorch's twins are in mxnetseg/bench/theirs.py
NETWORKS = {"fcn": ("resnet18", 8), "bisenet": ("resnet18", 32), "pspnet": ("resnet50", 8),
            "deeplabv3plus": ("resnet50", 8)}
TASKS = {"infer": "one picture (or --batch) through the network", "train": "one training step"}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--do", choices=TASKS, default="infer", help="; ".join(f"{k}: {v}" for k, v in TASKS.items()))
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=["fcn"], help="(default: fcn)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(512, 512))
    parser.add_argument("--batch", type=int, default=None, metavar="N", help="default: 1 to infer, 2 to train")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch, for the comparison (`make bench` "
                        "makes one); without it only MXNet competes")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="of each (default: one a physical core)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here too")


def run(args: Namespace) -> int:
    from ..bench.turns import machine, table, take_turns
    from ..files import atomic_write

    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {', '.join(here['instructions']) or 'no vector units known'}; "
          f"load {here['load']}" + (": other work distorts the figures" if here["load"] > 0.5 else ""))
    report = {"machine": here, "runs": []}
    for network in args.network:
        competitors = _competitors(args, network)
        size = "x".join(map(str, args.size))
        print(f"\n{TASKS[args.do]}: {network} on {NETWORKS[network][0]}, output stride {NETWORKS[network][1]}, "
              f"{competitors[0].task['batch']} x 3 x {size}", flush=True)
        results = take_turns(competitors, rounds=args.rounds, threads=args.threads)
        print(table(results, against=results[0].name), flush=True)
        check_equal(results)
        report["runs"].append({"do": args.do, "network": network, "size": list(args.size),
                               "batch": competitors[0].task["batch"], "results": [
                                   {**vars(r), "median": r.median, "spread": r.spread} for r in results]})
    if args.json:
        with atomic_write(args.json, "w") as file:
            json.dump(report, file, indent=1)
    return 0


def check_equal(results) -> None:
    """Refuse figures of networks that have not the same number of parameters.

    Raises:
        EnvironmentProblem: they differ.
    """
    from ..errors import EnvironmentProblem

    counts = {r.name: r.ready["parameters"] for r in results if r.failure is None}
    if len(set(counts.values())) > 1:
        raise EnvironmentProblem("the competitors are not the same network", received=counts,
                                 fix="report it: a benchmark of unequal networks says nothing")


def _competitors(args: Namespace, network: str):
    from .._amx import cpu_flags
    from ..bench import theirs_path
    from ..bench.turns import Competitor

    backbone, stride = NETWORKS[network]
    task = {"network": network, "backbone": backbone, "output_stride": stride, "size": list(args.size),
            "batch": args.batch or (1 if args.do == "infer" else 2), "do": args.do}
    ours = [sys.executable, "-m", "mxnetseg.bench.ours"]
    forms = ["mxnetseg", "plain", "float32", "bfloat16", "int8"] if args.do == "infer" else ["mxnetseg", "float32"]
    found = [Competitor("MXNet, MXNetSeg's way" if form == "mxnetseg" else f"ours, {form}", ours,
                        {**task, "form": form}) for form in forms]
    if args.torch:
        for precision in ("float32", "bfloat16"):
            if precision == "bfloat16" and not {"avx512_bf16", "amx_bf16"} & cpu_flags():
                continue  # emulated, it is slower than float32 on both sides
            for form in ("eager", "channels_last", "frozen", "compiled"):
                if args.do == "infer" or form != "frozen":
                    found.append(Competitor(f"PyTorch, {form} {precision}", [args.torch, str(theirs_path())],
                                            {**task, "form": form, "precision": precision}))
    return found
