"""Signals: the first sets a flag, the second stops at once, and afterwards the old handlers are back."""
import signal
import threading

import pytest

from mxnetseg.engine.interrupt import Interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_only_noted(number):
    with Interrupt() as interrupt:
        assert interrupt.received is None
        signal.raise_signal(number)
        assert interrupt.received == number


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_stops_at_once(first, second):
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(first)
        signal.raise_signal(second)
    assert interrupt.received == first


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_previous_handlers_are_restored(error):
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with Interrupt():
            assert [signal.getsignal(number) for number in SIGNALS] != before
            if error:
                raise error
    except RuntimeError:
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_in_another_thread_it_does_nothing():
    seen = []

    def work():
        with Interrupt() as interrupt:
            seen.append((interrupt.received, signal.getsignal(signal.SIGTERM)))
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
