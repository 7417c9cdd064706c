"""The connected processes of a run: exchanges, an end that all share, and a watchdog. Nothing here waits for ever."""
from __future__ import annotations

import logging
import multiprocessing
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..backends.group import Group
from ..errors import MXNetSegError, ProcessLost, UsageError, printable
from .hub import BEAT, SILENCE, Hub
from .links import Link, connect, listen, pack_arrays, unpack_arrays
from .processes import Processes

log = logging.getLogger(__name__)

Value = TypeVar("Value")

PARENT = "MXNETSEG_PARENT"  # environment variable: the process whose end ends this one
_GRACE = 2.0  # seconds in which the main thread may end by itself
_VERDICT = 5.0  # seconds in which the reason of a broken exchange arrives


@contextmanager
def join_group(processes: Processes, facts: Mapping[str, Any], *, start_timeout: float,
               step_timeout: float) -> Iterator[Group]:
    """Connect the processes of a run; at the end of the context all of them are done, or end with a reason.

    Args:
        processes: the place of this process.
        facts: name -> value; they must be the same in all processes.
        start_timeout: seconds in which all processes must arrive.
        step_timeout: seconds without progress, after which the run is ended.

    Raises:
        UsageError: the facts differ, two processes have the same rank, or rank 0 cannot listen.
        ProcessLost: a process did not arrive in time.
    """
    if processes.size == 1:
        yield Group()
        return

    group = ConnectedGroup(processes, facts, start_timeout=start_timeout, step_timeout=step_timeout)
    try:
        yield group
    except MXNetSegError as error:
        group.fail(str(error), error.exit_code)
        raise
    except Exception as error:
        group.fail(f"{type(error).__name__}: {error}", 1, is_expected=False)
        raise
    group.leave()


