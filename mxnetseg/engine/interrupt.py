"""Stopping a run from outside without losing what it has learnt."""
from __future__ import annotations

import signal
import threading


class Interrupt:
    """While the ``with`` block runs, SIGINT and SIGTERM only raise a flag; a second one stops at once.

    Attributes:
        received: the signal's number, None while there was none.
    """

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
