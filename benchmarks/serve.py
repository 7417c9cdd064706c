"""A competitor's side of the protocol of :mod:`benchmarks.rounds`.

Imports nothing of mxnetseg, because a Python without mxnetseg runs this file too.
"""
from __future__ import annotations

import json
import resource
import sys
import time


def serve(ready, run, end=dict, *, hot=False) -> None:
    """Call ``run()`` once for every line on standard input, and answer each with a line of JSON.

    Args:
        ready: figures to report when warm, such as ``parameters``.
        run: one timed run. It may return further figures of the round as a dict.
        end: returns figures to report at the end as a dict.
        hot: begin each round with a run that is not timed. While the other competitors ran, caches were filled
            by them and threads fell asleep; a sequence of images or steps does not have this cost.
    """
    print(json.dumps(dict(ready)), flush=True)
    for _ in sys.stdin:
        if hot:
            run()
        began = time.perf_counter()
        noted = run() or {}
        print(json.dumps({"seconds": time.perf_counter() - began, **noted}), flush=True)
    print(json.dumps({"peak_mib": peak_mib(), **end()}), flush=True)


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    """Return the peak memory of this process, or of the largest of its children, in MiB."""
    if who == resource.RUSAGE_SELF:
        own = _status("VmHWM")  # ru_maxrss may include the process that started this one
        if own is not None:
            return own
    return resource.getrusage(who).ru_maxrss / (1024 ** 2 if sys.platform == "darwin" else 1024)


def resident_mib() -> float:
    """Return the memory that this process holds now, in MiB; its peak on systems that do not report it."""
    now = _status("VmRSS")
    return peak_mib() if now is None else now


def _status(key: str):
    """Return an entry of Linux's status of this process, in MiB; None on other systems."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith(key + ":")), None)
    except OSError:
        return None


class WaitingTime:
    """Function that returns an iterator, and the time for which the caller waited for its items."""

    def __init__(self, make):
        self._make, self._seconds = make, 0.0

    def __call__(self, *args, **kwargs):
        items = iter(self._make(*args, **kwargs))
        try:
            while True:
                began = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self._seconds += time.perf_counter() - began
                yield item
        finally:
            if hasattr(items, "close"):
                items.close()

    def take(self) -> float:
        """Return the seconds since the last call of this method."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
