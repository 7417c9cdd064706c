"""Rank 0's side of the control plane: a thread that joins the processes of a run, carries their exchanges, and watches.

Messages of a process, ``{"kind": ...}`` in one line of JSON:

==========  =========================================================================================
``hello``   rank, size, host and facts, which must equal those of rank 0
``beat``    every second: number of the last part of the work that was begun, a count of progress, and
            whether the process waits in an exchange
``part``    its part of exchange ``number``: operation and value
``stop``    a signal that asks to stop the run
``begun``   the answer to ``pause``: the last part of the work that was begun
``leave``   the work is done; with the last part that was begun
``failed``  the same for a process that ends with an error, with the error and its exit code
==========  =========================================================================================

Messages to the processes: ``start`` (all have joined), ``refuse`` (the run cannot start), ``beat``, ``result`` (of an
exchange), ``pause`` and ``stop_at`` (the last part of the work, the same for all), ``end`` (a process is lost or
failed), ``bye`` (the answer to ``leave`` and ``failed``).
"""
from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .links import Link, is_loopback, pack_arrays, unpack_arrays

log = logging.getLogger(__name__)

BEAT = 1.0  # seconds from one sign of life to the next
SILENCE = 20.0  # seconds without one, after which a process is lost
_HELLO = 10.0  # seconds that a connection gets to introduce itself
_PARTING = 3.0  # seconds in which the last messages arrive
_NAMED = 5  # differing facts that a message lists


class _Member:
    """A process that has joined."""

    def __init__(self, link: Link, hello: Mapping[str, Any]):
        self.link, self.rank, self.host, self.facts = link, hello["rank"], str(hello["host"]), hello["facts"]
        self.begun, self.progress = 0, -1
        self.waits = self.has_left = self.was_refused = False
        self.progressed = time.monotonic()

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


