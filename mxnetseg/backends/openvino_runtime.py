"""Networks in OpenVINO, on its devices: CPU, GPU, NPU."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from .._compat import count_threads
from .._precisions import PrecisionChoice
from .._processor import multiplies_bfloat16
from ..errors import CheckpointError, DeviceError, reason
from ..files import no_file
from .package import KEY, NetworkPackage, NetworkRecord
from .runtime import HostRuntime, StoredNetwork, one_device

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
# the record in an .xml file that was exported, and in an .onnx file that OpenVINO has read
_PLACES = ([KEY, KEY], ["framework", KEY])


class OpenVINORuntime(HostRuntime):
    """A network in OpenVINO."""

    name = "openvino"

    def __init__(self, stored: StoredNetwork, device: str, precision: str):
        super().__init__(stored, device, precision)
        offered, auto = self.precisions(device)
        if precision == "int8":  # the hint is for the other layers
            computed = auto.precision
        else:  # a CPU computes float16 weights in float32
            computed = precision if precision in offered else "float32"
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[computed]}
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = count_threads()
        try:
            self._compiled = _core().compile_model(stored.model, device, settings)
        except RuntimeError as error:
            raise CheckpointError("OpenVINO cannot compile the network", where=f"device {device}",
                                  received=reason(error), fix="--ctx cpu, or export it again") from None
        self._requests = threading.local()  # a request computes one input at a time
        self._type = self._compiled.input(0).element_type.to_dtype()

    # ---- before a network is loaded -----------------------------------------------------------

    @classmethod
    def read(cls, path: Path) -> StoredNetwork:
        """Return the network of an ``.xml`` or ``.onnx`` file.

        Raises:
            CheckpointError: the file is missing, damaged, or was not exported by mxnetseg.
        """
        for file in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
            problem = no_file(file)
            if problem is not None:
                raise CheckpointError(f"the network's file {problem}", where=file,
                                      fix="check the path; an .xml file needs its .bin file beside it")
        try:
            model = _core().read_model(str(path))
        except RuntimeError as error:
            raise CheckpointError("OpenVINO cannot read the file", where=path, received=reason(error),
                                  fix="export or copy it again") from None
        place = next((place for place in _PLACES if model.has_rt_info(place)), None)
        if place is None:
            raise CheckpointError("the file does not describe its network, so classes and normalisation are not known",
                                  where=path, received=f"no {KEY!r} in its rt_info",
                                  fix=f"a file that `mxnetseg export --format {path.suffix.strip('.')}` wrote".replace(
                                      "format xml", "format openvino"))
        record = NetworkRecord.parse(model.get_rt_info(place).astype(str), path)
        return _described(record, model, path)

    @classmethod
    def convert(cls, package: NetworkPackage) -> StoredNetwork:
        """Return a network of MXNet as a model of OpenVINO, by way of ONNX."""
        from .onnx_graph import to_onnx

        model = to_onnx(package.graph, package.arrays, inputs=package.inputs)
        return StoredNetwork(package.record, _core().read_model(model.SerializeToString()))

    @classmethod
    def choose_device(cls, ctx: Sequence[str] | None) -> str:
        wanted = one_device(ctx, cls.name) or "cpu"
        name = (f"gpu.{wanted}" if wanted.isdigit() else wanted.replace(":", ".")).upper()
        present = _core().available_devices
        # a single GPU is called GPU, and GPU.0, too
        for device in present:
            if name in (device, f"{device}.0") or f"{name}.0" == device:
                return device
        raise DeviceError("not a device that OpenVINO finds here", where="--ctx", received=wanted,
                          fix=f"--ctx {' or '.join(device.lower() for device in present)}")

    @classmethod
    def precisions(cls, device: str) -> tuple[tuple[str, ...], PrecisionChoice]:
        able = _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        # a CPU without instructions for float16 converts it
        offered = tuple(name for name, capability in _CAPABILITIES.items()
                        if capability in able and not (device == "CPU" and name == "float16")) or ("float32",)
        if device == "CPU" and "bfloat16" in offered and multiplies_bfloat16():
            return offered, PrecisionChoice("bfloat16", "the processor multiplies bfloat16")
        if device != "CPU" and "float16" in offered:
            return offered, PrecisionChoice("float16", device)
        return offered, PrecisionChoice(offered[0], f"the format that {device} computes fastest")

    @classmethod
    def choose_precision(cls, requested: str | None, stored: StoredNetwork, device: str) -> PrecisionChoice:
        """As of all backends; and a device that computes bfloat16 also does so with float16 weights."""
        offered, auto = cls.precisions(device)
        if stored.precision == "float16" and "bfloat16" in offered:
            if requested == "bfloat16":
                return PrecisionChoice("bfloat16", "asked for")
            if requested == "auto" and auto.precision == "bfloat16":
                return auto
        return super().choose_precision(requested, stored, device)

    # ---- a loaded network ---------------------------------------------------------------------

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self._run(self.normalized(images).astype(self._type, copy=False)).astype(np.float32, copy=False)

    def class_maps(self, images: np.ndarray, device: Any) -> np.ndarray:
        return super().class_maps(images, device) if self.has_scores else self._run(images)

    def _run(self, data: np.ndarray) -> np.ndarray:
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        return self._requests.own.infer({0: data}, share_inputs=True)[0]


@lru_cache(maxsize=1)
def _core() -> Any:
    """Return the only core of the process, which has the plugins of the devices."""
    return openvino.Core()


def _described(record: NetworkRecord, model: Any, where: Path) -> StoredNetwork:
    """Return a model with its precision and its input."""
    inputs = model.inputs
    shape = inputs[0].partial_shape if inputs else None
    kind = inputs[0].element_type.get_type_name() if inputs else ""
    if len(inputs) != 1 or kind not in ("f32", "f16", "u8") or len(shape) != 4:
        raise CheckpointError("the network does not take one batch of images", where=where,
                              received=f"{len(inputs)} inputs {kind}", fix="a network for images")
    height, width = (shape[1], shape[2]) if kind == "u8" else (shape[2], shape[3])
    fixed = (height.get_length(), width.get_length()) if height.is_static and width.is_static else None
    return StoredNetwork(record, model, _precision(model), has_scores=kind != "u8", fixed_size=fixed)


def _precision(model: Any) -> str:
    """Return the number format of the weights."""
    types, is_half = set(), False
    for op in model.get_ops():
        types.add(op.get_type_name())
        is_half |= op.get_type_name() == "Constant" and op.get_element_type().get_type_name() == "f16"
    if "FakeQuantize" in types:
        return "int8"
    return "float16" if is_half else "float32"
