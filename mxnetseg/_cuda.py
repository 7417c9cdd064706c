"""GPU build of MXNet: its choice, and the loading of its CUDA libraries.

``pip install -e '.[cu112]'`` installs MXNet twice: the CPU build as ``mxnet``, and the GPU build in a
separate folder (see ``wheels/cu112``), because both have the name ``mxnet``, and the GPU build cannot
be imported without NVIDIA's driver. If there is a driver, the GPU build is put first.

The CUDA 11 libraries are pip packages, too, in ``site-packages/nvidia/*/lib``, where the dynamic loader
does not search. It does not search for a library that is already loaded, so all are loaded first, by
their full path.
"""
from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_log = logging.getLogger(__name__)

GPU_DISTRIBUTIONS = ("mxnetseg-cu112", "mxnet-cu112")
DRIVER = "libcuda.so.1"

# library -> requirement for pip, as in setup.py; each library comes after those that it needs. cuDNN opens its parts
# by name when they are first used, so they are listed, too.
_CUDNN = "nvidia-cudnn-cu11>=8.1,<9"
CUDA_LIBRARIES: dict[str, str] = {
    "libcudart.so.11.0": "nvidia-cuda-runtime-cu11>=11.2",
    "libnvrtc.so.11.2": "nvidia-cuda-nvrtc-cu11>=11.2",
    "libcublasLt.so.11": "nvidia-cublas-cu11",
    "libcublas.so.11": "nvidia-cublas-cu11",
    "libcufft.so.10": "nvidia-cufft-cu11",
    "libcurand.so.10": "nvidia-curand-cu11",
    "libcusolver.so.11": "nvidia-cusolver-cu11",
    "libcudnn.so.8": _CUDNN,
    "libcudnn_ops_infer.so.8": _CUDNN,
    "libcudnn_ops_train.so.8": _CUDNN,
    "libcudnn_cnn_infer.so.8": _CUDNN,
    "libcudnn_cnn_train.so.8": _CUDNN,
    "libcudnn_adv_infer.so.8": _CUDNN,
    "libcudnn_adv_train.so.8": _CUDNN,
    "libnccl.so.2": "nvidia-nccl-cu11",
    "libnvToolsExt.so.1": "nvidia-nvtx-cu11",
}

# cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_CAPABILITY = (75, 76)
# libmxnet.so of mxnet-cu112 1.9.1 holds machine code for 5.0, 6.0, 7.0, 8.0 and 8.6 and, as its section .nv_fatbin
# shows, no PTX. Such code runs on later GPUs of the same generation (7.5, 8.9) and on no other.
_GENERATIONS = (5, 8)
USABLE = "from Maxwell (5.0) to Ada (8.9)"


def use_gpu_build() -> None:
    """Let ``import mxnet`` import the GPU build, if it is installed and a driver is present.

    It is called just before mxnet is imported. A library that cannot be loaded is logged; MXNet's import then raises an
    error, and ``mxnetseg doctor`` names the missing package.
    """
    installed = [name for name in GPU_DISTRIBUTIONS if has_distribution(name)]
    if not installed or not can_load(DRIVER):
        return
    for library in missing_cuda_libraries():
        _log.warning("the GPU build of MXNet needs %s, which is missing; run `mxnetseg doctor`", library)
    folder = gpu_build_folder()
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def gpu_build_folder() -> Path | None:
    """Return the folder that holds the GPU build's ``mxnet`` package, None if it has no separate folder."""
    try:
        folder = Path(str(distribution("mxnetseg-cu112").locate_file("mxnetseg_cu112")))
    except PackageNotFoundError:
        return None
    return folder if (folder / "mxnet").is_dir() else None


def missing_cuda_libraries() -> list[str]:
    """Load every CUDA library that the GPU build needs; return those that could not be loaded."""
    folders = _nvidia_folders()
    missing = []
    for library in CUDA_LIBRARIES:
        packaged = [folder / library for folder in folders if (folder / library).is_file()]
        if not any(can_load(str(candidate)) for candidate in [*packaged, library]):
            missing.append(library)
    return missing


def can_load(library: str) -> bool:
    """Load a shared library, by path or name, for the whole process; return False if that fails."""
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def compute_capability(index: int) -> tuple[int, int] | None:
    """Return the compute capability of a GPU, (9, 0) for Hopper; None if the driver does not report it."""
    numbers = (ctypes.c_int(), ctypes.c_int())
    is_known = _ask_driver(index, lambda driver, device: any(
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        for number, attribute in zip(numbers, _CAPABILITY)))
    return (numbers[0].value, numbers[1].value) if is_known else None


def gpu_uuid(index: int) -> bytes | None:
    """Return the 16 bytes that no other GPU or MIG instance has; None if the driver does not report them."""
    uuid = ctypes.create_string_buffer(16)
    # the first version of the function gives all instances of a GPU the UUID of the GPU
    is_known = _ask_driver(index, lambda driver, device: getattr(
        driver, "cuDeviceGetUuid_v2", driver.cuDeviceGetUuid)(uuid, device))
    return uuid.raw if is_known else None


def _ask_driver(index: int, question: Callable[[ctypes.CDLL, ctypes.c_int], int]) -> bool:
    """Call a function of driver and device that returns 0 for success; return whether all went well."""
    device = ctypes.c_int()
    try:
        driver = ctypes.CDLL(DRIVER)
        return not (driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index) or question(driver, device))
    except (OSError, AttributeError):
        return False


def computes_on(capability: tuple[int, int] | None) -> bool:
    """Return whether the GPU build has code for a GPU of this compute capability; True if it is not known."""
    return capability is None or _GENERATIONS[0] <= capability[0] <= _GENERATIONS[1]


def has_distribution(name: str) -> bool:
    """Return whether a pip package is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _nvidia_folders() -> list[Path]:
    """Return the ``nvidia/*/lib`` folders of all folders that Python imports from."""
    return [lib for entry in sys.path if entry for lib in sorted(Path(entry, "nvidia").glob("*/lib"))]
