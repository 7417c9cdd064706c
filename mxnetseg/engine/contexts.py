"""Devices: the contexts that ``--ctx`` names."""
from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Sequence

import mxnet as mx
from mxnet.base import _LIB, check_call

from .._compat import count_threads
from .._cuda import USABLE, compute_capability, computes_on
from ..errors import DeviceError

log = logging.getLogger(__name__)

# from MXNet's C interface (c_api.h): a function that its engine calls in the thread of a context
_PushedFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_SET_THREADS: dict = {}  # number of threads -> the function that sets it; the engine keeps a pointer to it


class _CContext(ctypes.Structure):
    """``mxnet::Context`` (base.h): the type and the number of a device."""

    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]

    def __init__(self, context: mx.Context):
        super().__init__(context.device_typeid, context.device_id)


def resolve_contexts(wanted: Sequence[str | int] | None = None) -> list[mx.Context]:
    """Return the contexts that ``--ctx`` names.

    =====================  =====================================================================
    ``0 1 2 3``            GPUs 0 to 3; on a machine without any GPU one CPU context for the whole batch,
                           after one warning
    ``cpu``                the CPU, one context
    ``cpu cpu``            two CPU contexts, which share the cores (data parallelism without a GPU, to
                           test it); the same as ``cpu0 cpu1``
    None                   GPU 0 if MXNet can use it, else the CPU
    =====================  =====================================================================

    Raises:
        DeviceError: a GPU that is not present or that MXNet has no code for, a context named twice, or a text that
            names no device.
    """
    present = mx.context.num_gpus()
    if not wanted:
        problem = _no_code_for(0) if present else None
        if problem:
            log.warning("%s: working on the CPU", problem)
        return [mx.gpu(0) if present and not problem else mx.cpu()]

    wanted = _numbered([str(text) for text in wanted])
    contexts = [_parse(text, present) for text in wanted]
    if len({(c.device_type, c.device_id) for c in contexts}) < len(contexts):
        raise DeviceError("a device is named twice", where="--ctx", received=" ".join(wanted),
                          fix="name each device once; cpu is cpu0, and two contexts on the CPU are cpu0 cpu1")
    if len({c.device_type for c in contexts}) > 1:
        raise DeviceError("GPUs and the CPU cannot share one run", where="--ctx",
                          received=" ".join(wanted), fix="name GPUs only, or cpu")

    if contexts[0].device_type == "gpu" and not present:
        log.warning("no GPU here (MXNet %s): --ctx %s runs on the CPU%s. "
                    "For GPUs: pip install 'mxnetseg[cu112]'; `mxnetseg doctor` reports what is missing",
                    mx.__version__, " ".join(wanted),
                    ", as one device with the whole batch" if len(contexts) > 1 else "")
        contexts = [mx.cpu()]

    for context in contexts:
        problem = _no_code_for(context.device_id) if context.device_type == "gpu" else None
        if problem:
            raise DeviceError(problem, where="--ctx", received=" ".join(wanted),
                              fix=f"--ctx cpu, or a GPU {USABLE}")
    if contexts[0].device_type == "cpu":
        _share_cores(contexts)
    return contexts


def contexts_of_host(wanted: Sequence[str | int] | None = None) -> list[mx.Context]:
    """Return the contexts for all processes of this host: those that ``--ctx`` names; without it, all GPUs that MXNet
    can use if GPU 0 is one of them, else the CPU.

    Raises:
        DeviceError: as :func:`resolve_contexts`.
    """
    contexts = resolve_contexts(wanted)
    if wanted or contexts[0].device_type == "cpu":
        return contexts
    return [mx.gpu(index) for index in range(mx.context.num_gpus()) if not _no_code_for(index)]


def _numbered(wanted: list[str]) -> list[str]:
    """Return ``cpu0 cpu1`` for ``cpu cpu``, if no CPU has a number: in ``cpu cpu1`` the first one is ``cpu0``."""
    if len(wanted) > 1 and all(text.strip().lower() == "cpu" for text in wanted):
        return [f"cpu{i}" for i in range(len(wanted))]
    return wanted


def _share_cores(contexts: Sequence[mx.Context]) -> None:
    """Split the cores evenly across CPU contexts.

    MXNet runs each context in its own thread, and each of these starts ``OMP_NUM_THREADS`` OpenMP threads. More threads
    than cores spin against each other: four contexts on two cores took minutes for a step that takes seconds. OpenMP's
    number belongs to the thread that sets it, so the thread of each context has to set it. The later operators of the
    context run after that.
    """
    threads = max(count_threads() // len(contexts), 1)
    for context in contexts:
        _SET_THREADS.setdefault(threads, _PushedFunction(lambda _, n=threads: _LIB.MXSetNumOMPThreads(n)))
        check_call(_LIB.MXEnginePushSync(_SET_THREADS[threads], None, None, ctypes.byref(_CContext(context)), None, 0,
                                         None, 0, None, 0, b"set_threads"))
    mx.nd.waitall()


def _no_code_for(index: int) -> str | None:
    """Return the reason why MXNet cannot use a GPU, None if it can."""
    capability = compute_capability(index)
    if computes_on(capability):
        return None
    return "GPU {} is of compute capability {}.{}, which MXNet 1.9.1 has no code for".format(index, *capability)


def gpu_problem(wanted: Sequence[str | int] | None = None) -> str | None:
    """Return the reason why MXNet cannot compute on the GPUs that ``--ctx`` names, None if it can.

    Args:
        wanted: the values of ``--ctx``, which name GPUs; None: GPU 0.
    """
    present = mx.context.num_gpus()
    if not present:
        return f"MXNet {mx.__version__} finds no GPU here"
    indices = [_parse(str(text), present).device_id for text in wanted or [0]]
    return next(filter(None, map(_no_code_for, indices)), None)


def _parse(text: str, present: int) -> mx.Context:
    match = re.fullmatch(r"(?:(cpu|gpu)[:(]?)?(\d*)\)?", text.strip().lower())
    if not match or not (match[1] or match[2]):
        raise DeviceError("not a device", where="--ctx", received=text,
                          fix="numbers of GPUs (0 1 2 3), or cpu")
    index = int(match[2] or 0)
    if match[1] == "cpu":
        return mx.cpu(index)
    if present and index >= present:
        have = "GPU 0 is" if present == 1 else f"GPUs 0 to {present - 1} are"
        raise DeviceError(f"GPU {index} is not there", where="--ctx", received=text, fix=f"{have} present")
    return mx.gpu(index)
