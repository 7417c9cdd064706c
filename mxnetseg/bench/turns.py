"""Competitors in turns: A B C A B C ..., so that whatever else the machine does befalls all alike.

A competitor is a process that prints a line of JSON when it is warm, runs once for every line it is sent and
prints how long that took, and at the end prints the most memory it ever held.
"""
from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .._amx import cpu_flags, has_amx
from .._compat import count_cores
from ..errors import EnvironmentProblem

# an idle competitor's OpenMP threads spin on for so long after its turn
_SETTLE = 0.25


@dataclass(frozen=True)
class Competitor:
    """Who takes part.

    Attributes:
        name: in the table.
        command: how its process is started; the task follows as one argument of JSON.
        task: what it is to do.
        environment: variables it runs with, besides ours.
    """

    name: str
    command: Sequence[str]
    task: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Measured:
    """What one competitor needed.

    Attributes:
        name: whose.
        seconds: of each turn.
        ready: what it said when it was warm: ``parameters``, ``warm_up_s``.
        peak_mib: the most memory it ever held, MiB.
        failure: why it could not take part, None if it did.
    """

    name: str
    seconds: List[float] = field(default_factory=list)
    ready: Dict[str, Any] = field(default_factory=dict)
    peak_mib: Optional[float] = None
    failure: Optional[str] = None

    @property
    def median(self) -> float:
        """Seconds; NaN for who did not take part."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, over the median."""
        if len(self.seconds) < 4:
            return float("nan")
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median


class _Process:
    def __init__(self, competitor: Competitor, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                       **competitor.environment}
        self._errors = tempfile.TemporaryFile(mode="w+")
        self._process = subprocess.Popen([*competitor.command, json.dumps(competitor.task)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment)

    def read(self) -> Dict[str, Any]:
        """The next answer; lines that are no JSON object are other people's chatter."""
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        raise EnvironmentProblem("a competitor gave up", received=said[-1] if said else "no word")

    def ask(self) -> Dict[str, Any]:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.read()

    def end(self) -> Dict[str, Any]:
        self._process.stdin.close()
        return self.read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def take_turns(competitors: Sequence[Competitor], *, rounds: int = 9, threads: Optional[int] = None) -> List[Measured]:
    """Measure all competitors alternately.

    Args:
        competitors: in the order of the table.
        rounds: turns of each.
        threads: of each; by default the physical cores.

    Returns:
        one result a competitor; one that fails is in it with its failure, and the others go on.
    """
    threads = threads or count_cores()
    results = [Measured(c.name) for c in competitors]
    running = []
    try:
        for competitor, result in zip(competitors, results):
            process = _Process(competitor, threads)
            running.append((process, result))
            try:
                result.ready = process.read()
            except EnvironmentProblem as problem:
                result.failure = problem.received
        for _ in range(rounds):
            for process, result in running:
                if result.failure is None:
                    time.sleep(_SETTLE)
                    try:
                        result.seconds.append(process.ask()["seconds"])
                    except EnvironmentProblem as problem:
                        result.failure = problem.received
        for process, result in running:
            if result.failure is None:
                result.peak_mib = process.end()["peak_mib"]
    finally:
        for process, _ in running:
            process.close()
    return results


def machine() -> Dict[str, Any]:
    """Where it was measured."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    flags = cpu_flags()
    return {"processor": model, "cores": count_cores(), "load": round(os.getloadavg()[0], 2),
            "instructions": [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
                             if name in flags],
            "amx_used": has_amx(), "python": platform.python_version(), "system": platform.platform()}


def table(results: Sequence[Measured], *, against: Optional[str] = None) -> str:
    """The results as text; the last column is the speed over that of the competitor ``against``."""
    yardstick = next((r.median for r in results if r.name == against), float("nan"))
    lines = [f"{'':<28}{'ms':>9}{'spread':>9}{'MiB':>8}" + (f"{'speed':>8}" if against else "")]
    for r in results:
        if r.failure is not None:
            lines.append(f"{r.name:<28}  did not run: {r.failure}")
            continue
        speed = f"{yardstick / r.median:>7.2f}x" if against else ""
        lines.append(f"{r.name:<28}{1e3 * r.median:>9.1f}{r.spread:>8.0%} {r.peak_mib:>8.0f}{speed}")
    return "\n".join(lines)


def serve(ready: Mapping[str, Any], run) -> None:
    """A competitor's side of the conversation: ``run()`` once for every line on standard input."""
    print(json.dumps(dict(ready)), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    import resource

    scale = 1024 ** 2 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale}), flush=True)
