"""A network on the disk, opened for a backend: a checkpoint, or an exported file.

Nothing here imports MXNet unless MXNet computes or the network is a checkpoint.
"""
from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._precisions import PrecisionChoice
from ..backends.choice import BACKENDS, CHECKPOINT, PACKAGE, BackendChoice, choose_backend, format_of
from ..backends.package import NetworkPackage, read_package
from ..backends.runtime import Runtime, StoredNetwork
from ..config.schema import Config
from ..errors import CheckpointError, UsageError
from ..files import expand, sha256
from .named import is_name, locate
from .precision import choose_precision


class OpenNetwork(ABC):
    """A network with its backend and devices.

    Attributes:
        path: the file or folder.
        sidecar: what the network is. Of an exported network, the sections ``config`` and ``protocol`` may be missing.
        model_name, backbone_name: registered names; '' if they are not recorded.
        choice: the backend, and the reason why it was chosen.
        devices: where it will run.
    """

    def __init__(self, path: Path, sidecar: Mapping[str, Any], choice: BackendChoice, devices: Sequence[Any],
                 names: tuple[str, str] | None = None):
        self.path, self.sidecar, self.choice, self.devices = path, sidecar, choice, devices
        model = sidecar.get("model", {})
        self.model_name, self.backbone_name = names or (model.get("name") or "", model.get("backbone") or "")
        for section, content in (("data", "the classes and their colours"), ("normalisation", "mean and deviation")):
            if section not in sidecar:
                raise CheckpointError(f"the file does not record {content}, so images cannot be predicted", where=path,
                                      received=f"no section {section!r}",
                                      fix="export the network with its classes, mean and deviation")

    @property
    def stem(self) -> str:
        """The file name without its ending."""
        return self.path.stem if self.path.is_file() else self.path.name

    @property
    def parameters(self) -> int | None:
        """The number of all parameters, running statistics included; None if it is not known."""
        return None

    def digest(self) -> str:
        """Return a checksum of all files that the network consists of, 64 hexadecimal digits."""
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.is_file())
        else:
            beside = (self.path.with_suffix(suffix) for suffix in (".json", ".bin"))
            files = [self.path, *beside, self.path.with_name(f"{self.path.name}.data")]
        sums = [f"{file.name} {sha256(file)}" for file in files if file.is_file()]
        return hashlib.sha256("\n".join(sums).encode("utf-8", "surrogateescape")).hexdigest()

    def config(self) -> Config:
        """Return the configuration of the training, or the default if it is not recorded."""
        where = self.path.with_suffix(".json") if "files" in self.sidecar else self.path
        return Config.from_dict(self.sidecar.get("config", {}), where=where)

    @abstractmethod
    def choose_precision(self, requested: str | None) -> PrecisionChoice:
        """Return the precision that ``--precision`` means; None: that of the weights.

        Raises:
            ConfigError: backend or device do not compute it.
        """

    def calibrates(self, precision: str) -> bool:
        """Return whether :meth:`load` needs images to calibrate this precision on."""
        return precision == "int8" and self.choice.backend == "mxnet"

    @abstractmethod
    def load(self, precision: str, calibration: Sequence[np.ndarray] = ()) -> Runtime:
        """Return the network, ready to compute.

        Args:
            precision: a result of :meth:`choose_precision`.
            calibration: for int8 of MXNet: images, uint8 (H, W, 3) RGB.
        """


class _InMXNet(OpenNetwork):
    """A network that MXNet computes."""

    def __init__(self, path, sidecar, choice, devices, net, names):
        super().__init__(path, sidecar, choice, devices, names)
        self._net, self._is_checkpoint = net, names is not None

    @property
    def parameters(self) -> int | None:
        from ..models._cost import count_parameters

        return count_parameters(self._net) if self._is_checkpoint else None

    def choose_precision(self, requested: str | None) -> PrecisionChoice:
        return choose_precision(requested, self.devices)

    def load(self, precision: str, calibration: Sequence[np.ndarray] = ()) -> Runtime:
        from ..backends.mxnet_runtime import MXNetRuntime
        from ..graph.inference_graph import compile_for_inference

        return MXNetRuntime(compile_for_inference(self._net, self.devices, precision, calibration=calibration),
                            self.devices)


