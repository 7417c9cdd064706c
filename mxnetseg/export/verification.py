"""Comparison of a written network with its source, on images of three sizes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np

from ..errors import CheckpointError, MXNetSegError, UsageError
from ..graph.symbol_file import SymbolGraph

if TYPE_CHECKING:
    from ..backends.package import NetworkPackage
    from .formats import ExportOptions

# one input array -> the outputs
Function = Callable[[np.ndarray], Sequence[np.ndarray]]

_SHAPES = ((2, 128, 160), (1, 97, 145), (1, 65, 257))  # (N, H, W): even, odd, narrow
_QUANTIZED = 8  # images of which int8 is compared
_LOGITS, _PIXELS = "of the largest output", "of the pixels with another class"


class Reference(NamedTuple):
    """The function of the source, and the name of the program that computes it."""

    name: str
    function: Function


class Comparison(NamedTuple):
    """A difference between a written network and its source.

    Attributes:
        shape: of the input.
        difference: infinite where one of the two gives NaN.
        unit: the meaning of the difference.
    """

    shape: tuple[int, ...]
    difference: float
    unit: str


class Check:
    """Compares a written network with its source, whose outputs are computed first.

    Raises:
        UsageError: the source does not accept the size.
        CheckpointError: the source gives values that are no numbers.
    """

    def __init__(self, package: NetworkPackage, options: ExportOptions, reference: Reference):
        self.options = options
        if options.precision == "int8":
            self.images = [_resized(image, options.size)[None] for image in options.calibration[:_QUANTIZED]]
        else:
            self.images = _images(package, options)
        self.inputs = [_normalised(package, images) for images in self.images]
        self.expected = [_run(reference.function, x) for x in self.inputs]

    def __call__(self, candidate: Function) -> list[Comparison]:
        """Return the differences of a written network."""
        compare = self._pixels if self.options.precision == "int8" else \
            self._class_map if self.options.input_type == "uint8" else self._logits
        given = self.images if self.options.input_type == "uint8" else self.inputs
        return [compare(x.shape, expected, candidate(x)) for x, expected in zip(given, self.expected)]

    def _logits(self, shape: tuple[int, ...], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
                ) -> Comparison:
        """Compare all outputs: largest difference in units of the largest value."""
        if len(found) != len(expected) or any(a.shape != b.shape for a, b in zip(expected, found)):
            raise _other_outputs(found, [a.shape for a in expected])
        return Comparison(shape, max(_relative(a, b) for a, b in zip(expected, found)), _LOGITS)

    def _class_map(self, shape: tuple[int, ...], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
                   ) -> Comparison:
        """Compare a class map with logits.

        Two classes with nearly equal logits may change places. The difference is the largest distance between the
        largest logit of a pixel and the logit of the class that was found, in units of the largest logit.
        """
        logits, classes = expected[0], found[0]
        if len(found) != 1 or classes.dtype != np.uint8 or classes.shape != (shape[0], *logits.shape[2:]):
            raise _other_outputs(found, [f"uint8 {(shape[0], *logits.shape[2:])}"])
        if classes.max() >= logits.shape[1]:
            return Comparison(shape, float("inf"), _LOGITS)
        chosen = np.take_along_axis(logits, classes[:, None].astype(np.int64), 1)[:, 0]
        return Comparison(shape, _relative(logits.max(1), chosen, float(np.abs(logits).max())), _LOGITS)

    def _pixels(self, shape: tuple[int, ...], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
                ) -> Comparison:
        """Compare the classes of pixels: fraction of those with another class."""
        classes = found[0] if self.options.input_type == "uint8" else found[0].argmax(1)
        return Comparison(shape, float((expected[0].argmax(1) != classes).mean()), _PIXELS)


def input_channels(graph: SymbolGraph, arrays: Any, name: str) -> int:
    """Return the number of channels of an input, from the first layer with parameters that reads it; 3 if none does."""
    reached = {number for number, node in enumerate(graph.nodes) if node.is_variable and node.name == name}
    for number, node in enumerate(graph.nodes):
        if not reached & {i for i, _ in node.inputs}:
            continue
        weight = next((arrays[graph.nodes[i].name] for i, _ in node.inputs[1:] if graph.nodes[i].name in arrays), None)
        if node.op.startswith("Convolution") and weight is not None:
            return weight.shape[1] * int(node.arguments.get("num_group", 1))
        if node.op.startswith("BatchNorm") and weight is not None:
            return weight.shape[0]
        reached.add(number)
    return 3


def _images(package: NetworkPackage, options: ExportOptions) -> list[np.ndarray]:
    """Return batches of uint8 images (N, H, W, C) of blocks of colours and noise, the same in every process."""
    rng = np.random.default_rng(0)
    channels = input_channels(package.graph, package.arrays, package.inputs[0])
    least = package.smallest_side
    shapes = _SHAPES if options.size is None else [(n, *options.size) for n in (2, 1)]
    batches = []
    for n, h, w in shapes:
        h, w = max(h, least), max(w, least)
        blocks = rng.integers(0, 216, (n, -(-h // 8), -(-w // 8), channels)).repeat(8, 1).repeat(8, 2)[:, :h, :w]
        batches.append((blocks + rng.integers(0, 40, (n, h, w, channels))).astype(np.uint8))
    return batches


def _normalised(package: NetworkPackage, images: np.ndarray) -> np.ndarray:
    """Return images as (N, C, H, W) float32, normalised as the network expects, or about so where that is not known."""
    mean = np.array(package.record.mean or (0.5,), np.float32)
    std = np.array(package.record.std or (0.25,), np.float32)
    x = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _resized(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    if size is None or image.shape[:2] == tuple(size):
        return image
    import cv2

    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _run(function: Function, x: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of the source, which must be numbers."""
    try:
        outputs = [np.asarray(output) for output in function(x)]
    except MXNetSegError:
        raise
    except Exception as error:  # of MXNet or PyTorch: the graph does not fit this size
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise UsageError("the source does not compute an input of this size", where=x.shape,
                         received=f"{type(error).__name__}: {lines[0][:200]}",
                         fix="--size H W with the size that the network was made for") from error
    if not all(np.isfinite(output).all() for output in outputs):
        raise CheckpointError("the source gives values that are no numbers (NaN) or infinite", where=x.shape,
                              fix="use another checkpoint of that run")
    if not any(output.any() for output in outputs):
        raise CheckpointError("the source gives zero everywhere, so no export can be compared with it", where=x.shape,
                              fix="train the network first: some start with a layer of zeros")
    return outputs


def _other_outputs(found: Sequence[np.ndarray], expected: object) -> CheckpointError:
    return CheckpointError("the written network has other outputs than its source",
                           received=f"{[f'{a.dtype} {a.shape}' for a in found]} instead of {expected}",
                           fix="report this as a bug of mxnetseg")


def _relative(expected: np.ndarray, found: np.ndarray, largest: float | None = None) -> float:
    scale = max(float(np.abs(expected).max()) if largest is None else float(largest), 1e-30)
    difference = np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()
    return float(difference) / scale if np.isfinite(difference) else float("inf")