class Hub(threading.Thread):
    """The thread. It ends when all processes have left, or after it has sent ``refuse`` or ``end``.

    Args:
        listener: socket at which the other processes arrive.
        own: rank 0's own connection.
        size: number of processes.
        start_timeout: seconds in which all processes must arrive.
        step_timeout: seconds without progress in any process, after which the run is stalled.

    Attributes:
        others_left: all processes but rank 0 have left.
    """

    def __init__(self, listener: socket.socket, own: socket.socket, size: int, *, start_timeout: float,
                 step_timeout: float):
        super().__init__(name="hub", daemon=True)
        self._listener, self._size = listener, size
        self._start_timeout, self._step_timeout = start_timeout, step_timeout
        self._strangers = [Link(own)]
        self._members: dict[int, _Member] = {}
        self._exchanges: dict[int, dict[int, dict[str, Any]]] = {}  # number -> rank -> part
        self._stopping: dict[str, Any] | None = None
        self._refusal: dict[str, str] | None = None
        self._arrived, self._is_starting = 0, True
        self._is_over = False
        self.others_left = threading.Event()

    def run(self) -> None:
        """Join, carry, watch."""
        try:
            self._join_all()
            self._is_starting = False
            beat = before = time.monotonic()
            while not self._is_over and not all(member.has_left for member in self._members.values()):
                self._read(0.25)
                now = time.monotonic()
                if now - before > SILENCE / 4:  # this process was suspended: the others get their whole time again
                    for member in self._members.values():
                        member.link.heard, member.progressed = now, member.progressed + now - before
                before = now
                self._watch(now)
                if now - beat >= BEAT:
                    beat = now
                    self._send_all("beat")
        except Exception as error:  # a defect of this program; without the hub the others would wait for ever
            self._end("the hub failed", where="rank 0", received=f"{type(error).__name__}: {error}", code=1)
            raise
        finally:
            self.others_left.set()
            self._listener.close()

    # ---- the start ------------------------------------------------------------------------------

    def _join_all(self) -> None:
        """Wait for all processes, and let them start; or give all that have arrived the reason why they cannot."""
        deadline = time.monotonic() + self._start_timeout
        while self._arrived < self._size and (left := deadline - time.monotonic()) > 0:
            was_refused = self._refusal is not None
            self._read(min(left, 0.25), listens=0 in self._members)  # all others are compared with rank 0
            if self._refusal is not None and not was_refused:  # those that are about to arrive shall hear it, too
                deadline = min(deadline, time.monotonic() + _HELLO)
            self._tell_refusal()
            late = [link for link in self._strangers if time.monotonic() - link.heard > _HELLO]
            for link in late:
                self._strangers.remove(link)
                link.close()

        if self._arrived < self._size:
            missing = [str(rank) for rank in range(self._size) if rank not in self._members]
            self._refuse("ProcessLost", "not all processes of the run have started",
                         where=", ".join(map(str, self._sorted())),
                         received=f"after {self._start_timeout:g} s these ranks are missing: {', '.join(missing)}",
                         fix="look at the output of the missing ones; they need the same MASTER_ADDR and MASTER_PORT, "
                         "and the firewall must let them through; --set train.start_timeout=SECONDS waits longer")
        self._listener.close()
        if self._refusal is not None:
            self._is_over = True
            self._tell_refusal()
            return self._part()

        reached = [member.link for member in self._members.values() if not is_loopback(member.link.remote_address())]
        for member in self._members.values():
            # a process on the host of rank 0 may have used the loopback address, which the other hosts do not reach
            address = member.link.remote_address()
            if is_loopback(address) and reached:
                address = reached[0].local_address()
            self._send(member, "start", address=address)

    def _tell_refusal(self) -> None:
        """Tell the reason, if there is one, to all that do not know it."""
        for member in self._sorted():
            if self._refusal is not None and not member.was_refused and not member.has_left:
                member.was_refused = True
                self._send(member, "refuse", **self._refusal)

    def _greet(self, link: Link, hello: Mapping[str, Any]) -> None:
        """Let a process join, or refuse the run because of it."""
        rank, host, first = hello["rank"], hello["host"], self._members.get(0)
        self._strangers.remove(link)
        newcomer = _Member(link, hello)
        self._arrived += 1
        log.debug("%s has arrived, %d of %d", newcomer, self._arrived, self._size)
        earlier = self._members.setdefault(rank, newcomer)
        if earlier is not newcomer:
            self._members[-self._arrived] = newcomer  # hears the reason, too
            self._refuse("UsageError", "two processes have the same rank", where=f"rank {rank}",
                         received=f"on {earlier.host} and on {host}",
                         fix="start the processes with one launcher; two runs on one host need different MASTER_PORT")
        elif hello["size"] != self._size or not 0 <= rank < self._size:
            self._refuse("UsageError", "the processes disagree about their number", where=str(newcomer),
                         received=f"{hello['size']} processes there, {self._size} at rank 0",
                         fix="start all processes with the same number")
        elif first is not None:
            problem = _difference(first, newcomer, first.facts, newcomer.facts)
            if problem:
                self._refuse("UsageError", **problem)

    # ---- messages -------------------------------------------------------------------------------

    def _read(self, seconds: float, *, listens: bool = False) -> None:
        """Handle what arrives within some seconds."""
        by_link = {member.link: member for member in self._members.values() if not member.has_left}
        sources: list[Any] = [*by_link, *self._strangers, *([self._listener] if listens else [])]
        for source in select.select(sources, [], [], seconds)[0]:
            if source is self._listener:
                self._strangers.append(Link(self._listener.accept()[0]))
            elif source in by_link:
                try:
                    for message in source.receive():
                        self._handle(by_link[source], message)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    self._lose(by_link[source], f"its connection broke: {getattr(error, 'strerror', None) or error}")
            elif source in self._strangers:
                try:
                    for message in source.receive():
                        self._greet(source, message)
                except (OSError, ValueError, KeyError, TypeError):  # no process of a run
                    if source in self._strangers:
                        self._strangers.remove(source)
                    source.close()
            if self._is_over:
                return

    def _handle(self, member: _Member, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "beat":
            if message["progress"] != member.progress:
                member.progress, member.progressed = message["progress"], time.monotonic()
            member.begun, member.waits = message["begun"], message["waits"]
        elif kind == "part":
            self._take_part(member, message)
        elif kind == "stop" and self._stopping is None:
            self._stopping = {"signal": message["signal"], "answered": set()}
            self._send_all("pause")
        elif kind == "begun":
            member.begun = message["begun"]
            self._settle_stop(member)
        elif kind in ("leave", "failed"):
            self._send(member, "bye")
            member.begun, member.has_left = message["begun"], True
            self._settle_stop(member)
            if all(other.has_left for other in self._members.values() if other.rank != 0):
                self.others_left.set()
            if kind == "failed":
                self._end(f"{member} failed", where=message["where"], received=message["text"], code=message["code"])

    def _settle_stop(self, member: _Member) -> None:
        """Note how far a process is; when all have answered or left, stop after the part that the first has begun."""
        if self._stopping is not None:
            self._stopping["answered"].add(member.rank)
            if all(other.has_left or rank in self._stopping["answered"] for rank, other in self._members.items()):
                self._send_all("stop_at", part=max(other.begun for other in self._members.values()),
                               signal=self._stopping["signal"])

    def _take_part(self, member: _Member, message: Mapping[str, Any]) -> None:
        """Note a process's part of an exchange; send the result when all parts are there."""
        number = message["number"]
        parts = self._exchanges.setdefault(number, {})
        parts[member.rank] = dict(message)
        if len(parts) < self._size:
            return

        del self._exchanges[number]
        operations = {part["operation"] for part in parts.values()}
        if len(operations) > 1:
            self._end("the processes have lost their common order", where=f"exchange {number}",
                      received=", ".join(f"rank {rank}: {part['operation']}" for rank, part in sorted(parts.items())),
                      code=1)
        elif operations == {"agree"}:
            problems = [_difference(self._members[0], self._members[rank], parts[0]["value"], part["value"])
                        for rank, part in sorted(parts.items())]
            self._send_all("result", number=number, problem=next(filter(None, problems), None))
        else:
            values = [part["value"] for _, part in sorted(parts.items())]
            self._send_all("result", number=number, value=_OPERATIONS[operations.pop()](values))

    # ---- the end --------------------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        """End the run if a process is silent, or if none makes progress."""
        present = [member for member in self._sorted() if not member.has_left]
        for member in present:
            if now - member.link.heard > SILENCE:
                return self._lose(member, f"no sign of life for {SILENCE:g} s: it is stopped, or its host or network "
                                          "is down")
        if present and all(now - member.progressed > self._step_timeout for member in present):
            least = min(member.begun for member in present)
            hanging = [m for m in present if not m.waits and m.begun == least] or present
            self._end("the run makes no progress", where=", ".join(map(str, hanging)),
                      received=f"step or validation did not go on for {self._step_timeout:g} s "
                               f"(the others wait for {'this process' if len(hanging) == 1 else 'these processes'})",
                      code=75, advice="look at the devices and the data there; --set train.step_timeout=SECONDS waits "
                                      "longer")

    def _lose(self, member: _Member, why: str) -> None:
        member.has_left = True
        what = f"{member} was lost"
        if self._is_starting:
            self._refuse("ProcessLost", what, where="start of the run", received=why,
                         fix="look at its output, and start all processes again")
        else:
            self._end(what, where=f"step {member.begun} or later" if member.begun else "start of the run",
                      received=why, code=75)

    def _refuse(self, error: str, what: str, *, where: str, received: str, fix: str) -> None:
        """Note the first reason why the run cannot start."""
        if self._refusal is None:
            self._refusal = {"error": error, "what": what, "where": where, "received": received, "fix": fix}

    def _end(self, what: str, *, where: str, received: str, code: int, advice: str | None = None) -> None:
        if not self._is_over:
            self._is_over = True
            self._send_all("end", what=what, where=where, received=received, code=code, advice=advice)
            self._part()

    def _part(self) -> None:
        """Wait until the others have read the last message: closing a connection earlier might discard it."""
        deadline = time.monotonic() + _PARTING
        open_links = [member.link for member in self._members.values() if member.rank != 0 and not member.has_left]
        while open_links and (left := deadline - time.monotonic()) > 0:
            for link in select.select(open_links, [], [], left)[0]:
                try:
                    link.receive()
                except (OSError, ValueError):
                    open_links.remove(link)

    def _send_all(self, kind: str, **content: Any) -> None:
        for member in self._sorted():
            if not member.has_left:
                self._send(member, kind, **content)

    def _send(self, member: _Member, kind: str, **content: Any) -> None:
        try:
            member.link.send(kind, **content)
        except OSError as error:
            if not self._is_over:
                self._lose(member, f"its connection broke: {error.strerror or error}")

    def _sorted(self) -> Sequence[_Member]:
        return [self._members[rank] for rank in sorted(self._members)]


def _sum(values: Sequence[Any]) -> Any:
    return pack_arrays(map(sum, zip(*map(unpack_arrays, values))))


_OPERATIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": _sum, "first": lambda values: values[0], "wait": lambda values: None}


def _difference(first: _Member, other: _Member, wanted: Mapping[str, Any], got: Mapping[str, Any]
                ) -> dict[str, str] | None:
    """Return the parts of an error message on facts that differ, None if all are equal."""
    keys = [key for key in [*wanted, *(key for key in got if key not in wanted)] if wanted.get(key) != got.get(key)]
    if not keys:
        return None
    lines = [f"{key}: {wanted.get(key)!r} at {first}, {got.get(key)!r} at {other}" for key in keys[:_NAMED]]
    if len(keys) > _NAMED:
        lines.append(f"and {len(keys) - _NAMED} more")
    return {"what": "the processes of a run must not differ", "where": str(other), "received": "\n".join(lines),
            "fix": "the same code, options, configuration and data for all processes"}
