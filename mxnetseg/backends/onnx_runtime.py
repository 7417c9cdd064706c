"""Networks in ONNX Runtime, on the devices of its execution providers."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from .._compat import count_threads
from .._precisions import PrecisionChoice
from ..errors import CheckpointError, DeviceError, reason
from ..files import open_regular
from .package import KEY, NetworkPackage, NetworkRecord
from .runtime import HostRuntime, StoredNetwork, one_device

_SUFFIX = "ExecutionProvider"
_GPUS = ("CUDA", "ROCM", "MIGraphX", "Dml")  # providers of GPUs, by number of the GPU; the first that is there counts
_TYPES = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.UINT8: np.uint8}


class OnnxRuntime(HostRuntime):
    """A network in ONNX Runtime."""

    name = "onnxruntime"

    def __init__(self, stored: StoredNetwork, device: str, precision: str):
        super().__init__(stored, device, precision)
        provider, options = _provider(device)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = count_threads()
        settings.enable_mem_pattern = stored.fixed_size is not None  # plans of memory would be kept for every size
        settings.log_severity_level = 3  # without warnings on its own optimisations
        model = stored.model if isinstance(stored.model, bytes) else str(stored.model)
        try:
            self._session = onnxruntime.InferenceSession(model, settings, providers=[(provider, options)])
        except Exception as error:  # its exceptions have no common class
            raise CheckpointError("ONNX Runtime cannot load the network", where=_where(stored),
                                  received=reason(error), fix="export it again, or update onnxruntime") from None
        if self._session.get_providers()[0] != provider:  # it falls back to the CPU
            raise DeviceError(f"ONNX Runtime cannot use the device {device}", where="--ctx",
                              received=f"{provider} did not start",
                              fix="install its driver and libraries, or --ctx cpu")
        self._input = self._session.get_inputs()[0]
        self._output = self._session.get_outputs()[0].name
        self._half = self._input.type == "tensor(float16)"

    # ---- before a network is loaded -----------------------------------------------------------

    @classmethod
    def read(cls, path: Path) -> StoredNetwork:
        """Return the network of an ``.onnx`` file.

        Raises:
            CheckpointError: the file is missing, damaged, or was not exported by mxnetseg.
        """
        with open_regular(path, "the ONNX file", CheckpointError) as file:
            try:
                model = onnx.load_model(file, load_external_data=False)
            except Exception as error:  # DecodeError, of several versions of protobuf
                raise CheckpointError("the ONNX file is damaged, or no ONNX file", where=path, received=reason(error),
                                      fix="export or copy it again") from None
        return describe(model, path, path)

    @classmethod
    def convert(cls, package: NetworkPackage) -> StoredNetwork:
        """Return a network of MXNet as an ONNX model in memory."""
        from .onnx_graph import to_onnx

        model = to_onnx(package.graph, package.arrays, inputs=package.inputs)
        return StoredNetwork(package.record, model.SerializeToString())

    @classmethod
    def choose_device(cls, ctx: Sequence[str] | None) -> str:
        wanted = one_device(ctx, cls.name)
        present = {name[:-len(_SUFFIX)].lower(): name[:-len(_SUFFIX)]
                   for name in onnxruntime.get_available_providers() if "Azure" not in name}  # a service on the web
        gpu = next((name for name in _GPUS if name.lower() in present), None)
        if wanted is None:
            return f"{gpu}:0" if gpu else "CPU"
        name, _, number = wanted.partition(":")
        if wanted.isdigit() or name == "gpu":
            if gpu is None:
                raise DeviceError("this ONNX Runtime has no provider for GPUs", where="--ctx", received=wanted,
                                  fix=f"--ctx {' or '.join(present)}; pip install onnxruntime-gpu, in place of "
                                      "onnxruntime, for NVIDIA's GPUs")
            return f"{gpu}:{wanted if wanted.isdigit() else number or 0}"
        if name not in present or (number and not number.isdigit()):
            raise DeviceError("not a device of this ONNX Runtime", where="--ctx", received=wanted,
                              fix=f"--ctx {' or '.join(present)}")
        return present[name] + (f":{number}" if number and name != "cpu" else "")

    @classmethod
    def precisions(cls, device: str) -> tuple[tuple[str, ...], PrecisionChoice]:
        return ("float32",), PrecisionChoice("float32", "of the weights")

    # ---- a loaded network ---------------------------------------------------------------------

    def logits(self, images: np.ndarray) -> np.ndarray:
        data = self.normalized(images)
        return self._run(data.astype(np.float16) if self._half else data).astype(np.float32, copy=False)

    def class_maps(self, images: np.ndarray, device: Any) -> np.ndarray:
        return super().class_maps(images, device) if self.has_scores else self._run(images)

    def _run(self, data: np.ndarray) -> np.ndarray:
        return self._session.run([self._output], {self._input.name: data})[0]


def describe(model: onnx.ModelProto, content: Any, where: object) -> StoredNetwork:
    """Return a model that was exported by mxnetseg with its description.

    Args:
        model: the parsed file.
        content: the model as a session takes it: a path, or bytes.
        where: the file, for messages.

    Raises:
        CheckpointError: the file was not exported by mxnetseg, or has other inputs than images.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in metadata:
        raise CheckpointError("the file does not describe its network, so classes and normalisation are not known",
                              where=where, received=f"no metadata {KEY!r}" +
                              (f", only {', '.join(sorted(metadata)[:8])}" if metadata else ""),
                              fix="a file that `mxnetseg export --format onnx` wrote")
    record = NetworkRecord.parse(metadata[KEY], where)
    given = [value for value in model.graph.input
             if value.name not in {initializer.name for initializer in model.graph.initializer}]
    kind = given[0].type.tensor_type if given else None
    dims = [d.dim_value for d in kind.shape.dim] if kind is not None else []
    if len(given) != 1 or kind.elem_type not in _TYPES or len(dims) != 4:
        raise CheckpointError("the network does not take one batch of images", where=where,
                              received=", ".join(value.name for value in given) or "no inputs",
                              fix="a network for images")
    is_image = kind.elem_type == onnx.TensorProto.UINT8
    height, width = dims[1:3] if is_image else dims[2:4]
    return StoredNetwork(record, content, _precision(model), has_scores=not is_image,
                         fixed_size=(height, width) if height and width else None)


def _precision(model: onnx.ModelProto) -> str:
    """Return the number format that the network computes in."""
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    stored = {name for node in model.graph.node if node.op_type == "Cast" for name in node.input}
    is_half = any(value.data_type == onnx.TensorProto.FLOAT16 and value.name not in stored
                  for value in model.graph.initializer)
    return "float16" if is_half else "float32"


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    """Return the execution provider of a device, and its options."""
    name, _, number = device.partition(":")
    return name + _SUFFIX, {"device_id": int(number)} if number else {}


def _where(stored: StoredNetwork) -> object:
    return "the converted network" if isinstance(stored.model, bytes) else stored.model
