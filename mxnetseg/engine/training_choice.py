"""The choice of the library that trains: what ``--backend``, ``--ctx`` and ``train.precision`` mean together."""
from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from .._compat import import_optional
from .._cuda import DRIVER, can_load, gpu_uuid
from ..backends.group import Group
from ..backends.training import TRAINING_BACKENDS
from ..errors import DeviceError
from .contexts import contexts_of_host, gpu_problem
from .precision import choose_precision
from .processes import Processes

log = logging.getLogger(__name__)

AUTO = "auto"
BACKENDS = (AUTO, *TRAINING_BACKENDS.names())


class TrainingChoice(NamedTuple):
    """A training backend and its devices.

    Attributes:
        name: its name in :data:`~mxnetseg.backends.training.TRAINING_BACKENDS`.
        devices: the devices of this process, in its terms.
        processes: number of processes that this one must start, one for each device; 1 for none.
    """

    name: str
    devices: list[Any]
    processes: int = 1


class _Rules(NamedTuple):
    """Rules for the devices of a backend.

    Attributes:
        find: the values of ``--ctx`` -> devices.
        precision: (the value of ``train.precision``, devices) -> precision and reason.
        option: device -> the value of ``--ctx`` that names it.
        devices_of_a_process: the most that one process computes on; None for any number.
    """

    find: Callable[[Sequence[str | int] | None], list[Any]]
    precision: Callable[[str, Sequence[Any]], tuple[str, str]]
    option: Callable[[Any], str]
    devices_of_a_process: int | None = None


def _mxnet_rules() -> _Rules:
    return _Rules(contexts_of_host, lambda asked, devices: choose_precision(asked, devices, where="train.precision"),
                  lambda context: "cpu" if context.device_type == "cpu" else str(context.device_id))


def _torch_rules() -> _Rules:
    import_optional("torch", "training in PyTorch", where="--backend torch", fix="pip install 'mxnetseg[torch]'")
    from ..backends import torch_devices

    return _Rules(torch_devices.find_devices, torch_devices.choose_precision,
                  lambda device: str(device.index) if device.type == "cuda" else device.type, devices_of_a_process=1)


_RULES: dict[str, Callable[[], _Rules]] = {"mxnet": _mxnet_rules, "torch": _torch_rules}


def choose_training(requested: str = AUTO, ctx: Sequence[str | int] | None = None,
                    processes: Processes | None = None) -> TrainingChoice:
    """Return the backend that ``--backend`` means, with the devices that ``--ctx`` names.

    Each of several processes takes the device of its number on its host. ``--ctx`` names the devices of the host;
    without it they are all of its GPUs, or the CPU for all processes.

    ``auto`` is MXNet, unless a GPU is asked for, or present and none is named, that MXNet cannot compute on and
    PyTorch can. A log line gives the reason.

    Args:
        requested: ``'auto'``, ``'mxnet'`` or ``'torch'``.
        ctx: the values of ``--ctx``.
        processes: the place of this process in the run; None: it is alone.

    Raises:
        DeviceError: the backend does not have these devices.
        EnvironmentProblem: the backend is not installed.
        UnknownNameError: there is no such backend.
    """
    name, devices = _choose(requested, ctx)
    if processes is not None and processes.size > 1:
        return TrainingChoice(name, [_device_of(processes, devices, ctx)])
    if not ctx:
        return TrainingChoice(name, devices[:1])
    most = _RULES[name]().devices_of_a_process
    return TrainingChoice(name, devices, 1 if most is None else len(devices) // most)


def _device_of(processes: Processes, devices: Sequence[Any], ctx: Sequence[str | int] | None) -> Any:
    """Return the device of one of the processes of a host."""
    # a single device is all that the launcher shows to this process, or the CPU
    if len(devices) == 1:
        return devices[0]
    if processes.local_rank >= len(devices):
        raise DeviceError("there are more processes on this host than devices", where="--ctx",
                          received=f"process {processes.local_rank + 1} of {processes.host}, devices "
                                   f"{' '.join(map(str, ctx or devices))}",
                          fix=f"at most {len(devices)} processes on each host")
    return devices[processes.local_rank]


def _choose(requested: str, ctx: Sequence[str | int] | None) -> tuple[str, list[Any]]:
    """Return the backend, and all devices that ``--ctx`` names."""
    if requested != AUTO:
        name = TRAINING_BACKENDS.resolve(requested)
        return name, _RULES[name]().find(ctx)

    problem = gpu_problem(ctx) if _asks_for_gpus(ctx) and _may_have_gpu() else None
    if problem and find_spec("torch") is not None:
        try:
            devices = _torch_rules().find(ctx)
        except DeviceError:
            devices = []
        if devices and devices[0].type != "cpu":
            used = devices if ctx else devices[:1]
            log.info("%s: training in PyTorch on %s", problem, ", ".join(map(str, used)))
            return "torch", devices
    return "mxnet", contexts_of_host(ctx)


def training_precision(backend: str, requested: str, devices: Sequence[Any]) -> str:
    """Return the precision that ``train.precision`` means for a backend on its devices.

    Raises:
        ConfigError: the devices cannot compute in it.
    """
    return _RULES[backend]().precision(requested, devices)[0]


def options_of(backend: str, devices: Sequence[Any]) -> str:
    """Return the options that choose a backend and its devices again."""
    return f"--ctx {' '.join(map(_RULES[backend]().option, devices))} --backend {backend}"


def device_kind(choice: TrainingChoice) -> str:
    """Return ``'GPU'``, ``'cpu'`` or ``'mps'``."""
    option = _RULES[choice.name]().option(choice.devices[0])
    return "GPU" if option.isdigit() else option


def refuse_shared_gpu(choice: TrainingChoice, group: Group) -> None:
    """Refuse processes of one run that compute on the same GPU.

    A launcher may show each process another GPU as number 0, so only their UUIDs are compared.

    Raises:
        DeviceError: two processes have the same GPU; it is raised in all of them.
    """
    option = _RULES[choice.name]().option(choice.devices[0])
    uuids = np.zeros((group.size, 16), np.uint8)  # 0: unknown, or no GPU of CUDA
    if option.isdigit():
        uuids[group.rank] = np.frombuffer(gpu_uuid(int(option)) or bytes(16), np.uint8)
    first: dict[bytes, int] = {}
    for rank, row in enumerate(group.sum_arrays([uuids])[0]):
        other = first.setdefault(row.tobytes(), rank)
        if row.any() and other != rank:
            raise DeviceError("two processes must not share a GPU", where="--ctx",
                              received=f"ranks {other} and {rank} have the same one",
                              fix="as many GPUs in --ctx as there are processes on each host, or a launcher that shows "
                              "each process its own GPU")


def _asks_for_gpus(ctx: Sequence[str | int] | None) -> bool:
    return not ctx or not any(re.match("cpu", str(text).strip(), re.IGNORECASE) for text in ctx)


def _may_have_gpu() -> bool:
    """Return False if this machine certainly has no GPU, without importing PyTorch."""
    return sys.platform == "darwin" or os.path.exists("/dev/kfd") or can_load(DRIVER)
