"""Work spread over threads, with its results in order, bounded memory and an end to waiting.

Threads, because decoding, resizing and counting release Python's lock, and nothing has to be copied.
"""
from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from typing import Callable, Deque, Generic, Iterable, Iterator, Optional, TypeVar

import cv2

from ..errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT = 120.0  # seconds; the schema's default of data.timeout is the same, which a test compares
_SLICE = 1.0  # seconds of one wait; one that takes longer by as much again shows that the process did not run
_PARTING = 1.0  # seconds that threads get to end with the iteration


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], *, workers: Optional[int] = None,
                ahead: Optional[int] = None, timeout: float = TIMEOUT,
                where: Callable[[Item], object] = str) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by threads at most a few items early.

    OpenCV's own threads are switched off in this process, since these keep the cores busy. An exception of
    ``function`` is raised in its place. However the iteration ends, what has not begun is never begun, and the threads
    end with it; one that hangs is a daemon, which keeps neither Ctrl-C nor the end of the program waiting.

    A process that was stopped (SIGSTOP, a suspended laptop) gets the whole time-out again once it runs.

    Args:
        function: called in threads.
        items: taken one by one as there is room.
        workers: threads; default one for each core; 0 computes in the caller's thread, without a time-out.
        ahead: items begun but not yet taken, at most; default two for each thread.
        timeout: seconds to wait for one item.
        where: the name of an item, for the message.

    Raises:
        DataError: an item took longer than the time-out.
    """
    if workers == 0:
        yield from map(function, items)
        return
    cv2.setNumThreads(0)
    workers = workers or cores()
    crew = _Crew(function, workers)
    waiting: Deque[_Task] = deque()
    source = iter(items)

    def refill() -> None:
        while len(waiting) < (ahead or 2 * workers):
            try:
                task = _Task(next(source))
            except StopIteration:
                return
            waiting.append(task)
            crew.todo.put(task)

    try:
        refill()
        while waiting:
            task = waiting[0]
            if not crew.wait_for(task, timeout):
                raise DataError(f"nothing came within {timeout:g} seconds: reading hangs", where=where(task.item),
                                fix="check the disk or network share that holds this file; if it is merely slow, wait "
                                    "longer: --timeout SECONDS, or for train, eval and browse --set "
                                    "data.timeout=SECONDS")
            waiting.popleft()
            refill()
            if task.error is not None:
                raise task.error
            yield task.result
    finally:
        crew.dismiss()


class _Task(Generic[Item]):
    """An item and what became of it."""

    def __init__(self, item: Item):
        self.item = item
        self.is_done = False
        self.result: object = None
        self.error: Optional[BaseException] = None


class _Crew:
    """Threads that work off tasks in the order in which they are put into ``todo``."""

    def __init__(self, function: Callable, workers: int):
        self.todo: "queue.SimpleQueue[Optional[_Task]]" = queue.SimpleQueue()
        self._function, self._changed, self._stopped = function, threading.Condition(), False
        self._threads = [threading.Thread(target=self._work, name=f"mxnetseg-data-{i}", daemon=True)
                         for i in range(workers)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while True:
            task = self.todo.get()
            if task is None or self._stopped:
                return
            try:
                task.result = self._function(task.item)
            except BaseException as error:  # carried to the consumer, whatever it is
                task.error = error
            with self._changed:
                task.is_done = True
                self._changed.notify_all()

    def wait_for(self, task: _Task, timeout: float) -> bool:
        """Return whether the task was done in time, not counting the time in which the process did not run."""
        left = timeout
        with self._changed:
            while not task.is_done:
                if left <= 0:
                    return False
                slice_ = min(left, _SLICE)
                began = time.monotonic()
                self._changed.wait(slice_)
                took = time.monotonic() - began
                left = timeout if took > slice_ + _SLICE else left - took
        return True

    def dismiss(self) -> None:
        """End the threads; those that hang are left behind after a moment."""
        self._stopped = True
        for _ in self._threads:
            self.todo.put(None)
        deadline = time.monotonic() + _PARTING
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
