"""The export format ``torch``: a ``.pt2`` file, which PyTorch loads and runs without this library."""
from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.resizes import with_resizes
from ..backends.torch_graph import to_torch
from ..errors import EnvironmentProblem, UsageError, reason
from ..files import atomic_write
from .formats import ExportFormat, ExportOptions

if TYPE_CHECKING:
    import torch

    from ..backends.package import NetworkPackage
    from .verification import Function

# (N, H, W) that the exporter traces. It assumes for other sizes that no map inside shrinks to one pixel where this
# example has more, so that the example is large, and has to be kept from the assumption itself (_no_assumption).
_EXAMPLE = (2, 800, 992)


class TorchFormat(ExportFormat):
    """A ``torch.export`` program, with the record in its extra files."""

    name, reader, ending, takes_size = "torch", "PyTorch", ".pt2", True
    input_types = ("float32", "uint8")

    def write(self, package: NetworkPackage, stage: Path, stem: str, options: ExportOptions) -> None:
        """Write the program."""
        import torch

        # a resize as one operator is faster than the matrix products, and makes no assumption on sizes
        module = to_torch(with_resizes(package.graph), package.arrays, inputs=package.inputs)
        if options.input_type == "uint8":
            module = _class_map_module(module, package)
        program = _program(module, package, options)
        buffer = io.BytesIO()  # PyTorch reports a full disk as damage of its own
        torch.export.save(program, buffer, extra_files=package.record.metadata())
        with atomic_write(stage / f"{stem}.pt2") as stream:
            stream.write(buffer.getbuffer())

    def load(self, stage: Path, stem: str, options: ExportOptions) -> Function:
        """Return a function of the file."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about its own format
            module = torch.export.load(str(stage / f"{stem}.pt2")).module()

        def compute(x: np.ndarray) -> list[np.ndarray]:
            try:
                return _computed(module, x)
            except AssertionError as error:  # a guard of the program
                raise _not_exported(options, reason(error)) from None
        return compute


def package_function(package: NetworkPackage) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that computes the outputs of a package in PyTorch, at any size."""
    module = to_torch(package.graph, package.arrays, inputs=package.inputs)
    return lambda x: _computed(module, x)


def _computed(module: torch.nn.Module, x: np.ndarray) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        outputs = module(torch.from_numpy(x))
    return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]


def _class_map_module(network: torch.nn.Module, package: NetworkPackage) -> torch.nn.Module:
    """Return a module of uint8 images (N, H, W, 3), RGB, that gives class maps, uint8 (N, H, W)."""
    import torch

    class ClassMap(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for name, values in (("mean", package.record.mean), ("std", package.record.std)):
                self.register_buffer(name, torch.tensor(values)[:, None, None])

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = (image.permute(0, 3, 1, 2).contiguous().float() / 255 - self.mean) / self.std
            return self.network(x).argmax(1).to(torch.uint8)

    return ClassMap().eval()


def _program(module: torch.nn.Module, package: NetworkPackage, options: ExportOptions) -> Any:
    """Return the exported program, for any batch and for any size unless one is given."""
    import torch

    from .verification import input_channels

    n, *size = _EXAMPLE if options.size is None else (_EXAMPLE[0], *options.size)
    if options.input_type == "uint8":
        example, height = torch.zeros(n, *size, 3, dtype=torch.uint8), 1
    else:
        channels = input_channels(package.graph, package.arrays, package.inputs[0])
        example, height = torch.zeros(n, channels, *size), 2
    if not hasattr(torch.export, "Dim") or not hasattr(torch.export.Dim, "DYNAMIC"):
        raise EnvironmentProblem("this PyTorch cannot export networks for any size", received=torch.__version__,
                                 fix="pip install -U 'torch>=2.6'")
    anything = torch.export.Dim.DYNAMIC
    dynamic = {0: anything} if options.size else {0: anything, height: anything, height + 1: anything}
    with torch.no_grad(), warnings.catch_warnings(), _no_assumption():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
        except Exception as error:  # of several classes, most of them private
            raise _not_exported(options, reason(error)) from error
    program.example_inputs = None  # they would be written to the file
    largest = [str(limits.upper) for limits in program.range_constraints.values() if str(limits.upper) != "int_oo"]
    if largest:
        raise _not_exported(options, f"sizes up to {', '.join(largest)}")
    return program


def _no_assumption() -> AbstractContextManager[Any]:
    """Keep PyTorch from assuming that a size that is not 1 in the example never is 1."""
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=True) if hasattr(_config, "backed_size_oblivious") else nullcontext()


def _not_exported(options: ExportOptions, received: str) -> UsageError:
    if options.size is not None:
        return UsageError("PyTorch cannot export this network", where="--format torch", received=received,
                          fix="--format onnx; or mxnetseg.to_torch, whose module needs this library")
    return UsageError("PyTorch cannot export this network for all sizes", where="--format torch", received=received,
                      fix="--size H W exports it for one size; --format onnx for all")
