"""The export format ``repository``: a model of a repository that Triton, OpenVINO Model Server and KServe serve.

::

    NAME/config.pbtxt    Triton's description of the model (ModelConfig in its model_config.proto)
    NAME/labels.txt      the names of the classes, one a line
    NAME/1/model.onnx    version 1

NAME is the name of the model in requests; its folder belongs into a repository. OpenVINO Model Server reads the
same layout and ignores ``config.pbtxt``.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import atomic_write
from .formats import ExportFormat, ExportOptions
from .onnx_format import int8_elsewhere, onnx_function, write_onnx

if TYPE_CHECKING:
    from ..backends.package import NetworkPackage
    from .verification import Function

_LARGEST_BATCH = 8
_TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 7: "TYPE_INT64", 10: "TYPE_FP16"}  # by ONNX's number of the type


class RepositoryFormat(ExportFormat):
    """A folder with one version of one model."""

    name, reader, takes_size = "repository", "ONNX Runtime", True
    precisions, input_types = ("float32", "float16", "int8"), ("float32", "uint8")

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the folder."""
        if set(stem) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."):
            raise UsageError("the name of a served model is part of its address", received=stem,
                             fix="letters, digits, _, - and .")
        folder = stage / stem
        (folder / "1").mkdir(parents=True)
        model = write_onnx(package, folder / "1" / "model.onnx", options)
        classes = package.record.classes
        if classes is not None:
            with atomic_write(folder / "labels.txt", "w") as stream:
                stream.write("".join(name.replace("\n", " ") + "\n" for name in classes))
        with atomic_write(folder / "config.pbtxt", "w") as stream:
            stream.write(model_config(stem, model, package.record.metadata(), has_labels=classes is not None))

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the model."""
        return onnx_function(stage / stem / "1" / "model.onnx")

    def load_elsewhere(self, stage: Path, stem: str, options: ExportOptions) -> dict[str, Function]:
        """Return a function of an int8 model in OpenVINO, which OpenVINO Model Server runs."""
        return int8_elsewhere(stage / stem / "1" / "model.onnx", options)


def model_config(name: str, model: Any, metadata: Mapping[str, str], *, has_labels: bool) -> str:
    """Return the text of ``config.pbtxt``.

    Args:
        name: the model's name.
        model: an ONNX model whose inputs and outputs have the batch as their first axis.
        metadata: passed on as the model's parameters, except the whole record, which is in the file.
        has_labels: ``labels.txt`` is there.
    """
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"', f"max_batch_size: {_LARGEST_BATCH}"]
    weights = {tensor.name for tensor in model.graph.initializer}
    labels = ', label_filename: "labels.txt"' if has_labels else ""
    for section, values, more in (("input", [v for v in model.graph.input if v.name not in weights], ""),
                                  ("output", model.graph.output, labels)):
        for value in values:
            tensor = value.type.tensor_type
            dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim[1:]]
            lines.append(f"{section} [ {{ name: {_quoted(value.name)}, data_type: {_TYPES[tensor.elem_type]}, "
                         f"dims: {dims}{more} }} ]")
    lines.append("dynamic_batching { }")  # requests of one size are computed together
    for key in ("classes", "palette", "mean", "std", "license"):
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(metadata[key])} }} }}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a string literal of protobuf's text format, with all bytes but plain letters as octal numbers."""
    return '"' + "".join(chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}"
                         for byte in text.encode("utf-8")) + '"'
