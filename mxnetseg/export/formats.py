"""Exports: a network is written in a format, read back, compared with its source, and only then put in its place."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from ..backends.package import NetworkPackage
from ..errors import CheckpointError, ConfigError, UsageError
from ..files import PathLike, expand
from ..registry import Registry
from .staging import staged
from .verification import Check, Comparison, Function, Reference

EXPORT_FORMATS = Registry("export format", {
    "onnx": "mxnetseg.export.onnx_format:OnnxFormat",
    "torch": "mxnetseg.export.torch_format:TorchFormat",
    "openvino": "mxnetseg.export.openvino_format:OpenVINOFormat",
    "mxnet": "mxnetseg.export.plain_formats:MXNetFormat",
    "hub": "mxnetseg.export.plain_formats:HubFormat",
    "repository": "mxnetseg.export.triton:RepositoryFormat",
}, aliases={"pytorch": "torch", "triton": "repository"})

ENDINGS = {".onnx": "onnx", ".pt2": "torch", ".xml": "openvino", "-symbol.json": "mxnet"}  # of the destination
INPUT_TYPES = ("float32", "uint8")
EXPORT_PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class ExportOptions:
    """The choices of an export.

    Attributes:
        input_type: ``'float32'``: normalised (N, 3, H, W) gives logits; ``'uint8'``: images (N, H, W, 3), RGB, give
            class maps (N, H, W).
        size: height and width of the only size that the file accepts; None: any size.
        precision: ``'float32'``, ``'float16'`` or ``'int8'``.
        calibration: for int8: images, uint8 (H, W, 3) RGB.
        tolerance: largest difference to accept; None: that of the format.
    """

    input_type: str = "float32"
    size: tuple[int, int] | None = None
    precision: str = "float32"
    calibration: Sequence[np.ndarray] = field(default=(), repr=False)
    tolerance: float | None = None


class ExportFormat:
    """Base class of the formats.

    Attributes:
        name: the name in :data:`EXPORT_FORMATS`.
        reader: the program that reads the format, for messages.
        ending: ending of the destination; '' for a folder.
        precisions, input_types: what the format offers.
        takes_size: a file can be limited to one size.
        tolerances: largest difference from the source by precision: of the logits, in units of the largest one, or,
            for int8, the fraction of the calibration images' pixels that get another class.
    """

    name: ClassVar[str]
    reader: ClassVar[str]
    ending: ClassVar[str] = ""
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    input_types: ClassVar[tuple[str, ...]] = ("float32",)
    takes_size: ClassVar[bool] = False
    tolerances: ClassVar[dict[str, float]] = {"float32": 1e-4, "float16": 1e-2, "int8": 0.02}

    def files(self, stem: str) -> list[str]:
        """Return the names of the files or of the folder that are written.

        Args:
            stem: name of the destination without :attr:`ending`.
        """
        return [stem + self.ending]

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the files into the folder ``stage``."""
        raise NotImplementedError

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function that computes what the written files compute."""
        raise NotImplementedError

    def load_elsewhere(self, stage: Path, stem: str, options: ExportOptions) -> dict[str, Function]:
        """Return functions of the files in further programs that are installed, by the programs' names."""
        return {}


class Export(NamedTuple):
    """A completed export.

    Attributes:
        paths: the files, or the folder.
        comparisons: the differences from the source.
        tolerance: the largest difference that was accepted.
        readers: the programs that computed the written network.
    """

    paths: list[Path]
    comparisons: list[Comparison]
    tolerance: float
    readers: list[str]


def format_of(destination: PathLike, name: str | None) -> str:
    """Return the name of the format that an option and the destination's ending give.

    Raises:
        UnknownNameError: the format is unknown.
        UsageError: neither gives one, or they contradict each other.
    """
    ending = next((ending for ending in ENDINGS if str(destination).endswith(ending)), None)
    if name is None:
        if ending is None:
            raise UsageError("the format of the export is not known", where="--format", received=str(destination),
                             fix=f"--format {'|'.join(EXPORT_FORMATS.names())}, or a destination that ends with "
                                 f"{', '.join(ENDINGS)}")
        return ENDINGS[ending]
    name = EXPORT_FORMATS.resolve(name)
    if ending is not None and ENDINGS[ending] != name:
        wanted = EXPORT_FORMATS.get(name).ending
        raise UsageError("the destination has the ending of another format", where=f"--format {name}",
                         received=str(destination),
                         fix=f"--format {ENDINGS[ending]}, or a destination " +
                             (f"that ends with {wanted}" if wanted else "without this ending, which will be a folder"))
    return name


