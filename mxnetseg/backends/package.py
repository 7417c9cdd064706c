"""A network as plain data: its graph, its arrays, and the record that describes it. Read without MXNet.

Every export carries the record, which is the sidecar of the checkpoint without the names of its files:

=================  ============================================================================
format             place of the record
=================  ============================================================================
ONNX               metadata ``mxnetseg``, and in readable form ``classes``, ``palette``, ...
OpenVINO           ``rt_info``, the same keys below ``mxnetseg``
``mxnet``          ``NAME-mxnetseg.json`` beside ``NAME-symbol.json`` and ``NAME-0000.params``
``hub``            ``config.json``, key ``mxnetseg``, beside ``symbol.json`` and ``model.safetensors``
=================  ============================================================================

:func:`read_package` reads the last two.
"""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._compat import import_optional
from .._description import (
    MOST_BYTES,
    Violation,
    check_data,
    check_normalisation,
    get_list,
    get_section,
    get_text,
    get_whole,
    parse_object,
    require,
)
from ..errors import CheckpointError, UsageError, reason, short
from ..files import PathLike, expand, open_regular, sha256
from ..graph.params_file import read_arrays
from ..graph.symbol_file import SymbolGraph, read_symbol
from .signatures import SIGNATURES, STATISTICS

SYMBOL, PARAMS, RECORD = "-symbol.json", "-0000.params", "-mxnetseg.json"  # endings of the format `mxnet`
HUB_SYMBOL, HUB_ARRAYS, HUB_CONFIG = "symbol.json", "model.safetensors", "config.json"  # files of the format `hub`
KEY = "mxnetseg"  # of the record among other metadata

_FILES = "files"  # checksums of the files beside a record
# what a sidecar says of its own files and of the training that it resumes
_OF_THE_CHECKPOINT = (_FILES, "sha256", "progress", "steps_per_epoch", "loss_scale", "wandb")
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class NetworkRecord:
    """The description of a network.

    Attributes:
        sidecar: the sidecar of its checkpoint. Of an MXNet model from elsewhere it has the sections that are known:
            ``data`` with the classes, ``normalisation``, or none.
        smallest_side: shortest side of an image, in pixels, that the network accepts.
        aligned_stride: see :class:`~mxnetseg.models._base.SegModel`.
        inputs: names of the graph's inputs.
    """

    sidecar: Mapping[str, Any] = field(default_factory=dict)
    smallest_side: int = 1
    inputs: tuple[str, ...] = ("data",)
    aligned_stride: int = 1

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes; None if they are not known."""
        return tuple(self.sidecar["data"]["classes"]) if "data" in self.sidecar else None

    @property
    def palette(self) -> np.ndarray | None:
        """The colours of the classes, uint8 (nclass, 3), RGB; None if they are not known."""
        return np.array(self.sidecar["data"]["palette"], np.uint8) if "data" in self.sidecar else None

    @property
    def mean(self) -> tuple[float, ...] | None:
        """The mean of pixels in [0, 1], which the normalisation subtracts; None if it is not known."""
        return self._statistic("mean")

    @property
    def std(self) -> tuple[float, ...] | None:
        """The standard deviation, by which the normalisation divides; None if it is not known."""
        return self._statistic("std")

    def _statistic(self, key: str) -> tuple[float, ...] | None:
        return tuple(self.sidecar["normalisation"][key]) if "normalisation" in self.sidecar else None

    def to_json(self, files: Mapping[str, PathLike] | None = None) -> dict[str, Any]:
        """Return the record as JSON holds it.

        Args:
            files: the files that belong to the record, by the names to record; their checksums are added.
        """
        record = {**self.sidecar, "smallest_side": self.smallest_side, "aligned_stride": self.aligned_stride,
                  "inputs": list(self.inputs)}
        if files:
            record[_FILES] = {name: {"sha256": sha256(path), "bytes": Path(path).stat().st_size}
                              for name, path in files.items()}
        return record

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a file: the whole record under ``mxnetseg``, and its main parts in readable form."""
        def text(value):
            return _NOT_RECORDED if value is None else json.dumps(value, ensure_ascii=False)

        palette = self.palette
        return {KEY: json.dumps(self.to_json(), ensure_ascii=False), "classes": text(self.classes),
                "palette": text(None if palette is None else palette.tolist()), "mean": text(self.mean),
                "std": text(self.std), "license": str(self.sidecar.get("license", _NOT_RECORDED))}

    @classmethod
    def parse(cls, text: str | bytes | Mapping[str, Any], where: object) -> NetworkRecord:
        """Return the record of an exported network after checking it.

        Args:
            text: the JSON that :meth:`to_json` describes, or its content.
            where: the file, for messages.

        Raises:
            CheckpointError: the record is damaged; the message has the place.
        """
        try:
            if isinstance(text, Mapping):
                text = json.dumps(text)
            content = parse_object(text if isinstance(text, bytes) else text.encode("utf-8"))
            smallest_side = get_whole(content, "smallest_side", 1, 1 << 15)
            content.setdefault("aligned_stride", 1)  # older versions do not record it
            aligned_stride = get_whole(content, "aligned_stride", 1, 64)
            inputs = get_list(content, "inputs", "")
            require(bool(inputs) and all(isinstance(name, str) for name in inputs), "inputs", "names", inputs)
            if "data" in content:
                check_data(get_section(content, "data"))
            if "normalisation" in content:
                check_normalisation(get_section(content, "normalisation"))
            for key in ("model", "config", "protocol"):
                if key in content:
                    get_section(content, key)
        except Violation as violation:
            place, requirement, value = violation.args
            raise CheckpointError(f"the record of the exported network is damaged: {place}: expected {requirement}",
                                  where=where, received=value, fix="export the network again, or copy it again"
                                  ) from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError("the record of the exported network is damaged", where=where,
                                  received=reason(error), fix="export the network again, or copy it again") from None
        del content["smallest_side"], content["aligned_stride"], content["inputs"]
        content.pop(_FILES, None)
        return cls(content, smallest_side, tuple(inputs), aligned_stride)


