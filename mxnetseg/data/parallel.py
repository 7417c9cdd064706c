"""Work spread over threads, with its results in order and bounded memory.

Threads, because decoding, resizing and counting release Python's lock, and nothing has to be copied.
"""
from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Deque, Iterable, Iterator, Optional, TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], *,
                workers: Optional[int] = None) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed at most a few items early.

    OpenCV's own threads are switched off in this process, since these keep the cores busy. An exception of
    ``function`` is raised in its place; however the iteration ends, what has not begun is never begun.

    Args:
        function: called in threads.
        items: taken one by one as there is room.
        workers: threads; default one for each core.
    """
    workers = workers or cores()
    cv2.setNumThreads(0)
    with ThreadPoolExecutor(workers, thread_name_prefix="mxnetseg-work") as pool:
        ahead: Deque = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