def export_network(package: NetworkPackage, destination: PathLike, format_name: str, options: ExportOptions,
                   reference: Reference) -> Export:
    """Write a network, and keep what was written only if it computes the same as the source.

    Args:
        package: the network.
        destination: the file or folder; the ending of the format is added where it is missing.
        format_name: a name of :data:`EXPORT_FORMATS`.
        options: see :class:`ExportOptions`.
        reference: computes the outputs of the source.

    Raises:
        UsageError: the destination exists or cannot be written, or an option does not suit the format.
        CheckpointError: the network cannot be converted, or the written one computes something else.
        EnvironmentProblem: a package is missing, or the disk is full.
    """
    export_format: ExportFormat = EXPORT_FORMATS.get(format_name)()
    _check_options(export_format, package, options)
    destination = expand(destination)
    if destination.name in ("", ".", ".."):
        raise UsageError("the destination has no name", where=str(destination), fix="give the export a name")
    stem = destination.name
    if export_format.ending and stem.endswith(export_format.ending):
        stem = stem[:-len(export_format.ending)]
    names = export_format.files(stem)

    tolerance = export_format.tolerances[options.precision] if options.tolerance is None else options.tolerance
    check = Check(package, options, reference)
    with staged(destination.parent, names) as stage:
        export_format.write(package, stage, stem, options)
        functions = {export_format.reader: export_format.load(stage, stem, options),
                     **export_format.load_elsewhere(stage, stem, options)}
        comparisons = []
        for reader, function in functions.items():
            found = check(function)
            _check_differences(found, tolerance, reference, reader)
            comparisons += found
    return Export([destination.parent / name for name in names], comparisons, tolerance, list(functions))


def _check_options(export_format: ExportFormat, package: NetworkPackage, options: ExportOptions) -> None:
    name = export_format.name
    for option, value, offered in (("--precision", options.precision, export_format.precisions),
                                   ("--input", options.input_type, export_format.input_types)):
        if value not in offered:
            raise ConfigError("the format does not offer this", where=f"{option} of --format {name}", received=value,
                              fix=f"{option} {' or '.join(offered)}, or --format onnx")
    if package.record.mean is None and (options.input_type == "uint8" or options.precision == "int8"):
        raise UsageError("images cannot be normalised, because the network's mean and deviation are not known",
                         where="--input uint8" if options.input_type == "uint8" else "--precision int8",
                         fix="--mean R G B --std R G B, or --input float32 --precision float32")
    if options.size is not None:
        if not export_format.takes_size:
            raise ConfigError("the format holds a network for all sizes", where=f"--size of --format {name}",
                              received=f"{options.size[0]} {options.size[1]}", fix="leave --size out")
        if min(options.size) < package.smallest_side:
            raise ConfigError("the network does not accept images that small", where="--size",
                              received=f"{options.size[0]} {options.size[1]}",
                              fix=f"at least {package.smallest_side} pixels a side")
    if options.precision == "int8" and not len(options.calibration):
        raise UsageError("int8 needs a few real images to measure the range of every layer on",
                         where="--precision int8", fix="--images FOLDER")


def _check_differences(comparisons: Sequence[Comparison], tolerance: float, reference: Reference,
                       reader: str) -> None:
    worst = max(comparisons, key=lambda comparison: comparison.difference)
    if not worst.difference <= tolerance:  # NaN, too
        raise CheckpointError("the written network computes something else than its source, and was deleted",
                          where=worst.shape, received=f"{worst.difference:.2g} {worst.unit} between "
                          f"{reference.name} and {reader}; the tolerance is {tolerance:g}",
                          fix="a trained network differs less than one with random weights; --tolerance accepts more")