@dataclass(frozen=True)
class NetworkPackage:
    """A network as plain data.

    Attributes:
        graph: the graph of the prediction; the variables have the names of the arrays.
        arrays: parameters and running statistics by name, without ``arg:`` and ``aux:``.
        sidecar, smallest_side, inputs, aligned_stride: see :class:`NetworkRecord`.
    """

    graph: SymbolGraph
    arrays: dict[str, np.ndarray]
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    smallest_side: int = 1
    inputs: tuple[str, ...] = ("data",)
    aligned_stride: int = 1

    @property
    def record(self) -> NetworkRecord:
        """The description of the network."""
        return NetworkRecord(self.sidecar, self.smallest_side, self.inputs, self.aligned_stride)

    @classmethod
    def of_network(cls, net: Any, sidecar: Mapping[str, Any], *, all_parameters: bool = False) -> NetworkPackage:
        """Return the prediction of an initialised network as plain data. It needs MXNet.

        The arrays have the structural names of the parameters (``backbone.conv1.weight``), so that exports of one
        network are equal in every process. Auxiliary outputs are left out.

        Args:
            net: a network of :func:`~mxnetseg.models.get_model`.
            sidecar: the sidecar of its checkpoint.
            all_parameters: keep the arrays of the auxiliary outputs, too.
        """
        from .mxnet_trace import trace_prediction

        graph, arrays = trace_prediction(net, all_parameters=all_parameters)
        kept = {key: value for key, value in sidecar.items() if key not in _OF_THE_CHECKPOINT}
        return cls(graph, arrays, kept, net.smallest_side, aligned_stride=net.aligned_stride)

    @classmethod
    def of_files(cls, symbol: PathLike, params: PathLike, *, inputs: Sequence[str] = ("data",),
                 sidecar: Mapping[str, Any] | None = None) -> NetworkPackage:
        """Return any MXNet model of two files as plain data.

        Raises:
            CheckpointError: a file is missing or damaged, or a parameter is missing.
        """
        graph, arrays = read_symbol(symbol), plain_names(read_arrays(params))
        _check_parameters(graph, arrays, inputs)
        return cls(graph, arrays, dict(sidecar or {}), inputs=tuple(inputs))


