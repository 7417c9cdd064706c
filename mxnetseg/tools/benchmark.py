"""``mxnetseg benchmark``: this library beside plain MXNet and PyTorch, in turns, on this machine."""
from __future__ import annotations

import json
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

from .common import whole_number

ALL = "all"
_PRINT = "-"  # --json without a file


def add_arguments(parser: ArgumentParser) -> None:
    from benchmarks.tasks import NETWORKS, TASKS

    parser.add_argument("--do", choices=[*TASKS, ALL], nargs="+", default=["infer"], metavar="TASK", help="; ".join(
        f"{k}: {v}" for k, v in TASKS.items()) + "; all: the whole set, in about an hour (default: infer)")
    parser.add_argument("--quick", action="store_true", help="with --do all: less of everything, in some minutes")
    parser.add_argument("--model", "--network", choices=NETWORKS, nargs="+", metavar="NAME", dest="network",
                        help=f"of {', '.join(NETWORKS)} (default: fcn; of the whole set these four)")
    parser.add_argument("--size", type=whole_number(), nargs=2, metavar=("HEIGHT", "WIDTH"),
                        help="default: 512 512, and of what reads files its own")
    parser.add_argument("--batch", type=whole_number(), metavar="N",
                        help="default: 1 to infer, 2 to train, 8 in an epoch")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch, for the comparison (`make bench` "
                        "makes one); without it only MXNet competes")
    parser.add_argument("--rounds", type=whole_number(), metavar="N", help="turns of each (default: 3 to 9)")
    parser.add_argument("--threads", type=whole_number(), metavar="N",
                        help="of each, on as many cores (default: one a physical core)")
    parser.add_argument("--json", type=Path, nargs="?", const=_PRINT, metavar="FILE",
                        help="write all figures to FILE too; without FILE, print them as JSON in the end")


def run(args: Namespace) -> int:
    from benchmarks.turns import machine

    torch, parts = _torch(args.torch), list(_settings(args))
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {here['memory_gib']:.0f} GiB, "
          f"{', '.join(here['instructions']) or 'no vector units known'}; load {here['load']}"
          + (": other work distorts the figures" if here["load"] > 0.5 else ""))
    report = measure(parts, torch=torch, threads=args.threads, file=None if args.json == _PRINT else args.json,
                     machine=here)
    if ALL in args.do:
        from benchmarks.bars import summary

        print(f"\nwhat was to be reached:\n{summary(report['bars'])}")
    if args.json == _PRINT:
        print(json.dumps(report, indent=1, allow_nan=False))
    failed = [run["title"] for run in report["runs"] if run["failure"]]
    if failed:
        print("\nnot measured, see above:\n  " + "\n  ".join(failed))
    return 1 if failed else 0


def measure(settings: Iterable, *, torch: Optional[str] = None, threads: Optional[int] = None,
            file: Optional[Path] = None, machine: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Run one part after the other, print a table of each, and go on where one fails.

    Args:
        settings: of :mod:`benchmarks.tasks`.
        torch: a Python that has PyTorch.
        threads: of each competitor.
        file: the report is written there anew after each part, so that a run that is broken off leaves one.
        machine: for the report.

    Returns:
        the report: ``machine``, ``runs`` and ``bars``.
    """
    from benchmarks.bars import compare

    from ..files import atomic_write

    report = {"machine": machine, "runs": [], "bars": []}
    for setting in settings:
        report["runs"].append(_run(setting, torch, threads))
        report["bars"] = compare(report["runs"])
        if file:
            with atomic_write(file, "w") as stream:
                json.dump(report, stream, indent=1, allow_nan=False)
    return report


def _run(setting, torch: Optional[str], threads: Optional[int]) -> Dict[str, Any]:
    """One part, as it stands in the report."""
    from dataclasses import asdict, replace

    from benchmarks.tasks import make_part, misfits
    from benchmarks.turns import table, take_turns

    from .._compat import count_cores

    part = make_part(setting, torch=torch)
    threads = part.threads or threads or count_cores()
    told = {**asdict(setting), "size": list(setting.size), "threads": threads, "title": part.title, "failure": None,
            "results": []}
    print(f"\n{part.title}", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = part.prepare(Path(folder))
            competitors = [replace(c, task={**c.task, **files}) for c in part.competitors]
            results = take_turns(competitors, rounds=setting.rounds, threads=threads)
    except Exception as error:  # whatever it is, the other parts are worth having
        told["failure"] = f"{type(error).__name__}: {error}"
    else:
        told["results"] = [r.to_dict() for r in results]
        unequal = part.equal and misfits(results)
        if unequal:
            told["failure"] = f"the competitors are not the same network: {unequal}"
        elif all(r.failure for r in results):
            told["failure"] = "nobody took part"
        print(table(results, against=part.against, columns=part.columns), flush=True)
    if told["failure"]:
        told["results"] = [{**r, "failure": r["failure"] or told["failure"]} for r in told["results"]]
        print(f"FAILED: {told['failure']}", flush=True)
    return told


def _settings(args: Namespace):
    """The parts that the options choose.

    Raises:
        UsageError: options that do not go together.
    """
    from dataclasses import replace

    from benchmarks.tasks import NETWORKS, settings, the_quick, the_whole

    from ..errors import UsageError

    if ALL in args.do:
        if len(args.do) > 1 or args.size or args.batch:
            raise UsageError("the whole set has its own tasks, sizes and batches", where="--do all",
                             fix="leave --size and --batch out, or name single tasks")
        parts = the_quick(args.network or ["fcn"]) if args.quick else the_whole(args.network or list(NETWORKS))
        yield from (replace(part, rounds=args.rounds or part.rounds) for part in parts)
        return
    if args.quick:
        raise UsageError("--quick shortens the whole set", where="--quick", fix="--do all --quick, or --rounds 3")
    for do in args.do:
        yield from settings(do, networks=args.network or ["fcn"], size=args.size and tuple(args.size),
                            batch=args.batch, rounds=args.rounds)


def _torch(python: Optional[str]) -> Optional[str]:
    """The Python of ``--torch``, if it runs PyTorch; a word if it does not."""
    import subprocess

    if python is None:
        return None
    try:
        if not subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
            return python
    except OSError:
        pass
    print(f"PyTorch is left out: {python} has none")
    return None
