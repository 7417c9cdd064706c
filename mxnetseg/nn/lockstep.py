"""Lockstep execution of one network on several contexts, so that a layer can read the values of all contexts.

Each context has a thread, and exactly one thread runs at any time. At :func:`exchange` a thread leaves its value, lets
the next thread run, and resumes with the values of all threads once each has left one. The threads act as coroutines;
they are threads because a network's forward is ordinary code that cannot yield. The order is fixed, so results are
repeatable.
"""
from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Callable

from ..errors import MXNetSegError

_here = threading.local()  # .step, .rank while a function of lockstep() runs in this thread


class _Abandoned(Exception):
    """Raised in the remaining functions after one has failed, to end them."""


def _unequal() -> MXNetSegError:
    return MXNetSegError("the contexts do not run through the same layers",
                         fix="give every context the same network and a batch of the same size")


class _Lockstep:
    def __init__(self, parties: int):
        self.parties = parties
        self.may_run = [threading.Semaphore(0) for _ in range(parties)]
        # the first thread may be one exchange ahead of the last one, so two sets of slots alternate
        self.slots = [[None] * parties, [None] * parties]
        self.rounds = [0] * parties
        self.results: list[Any] = [None] * parties
        self.error: Any = None
        self.finished = False

    def exchange(self, rank: int, value: Any) -> list[Any]:
        slots = self.slots[self.rounds[rank] % 2]
        self.rounds[rank] += 1
        if self.finished:  # no other thread would resume this one
            raise _unequal()
        slots[rank] = value
        self._hand_over(rank)
        if min(self.rounds) < self.rounds[rank]:  # a function returned instead of leaving a value
            raise _unequal()
        return list(slots)

    def _hand_over(self, rank: int):
        self.may_run[(rank + 1) % self.parties].release()
        self.may_run[rank].acquire()
        if self.error is not None:
            raise _Abandoned

    def work(self, rank: int, function: Callable[[], Any]):
        _here.step, _here.rank = self, rank
        self.may_run[rank].acquire()
        try:
            if self.error is None:
                self.results[rank] = function()
        except _Abandoned:
            pass
        except BaseException as error:  # any error is raised again by lockstep()
            self.error = error
        finally:
            self.finished = True
            self.may_run[(rank + 1) % self.parties].release()


def lockstep(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all functions, switching between them at each :func:`exchange`, and return their results in order.

    All functions must call :func:`exchange` equally often. Each runs in a thread of its own. MXNet keeps its autograd
    flags per thread, so a function has to set them itself.

    Raises:
        the error that the first failing function raised.
        MXNetSegError: the functions call :func:`exchange` a different number of times.
    """
    step = _Lockstep(len(functions))
    threads = [threading.Thread(target=step.work, args=(rank, f), daemon=True)
               for rank, f in enumerate(functions)]
    for thread in threads:
        thread.start()
    step.may_run[0].release()
    for thread in threads:
        thread.join()
    if step.error is not None:
        raise step.error
    return step.results


def exchange(value: Any) -> list[Any]:
    """Leave ``value`` for the other contexts and return the values of all, in the order of the contexts.

    Raises:
        MXNetSegError: not called from a function that :func:`lockstep` runs.
    """
    step = getattr(_here, "step", None)
    if step is None:
        raise MXNetSegError(
            "synchronised batch norm on CPU contexts was run on one context alone",
            fix="train through mxnetseg.backends.mxnet_parallel.forward(net, inputs), or build the network "
                "with norm='bn'",
        )
    return step.exchange(_here.rank, value)
