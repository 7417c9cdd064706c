"""Competitors in turns: A B C A B C ..., so that whatever else the machine does befalls all alike.

A competitor is a process that prints a line of JSON when it is warm, runs once for every line it is sent and
prints how long that took, and at the end prints the most memory it ever held: see :mod:`benchmarks.serve`.
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from mxnetseg._compat import cores, count_cores
from mxnetseg._memory import total_memory
from mxnetseg._processor import cpu_flags, cpu_model, has_amx
from mxnetseg.errors import EnvironmentProblem

# an idle competitor's OpenMP threads spin on for so long after its turn
_SETTLE = 0.25
# seconds for one answer; compilers and the search for an int8 form take minutes, a deadlock for ever
_PATIENCE = 900.0


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
        ready: what it said when it was warm: ``parameters``, ``warm_up_s`` and the like.
        peak_mib: the most memory it ever held, MiB.
        failure: why it could not take part, or not to the end; None if it did.
        noted: what else it said of each turn: a list for each name.
        ended: what else it said at the end.
    """

    name: str
    seconds: List[float] = field(default_factory=list)
    ready: Dict[str, Any] = field(default_factory=dict)
    peak_mib: Optional[float] = None
    failure: Optional[str] = None
    noted: Dict[str, List[float]] = field(default_factory=dict)
    ended: Dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds; NaN for who did not take part."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, over the median; of fewer than four turns half the whole range."""
        if len(self.seconds) < 2:
            return float("nan")
        low, high = min(self.seconds), max(self.seconds)
        if len(self.seconds) >= 4:
            low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def to_dict(self) -> Dict[str, Any]:
        """All of it, for JSON, where there is no NaN."""
        derived = {key: value for key in ("median", "spread") if (value := getattr(self, key)) == value}
        return {**vars(self), "median": None, "spread": None, **derived}


class _Process:
    def __init__(self, competitor: Competitor, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
                       "OPENBLAS_NUM_THREADS": str(threads), **competitor.environment}
        self._errors = tempfile.TemporaryFile(mode="w+")
        self._late = False
        try:
            with _pinned(threads):
                # a session of its own, so that its helpers end with it
                self._process = subprocess.Popen(
                    [*competitor.command, json.dumps(competitor.task)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=self._errors, text=True, env=environment, start_new_session=True)
        except OSError as error:
            raise EnvironmentProblem("a competitor cannot be started", received=error) from error

    def read(self) -> Dict[str, Any]:
        """The next answer; lines that are no JSON object are other people's chatter."""
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
        raise EnvironmentProblem("a competitor gave up", received=self._last_word())

    def ask(self) -> Dict[str, Any]:
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has gone; reading says why
        return self.read()

    def end(self) -> Dict[str, Any]:
        self._process.stdin.close()
        return self.read()

    def close(self) -> None:
        self._kill()
        self._process.wait()
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

    def _last_word(self) -> str:
        if self._late:
            return f"no answer within {_PATIENCE:g} seconds"
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        killed = -self._process.returncode
        if killed == signal.SIGKILL:
            return "killed, as the system does where memory runs out"
        if killed > 0:
            return f"ended by {signal.Signals(killed).name}"
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return (errors or said or ["no word"])[-1]


@contextmanager
def _pinned(threads: int):
    """What is started here runs on the first ``threads`` cores alone, where there are so many and Linux lets us."""
    places = cores()[:threads]
    if not hasattr(os, "sched_setaffinity") or len(places) < threads:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, places)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def take_turns(competitors: Sequence[Competitor], *, rounds: int = 9, threads: Optional[int] = None) -> List[Measured]:
    """Measure all competitors alternately.

    Args:
        competitors: in the order of the table.
        rounds: turns of each.
        threads: of each, on as many cores; by default the physical cores.

    Returns:
        one result a competitor; one that fails is in it with its failure, and the others go on.
    """
    threads = threads or count_cores()
    results = [Measured(c.name) for c in competitors]
    running: List[Tuple[_Process, Measured]] = []

    def heard(result: Measured, say: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        try:
            return say()
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
            result.ready = heard(result, process.read)
        for _ in range(rounds):
            for process, result in running:
                if result.failure is None:
                    time.sleep(_SETTLE)
                    for key, value in heard(result, process.ask).items():
                        (result.seconds if key == "seconds" else result.noted.setdefault(key, [])).append(value)
        for process, result in running:
            if result.failure is None:
                result.ended = heard(result, process.end)
                result.peak_mib = result.ended.pop("peak_mib", None)
    finally:
        for process, _ in running:
            process.close()
    return results


def machine() -> Dict[str, Any]:
    """Where it was measured."""
    model = cpu_model() or platform.processor() or platform.machine()
    memory = (total_memory() or 0) / 2 ** 30
    flags = cpu_flags()
    return {"processor": model, "cores": count_cores(), "memory_gib": round(memory, 1),
            "load": round(os.getloadavg()[0], 2),
            "instructions": [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
                             if name in flags],
            "amx_used": has_amx(), "python": platform.python_version(), "system": platform.platform()}


# a column of the table: its heading, and what stands there for one competitor
Column = Tuple[str, Callable[[Measured], str]]


def table(results: Sequence[Measured], *, against: Optional[str] = None, columns: Sequence[Column] = ()) -> str:
    """The results as text.

    Args:
        results: a row each.
        against: the last column is the speed over that of this competitor.
        columns: what else to show, before the speed.
    """
    yardstick = next((r.median for r in results if r.name == against), float("nan"))
    lines = [f"{'':<28}{'ms':>9}{'spread':>9}{'MiB':>8}" + "".join(f"  {heading}" for heading, _ in columns)
             + (f"{'speed':>9}" if against else "")]
    for r in results:
        if r.failure is not None:
            lines.append(f"{r.name:<28}  did not run: {r.failure}")
            continue
        spread = f"{r.spread:>9.0%}" if r.spread == r.spread else " " * 9
        more = "".join(f"  {show(r):>{len(heading)}}" for heading, show in columns)
        speed = f"{yardstick / r.median:>8.2f}x" if against else ""
        lines.append(f"{r.name:<28}{1e3 * r.median:>9.1f}{spread}{r.peak_mib:>8.0f}{more}{speed}")
    return "\n".join(lines)
