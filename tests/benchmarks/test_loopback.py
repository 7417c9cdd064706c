"""Measurement of two processes on this machine: it runs; no speed is asserted."""
import pytest

from benchmarks import loopback

pytest.importorskip("torch")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "mxnet"])
def test_a_step_of_two_processes_is_timed(backend):
    for is_joined in (False, True):
        assert loopback.seconds_of_a_step(backend, "bn", processes=2, is_joined=is_joined, steps=1) > 0


def test_an_error_of_a_process_is_shown():
    with pytest.raises(RuntimeError, match="quux"):
        loopback.seconds_of_a_step("quux", "bn", processes=1, is_joined=False)
