"""Several processes of one run on this host, one for each device, without a launcher of another program."""
from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .._compat import count_threads
from ..errors import ProcessLost
from .group import PARENT
from .processes import CONTROL_PORT, LAUNCHER

log = logging.getLogger(__name__)

_PARTING = 15.0  # seconds that the other processes get after one has failed; they end by themselves
_PAUSE = 0.1


def start_processes(arguments: Sequence[str], count: int) -> int:
    """Run ``mxnetseg ARGUMENTS`` in several processes; return the worst exit code.

    Signals are forwarded. No process outlives this one.

    Args:
        arguments: the command and its options.
        count: number of processes.
    """
    port, control_port = _free_ports(2)
    threads = max(count_threads() // count, 1)
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        "OMP_NUM_THREADS": str(threads), **os.environ, LAUNCHER: "torchrun", PARENT: str(os.getpid()),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), CONTROL_PORT: str(control_port),
        "WORLD_SIZE": str(count), "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}

    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(number: int, frame: object) -> None:
        received.append(number)
        for child in children:
            child.send_signal(number)

    handlers = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(count):
            children.append(subprocess.Popen(
                [sys.executable, "-m", "mxnetseg", *arguments],
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        log.info("started %d processes on this host: %s", count, ", ".join(str(child.pid) for child in children))
        return _wait(children, received)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]], received: Sequence[int]) -> int:
    """Wait for all processes; when one has failed, only for some time."""
    deadline = None
    while any(child.poll() is None for child in children):
        expected = (0, *(128 + number for number in received))
        if deadline is None and any(child.poll() not in (None, *expected) for child in children):
            deadline = time.monotonic() + _PARTING
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)

    codes = [child.poll() for child in children]
    ended = [code if code >= 0 else 128 - code for code in codes if code is not None]
    if ProcessLost.exit_code in ended or len(ended) < len(codes):
        return ProcessLost.exit_code
    return max(ended)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
