"""Several contexts through one network in step, so that a layer may look at all of them.

One thread a context, of which exactly one runs at any time: at :func:`exchange` it leaves its
value, hands over to the next, and goes on when its turn comes again with everybody's values. It is
a set of coroutines, written with threads because a network's forward is ordinary code that cannot
yield. The order is fixed, hence repeatable.
"""
from __future__ import annotations

import threading
from typing import Any, Callable, List, Sequence

from ..errors import MXNetSegError

_here = threading.local()  # .step, .rank while a function of lockstep() runs in this thread


class _Abandoned(Exception):
    """Another function failed: this one is not waited for any longer."""


def _unequal() -> MXNetSegError:
    return MXNetSegError("the contexts do not run through the same layers",
                         fix="give every context the same network and a batch of the same size")


class _Lockstep:
    def __init__(self, parties: int):
        self.parties = parties
        self.turns = [threading.Semaphore(0) for _ in range(parties)]
        # The first may be one exchange ahead of the last, so two sets of slots alternate.
        self.slots = [[None] * parties, [None] * parties]
        self.rounds = [0] * parties
        self.results: List[Any] = [None] * parties
        self.error: Any = None
        self.finished = False

    def exchange(self, rank: int, value: Any) -> List[Any]:
        slots = self.slots[self.rounds[rank] % 2]
        self.rounds[rank] += 1
        if self.finished:  # nobody would come back to this one
            raise _unequal()
        slots[rank] = value
        self._hand_over(rank)
        if min(self.rounds) < self.rounds[rank]:  # somebody finished instead of leaving a value
            raise _unequal()
        return list(slots)

    def _hand_over(self, rank: int):
        self.turns[(rank + 1) % self.parties].release()
        self.turns[rank].acquire()
        if self.error is not None:
            raise _Abandoned

    def work(self, rank: int, function: Callable[[], Any]):
        _here.step, _here.rank = self, rank
        self.turns[rank].acquire()
        try:
            if self.error is None:
                self.results[rank] = function()
        except _Abandoned:
            pass
        except BaseException as error:  # handed to the caller of lockstep(), whatever it is
            self.error = error
        finally:
            self.finished = True
            self.turns[(rank + 1) % self.parties].release()


def lockstep(functions: Sequence[Callable[[], Any]]) -> List[Any]:
    """Call every function, switching between them at each :func:`exchange`; their results, in order.

    All must call :func:`exchange` equally often. The functions run in threads of their own:
    MXNet's autograd flags are per thread and have to be set inside.

    Raises:
        whatever the first failing function raised.
    """
    step = _Lockstep(len(functions))
    threads = [threading.Thread(target=step.work, args=(rank, f), daemon=True)
               for rank, f in enumerate(functions)]
    for thread in threads:
        thread.start()
    step.turns[0].release()
    for thread in threads:
        thread.join()
    if step.error is not None:
        raise step.error
    return step.results


def exchange(value: Any) -> List[Any]:
    """Leave ``value`` for the other contexts and return everybody's, in the order of the contexts.

    Raises:
        MXNetSegError: not called from a function that :func:`lockstep` runs.
    """
    step = getattr(_here, "step", None)
    if step is None:
        raise MXNetSegError(
            "synchronised batch norm on CPU contexts was run on one context alone",
            fix="train through mxnetseg.engine.parallel.forward(net, inputs), or build the network "
                "with norm='bn'",
        )
    return step.exchange(_here.rank, value)
