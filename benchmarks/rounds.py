"""Competitors run alternately: A B C A B C ..., so that other load on the machine affects all of them alike.

A competitor is a process. It prints a line of JSON when it is warm, runs once for every line that it receives and
prints the time taken, and at the end it prints its peak memory. See :mod:`benchmarks.serve`.
"""
from __future__ import annotations

import json
import os
import platform
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from mxnetseg._compat import cores, count_cores
from mxnetseg._memory import total_memory
from mxnetseg._processor import cpu_flags, cpu_model, has_amx
from mxnetseg.errors import EnvironmentProblem

# seconds for which a competitor's OpenMP threads keep a core busy after its run
_SETTLE = 0.25
# seconds to wait for one answer; compilation and the search for an int8 form take minutes
_PATIENCE = 900.0
_ROOT = Path(__file__).resolve().parents[1]  # of the checkout


@dataclass(frozen=True)
class Competitor:
    """One program to measure.

    Attributes:
        name: in the table.
        command: starts its process; the task is appended as one argument, in JSON.
        task: what to run.
        environment: variables that are added to this process's own.
    """

    name: str
    command: Sequence[str]
    task: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Measurement:
    """Results of one competitor.

    Attributes:
        name: the competitor's.
        seconds: of each round.
        ready: figures that it reported when warm, such as ``parameters`` and ``warm_up_s``.
        peak_mib: its peak memory in MiB.
        failure: why it did not run, or not to the end; None if it did.
        noted: further figures of each round: name -> one value a round.
        ended: further figures that it reported at the end.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)
    peak_mib: float | None = None
    failure: str | None = None
    noted: dict[str, list[float]] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median of the seconds; NaN if it did not run."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def spread(self) -> float:
        """Half the interquartile range, divided by the median; with fewer than four rounds, half the whole range."""
        if len(self.seconds) < 2:
            return float("nan")
        low, high = min(self.seconds), max(self.seconds)
        if len(self.seconds) >= 4:
            low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def to_dict(self) -> dict[str, Any]:
        """Return all values for JSON, with None instead of NaN."""
        derived = {key: value for key in ("median", "spread") if (value := getattr(self, key)) == value}
        return {**vars(self), "median": None, "spread": None, **derived}


class _Process:
    def __init__(self, competitor: Competitor, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                       "OPENBLAS_NUM_THREADS": str(threads), "PYTHONPATH": _python_path(), **competitor.environment}
        self._errors = tempfile.TemporaryFile(mode="w+")
        self._late = False
        try:
            with _pinned(threads):
                # in its own session, so that its helper processes end with it
                self._process = subprocess.Popen(
                    [*competitor.command, json.dumps(competitor.task)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=self._errors, text=True, env=environment, start_new_session=True)
        except OSError as error:
            raise EnvironmentProblem("a competitor cannot be started", received=error) from error

    def read(self) -> dict[str, Any]:
        """Return the next answer. Lines that are not a JSON object are output of libraries, and skipped."""
        watchdog = threading.Timer(_PATIENCE, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            watchdog.cancel()
        self._process.wait()
        raise EnvironmentProblem("a competitor ended early", received=self._failure())

    def ask(self) -> dict[str, Any]:
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended; read() reports the reason
        return self.read()

    def end(self) -> dict[str, Any]:
        self._process.stdin.close()
        return self.read()

    def close(self) -> None:
        self._kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # of a competitor that had ended
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _give_up(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _failure(self) -> str:
        if self._late:
            return f"no answer within {_PATIENCE:g} seconds"
        self._errors.seek(0)
        output = self._errors.read().strip().splitlines()
        killed = -self._process.returncode
        if killed == signal.SIGKILL:
            return "killed, probably because memory ran out"
        if killed > 0:
            return f"ended by {signal.Signals(killed).name}"
        errors = [line for line in output if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return (errors or output or ["no message"])[-1]


@contextmanager
def _pinned(threads: int):
    """Restrict processes started in this context to the first ``threads`` cores, if Linux and enough cores are here."""
    processors = cores()[:threads]
    if not hasattr(os, "sched_setaffinity") or len(processors) < threads:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _python_path() -> str:
    """Return PYTHONPATH with the checkout first, so that ``python -m benchmarks.X`` works in any working directory."""
    return os.pathsep.join(path for path in (str(_ROOT), os.environ.get("PYTHONPATH")) if path)


def run_rounds(competitors: Sequence[Competitor], *, rounds: int = 9,
               threads: int | None = None) -> list[Measurement]:
    """Measure all competitors alternately.

    Args:
        competitors: in the order of the table.
        rounds: timed runs of each.
        threads: of each, on the same number of cores; by default all physical cores.

    Returns:
        one result a competitor. A competitor that fails is listed with its failure, and the others continue.
    """
    threads = threads or count_cores()
    results = [Measurement(c.name) for c in competitors]
    running: list[tuple[_Process, Measurement]] = []

    def answer(result: Measurement, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return request()
        except EnvironmentProblem as problem:
            result.failure = str(problem.received)
            return {}
    try:
        for competitor, result in zip(competitors, results):
            try:
                process = _Process(competitor, threads)
            except EnvironmentProblem as problem:
                result.failure = str(problem.received)
                continue
            running.append((process, result))
            result.ready = answer(result, process.read)
        for _ in range(rounds):
            for process, result in running:
                if result.failure is None:
                    time.sleep(_SETTLE)
                    for key, value in answer(result, process.ask).items():
                        (result.seconds if key == "seconds" else result.noted.setdefault(key, [])).append(value)
        for process, result in running:
            if result.failure is None:
                result.ended = answer(result, process.end)
                result.peak_mib = result.ended.pop("peak_mib", None)
    finally:
        for process, _ in running:
            process.close()
    return results


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    model = cpu_model() or platform.processor() or platform.machine()
    memory = (total_memory() or 0) / 2 ** 30
    flags = cpu_flags()
    return {"processor": model, "cores": count_cores(), "memory_gib": round(memory, 1),
            "load": round(os.getloadavg()[0], 2),
            "instructions": [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
                             if name in flags],
            "amx_used": has_amx(), "python": platform.python_version(), "system": platform.platform()}


# a column of the table: its heading, and the text of one competitor
Column = tuple[str, Callable[[Measurement], str]]


def table(results: Sequence[Measurement], *, against: str | None = None, columns: Sequence[Column] = ()) -> str:
    """Return the results as text.

    Args:
        results: a row each.
        against: name of the competitor whose speed is 1 in the last column.
        columns: further columns, before the speed.
    """
    reference = next((r.median for r in results if r.name == against), float("nan"))
    lines = [f"{'':<28}{'ms':>9}{'spread':>9}{'MiB':>8}" + "".join(f"  {heading}" for heading, _ in columns)
             + (f"{'speed':>9}" if against else "")]
    for r in results:
        if r.failure is not None:
            lines.append(f"{r.name:<28}  did not run: {r.failure}")
            continue
        spread = f"{r.spread:>9.0%}" if r.spread == r.spread else " " * 9
        more = "".join(f"  {show(r):>{len(heading)}}" for heading, show in columns)
        speed = f"{reference / r.median:>8.2f}x" if against else ""
        lines.append(f"{r.name:<28}{1e3 * r.median:>9.1f}{spread}{r.peak_mib:>8.0f}{more}{speed}")
    return "\n".join(lines)
