"""The choice of a precision: what ``--precision`` and ``train.precision`` mean on a device.

``auto`` is resolved here, and only here. :mod:`mxnetseg.graph.precision_phase` describes the precisions.

This module does not import MXNet, so that a command can list the precisions in its ``--help``.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._precisions import PRECISIONS, PrecisionChoice
from .._processor import has_amx, has_bfloat16, multiplies_bfloat16
from ..errors import ConfigError

if TYPE_CHECKING:
    import mxnet as mx
    import numpy as np


def choose_precision(requested: str | None, contexts: Sequence[mx.Context], *,
                     where: str = "--precision") -> PrecisionChoice:
    """Choose the precision that ``--precision``, or ``train.precision``, means on some devices.

    Args:
        requested: one of :data:`mxnetseg._precisions.PRECISIONS`. ``'auto'``: float16 on GPUs, bfloat16 on processors
            that multiply it (AMX, AVX-512), else float32; never int8, which needs images to calibrate on. None:
            float32.
        contexts: where the network runs.
        where: name of the option, for messages.

    Raises:
        ConfigError: the devices cannot compute in ``requested``.
    """
    if requested is None:
        return PrecisionChoice("float32", "default")
    is_gpu = any(context.device_type == "gpu" for context in contexts)
    if requested not in PRECISIONS:
        raise ConfigError("unknown precision", where=where, received=requested,
                          fix=f"one of {', '.join(PRECISIONS)}")
    if requested == "auto":
        if is_gpu:
            return PrecisionChoice("float16", "a GPU")
        if multiplies_bfloat16():
            reason = "the processor has AMX" if has_amx() else "the processor multiplies bfloat16"
            return PrecisionChoice("bfloat16", reason)
        return PrecisionChoice("float32", "the processor has no bfloat16")

    if is_gpu and requested in ("bfloat16", "int8"):
        raise ConfigError(f"{requested} runs on CPUs only", where=where, received=f"{requested} on {contexts[0]}",
                          fix="float16 or float32 on a GPU")
    if not is_gpu and requested == "float16":
        raise ConfigError("MXNet computes float16 on GPUs only", where=where, received="float16 on a CPU",
                          fix=f"{'bfloat16 or ' * has_bfloat16()}float32 on a CPU")
    if not is_gpu and requested == "bfloat16" and not has_bfloat16():
        raise ConfigError("MXNet computes bfloat16 on processors with AVX-512 only, and this one has none, or "
                          "DNNL_MAX_CPU_ISA forbids it", where=where, received=requested, fix="float32, or auto")
    return PrecisionChoice(requested, "asked for")


def calibration_images(dataset, count: int = 8) -> list[np.ndarray]:
    """Return ``count`` images spread over a split, to calibrate int8 on."""
    import numpy as np

    return [dataset[int(i)].image for i in np.linspace(0, len(dataset) - 1, min(count, len(dataset)))]