def plain_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays by their names without ``arg:`` and ``aux:``.

    Raises:
        CheckpointError: two arrays have one name.
    """
    plain: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        name = key.split(":", 1)[1] if key.startswith(("arg:", "aux:")) else key
        if name in plain:
            raise CheckpointError("two arrays have one name", where=short(name),
                                  received="as a parameter (arg:) and as a statistic (aux:)", fix="delete one of them")
        plain[name] = array
    return plain


def running_statistics(graph: SymbolGraph) -> set[str]:
    """Return the names of the variables that change in training without a gradient, which MXNet marks ``aux:``."""
    return {graph.nodes[node.inputs[position][0]].name for node in graph.nodes
            for position in STATISTICS.get(node.op, ()) if position < len(node.inputs)}


# ---- reading --------------------------------------------------------------------------------


def read_package(path: PathLike) -> NetworkPackage:
    """Return a network that was exported as ``mxnet`` or ``hub``. It does not need MXNet.

    Args:
        path: the folder of the format ``hub``; one of the three files of the format ``mxnet``, or the name before
            their endings.

    Raises:
        CheckpointError: a file is missing or damaged, or does not belong to the others.
        UsageError: the path is neither.
        EnvironmentProblem: the package safetensors is not installed (``hub`` only).
    """
    path = expand(path)
    if path.is_dir():
        return _read_hub(path)
    stem = path.name
    for ending in (SYMBOL, PARAMS, RECORD):
        stem = stem[:-len(ending)] if stem.endswith(ending) else stem
    symbol, params, record = (path.with_name(stem + ending) for ending in (SYMBOL, PARAMS, RECORD))
    if not any(file.exists() for file in (symbol, params, record)):
        raise UsageError("this is no exported network", where=path,
                         fix=f"the folder of an export as hub, or a file NAME{SYMBOL} of an export as mxnet")
    with open_regular(record, "the record of the exported network", CheckpointError) as file:
        content = file.read(MOST_BYTES + 1)
    described = NetworkRecord.parse(content, record)
    _check_files(parse_object(content), record, {SYMBOL: symbol, PARAMS: params})
    return _package(read_symbol(symbol), plain_names(read_arrays(params)), described)


def _read_hub(folder: Path) -> NetworkPackage:
    config, symbol, arrays = (folder / name for name in (HUB_CONFIG, HUB_SYMBOL, HUB_ARRAYS))
    with open_regular(config, "the configuration of the exported network", CheckpointError) as file:
        content = file.read(MOST_BYTES + 1)
    try:
        record = parse_object(content).get(KEY)
    except ValueError as error:
        raise CheckpointError("the configuration of the exported network is damaged", where=config,
                              received=reason(error), fix="export the network again, or copy it again") from None
    if not isinstance(record, dict):
        raise CheckpointError("the folder holds no network of mxnetseg", where=config,
                              received=f"{KEY!r}: {short(record)}", fix="`mxnetseg export --format hub` writes one")
    described = NetworkRecord.parse(record, config)
    _check_files(record, config, {HUB_SYMBOL: symbol, HUB_ARRAYS: arrays})
    return _package(read_symbol(symbol), read_safetensors(arrays), described)


def _check_parameters(graph: SymbolGraph, arrays: Mapping[str, np.ndarray], inputs: Sequence[str]) -> None:
    """Refuse a graph that reads a variable without an array; labels of a loss are not read."""
    read = {graph.nodes[i].name for node in graph.nodes for position, (i, _) in enumerate(node.inputs)
            if node.op not in SIGNATURES or position not in SIGNATURES[node.op].ignored}
    missing = [name for name in graph.variables if name in read and name not in arrays and name not in inputs]
    if missing:
        raise CheckpointError("parameters of the graph are missing", where=graph.where,
                              received=f"{len(missing)} missing: {', '.join(map(short, missing[:8]))}",
                              fix="the .params file that was exported together with this symbol; or, if these are "
                                  "inputs, their names (--inputs)")


def _package(graph: SymbolGraph, arrays: dict[str, np.ndarray], record: NetworkRecord) -> NetworkPackage:
    _check_parameters(graph, arrays, record.inputs)
    needed = {name: arrays[name] for name in graph.variables if name in arrays}  # others are of auxiliary outputs
    return NetworkPackage(graph, needed, record.sidecar, record.smallest_side, record.inputs,
                          record.aligned_stride)


def read_safetensors(path: PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.safetensors`` file.

    Raises:
        CheckpointError: the file is missing or damaged.
        EnvironmentProblem: the package safetensors is not installed.
    """
    safetensors = require_safetensors()
    with open_regular(path, "the weight file", CheckpointError):
        try:
            return safetensors.load_file(str(path))
        except (ValueError, TypeError, KeyError, _safetensors_error()) as error:
            raise CheckpointError("the file is damaged or no safetensors file", where=path, received=reason(error),
                                  fix="copy or download it again") from None


def require_safetensors() -> Any:
    """Return the module ``safetensors.numpy``.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    return import_optional("safetensors.numpy", "the format hub", fix="pip install 'mxnetseg[hub]'")


def _safetensors_error() -> type[Exception]:
    """Return the class of the errors of safetensors."""
    from safetensors import SafetensorError

    return SafetensorError


def _check_files(record: Mapping[str, Any], where: Path, files: Mapping[str, Path]) -> None:
    """Compare the files with the checksums in their record."""
    try:
        expected = get_section(record, _FILES)
        for name in files:
            entry = get_section(expected, name, _FILES)
            get_text(entry, "sha256", f"{_FILES}.{name}")
            get_whole(entry, "bytes", 0, 1 << 62, f"{_FILES}.{name}")
    except Violation as violation:
        place, requirement, value = violation.args
        raise CheckpointError(f"the record of the exported network is damaged: {place}: expected {requirement}",
                              where=where, received=value, fix="export the network again, or copy it again") from None
    for name, path in files.items():
        with open_regular(path, "a file of the exported network", CheckpointError):
            size = path.stat().st_size
            if size != expected[name]["bytes"]:
                raise CheckpointError("a file of the exported network is truncated or was replaced", where=path,
                                      received=f"{size:,} bytes; {expected[name]['bytes']:,} were written",
                                      fix="copy all files again, or export the network again")
            if sha256(path) != expected[name]["sha256"]:
                raise CheckpointError("a file of the exported network has changed since it was written (SHA-256)",
                                      where=path, fix="copy all files again, or export the network again")
