"""``mxnetseg benchmark``: compare the speed of mxnetseg, its backends, plain MXNet and PyTorch on this machine.

The benchmark itself is the folder ``benchmarks`` of a checkout, which is not installed.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .._compat import count_cores
from ..errors import EnvironmentProblem, UsageError
from ..files import atomic_write
from .common import whole_number

ALL = "all"
_PRINT = "-"  # --json without a file


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    find_checkout()
    from benchmarks.settings import COMPARED, NETWORKS, TASKS

    parser.add_argument("--do", choices=[*TASKS, ALL], nargs="+", metavar="TASK", help="; ".join(
        f"{k}: {v}" for k, v in TASKS.items()) + "; all: every task, in about an hour (default: infer)")
    parser.add_argument("--backends", action="store_true", help="compare the backends: --do backends, with "
                        f"{', '.join(COMPARED)} unless --model names others")
    parser.add_argument("--quick", action="store_true", help="with --do all: a short form of every task, in minutes")
    parser.add_argument("--model", "--network", choices=NETWORKS, nargs="+", metavar="NAME", dest="network",
                        help=f"one or more of {', '.join(NETWORKS)} (default: fcn; with --do all: all of them)")
    parser.add_argument("--size", type=whole_number(), nargs=2, metavar=("HEIGHT", "WIDTH"),
                        help="of the images (default: 512 512; another one for tasks that read files)")
    parser.add_argument("--batch", type=whole_number(), metavar="N",
                        help="images at once (default: 1 for infer, 2 for train, 8 for epoch)")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch (`make bench` sets one up); "
                        "without this option, PyTorch is left out")
    parser.add_argument("--rounds", type=whole_number(), metavar="N",
                        help="timed runs of each competitor (default: 3 to 9)")
    parser.add_argument("--threads", type=whole_number(), metavar="N",
                        help="of each competitor, on the same number of cores (default: all physical cores)")
    parser.add_argument("--json", type=Path, nargs="?", const=_PRINT, metavar="FILE",
                        help="also write all figures to FILE; without FILE, print them as JSON at the end")


def run(args: Namespace) -> int:
    """Measure, print tables; return 0, or 1 if a measurement failed."""
    find_checkout()
    from benchmarks.rounds import machine

    torch, chosen = _find_torch(args.torch), list(_settings(args))
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {here['memory_gib']:.0f} GiB, "
          f"{', '.join(here['instructions']) or 'vector units unknown'}; load {here['load']}"
          + (": other work distorts the figures" if here["load"] > 0.5 else ""))
    report = measure(chosen, torch=torch, threads=args.threads, file=None if args.json == _PRINT else args.json,
                     machine=here)

    from benchmarks.targets import side_by_side, summary

    if any(run["do"] == "backends" for run in report["runs"]):
        print(f"\n{side_by_side(report['runs'])}")
    if ALL in (args.do or ()):
        print(f"\ntargets:\n{summary(report['targets'])}")
    if args.json == _PRINT:
        print(json.dumps(report, indent=1, allow_nan=False))
    failed = [run["title"] for run in report["runs"] if run["failure"]]
    if failed:
        print("\nfailed, for the reasons above:\n  " + "\n  ".join(failed))
    return 1 if failed else 0


def find_checkout() -> Path:
    """Return the root of the checkout that holds this package, and make its folder ``benchmarks`` importable.

    Raises:
        EnvironmentProblem: the package does not lie in a checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not all((root / name).is_file() for name in ("setup.py", "benchmarks/settings.py")):
        raise EnvironmentProblem(
            "`mxnetseg benchmark` needs a checkout of the repository, because the benchmark is not installed",
            where=f"the installed package {root / 'mxnetseg'}",
            fix="in a checkout: pip install -e . , then run the command again")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


