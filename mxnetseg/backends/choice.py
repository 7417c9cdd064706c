"""The choice of a backend: which there are, what each reads, and what ``auto`` means.

This module imports no backend, so that a command can list them in its ``--help``.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._compat import is_installed
from .._cuda import compute_capability, computes_on
from ..errors import EnvironmentProblem, UsageError
from ..files import PathLike, expand
from ..registry import Registry
from .package import HUB_CONFIG, PARAMS, RECORD, SYMBOL

BACKENDS = Registry("backend", {
    "mxnet": "mxnetseg.backends.mxnet_runtime:MXNetRuntime",
    "onnxruntime": "mxnetseg.backends.onnx_runtime:OnnxRuntime",
    "openvino": "mxnetseg.backends.openvino_runtime:OpenVINORuntime",
    "torch": "mxnetseg.backends.torch_runtime:TorchRuntime",
}, aliases={"onnx": "onnxruntime", "ort": "onnxruntime", "pytorch": "torch"})

# formats of a network on the disk
CHECKPOINT, PACKAGE, ONNX, OPENVINO = "checkpoint", "package", "onnx", "openvino"
_DESCRIPTIONS = {CHECKPOINT: "a checkpoint", PACKAGE: "an exported graph with its weights", ONNX: "an .onnx file",
                 OPENVINO: "an .xml file of OpenVINO"}


class _Requirement(NamedTuple):
    """Packages that a backend needs, and formats that it reads."""

    modules: tuple[str, ...]
    install: str
    formats: tuple[str, ...]


# in the order in which `auto` takes them
_REQUIREMENTS = {
    "mxnet": _Requirement(("mxnet", "gluoncv"), "pip install mxnetseg, on Linux, or on a Mac with an Intel processor",
                          (CHECKPOINT, PACKAGE)),
    "openvino": _Requirement(("openvino", "onnx"), "pip install 'mxnetseg[openvino]'",
                             (OPENVINO, ONNX, CHECKPOINT, PACKAGE)),
    "onnxruntime": _Requirement(("onnxruntime", "onnx"), "pip install 'mxnetseg[onnx]'", (ONNX, CHECKPOINT, PACKAGE)),
    "torch": _Requirement(("torch",), "pip install 'mxnetseg[torch]'", (CHECKPOINT, PACKAGE)),
}


class BackendChoice(NamedTuple):
    """A backend and the reason why it was chosen."""

    backend: str
    reason: str


def format_of(path: PathLike) -> str:
    """Return the format of a network on the disk, by its name and its neighbours; the content is not read.

    Raises:
        UsageError: an exported form that no backend reads.
    """
    path = expand(path)
    if path.is_dir():
        if (path / "config.pbtxt").is_file() or any(path.glob("*/config.pbtxt")):
            files = sorted(path.rglob("*.onnx")) + sorted(path.rglob("*.xml"))
            raise UsageError("a model repository is read by a server", where=path,
                             fix=f"name the network in it: {files[0]}" if files else "name an exported file")
        if not (path / HUB_CONFIG).is_file():
            raise UsageError("the folder holds no network", where=path, received=f"no {HUB_CONFIG}",
                             fix="name a file: .params, .onnx or .xml; or a folder of `mxnetseg export --format hub`")
        return PACKAGE
    if path.suffix in (".pt2", ".pt", ".pth", ".safetensors"):
        raise UsageError(f"{path.suffix} files are not read by the backends", where=path,
                         fix="name the checkpoint that it was exported from, with --backend torch")
    if path.suffix in (".onnx", ".xml"):
        return ONNX if path.suffix == ".onnx" else OPENVINO
    for ending in (SYMBOL, PARAMS, RECORD):
        if path.name.endswith(ending) and path.with_name(path.name[:-len(ending)] + RECORD).exists():
            return PACKAGE
    return CHECKPOINT


def _missing(backend: str) -> list[str]:
    """Return the modules that a backend needs and that are not installed; none is imported."""
    return [module for module in _REQUIREMENTS[backend].modules if not is_installed(module)]


def installed_backends(network_format: str) -> list[str]:
    """Return the names of the backends that are installed and read a format; a checkpoint needs MXNet, too."""
    if network_format == CHECKPOINT and _missing("mxnet"):
        return []
    return [name for name, one in _REQUIREMENTS.items() if network_format in one.formats and not _missing(name)]


def choose_backend(requested: str, network_format: str, ctx: Sequence[str] | None = None, *,
                   where: object = "--backend") -> BackendChoice:
    """Choose the backend that ``--backend`` means for a network.

    Args:
        requested: a name of :data:`BACKENDS`, or ``'auto'``: MXNet for checkpoints and graphs of MXNet, unless it has
            no code for the GPU and PyTorch does; OpenVINO for its files; ONNX Runtime for ``.onnx`` files; else the
            first backend that is installed and reads the file.
        network_format: the result of :func:`format_of`.
        ctx: the devices that the user names.
        where: for messages.

    Raises:
        UnknownNameError: there is no such backend.
        UsageError: the backend does not read the format.
        EnvironmentProblem: it is not installed, or, for ``'auto'``, no backend that reads the format is.
    """
    description = _DESCRIPTIONS[network_format]
    if requested != "auto":
        backend = BACKENDS.resolve(requested)
        if network_format not in _REQUIREMENTS[backend].formats:
            able = [name for name, one in _REQUIREMENTS.items() if network_format in one.formats]
            raise UsageError(f"the backend {backend} does not read {description}", where=where,
                             fix=f"--backend {' or '.join(able)}, or name the checkpoint that it was exported from")
        _require(backend, network_format)
        return BackendChoice(backend, "asked for")

    if network_format in (CHECKPOINT, PACKAGE) and _needs_another_gpu_library(ctx):
        return BackendChoice("torch", "MXNet 1.9.1 has no code for this GPU, and PyTorch has")
    if network_format == ONNX and not _missing("onnxruntime"):
        return BackendChoice("onnxruntime", description)
    able = [name for name, one in _REQUIREMENTS.items() if network_format in one.formats]
    installed = [name for name in able if not _missing(name)]
    if network_format == CHECKPOINT or not installed:
        _require("onnxruntime" if network_format == ONNX else able[0], network_format)
    reason = description
    if installed[0] != able[0] and network_format == PACKAGE:
        reason += f"; not installed: {', '.join(able[:able.index(installed[0])])}"
    return BackendChoice(installed[0], reason)


def _require(backend: str, network_format: str) -> None:
    """Raise an error if packages are missing for this format and backend."""
    if network_format == CHECKPOINT and _missing("mxnet"):
        raise EnvironmentProblem("a checkpoint needs MXNet, which builds its network",
                                 received=f"not installed: {', '.join(_missing('mxnet'))}",
                                 fix="run `mxnetseg export CHECKPOINT network.onnx` where MXNet is installed, and name "
                                     "that file here; or " + _REQUIREMENTS["mxnet"].install)
    missing = _missing(backend)
    if missing:
        raise EnvironmentProblem(f"the backend {backend} is not installed", received=f"no {', '.join(missing)}",
                                 fix=_REQUIREMENTS[backend].install)


def _needs_another_gpu_library(ctx: Sequence[str] | None) -> bool:
    """Return whether the GPU that a network would run on is one that MXNet has no code for and PyTorch computes on."""
    first = str(ctx[0]).strip().lower() if ctx else "0"
    index = int(first) if first.isdigit() else 0
    if first.startswith("cpu") or _missing("torch") or computes_on(compute_capability(index)):
        return False
    import torch

    return torch.cuda.is_available()
