"""A competitor's side of the conversation with :mod:`benchmarks.turns`.

It imports nothing of mxnetseg, for a Python without it runs this file, too.
"""
from __future__ import annotations

import json
import resource
import sys
import time


def serve(ready, run, end=dict, *, hot=False) -> None:
    """Take part: ``run()`` once for every line on standard input, each answer a line of JSON.

    Args:
        ready: what there is to say when warm: ``parameters`` and the like.
        run: one turn. It is timed; what numbers it returns, as a dict, go into the answer.
        end: what there is to say at the end, as a dict.
        hot: begin a turn with a run that is not timed: while the others were at it, caches went cold and threads
            to sleep, which says nothing of one picture or step after the other.
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
    """The most memory that this process, or the largest of its children, ever held, in MiB."""
    if who == resource.RUSAGE_SELF:
        own = _status("VmHWM")  # ru_maxrss may be that of the process which started this one
        if own is not None:
            return own
    return resource.getrusage(who).ru_maxrss / (1024 ** 2 if sys.platform == "darwin" else 1024)


def resident_mib() -> float:
    """The memory that this process holds now, in MiB; its peak so far where the system does not say."""
    now = _status("VmRSS")
    return peak_mib() if now is None else now


def _status(key: str):
    """A line of Linux's account of this process, in MiB; None elsewhere."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith(key + ":")), None)
    except OSError:
        return None


class Waited:
    """A function that makes an iterator, and for how long whoever iterated has waited for the next item."""

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
        """The seconds since this was last called."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
