"""Remaining time of a run."""
from __future__ import annotations

import time

_WARM_UP = 3  # steps; the first ones compile graphs and fill queues
_ENOUGH = 5  # steps to measure before an estimate is shown


class Pace:
    """Measure the steps of a run, its validation and saving included.

    Args:
        total: steps of the whole run.
    """

    def __init__(self, total: int):
        self._total, self._seen = total, 0
        self._start = self._now = (0.0, 0)

    def note(self, done: int) -> None:
        """Note the end of a step.

        Args:
            done: completed steps of the run.
        """
        self._seen += 1
        self._now = time.monotonic(), done
        if self._seen <= _WARM_UP:
            self._start = self._now

    def seconds_remaining(self) -> float | None:
        """Return the estimated time to the end of the run, None as long as too few steps were measured."""
        if self._seen < _WARM_UP + _ENOUGH:
            return None
        (began, first), (now, done) = self._start, self._now
        return (self._total - done) * (now - began) / (done - first)
