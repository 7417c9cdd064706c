"""Functions that exchange values: one runs at a time, in a fixed order, and none waits for ever."""
import threading

import mxnet as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxnetseg.errors import MXNetSegError
from mxnetseg.nn.lockstep import exchange, lockstep


def living_threads():
    return {thread for thread in threading.enumerate() if thread.is_alive()}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = living_threads()
    yield
    assert living_threads() <= before


def test_every_function_gets_all_values_in_order():
    def function(rank):
        first = exchange((rank, "a"))
        second = exchange((rank, "b"))
        return first, second

    results = lockstep([lambda rank=rank: function(rank) for rank in range(4)])
    wanted = ([(r, "a") for r in range(4)], [(r, "b") for r in range(4)])
    assert results == [wanted] * 4


def test_one_runs_at_a_time_and_in_the_order_of_the_contexts():
    log, running = [], threading.Lock()

    def function(rank):
        for step in range(3):
            assert running.acquire(blocking=False)  # no other function runs between two exchanges
            log.append((step, rank))
            running.release()
            exchange(None)

    for _ in range(5):
        log.clear()
        lockstep([lambda rank=rank: function(rank) for rank in range(3)])
        assert log == [(step, rank) for step in range(3) for rank in range(3)]


def test_without_an_exchange_they_run_one_after_the_other():
    log = []
    results = lockstep([lambda rank=rank: log.append(rank) or rank * 10 for rank in range(5)])
    assert log == [0, 1, 2, 3, 4] and results == [0, 10, 20, 30, 40]


def test_one_function_alone():
    assert lockstep([lambda: exchange("x") + exchange("y")]) == [["x", "y"]]


def test_values_of_an_early_round_are_not_overwritten_by_a_later_one():
    """The first function is an exchange ahead of the last one, which must read values of its own round."""
    def function(rank):
        return [exchange((rank, step)) for step in range(7)]

    for result in lockstep([lambda rank=rank: function(rank) for rank in range(3)]):
        assert result == [[(rank, step) for rank in range(3)] for step in range(7)]


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_error_of_one_reaches_the_caller_and_frees_the_others(failing, after):
    finished = []

    def function(rank):
        for step in range(3):
            if rank == failing and step == after:
                raise ValueError(f"rank {rank}, step {step}")
            exchange(None)
        finished.append(rank)

    with pytest.raises(ValueError, match=f"rank {failing}, step {after}"):
        lockstep([lambda rank=rank: function(rank) for rank in range(3)])
    assert not finished


@pytest.mark.parametrize("error_class", [KeyboardInterrupt, SystemExit, mx.MXNetError])
def test_any_exception_reaches_the_caller(error_class):
    def function():
        raise error_class("stop")

    with pytest.raises(error_class):
        lockstep([lambda: exchange(1), function])


@pytest.mark.parametrize("counts", [(1, 2), (2, 1), (0, 1), (1, 0), (3, 3, 2), (2, 3, 3), (0, 0, 4), (5, 0, 0)])
def test_unequal_exchanges_are_an_error_and_do_not_hang(counts):
    def function(count):
        for _ in range(count):
            exchange(None)

    with pytest.raises(MXNetSegError, match="do not run through the same layers"):
        lockstep([lambda count=count: function(count) for count in counts])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_equal_counts_end_and_unequal_ones_are_refused(counts):
    def function(rank, count):
        return [exchange((rank, step)) for step in range(count)]

    functions = [lambda rank=rank, count=count: function(rank, count) for rank, count in enumerate(counts)]
    if len(set(counts)) == 1:
        everything = [[(rank, step) for rank in range(len(counts))] for step in range(counts[0])]
        assert lockstep(functions) == [everything] * len(counts)
    else:
        with pytest.raises(MXNetSegError):
            lockstep(functions)


def test_outside_lockstep_the_error_says_how_to_call_it():
    with pytest.raises(MXNetSegError, match=r"parallel.forward(.|\n)*norm='bn'"):
        exchange(1)


def test_after_a_lockstep_the_caller_is_alone_again():
    lockstep([lambda: exchange(1)] * 2)
    with pytest.raises(MXNetSegError):
        exchange(1)


def test_a_lockstep_inside_a_lockstep_exchanges_its_own_values():
    def nested_lockstep(outer_rank):
        return lockstep([lambda rank=rank: exchange((outer_rank, rank)) for rank in range(2)])

    def function(rank):
        return exchange(rank), nested_lockstep(rank), exchange(rank + 10)

    results = lockstep([lambda rank=rank: function(rank) for rank in range(2)])
    for rank, (first, nested, second) in enumerate(results):
        assert (first, second) == ([0, 1], [10, 11])
        assert nested == [[(rank, 0), (rank, 1)]] * 2


def test_gradients_flow_across():
    xs = [mx.nd.array([float(rank + 1)], ctx=mx.cpu(rank)) for rank in range(2)]
    for x in xs:
        x.attach_grad()

    def function(rank):
        with mx.autograd.record():
            mine, other = exchange(xs[rank] * xs[rank])[::1 if rank == 0 else -1]
            return mine * other.as_in_context(mine.context)

    results = lockstep([lambda rank=rank: function(rank) for rank in range(2)])
    mx.autograd.backward(results)
    # both results are a^2 b^2
    assert [r.asscalar() for r in results] == [4, 4]
    assert [x.grad.asscalar() for x in xs] == [2 * 2 * 1 * 4, 2 * 2 * 1 * 2]
