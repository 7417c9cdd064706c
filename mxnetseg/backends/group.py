"""The processes that train one network together, as trainer and backends see them."""
from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

Value = TypeVar("Value")


class Group:
    """The processes of a training. This class is one process alone, whose exchanges return what they are given.

    Every process must make the same calls of :meth:`broadcast`, :meth:`sum_arrays`, :meth:`barrier`, :meth:`agree` and
    :meth:`proceeds` in the same order. They carry small values; gradients travel by the backend's own means.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        address: IP address of this process that the others reach.
        master: host name or address of rank 0.
        port: MASTER_PORT, free for the backend at rank 0.
        start_timeout: seconds within which a connection must be made.
        stop_signal: number of the signal that stops the run, None while there is none.
    """

    rank, size = 0, 1
    address = master = "127.0.0.1"
    port = 29500
    start_timeout = 300.0

    def __init__(self) -> None:
        self.stop_signal: int | None = None

    @property
    def is_main(self) -> bool:
        """True at rank 0, the only process that writes files."""
        return self.rank == 0

    # ---- exchanges ------------------------------------------------------------------------------

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value, which JSON can represent."""
        return value

    def sum_arrays(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the sums of small arrays over the processes."""
        return list(arrays)

    def barrier(self) -> None:
        """Wait for all processes."""

    def agree(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse facts that differ between processes.

        Args:
            facts: returns name -> a value that JSON can represent; one process alone does not call it.

        Raises:
            UsageError: the facts differ; the message names fact, rank and host.
        """

    # ---- stopping -------------------------------------------------------------------------------

    def request_stop(self, signal: int) -> None:
        """Ask all processes to stop after the same step. Signal handlers may call it."""
        self.stop_signal = signal

    def proceeds(self) -> bool:
        """Return whether to begin the next part of the work, a step for example; equal in all processes."""
        return self.stop_signal is None

    def note_progress(self) -> None:
        """Note that this process works, within a part that may take longer than the time-out of a step."""

    def kill_at_end(self, child: subprocess.Popen[Any]) -> None:
        """Kill a child process if this process has to end because another one is lost."""

    def end(self, what: str, received: str) -> NoReturn:
        """End all processes, because this one lost something that the run needs. Any thread may call it.

        Args:
            what: the violation.
            received: the reason.
        """
        raise NotImplementedError