class ConnectedGroup(Group):
    """One of several processes, with a thread that shows rank 0 that it lives, and hears if another one is lost.

    If one is lost, the thread prints which one and why, kills the child processes, and ends this process with 75. The
    main thread may hang in a library at that time.

    Args:
        processes: the place of this process.
        facts, start_timeout, step_timeout: as for :func:`join_group`.

    Attributes:
        advice: how to go on after a loss.
    """

    def __init__(self, processes: Processes, facts: Mapping[str, Any], *, start_timeout: float, step_timeout: float):
        super().__init__()
        self.rank, self.size, self.start_timeout = processes.rank, processes.size, start_timeout
        self.master, self.port = processes.address, processes.port
        self.advice = "start all processes again; --resume auto continues from the last checkpoint"
        self._changed = threading.Condition()
        self._results: dict[int, dict[str, Any]] = {}
        self._exchanges = self._begun = self._progress = 0
        self._waits = self._is_paused = self._is_leaving = False
        self._stop_at: int | None = None
        self._requested: int | None = None
        self._verdict = threading.Event()
        self._has_left = threading.Event()
        self._children: list[subprocess.Popen[Any]] = []
        self._parent = int(os.environ.get(PARENT, 0))

        self._hub: Hub | None = None
        if processes.rank == 0:
            listener, (own, ours) = listen(processes), socket.socketpair()
            self._hub = Hub(listener, ours, processes.size, start_timeout=start_timeout, step_timeout=step_timeout)
            self._link = Link(own)
            self._hub.start()
            log.info("rank 0 on %s waits for %d more processes (%s) at port %d", processes.host, processes.size - 1,
                     processes.launcher, processes.control_port)
        else:
            self._link = connect(processes, start_timeout)

        self._place = str(processes)
        try:
            self._early = self._introduce(processes, facts, start_timeout)
        except MXNetSegError:
            if self._hub is not None:
                self._hub.join(SILENCE)  # it gives the others the reason
            raise
        self._thread = threading.Thread(target=self._live, name="watchdog", daemon=True)
        self._thread.start()

    def _introduce(self, processes: Processes, facts: Mapping[str, Any], timeout: float) -> list[dict[str, Any]]:
        """Introduce this process, and wait until all have arrived; return messages that came right after that."""
        deadline = time.monotonic() + timeout + SILENCE
        problem = "no answer"
        try:
            self._link.send("hello", rank=processes.rank, size=processes.size, host=processes.host, facts=dict(facts))
            while (left := deadline - time.monotonic()) > 0:
                if select.select([self._link], [], [], left)[0]:
                    messages = self._link.receive()
                    for number, message in enumerate(messages):
                        if message["kind"] == "start":
                            self.address = message["address"]
                            return messages[number + 1:]
                        if message["kind"] == "refuse":
                            error = UsageError if message["error"] == "UsageError" else ProcessLost
                            raise error(message["what"], where=message["where"], received=message["received"],
                                        fix=message["fix"])
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "strerror", None) or error)
        raise ProcessLost("rank 0 does not answer", received=problem,
                          where=f"{processes.address}, port {processes.control_port}, from {processes}",
                          fix="look at the output of rank 0, and whether another program uses this port; then start "
                          "all processes again")

    # ---- exchanges ------------------------------------------------------------------------------

    def broadcast(self, value: Value) -> Value:
        return self._exchange("first", value if self.is_main else None)

    def sum_arrays(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return unpack_arrays(self._exchange("sum", pack_arrays(arrays)))

    def barrier(self) -> None:
        self._exchange("wait", None)

    def agree(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        self._exchange("agree", dict(facts()))

    def _exchange(self, operation: str, value: Any) -> Any:
        self._exchanges += 1
        number, self._waits = self._exchanges, True
        try:
            self._link.send("part", number=number, operation=operation, value=value)
        except OSError:
            self._await_end()
        with self._changed:
            self._changed.wait_for(lambda: number in self._results)
            result = self._results.pop(number)
            self._waits, self._progress = False, self._progress + 1
        if result.get("problem"):
            raise UsageError(**result["problem"])
        return result.get("value")

    # ---- stopping -------------------------------------------------------------------------------

    def request_stop(self, signal: int) -> None:
        self._requested = signal  # the thread sends it, because a signal handler must not wait for a lock

    def proceeds(self) -> bool:
        with self._changed:
            # once asked how far this process is, it begins nothing until all know where they stop
            self._changed.wait_for(lambda: not self._is_paused or self._stop_at is not None)
            if self._stop_at is not None and self._begun >= self._stop_at:
                return False
            self._begun, self._progress = self._begun + 1, self._progress + 1
            return True

    def note_progress(self) -> None:
        self._progress += 1

    def kill_at_end(self, child: subprocess.Popen[Any]) -> None:
        self._children.append(child)

    # ---- the end --------------------------------------------------------------------------------

    def leave(self) -> None:
        """Wait until all processes are done."""
        if self._hub is not None:
            self._hub.others_left.wait()
        self._say_goodbye("leave")
        if self._hub is not None:
            self._hub.join()

    def fail(self, text: str, code: int, *, is_expected: bool = True) -> None:
        """Let the others end because this process failed.

        Args:
            text: the error.
            code: exit code of all processes.
            is_expected: False: the error may follow from the loss of another process, of which this one hears next.
        """
        if not is_expected and self._verdict.wait(_VERDICT):
            self._await_end()
        if not self._verdict.is_set():
            self._say_goodbye("failed", text=text, code=code, where=self._place)
        if self._hub is not None:
            self._hub.join(SILENCE)

    def end(self, what: str, received: str) -> NoReturn:
        self.fail(f"{what}: {received}", ProcessLost.exit_code)
        self._end(what, where=self._place, received=received, code=ProcessLost.exit_code)

    def _say_goodbye(self, kind: str, **content: Any) -> None:
        self._is_leaving = True
        try:
            self._link.send(kind, begun=self._begun, **content)
        except OSError:
            return
        self._has_left.wait(_VERDICT)

    def _await_end(self) -> NoReturn:
        """Wait for the thread, which ends this process."""
        while True:
            time.sleep(1)

    # ---- the thread -----------------------------------------------------------------------------

    def _live(self) -> None:
        beat = before = 0.0
        try:
            for message in self._early:
                self._hear(message)
            while not self._has_left.is_set():
                if select.select([self._link], [], [], BEAT / 4)[0]:
                    for message in self._link.receive():
                        self._hear(message)
                now = time.monotonic()
                if now - before > SILENCE / 4:  # this process was suspended
                    self._link.heard = now
                before = now
                if now - self._link.heard > SILENCE:
                    raise OSError(None, f"no sign of life for {SILENCE:g} s: it is stopped, or its host or network is "
                                        "down")
                if now - beat >= BEAT:
                    beat = now
                    self._show_life()
        except (OSError, ValueError) as error:
            if not self._is_leaving:
                self._end("rank 0 was lost", where=f"{self.master}, seen from {self._place}",
                          received=str(getattr(error, "strerror", None) or error), code=75)
            self._has_left.set()

    def _show_life(self) -> None:
        if self._parent and os.getppid() != self._parent:
            self._end("the process that started this one is gone", where=self._place, received=f"pid {self._parent}",
                      code=75)
        if self._requested is not None:
            self._link.send("stop", signal=self._requested)
            self._requested = None
        if not self._is_leaving:
            self._link.send("beat", begun=self._begun, progress=self._progress, waits=self._waits)

    def _hear(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "end":
            self._end(message["what"], where=message["where"], received=message["received"], code=message["code"],
                      advice=message["advice"])
        elif kind == "bye":
            self._has_left.set()
        with self._changed:
            if kind == "result":
                self._results[message["number"]] = dict(message)
            elif kind == "pause":
                self._is_paused = True
                self._link.send("begun", begun=self._begun)
            elif kind == "stop_at":
                self._stop_at, self.stop_signal = message["part"], message["signal"]
            self._changed.notify_all()

    def _end(self, what: str, *, where: str, received: str, code: int, advice: str | None = None) -> NoReturn:
        """End this process, and say why unless the main thread ends with an error of its own at the same time."""
        self._verdict.set()
        if code != ProcessLost.exit_code:
            time.sleep(_GRACE)
        error = ProcessLost(what, where=where, received=received, fix="\n".join(filter(None, [advice, self.advice])))
        print(printable(f"{self._place}: {error}"), file=sys.stderr, flush=True)
        for child in self._children:
            child.kill()
        for worker in multiprocessing.active_children():
            worker.kill()
        if self._hub is not None:
            self._hub.join(SILENCE / 4)
        sys.stdout.flush()
        os._exit(code)
