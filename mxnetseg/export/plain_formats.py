"""The export formats ``mxnet`` and ``hub``, which :func:`.package.read_package` reads."""
from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.package import (
    HUB_ARRAYS,
    HUB_CONFIG,
    HUB_SYMBOL,
    KEY,
    PARAMS,
    RECORD,
    SYMBOL,
    read_package,
    require_safetensors,
    running_statistics,
)
from ..files import atomic_write
from ..graph.params_file import write_arrays
from ..graph.symbol_file import write_symbol
from .formats import ExportFormat, ExportOptions
from .model_card import model_card
from .references import reference_of

if TYPE_CHECKING:
    from ..backends.package import NetworkPackage
    from .verification import Function


class MXNetFormat(ExportFormat):
    """``NAME-symbol.json`` and ``NAME-0000.params``, which MXNet loads by itself, and ``NAME-mxnetseg.json``."""

    name, reader, ending = "mxnet", "MXNet", SYMBOL
    tolerances = {"float32": 1e-5}

    def files(self, stem: str) -> list[str]:
        """Return the names of the three files."""
        return [stem + SYMBOL, stem + PARAMS, stem + RECORD]

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the three files."""
        symbol, params, record = (stage / name for name in self.files(stem))
        statistics = running_statistics(package.graph)
        write_symbol(symbol, package.graph)
        write_arrays(params, {f"{'aux' if name in statistics else 'arg'}:{name}": array
                              for name, array in package.arrays.items()})
        with atomic_write(record, "w") as stream:
            json.dump(package.record.to_json({SYMBOL: symbol, PARAMS: params}), stream, indent=1, allow_nan=False)

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the files: of MXNet's own reader, or of ours where MXNet is not installed."""
        package = read_package(stage / stem)
        try:
            import mxnet  # noqa: F401
        except ImportError:
            return reference_of(package).function
        from ..backends.mxnet_trace import files_function

        return files_function(str(stage / stem), package.inputs[0])


class HubFormat(ExportFormat):
    """A folder in the layout of the Hugging Face hub, with a model card."""

    name, reader = "hub", "mxnetseg"
    tolerances = {"float32": 1e-5}

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the folder."""
        safetensors = require_safetensors()
        folder = stage / stem
        folder.mkdir()
        symbol, arrays = folder / HUB_SYMBOL, folder / HUB_ARRAYS
        write_symbol(symbol, package.graph)
        with atomic_write(arrays) as stream:
            stream.write(safetensors.save(package.arrays, metadata={"format": "np"}))

        record = package.record
        classes = dict(enumerate(record.classes or ()))
        # Without the user's folders: the files are made to be published.
        described = without_folders(record.to_json({HUB_SYMBOL: symbol, HUB_ARRAYS: arrays}))
        texts = {
            HUB_CONFIG: json.dumps({"model_type": KEY, "num_labels": len(classes), "id2label": classes,
                                    "label2id": {name: i for i, name in classes.items()}, KEY: described}, indent=1),
            "README.md": model_card(record, stem)}
        if record.mean is not None:
            texts["preprocessor_config.json"] = json.dumps(
                {"do_convert_rgb": True, "do_resize": False, "do_rescale": True, "rescale_factor": 1 / 255,
                 "do_normalize": True, "image_mean": record.mean, "image_std": record.std}, indent=1)
        for name, text in texts.items():
            with atomic_write(folder / name, "w") as stream:
                stream.write(text + "\n")

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the folder."""
        return reference_of(read_package(stage / stem)).function


def without_folders(record: dict) -> dict:
    """Return a record without paths of the machine that trained the network."""
    config = record.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        return record
    data = {**config["data"], "root": None}
    kind, colon, _ = str(data.get("name", "")).partition(":")
    if colon:
        data["name"] = kind
    return {**record, "config": {**config, "data": data}}
