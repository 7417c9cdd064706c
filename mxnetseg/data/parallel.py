"""Work in threads, with results in order, bounded memory and a time-out.

Threads, because decoding, resizing and counting release Python's lock, and nothing has to be copied.
"""
from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from typing import Callable, Generic, TypeVar

import cv2

from ..errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Wraps a stream of items: progress(items, count) yields the same items, as a progress bar does.
ProgressCallback = Callable[[Iterable[Item], int], Iterable[Item]]

TIMEOUT = 120.0  # seconds; the schema's default of data.timeout is the same, which a test compares
_SLICE = 1.0  # seconds of one wait; if it takes twice as long, the process was stopped meanwhile
_PARTING = 1.0  # seconds that threads get to end after the iteration


def cores() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def no_progress(items: Iterable[Item], count: int) -> Iterable[Item]:
    """Return the items as they are: the default :data:`ProgressCallback`."""
    return items


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None,
                ahead: int | None = None, timeout: float = TIMEOUT,
                where: Callable[[Item], object] = str) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in order, computed by threads at most a few items early.

    OpenCV's own threads are switched off in this process, since these threads keep the cores busy. An exception of
    ``function`` is raised at the place of its item. When the iteration ends, for any reason, no further item is begun
    and the threads end; a thread that hangs is a daemon, so it delays neither Ctrl-C nor the end of the program.

    A process that was stopped (SIGSTOP, a suspended laptop) gets the whole time-out again when it continues.

    Args:
        function: called in threads.
        items: taken one by one, as results are consumed.
        workers: number of threads; default one for each core; 0 computes in the caller's thread, without a time-out.
        ahead: largest number of items begun and not yet consumed; default two for each thread.
        timeout: seconds to wait for one item.
        where: returns the name of an item, for the message.

    Raises:
        DataError: an item took longer than the time-out.
    """
    if workers == 0:
        yield from map(function, items)
        return
    cv2.setNumThreads(0)
    workers = workers or cores()
    pool = _ThreadPool(function, workers)
    waiting: deque[_Task] = deque()
    source = iter(items)

    def refill() -> None:
        while len(waiting) < (ahead or 2 * workers):
            try:
                task = _Task(next(source))
            except StopIteration:
                return
            waiting.append(task)
            pool.todo.put(task)

    try:
        refill()
        while waiting:
            task = waiting[0]
            if not pool.wait_for(task, timeout):
                raise DataError(f"nothing came within {timeout:g} seconds: reading hangs", where=where(task.item),
                                fix="check the disk or network share that holds this file; if it is only slow, wait "
                                    "longer: --timeout SECONDS, or for train, eval and browse --set "
                                    "data.timeout=SECONDS")
            waiting.popleft()
            refill()

            if task.error is not None:
                raise task.error
            yield task.result
    finally:
        pool.shut_down()


class _Task(Generic[Item]):
    """An item, and its result or error once it is done."""

    def __init__(self, item: Item):
        self.item = item
        self.is_done = False
        self.result: object = None
        self.error: BaseException | None = None


class _ThreadPool:
    """Threads that do tasks in the order in which they are put into ``todo``."""

    def __init__(self, function: Callable, workers: int):
        self.todo: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
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
            except BaseException as error:  # raised again where the result is consumed
                task.error = error
            with self._changed:
                task.is_done = True
                self._changed.notify_all()

    def wait_for(self, task: _Task, timeout: float) -> bool:
        """Return whether the task was done in time, not counting time in which the process was stopped."""
        remaining = timeout
        with self._changed:
            while not task.is_done:
                if remaining <= 0:
                    return False
                slice_ = min(remaining, _SLICE)
                began = time.monotonic()
                self._changed.wait(slice_)
                took = time.monotonic() - began
                remaining = timeout if took > slice_ + _SLICE else remaining - took
        return True

    def shut_down(self) -> None:
        """End the threads. A thread that hangs is abandoned after a second."""
        self._stopped = True
        for _ in self._threads:
            self.todo.put(None)
        deadline = time.monotonic() + _PARTING
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
