"""Which devices a command runs on: what ``--ctx`` means; and the way there."""
from __future__ import annotations

import logging
import re
from typing import List, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from .._cuda import USABLE, compute_capability, computes_on
from ..errors import DeviceError

log = logging.getLogger(__name__)


def resolve_contexts(wanted: Optional[Sequence[Union[str, int]]] = None) -> List[mx.Context]:
    """The contexts that ``--ctx`` asks for.

    =====================  =====================================================================
    ``0 1 2 3``            GPUs 0 to 3; on a machine without any GPU as many CPU contexts, after
                           one warning
    ``cpu``                the CPU, one context
    ``cpu0 cpu1``          two CPU contexts (data parallelism without a GPU, for tests)
    None                   GPU 0 if there is one that MXNet can use, else the CPU
    =====================  =====================================================================

    Raises:
        DeviceError: a GPU that is not among those present or that MXNet has no code for, a context named twice, or
            no such thing.
    """
    present = mx.context.num_gpus()
    if not wanted:
        problem = _no_code_for(0) if present else None
        if problem:
            log.warning("%s: working on the CPU", problem)
        return [mx.gpu(0) if present and not problem else mx.cpu()]
    contexts = [_parse(str(text), present) for text in wanted]
    if len({(c.device_type, c.device_id) for c in contexts}) < len(contexts):
        raise DeviceError("a device is named twice", where="--ctx", received=" ".join(map(str, wanted)),
                          fix="name each device once")
    if len({c.device_type for c in contexts}) > 1:
        raise DeviceError("GPUs and the CPU cannot share one run", where="--ctx",
                          received=" ".join(map(str, wanted)), fix="name GPUs only, or cpu")
    if contexts[0].device_type == "gpu" and not present:
        log.warning("no GPU here (MXNet %s): --ctx %s runs on %d CPU context%s instead. "
                    "For GPUs: pip install 'mxnetseg[cu112]'; `mxnetseg doctor` tells what is missing",
                    mx.__version__, " ".join(map(str, wanted)), len(contexts), "s" * (len(contexts) > 1))
        return [mx.cpu(i) for i in range(len(contexts))]
    for context in contexts:
        problem = _no_code_for(context.device_id) if context.device_type == "gpu" else None
        if problem:
            raise DeviceError(problem, where="--ctx", received=" ".join(map(str, wanted)),
                              fix=f"--ctx cpu, or a GPU {USABLE}")
    return contexts


def _no_code_for(index: int) -> Optional[str]:
    """Why MXNet cannot use a GPU, if it cannot."""
    capability = compute_capability(index)
    if computes_on(capability):
        return None
    return "GPU {} is of compute capability {}.{}, for which MXNet 1.9.1 holds no code".format(index, *capability)


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


def to_device(array: np.ndarray, context: mx.Context) -> mx.nd.NDArray:
    """``array`` on a device, in its own type.

    On the first CPU context it is the same memory, not a copy: nobody may write to ``array`` afterwards.
    """
    if context == mx.cpu(0):
        return mx.nd.from_numpy(np.ascontiguousarray(array), zero_copy=True)
    return mx.nd.array(array, ctx=context, dtype=array.dtype)
