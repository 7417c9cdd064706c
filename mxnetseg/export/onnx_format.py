"""The export format ``onnx``: one file for ONNX Runtime and every other reader of ONNX, with the record as metadata."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._compat import import_optional, is_installed
from ..errors import CheckpointError, reason
from ..files import atomic_write
from .formats import ExportFormat, ExportOptions

if TYPE_CHECKING:
    from ..backends.package import NetworkPackage
    from .verification import Function


class OnnxFormat(ExportFormat):
    """An ``.onnx`` file."""

    name, reader, ending, takes_size = "onnx", "ONNX Runtime", ".onnx", True
    precisions, input_types = ("float32", "float16", "int8"), ("float32", "uint8")

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the file."""
        write_onnx(package, stage / f"{stem}.onnx", options)

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the file."""
        return onnx_function(stage / f"{stem}.onnx")

    def load_elsewhere(self, stage: Path, stem: str, options: ExportOptions) -> dict[str, Function]:
        """Return a function of an int8 file in OpenVINO, whose arithmetic on integers differs."""
        return int8_elsewhere(stage / f"{stem}.onnx", options)


def int8_elsewhere(path: Path, options: ExportOptions) -> dict[str, Function]:
    """Return a function of an int8 file in OpenVINO, by its name, if the file is int8 and OpenVINO is installed."""
    if options.precision != "int8" or not is_installed("openvino"):
        return {}
    return {"OpenVINO": openvino_function(path)}


def openvino_function(path: Path) -> Function:
    """Return a function that computes an ``.onnx`` or ``.xml`` file in OpenVINO, on the CPU in float32 or int8.

    Raises:
        EnvironmentProblem: OpenVINO is not installed.
        CheckpointError: OpenVINO cannot read the file.
    """
    core = require_openvino().Core()
    try:
        model = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise CheckpointError("OpenVINO cannot read what was written", received=reason(error),
                              fix="check whether the disk is full, or update openvino") from None

    def compute(x: np.ndarray) -> list[np.ndarray]:
        return list(model([x]).values())
    return compute


def require_openvino() -> Any:
    """Return the module ``openvino``.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    return import_optional("openvino", "this file", fix="pip install 'mxnetseg[openvino]'")


def onnx_model(package: NetworkPackage, options: ExportOptions) -> Any:
    """Return a package as an ONNX model with metadata.

    Raises:
        CheckpointError: the network cannot be converted.
        EnvironmentProblem: the package onnx is not installed.
    """
    from ..backends.onnx_graph import to_onnx

    record = package.record
    model = to_onnx(package.graph, package.arrays, inputs=package.inputs, size=options.size,
                    outputs="all", input_type=options.input_type, mean=record.mean, std=record.std,
                    metadata=record.metadata())
    if options.precision == "float16":
        from .onnx_float16 import to_float16

        model = to_float16(model)
    elif options.precision == "int8":
        from .onnx_int8 import quantize

        model = quantize(model, options.calibration, mean=record.mean, std=record.std)
    return model


def write_onnx(package: NetworkPackage, path: Path, options: ExportOptions) -> Any:
    """Write a package to an ``.onnx`` file; return the model."""
    model = onnx_model(package, options)
    try:
        data = model.SerializeToString()
    except (ValueError, RuntimeError) as error:  # protobuf's limit of 2 GiB, in several versions
        raise CheckpointError("the network is too large for one ONNX file", received=reason(error),
                              fix="--precision float16, or --format openvino") from error
    with atomic_write(path) as stream:
        stream.write(data)
    return model


def onnx_function(path: Path) -> Function:
    """Return a function that computes a file in ONNX Runtime.

    Raises:
        EnvironmentProblem: ONNX Runtime is not installed.
    """
    onnxruntime = import_optional("onnxruntime", "the check of the written file", fix="pip install 'mxnetseg[onnx]'")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # without warnings on its own optimisations
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    dtype = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(first.type, np.float32)

    def compute(x: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {first.name: x.astype(dtype)})
    return compute
