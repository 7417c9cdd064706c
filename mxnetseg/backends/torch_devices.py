"""PyTorch's devices, and the precisions that it trains in on them."""
from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import torch

from .._processor import has_amx, multiplies_bfloat16
from ..errors import ConfigError, DeviceError

log = logging.getLogger(__name__)


def find_devices(wanted: Sequence[str | int] | None = None) -> list[torch.device]:
    """Return the devices that ``--ctx`` names.

    =====================  =====================================================================
    ``0 1 2 3``            CUDA's GPUs 0 to 3; ``0`` on a Mac is its GPU; on a machine without any GPU the CPU, as
                           one device for the whole batch, after one warning
    ``cpu``, ``mps``       the CPU; the GPU of a Mac
    ``cpu0 cpu1``          the CPU for two processes (several processes without a GPU, to test them); the same as
                           ``cpu cpu``
    None                   all of CUDA's GPUs, the GPU of a Mac, or else the CPU
    =====================  =====================================================================

    Each device belongs to one process.

    Raises:
        DeviceError: a GPU that is not present, a device named twice, different kinds of devices, or a text that names
            no device.
    """
    gpus = _gpus()
    if not wanted:
        return gpus or [torch.device("cpu")]

    texts = [str(text).strip().lower() for text in wanted]
    if len(texts) > 1 and set(texts) == {"cpu"}:
        texts = [f"cpu{number}" for number in range(len(texts))]
    devices = [_parse(text, gpus) for text in texts]
    named = {(text.startswith("cpu"), re.sub(r"\D", "", text) or "0") for text in texts}  # cpu is cpu0, mps is GPU 0
    if len(named) < len(texts) or len({is_cpu for is_cpu, _ in named}) > 1:
        raise DeviceError("a device is named twice, or a GPU beside the CPU", where="--ctx", received=" ".join(texts),
                          fix="name each device once: GPUs only (0 1 2 3), or cpu0 cpu1")
    found = [device for device in devices if device is not None]
    if not found:
        log.warning("no GPU that PyTorch %s can use: --ctx %s runs on the CPU%s", torch.__version__, " ".join(texts),
                    ", as one device with the whole batch" if len(texts) > 1 else "")
    return found or [torch.device("cpu")]


def _gpus() -> list[torch.device]:
    if torch.cuda.is_available():
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch.device("mps")] if torch.backends.mps.is_available() else []


def _parse(text: str, gpus: Sequence[torch.device]) -> torch.device | None:
    """Return a device; None for a GPU by its number on a machine without any."""
    if re.fullmatch(r"cpu\d*", text):
        return torch.device("cpu")
    match = re.fullmatch(r"(?:(?:gpu|cuda)[:(]?)?(\d+)\)?|mps", text)
    if not match:
        raise DeviceError("not a device", where="--ctx", received=text, fix="numbers of GPUs (0 1 2 3), mps, or cpu")
    if not gpus and text != "mps":
        return None
    if text == "mps" and (not gpus or gpus[0].type != "mps") or match[1] and int(match[1]) >= len(gpus):
        present = ", ".join(map(str, gpus)) or "none"
        raise DeviceError("this GPU is not there", where="--ctx", received=text,
                          fix=f"one of the present GPUs ({present}), or cpu")
    return gpus[int(match[1] or 0)]


def choose_precision(requested: str, devices: Sequence[torch.device]) -> tuple[str, str]:
    """Return the precision that ``train.precision`` means on some devices, and the reason why it was chosen.

    ``auto`` is bfloat16 on GPUs and processors that multiply it, float16 on other GPUs, else float32.

    Raises:
        ConfigError: the device cannot compute in ``requested``.
    """
    kind = devices[0].type
    if requested == "auto":
        if kind == "cuda":
            multiplies = torch.version.hip is not None or torch.cuda.get_device_capability(devices[0]) >= (8, 0)
            return ("bfloat16", "the GPU multiplies it") if multiplies else ("float16", "a GPU")
        if kind == "mps":
            return "float16", "a GPU"
        if multiplies_bfloat16():
            return "bfloat16", "the processor has AMX" if has_amx() else "the processor multiplies bfloat16"
        return "float32", "the processor has no bfloat16"

    if kind == "cpu" and requested == "float16":
        raise ConfigError("training in float16 needs a GPU", where="train.precision", received="float16 on a CPU",
                          fix=f"{'bfloat16 or ' * multiplies_bfloat16()}float32 on a CPU")
    return requested, "asked for"
