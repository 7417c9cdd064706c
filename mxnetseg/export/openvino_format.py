"""The export format ``openvino``: the intermediate representation, an ``.xml`` and a ``.bin`` file."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.package import KEY
from ..errors import CheckpointError, reason
from .formats import ExportFormat, ExportOptions
from .onnx_format import onnx_model, openvino_function, require_openvino

if TYPE_CHECKING:
    from ..backends.package import NetworkPackage
    from .verification import Function


class OpenVINOFormat(ExportFormat):
    """``NAME.xml`` and ``NAME.bin``; the record is in ``rt_info``, below ``mxnetseg``."""

    name, reader, ending, takes_size = "openvino", "OpenVINO", ".xml", True
    precisions, input_types = ("float32", "float16", "int8"), ("float32", "uint8")
    tolerances = {"float32": 1e-3, "float16": 1e-2, "int8": 0.03}

    def files(self, stem: str) -> list[str]:
        """Return the names of both files."""
        return [f"{stem}.xml", f"{stem}.bin"]

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write both files; with float16 the weights are stored in half precision."""
        openvino = require_openvino()
        half = options.precision == "float16"
        path = stage / f"{stem}.onnx"  # a path, because bytes of more than 2 GiB cannot be converted
        source = onnx_model(package, replace(options, precision="float32") if half else options)
        path.write_bytes(source.SerializeToString())
        model = openvino.convert_model(str(path))
        for entry in source.metadata_props:
            model.set_rt_info(entry.value, [KEY, entry.key])
        try:
            openvino.save_model(model, str(stage / f"{stem}.xml"), compress_to_fp16=half)
        except RuntimeError as error:
            raise CheckpointError("OpenVINO could not write the network", received=reason(error),
                                  fix="check whether the disk is full") from None
        path.unlink()

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the files on the CPU."""
        return openvino_function(stage / f"{stem}.xml")
