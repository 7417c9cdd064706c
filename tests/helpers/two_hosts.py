"""Two hosts with a link between them: network namespaces of Linux, in which processes have other host names, too.

The link is a pair of virtual network devices. With ``loss`` it is two TAP devices instead, between which a process
(``python two_hosts.py NAMESPACE NAMESPACE LOSS``) carries the frames, some of which it drops.
"""
from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
from typing import Any

ADDRESSES = ("10.77.3.1", "10.77.3.2")
NAMES = ("node1", "node2")
_DEVICE = "link0"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # from Linux's if_tun.h
_CLONE_NEWNET = 0x40000000
_RENAMED = 'echo "$1" > /proc/sys/kernel/hostname && shift && exec "$@"'


def why_not(*, loss: bool = False) -> str | None:
    """Return the reason why this machine cannot have such hosts, None if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    missing = [program for program in ("ip", "unshare") if shutil.which(program) is None]
    if missing:
        return f"network namespaces need the commands ip and unshare; missing: {', '.join(missing)}"
    if loss and not os.path.exists("/dev/net/tun"):
        return "TAP devices need /dev/net/tun"
    probe = f"mxnetseg-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"network namespaces cannot be made: {done.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


class TwoHosts:
    """The hosts ``node1`` and ``node2``. A context manager.

    Args:
        loss: share of the frames that the link drops.

    Attributes:
        dropped: number of dropped frames, once the context has ended.
    """

    def __init__(self, loss: float | None = None):
        self._loss, self._carrier, self.dropped = loss, None, 0
        self._namespaces = [f"mxnetseg-{os.getpid()}-{id(self):x}-{name}" for name in NAMES]

    def __enter__(self) -> TwoHosts:
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        one, other = self._namespaces
        for namespace in self._namespaces:
            _ip("netns", "add", namespace)
        if self._loss is None:
            _ip("link", "add", _DEVICE, "netns", one, "type", "veth", "peer", "name", _DEVICE, "netns", other)
        else:
            self._carrier = subprocess.Popen([sys.executable, __file__, one, other, str(self._loss)],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._carrier.stdout.readline() == "ready\n"
        for namespace, address in zip(self._namespaces, ADDRESSES):
            _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", _DEVICE)
            for device in ("lo", _DEVICE):
                _ip("-n", namespace, "link", "set", device, "up")

    def __exit__(self, *_: Any) -> None:
        if self._carrier is not None:
            self.dropped = int(self._carrier.communicate()[0])
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)

    def prefix(self, host: int) -> list[str]:
        """Return the command that runs another one on a host, 0 or 1. It becomes the other one, with the same id."""
        return ["ip", "netns", "exec", self._namespaces[host], "unshare", "--uts", "sh", "-c", _RENAMED, "sh",
                NAMES[host]]

    def place(self, ranks: list[int]) -> dict[str, Any]:
        """Return the arguments of :class:`run_processes.Run` for processes on the hosts.

        Args:
            ranks: the host of each rank.
        """
        return {"prefixes": {rank: self.prefix(host) for rank, host in enumerate(ranks)},
                "places": {rank: {"LOCAL_RANK": str(ranks[:rank].count(host))} for rank, host in enumerate(ranks)},
                "MASTER_ADDR": ADDRESSES[ranks[0]]}

    def cut(self) -> None:
        """Take the link down, at both ends."""
        for namespace in self._namespaces:
            _ip("-n", namespace, "link", "set", _DEVICE, "down")

    def join(self) -> None:
        """Take the link up again."""
        for namespace in self._namespaces:
            _ip("-n", namespace, "link", "set", _DEVICE, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


# ---- the lossy link ---------------------------------------------------------------------------


def _tap_in(namespace: str) -> int:
    """Return the file of a new TAP device in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), namespace)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def carry(one: str, other: str, loss: float) -> None:
    """Carry frames between two namespaces until the standard input is closed; print how many were dropped."""
    taps = [_tap_in(namespace) for namespace in (one, other)]
    to, choose, dropped = dict(zip(taps, reversed(taps))), random.Random(0), 0
    print("ready", flush=True)
    while True:
        ready = select.select([0, *taps], [], [])[0]
        for tap in set(ready) & set(taps):
            try:
                frame = os.read(tap, 1 << 16)
                if choose.random() < loss:
                    dropped += 1
                else:
                    os.write(to[tap], frame)
            except OSError:  # a device that is down
                continue
        if 0 in ready:
            print(dropped)
            return


if __name__ == "__main__":
    carry(sys.argv[1], sys.argv[2], float(sys.argv[3]))
