"""Connections between the processes of a run: one JSON object a line over TCP. Nothing received is executed."""
from __future__ import annotations

import base64
import errno
import json
import socket
import threading
import time
from typing import Any

import numpy as np

from ..errors import ProcessLost, UsageError
from .processes import CONTROL_PORT, Processes

_SEND = 10.0  # seconds that the other side may leave a message in the network
_LONGEST = 1 << 26  # bytes of a message
_PAUSE = 0.2  # seconds between two attempts to connect
_LOOPBACK = ("localhost", "127.", "::1")


class Link:
    """One end of a connection.

    Attributes:
        heard: time of the last message, as ``time.monotonic`` counts it.
    """

    def __init__(self, connection: socket.socket):
        connection.settimeout(_SEND)
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._rest, self._lock = connection, b"", threading.Lock()
        self.heard = time.monotonic()

    def fileno(self) -> int:
        """Return the number of the file, for ``select``."""
        return self._connection.fileno()

    def send(self, kind: str, **content: Any) -> None:
        """Send a message.

        Raises:
            OSError: the connection is closed, or the other side does not read.
        """
        with self._lock:
            self._connection.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived; it waits if there is none.

        Raises:
            OSError: the connection is closed.
            ValueError: the bytes are no messages.
        """
        received = self._connection.recv(1 << 18)
        if not received:
            raise ConnectionResetError(errno.ECONNRESET, "its connection closed")
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise ValueError("a line without end")

        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) and isinstance(message.get("kind"), str) for message in messages):
            raise ValueError("a line that is no message")
        if messages:
            self.heard = time.monotonic()
        return messages

    def local_address(self) -> str:
        """Return the IP address of this end."""
        return _plain_address(self._connection.getsockname())

    def remote_address(self) -> str:
        """Return the IP address of the other end."""
        return _plain_address(self._connection.getpeername())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _plain_address(address: Any) -> str:
    """Return the IP address of a socket's name; that of a pair of local sockets is the loopback address."""
    return str(address[0]).replace("::ffff:", "") if isinstance(address, tuple) else "127.0.0.1"


def is_loopback(address: str) -> bool:
    """Return whether an address reaches this host only."""
    return address.startswith(_LOOPBACK)


def listen(processes: Processes) -> socket.socket:
    """Return the socket at which rank 0 waits for the other processes.

    It accepts connections from this host only if the address of rank 0 is a loopback address.

    Raises:
        UsageError: another program listens there.
    """
    host, port = processes.address, processes.control_port
    try:
        if is_loopback(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=1024)
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
        except (OSError, ValueError) as error:  # a host without IPv6
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                raise
            return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise UsageError("rank 0 cannot listen for the other processes", where=f"port {port} on {processes.host}",
                         received=error.strerror,
                         fix=f"the same free port for all processes: MASTER_PORT, one below it, or {CONTROL_PORT}"
                         ) from None


def connect(processes: Processes, timeout: float) -> Link:
    """Return a connection to rank 0, which may start later than this process.

    Raises:
        ProcessLost: no connection was made in time.
    """
    deadline, problem = time.monotonic() + timeout, "no attempt"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((processes.address, processes.control_port), timeout=min(left, 5.0))
            if connection.getsockname() != connection.getpeername():
                return Link(connection)
            connection.close()  # without a listener, a local port can be connected to itself
        except OSError as error:  # an unknown host name, too: it may be announced later
            problem = error.strerror or str(error)
        time.sleep(min(_PAUSE, max(left, 0)))
    raise ProcessLost("rank 0 cannot be reached", where=f"{processes.address}, port {processes.control_port}, from "
                      f"{processes}", received=f"{problem}, for {timeout:g} s",
                      fix="check that rank 0 runs, that MASTER_ADDR is its host, that MASTER_PORT is the same for all "
                      "processes, and the firewall; --set train.start_timeout=SECONDS waits longer")


def pack_arrays(arrays: Any) -> list[dict[str, Any]]:
    """Return arrays as JSON can represent them."""
    return [{"type": array.dtype.str, "shape": array.shape,
             "data": base64.b64encode(np.ascontiguousarray(array)).decode()} for array in map(np.asarray, arrays)]


def unpack_arrays(packed: list[dict[str, Any]]) -> list[np.ndarray]:
    """Return the arrays that :func:`pack_arrays` packed."""
    return [np.frombuffer(base64.b64decode(one["data"]), np.dtype(one["type"])).reshape(one["shape"]).copy()
            for one in packed]
