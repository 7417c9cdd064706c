"""Scheduler or server of MXNet's KVStore, a child of a training process: ``python -m mxnetseg.backends.mxnet_server``.

Its settings are ps-lite's, in the environment (``DMLC_ROLE``, ``DMLC_PS_ROOT_URI``, ...). The process ends when its
parent does. It writes a zero byte each second, so that the parent notices if it is stopped.

It uses MXNet's library without the Python package, which takes longer to import, and which would execute pickles that
arrive from the network.
"""
from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

PULSE = 1.0  # seconds between two signs of life
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def main() -> None:
    """Serve until the parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # launchers send them to all; the workers still finish their step
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # ends a process that is stopped, too
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_follow_parent, daemon=True).start()

    # the search alone makes mxnetseg prepare this process for MXNet
    library = ctypes.CDLL(str(Path(find_spec("mxnet").origin).with_name("libmxnet.so")))
    library.MXGetLastError.restype = ctypes.c_char_p
    store = ctypes.c_void_p()
    ignore = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *command: None)
    if library.MXKVStoreCreate(b"dist", ctypes.byref(store)) or library.MXKVStoreRunServer(store, ignore, None):
        sys.exit(library.MXGetLastError().decode(errors="replace"))


def _follow_parent() -> None:
    """Show life, and end this process when its input is closed, as it is when the parent ends."""
    try:
        while not select.select([0], [], [], PULSE)[0]:
            os.write(1, b"\0")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
