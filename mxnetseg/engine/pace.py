"""How long a run still takes."""
from __future__ import annotations

import time

_WARM_UP = 3  # steps; the first ones compile graphs and fill queues
_ENOUGH = 5  # steps to measure before an estimate is shown


class Pace:
    """Measures a run's steps, its validation and saving included.

    Args:
        total: steps of the whole run.
    """

    def __init__(self, total: int):
        self._total, self._seen = total, 0
        self._start = self._now = (0.0, 0)

    def note(self, done: int) -> None:
        """Note the end of a step.

        Args:
            done: steps of the run that are done.
        """
        self._seen += 1
        self._now = time.monotonic(), done
        if self._seen <= _WARM_UP:
            self._start = self._now

    def seconds_left(self) -> float | None:
        """Time to the end of the run, None as long as it is not known."""
        if self._seen < _WARM_UP + _ENOUGH:
            return None
        (began, first), (now, done) = self._start, self._now
        return (self._total - done) * (now - began) / (done - first)