def measure(settings: Iterable, *, torch: str | None = None, threads: int | None = None,
            file: Path | None = None, machine: dict[str, Any] | None = None) -> dict[str, Any]:
    """Measure one setting after the other and print a table of each. A setting that fails does not stop the others.

    Args:
        settings: from :mod:`benchmarks.settings`.
        torch: a Python with PyTorch.
        threads: of each competitor.
        file: receives the report. It is rewritten after each setting, so an interrupted run leaves a report.
        machine: description of this machine, for the report.

    Returns:
        the report: ``machine``, ``runs`` and ``targets``.
    """
    from benchmarks.targets import compare

    report: dict[str, Any] = {"machine": machine, "runs": [], "targets": []}
    for setting in settings:
        report["runs"].append(_measure_one(setting, torch, threads))
        report["targets"] = compare(report["runs"])
        if file:
            with atomic_write(file, "w") as stream:
                json.dump(report, stream, indent=1, allow_nan=False)
    return report


def _measure_one(setting, torch: str | None, threads: int | None) -> dict[str, Any]:
    """Measure one setting and return its entry in the report."""
    from benchmarks.rounds import run_rounds, table
    from benchmarks.tasks import make_task, parameter_mismatch

    task = make_task(setting, torch=torch)
    threads = task.threads or threads or count_cores()
    entry = {**asdict(setting), "size": list(setting.size), "threads": threads, "title": task.title, "failure": None,
             "results": []}
    print(f"\n{task.title}", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = task.prepare(Path(folder))
            competitors = [replace(c, task={**c.task, **files}) for c in task.competitors]
            results = run_rounds(competitors, rounds=setting.rounds, threads=threads)
    except Exception as error:  # any error: the other settings are measured nevertheless
        entry["failure"] = f"{type(error).__name__}: {error}"
    else:
        entry["results"] = [r.to_dict() for r in results]
        mismatch = task.equal and parameter_mismatch(results)
        if mismatch:
            entry["failure"] = f"the competitors are not the same network: {mismatch}"
        elif all(r.failure for r in results):
            entry["failure"] = "no competitor ran"
        against = task.against(results) if callable(task.against) else task.against
        print(table(results, against=against, columns=task.columns), flush=True)

    if entry["failure"]:
        entry["results"] = [{**r, "failure": r["failure"] or entry["failure"]} for r in entry["results"]]
        print(f"FAILED: {entry['failure']}", flush=True)
    return entry


def _settings(args: Namespace) -> Iterator:
    """Yield the settings that the options choose.

    Raises:
        UsageError: the options contradict each other.
    """
    from benchmarks.settings import COMPARED, NETWORKS, full_set, quick_set, settings

    if args.backends and args.do:
        raise UsageError("--backends and --do both choose what to measure", where="--backends, --do",
                         received=" ".join(args.do), fix="one of them: --backends is --do backends")
    tasks = ["backends"] if args.backends else args.do or ["infer"]
    if ALL in tasks:
        if len(tasks) > 1 or args.size or args.batch:
            raise UsageError("--do all has its own tasks, sizes and batches", where="--do all",
                             fix="leave --size and --batch out, or name single tasks")
        chosen = quick_set(args.network or ["fcn"]) if args.quick else full_set(args.network or list(NETWORKS))
        yield from (replace(setting, rounds=args.rounds or setting.rounds) for setting in chosen)
        return
    if args.quick:
        raise UsageError("--quick needs --do all", where="--quick", fix="--do all --quick, or --rounds 3")
    networks = args.network or (list(COMPARED) if args.backends else ["fcn"])
    for do in tasks:
        yield from settings(do, networks=networks, size=args.size and tuple(args.size), batch=args.batch,
                            rounds=args.rounds)


def _find_torch(python: str | None) -> str | None:
    """Return the Python of ``--torch`` if it can import PyTorch; otherwise print that PyTorch is left out."""
    if python is None:
        return None
    try:
        if not subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
            return python
    except OSError:
        pass
    print(f"PyTorch is left out: {python} cannot import it")
    return None