class _OnTheHost(OpenNetwork):
    """A network that another backend computes."""

    def __init__(self, path: Path, stored: StoredNetwork, choice: BackendChoice, device: str,
                 names: tuple[str, str] | None):
        super().__init__(path, stored.record.sidecar, choice, [device], names)
        self._stored, self._runtime = stored, BACKENDS.get(choice.backend)

    def choose_precision(self, requested: str | None) -> PrecisionChoice:
        return self._runtime.choose_precision(requested, self._stored, self.devices[0])

    def load(self, precision: str, calibration: Sequence[np.ndarray] = ()) -> Runtime:
        return self._runtime(self._stored, self.devices[0], precision)


def open_network(network: Any, *, backend: str = "auto", ctx: Sequence[Any] | None = None) -> OpenNetwork:
    """Open a network for a backend.

    Args:
        network: a checkpoint, by its path or as a :class:`~mxnetseg.engine.checkpoint.Checkpoint`; an ``.onnx`` or
            ``.xml`` file that was exported; an export as ``hub`` or ``mxnet``; or a name of
            :mod:`~mxnetseg.engine.named`.
        backend: ``'auto'`` or a name of :data:`~mxnetseg.backends.choice.BACKENDS`.
        ctx: devices by name, as ``--ctx`` has them, or MXNet's contexts; None: the backend's default.

    Raises:
        CheckpointError: a file is missing or damaged, or does not record its classes.
        EnvironmentProblem: the backend is not installed.
        DeviceError: there is no such device.
        UsageError: the backend does not read the file.
    """
    if is_name(network):
        network = locate(network, backend=backend).network
    is_checkpoint = not isinstance(network, (str, os.PathLike))
    path = network.path if is_checkpoint else expand(network)
    network_format = CHECKPOINT if is_checkpoint else format_of(path)
    choice = choose_backend(backend, network_format, [str(one) for one in ctx] if ctx else None)

    if choice.backend == "mxnet":
        return _open_in_mxnet(network, path, network_format, choice, ctx)
    runtime = BACKENDS.get(choice.backend)
    device = runtime.choose_device(ctx)
    if network_format not in (CHECKPOINT, PACKAGE):
        return _OnTheHost(path, runtime.read(path), choice, device, None)
    names, package = None, None
    if network_format == CHECKPOINT:
        net, sidecar, path = restore(network)
        names, package = (net.model_name, net.backbone_name), NetworkPackage.of_network(net, sidecar)
    else:
        package = _of_one_input(read_package(path), path)
    return _OnTheHost(path, runtime.convert(package), choice, device, names)


def _open_in_mxnet(network: Any, path: Path, network_format: str, choice: BackendChoice, ctx: Sequence[Any] | None):
    import mxnet as mx

    from ..backends.mxnet_runtime import PackageNetwork
    from .contexts import resolve_contexts

    contexts = list(ctx) if ctx and isinstance(ctx[0], mx.Context) else resolve_contexts(ctx)
    if network_format == CHECKPOINT:
        net, sidecar, path = restore(network, contexts)
        return _InMXNet(path, sidecar, choice, contexts, net, (net.model_name, net.backbone_name))
    package = _of_one_input(read_package(path), path)
    return _InMXNet(path, package.sidecar, choice, contexts, PackageNetwork(package, contexts), None)


def restore(network: Any, contexts: Any = None) -> tuple[Any, Mapping[str, Any], Path]:
    """Return the Gluon network of a checkpoint, its sidecar and the path of its parameters.

    Args:
        network: a path, a :class:`~mxnetseg.engine.checkpoint.Checkpoint`, or what :func:`.named.locate` returns.
        contexts: devices; None: the CPU.
    """
    import mxnet as mx

    from .checkpoint import Checkpoint, restore_network
    from .converted import GluonCVCheckpoint

    contexts = contexts or [mx.cpu()]
    if isinstance(network, GluonCVCheckpoint):
        return (*network.restore(contexts), network.path)
    checkpoint = network if isinstance(network, Checkpoint) else Checkpoint(network)
    net, sidecar = restore_network(checkpoint, contexts)
    return net, sidecar, checkpoint.path


def _of_one_input(package: NetworkPackage, path: Path) -> NetworkPackage:
    if package.inputs != ("data",):
        raise UsageError("the network does not have one input named data", where=path,
                         received=", ".join(package.inputs), fix="export a network for images")
    return package
