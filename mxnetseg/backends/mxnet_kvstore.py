"""Sums over the processes of a training by MXNet's KVStore, whose scheduler and servers run as child processes.

The process of rank 0 starts the scheduler, and each process starts one server. So all machines share the traffic: large
arrays are split across the servers, and each small one goes to one of them.

The heartbeats of ps-lite, the library below the KVStore, stay off: they end nothing, and only let a new process take
the place of a dead one. Here each child is watched through a pipe, and the control plane watches the processes.
"""
from __future__ import annotations

import atexit
import ctypes
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet as mx
from mxnet.base import _LIB, check_call

from . import mxnet_server

if TYPE_CHECKING:
    from .group import Group

_SILENCE = 20.0  # seconds without a sign of life after which a child counts as stopped
_OWN_KEYS = 1 << 20  # the keys below number the parameters, in the order of the Gluon trainer
_RANK = "DMLC_RANK"  # a variable that ps-lite sets itself, and that confuses it if it is already set


class KVStore:
    """Sums of arrays over all processes. The sums are computed asynchronously, as everything in MXNet is.

    Args:
        group: the processes.
        contexts: the devices of this process.

    Attributes:
        store: MXNet's KVStore, which :class:`mxnet.gluon.Trainer` uses, too.
    """

    def __init__(self, group: Group, contexts: Sequence[mx.Context]):
        self._group = group
        root, port = group.broadcast((group.address, _free_port(group.address)))
        settings = {"DMLC_PS_ROOT_URI": root, "DMLC_PS_ROOT_PORT": str(port), "DMLC_NODE_HOST": group.address,
                    "DMLC_NUM_WORKER": str(group.size), "DMLC_NUM_SERVER": str(group.size)}
        roles = ["scheduler", "server"] if group.is_main else ["server"]
        self._children = [_Child(role, settings, group) for role in roles]

        os.environ.pop(_RANK, None)
        os.environ.update(settings, DMLC_ROLE="worker")
        self.store = mx.kv.create("dist_device_sync" if contexts[0].device_type == "gpu" else "dist_sync")
        # otherwise a process that ends with an error would wait for the others
        check_call(_LIB.MXKVStoreSetBarrierBeforeExit(self.store.handle, ctypes.c_int(0)))
        self._buffers: dict[int, mx.nd.NDArray] = {}  # by length

    def sum_numbers(self, numbers: Sequence[mx.nd.NDArray]) -> list[mx.nd.NDArray]:
        """Return the sums of some numbers, each (1,), over all processes."""
        if not numbers:
            return []
        count = len(numbers)
        buffer = self._buffers.get(count)
        if buffer is None:
            buffer = self._buffers[count] = mx.nd.zeros((count,), ctx=numbers[0].context)
            self.store.init(_OWN_KEYS + count, buffer)
        buffer[:] = mx.nd.concat(*numbers, dim=0)
        self.store.pushpull(_OWN_KEYS + count, buffer)
        sums = buffer.copy()  # the buffer is used again while these may still be read
        return [sums[i:i + 1] for i in range(count)]

    def average(self, key: int, arrays: Sequence[mx.nd.NDArray]) -> None:
        """Replace an array by its mean over all devices of all processes.

        Args:
            key: number of the parameter that the array belongs to.
            arrays: the array on each device of this process.
        """
        self.store.pushpull(key, list(arrays))
        for array in arrays:
            array /= len(arrays) * self._group.size

    def close(self) -> None:
        """End the servers, after an error at once, and otherwise when no process needs them.

        After an error, sums that never come may be pending, and MXNet would wait for them when this process ends.
        """
        error = sys.exc_info()[1]
        if error is None:
            mx.nd.waitall()
            self._group.barrier()
            check_call(_LIB.MXKVStoreFree(self.store.handle))
        else:
            atexit.register(_exit_at_once, getattr(error, "exit_code", 1))
        self.store.handle = None
        for child in self._children:
            child.stop()


class _Child:
    """A scheduler or server, watched by a thread that ends the run if the process ends or stands still.

    It must be started by the main thread, because Linux ends it together with the thread that started it.

    Args:
        role: ``'scheduler'`` or ``'server'``.
        settings: of ps-lite.
        group: the processes of the run.
    """

    def __init__(self, role: str, settings: Mapping[str, str], group: Group):
        self._role, self._group, self._is_wanted = role, group, True
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, **settings, "DMLC_ROLE": role, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        environment.pop(_RANK, None)
        self._process = subprocess.Popen([sys.executable, "-m", mxnet_server.__name__], env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        group.kill_at_end(self._process)
        threading.Thread(target=self._watch, name=f"watch {role}", daemon=True).start()

    def _watch(self) -> None:
        output, text = self._process.stdout.fileno(), b""
        while select.select([output], [], [], _SILENCE)[0]:
            written = os.read(output, 65536)
            if not written:
                code = self._process.wait()
                self._fail(f"exit code {code}\n{text.decode(errors='replace').strip()}".strip())
                return
            text = (text + written.replace(b"\0", b""))[-2000:]
        self._fail(f"no sign of life for {_SILENCE:g} s: it is stopped")

    def _fail(self, received: str) -> None:
        if self._is_wanted:
            self._group.end(f"the {self._role} of MXNet's KVStore was lost (process {self._process.pid})", received)

    def stop(self) -> None:
        """End the process."""
        self._is_wanted = False
        self._process.kill()
        self._process.wait()


def _exit_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
