"""Stopping a run by a signal, without losing what it has learned."""
from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable


class Interrupt:
    """Context in which SIGINT and SIGTERM only set a flag; a second signal raises KeyboardInterrupt.

    Args:
        request_stop: is called with the number of the signal.
        patience: seconds in which further signals are copies of the first one: the terminal sends it to all processes,
            and a launcher forwards its own to them.

    Attributes:
        received: number of the signal, None as long as none has arrived.
    """

    def __init__(self, request_stop: Callable[[int], None] | None = None, *, patience: float = 0.0):
        self.received: int | None = None
        self._request_stop, self._patience = request_stop, patience
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
            if time.monotonic() - self._since < self._patience:
                return
            raise KeyboardInterrupt
        self.received, self._since = number, time.monotonic()
        if self._request_stop is not None:
            self._request_stop(number)
