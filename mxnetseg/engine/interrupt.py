"""Stopping a run by a signal, without losing what it has learned."""
from __future__ import annotations

import signal
import threading


class Interrupt:
    """Context in which SIGINT and SIGTERM only set a flag; a second signal raises KeyboardInterrupt.

    Attributes:
        received: number of the signal, None as long as none has arrived.
    """

    def __init__(self):
        self.received: int | None = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in no other thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
