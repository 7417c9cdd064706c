"""ONNX models in int8, with QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime and OpenVINO compute.

Convolutions, dense layers, sums and concatenations read integers: weights with one scale for each output channel,
activations with one scale. A map with negative values has the zero point 128, others have 0, because engines compute
these two without a correction. What no such layer reads stays float32, so the logits are not rounded.
"""
from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .._compat import import_optional
from ..errors import UsageError, short
from ..graph.int8_search import keep_classes

if TYPE_CHECKING:
    import onnx

METADATA = "int8"  # key of a model's metadata: layers in float32, agreement, number of calibration images
# Operators that read integers if their second input is a constant, and those that read several maps. Not MaxPool, which
# is hardly faster in int8: with it, OpenVINO 2026.4 computed a wrong FCN for images of any size.
_WEIGHTED, _SUMS = ("Conv", "Gemm", "MatMul"), ("Add", "Concat")
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def quantize(model: onnx.ModelProto, images: Sequence[np.ndarray], *, mean: Sequence[float] | None = None,
             std: Sequence[float] | None = None, reduce_range: bool = False) -> onnx.ModelProto:
    """Convert a float32 model to int8 such that nearly all pixels of the calibration images keep their class.

    The ranges of activations are those that occur on the images. Layers that cost accuracy stay in float32, see
    :func:`~mxnetseg.graph.int8_search.keep_classes`. ONNX Runtime computes the classes that are compared.

    Args:
        model: of one input, normalised images (N, 3, H, W) or uint8 (N, H, W, 3), whose first output is logits or a
            class map; as :func:`.onnx_graph.to_onnx` writes it. It is not changed.
        images: some images of the kind that the network will see: RGB, uint8 (H, W, 3). For a model of fixed size
            they are resized.
        mean, std: normalisation, of pixels in [0, 1]; by default the model's metadata ``mean`` and ``std``. Not used
            if the model reads uint8.
        reduce_range: weights of 7 bits in all, for x86 processors without VNNI (before 2019), on which ONNX Runtime's
            sums of int8 products overflow.

    Returns:
        the model in int8. Its metadata ``int8`` has as JSON the names of the layers in float32 (``float32_layers``),
        the number of layers (``layers``), the fraction of the calibration images' pixels that keep their class
        (``agreement``), and the number of images (``calibration_images``).

    Raises:
        UsageError: the model is not of float32 or has no layer to convert, or the images or the normalisation are
            missing.
        EnvironmentProblem: onnx or onnxruntime is not installed.
    """
    return _Quantizer(model, images, mean, std, reduce_range).best()


class _Quantizer:
    """ONNX's side of :func:`.int8_search.keep_classes`."""

    def __init__(self, model, images, mean, std, reduce_range: bool):
        for package in ("onnx", "onnxruntime"):
            import_optional(package, "quantize", fix="pip install 'mxnetseg[onnx]'")
        import onnx

        if len(model.graph.input) != 1:
            raise UsageError("only a model of one input can be calibrated", where="quantize",
                             received=f"{len(model.graph.input)} inputs", fix="give a model that reads one image")
        self._reduce_range = reduce_range
        self._images = _checked(images)
        self._model = onnx.shape_inference.infer_shapes(model)
        for number, node in enumerate(self._model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        self._convert_input = _input_converter(self._model, mean, std)
        self._outputs = len(self._model.graph.output)
        self._logits = self._add_logits()
        self._layers = self._find_layers()
        self._ranges = self._measure_ranges()

    def best(self) -> onnx.ModelProto:
        exact = list(self._infer(self._model, len(self._images)))
        found = keep_classes(self._layers, self._convert, self._infer, exact)
        model = found.model
        del model.graph.output[self._outputs:]
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA, json.dumps(
            {"float32_layers": list(found.float32_layers), "layers": len(self._layers),
             "agreement": round(found.agreement, 5), "calibration_images": len(self._images)})
        return model

    def _add_logits(self) -> str:
        """Return the name of the logits, made an output of the model where it ends with a class map."""
        producers = {name: node for node in self._model.graph.node for name in node.output}
        name = self._model.graph.output[0].name
        node = producers.get(name)
        while node is not None and node.op_type in ("Cast", "Identity"):
            node = producers.get(node.input[0])
        if node is None or node.op_type != "ArgMax":
            return name
        known = {info.name: info for info in self._model.graph.value_info}
        self._model.graph.output.append(known[node.input[0]])
        return node.input[0]

    def _find_layers(self) -> list[str]:
        """Return the names of the layers that int8 can compute, in the order of the graph."""
        graph = self._model.graph
        if any(node.op_type in _QDQ for node in graph.node):
            raise UsageError("the model is quantised already", where="quantize",
                             received=next(n.op_type for n in graph.node if n.op_type in _QDQ),
                             fix="give the float32 model")
        constants = {each.name for each in graph.initializer}
        floats = {info.name for info in (*graph.value_info, *graph.input, *graph.output)
                  if info.type.tensor_type.elem_type == 1}
        found = []
        for node in graph.node:
            if node.op_type in _WEIGHTED:
                chosen = node.input[0] in floats and node.input[1] in constants
            else:
                chosen = node.op_type in _SUMS and floats.issuperset(node.input)
            if chosen:
                found.append(node.name)
        if not found:
            raise UsageError("the model has no float32 layer that int8 can compute", where="quantize",
                             received=short(sorted({node.op_type for node in graph.node})),
                             fix="give a model of float32 with convolutions or dense layers")
        return found

    def _measure_ranges(self):
        """Return the smallest and largest value of each tensor on the images, symmetric for those below zero."""
        import onnx
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(self._model, path)
            calibrator = create_calibrator(path, [], augmented_model_path=str(Path(folder) / "augmented.onnx"),
                                           calibrate_method=CalibrationMethod.MinMax)
            for image in self._images:  # one by one, because it keeps the outputs of those that it gets at once
                calibrator.collect_data(_Reader([self._convert_input(image)]))
            ranges = calibrator.compute_data()
        for each in ranges.values():
            if np.any(each.lowest < 0):
                each.highest = np.maximum(np.abs(each.lowest), np.abs(each.highest))
                each.lowest = -each.highest
        return ranges

    def _convert(self, kept: Sequence[str]) -> onnx.ModelProto:
        """Return the model with the layers ``kept`` in float32."""
        from onnxruntime.quantization import QDQQuantizer, QuantType

        if len(kept) == len(self._layers):
            return copy.deepcopy(self._model)
        left = set(kept)
        quantizer = QDQQuantizer(
            copy.deepcopy(self._model), True, self._reduce_range, QuantType.QInt8, QuantType.QUInt8, self._ranges,
            [name for name in self._layers if name not in left], [], [*_WEIGHTED, *_SUMS],
            {"OpTypesToExcludeOutputQuantization": [*_WEIGHTED, *_SUMS]})
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return quantizer.model.model

    def _infer(self, model: onnx.ModelProto, images: int) -> Iterator[np.ndarray]:
        """Yield the logits of the first calibration images."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for image in self._images[:images]:
            yield session.run([self._logits], self._convert_input(image))[0]


class _Reader:
    """The calibrator's source of inputs."""

    def __init__(self, inputs: Sequence[dict[str, np.ndarray]]):
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def _checked(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    images = list(images)
    for image in images:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError("a calibration image is not uint8 (H, W, 3)", where="quantize",
                             received=f"{getattr(image, 'dtype', type(image).__name__)} "
                                      f"{getattr(image, 'shape', '')}".strip(),
                             fix="RGB images as mxnetseg.data.decoding reads them")
    if not images:
        raise UsageError("int8 needs calibration images", where="quantize", received="none",
                         fix="some images of the kind that the network will see")
    return images


def _input_converter(model: onnx.ModelProto, mean, std):
    """Return a function: uint8 image (H, W, 3) -> the model's inputs by name."""
    (value,) = model.graph.input
    sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]  # 0: any
    reads_uint8 = value.type.tensor_type.elem_type == 2
    if len(sizes) != 4 or value.type.tensor_type.elem_type not in (1, 2) or sizes[0] > 1:
        raise UsageError("the model does not read single images of float32 or uint8", where="quantize",
                         received=f"input {value.name} of {len(sizes)} axes",
                         fix="a model of float32 with a free number of images, as to_onnx writes it")
    size = (sizes[1], sizes[2]) if reads_uint8 else (sizes[2], sizes[3])
    if not reads_uint8:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        mean, std = (_statistic(given, metadata.get(key), key) for key, given in (("mean", mean), ("std", std)))

    def convert(image: np.ndarray) -> dict[str, Any]:
        wanted = tuple(fixed or free for fixed, free in zip(size, image.shape))
        if wanted != image.shape[:2]:
            image = cv2.resize(image, wanted[::-1], interpolation=cv2.INTER_LINEAR)
        if reads_uint8:
            return {value.name: image[None]}
        normalized = (image.astype(np.float32) / 255 - mean) / std
        return {value.name: np.ascontiguousarray(normalized.transpose(2, 0, 1)[None])}
    return convert


def _statistic(given: Sequence[float] | None, text: str | None, key: str) -> np.ndarray:
    try:
        values = np.array(json.loads(text or "") if given is None else given, np.float32)
    except (TypeError, ValueError):
        values = np.array([], np.float32)
    if values.shape != (3,) or not np.all(np.isfinite(values)) or (key == "std" and np.any(values <= 0)):
        raise UsageError(f"the normalisation's {key} is not known", where="quantize",
                         received=short(text if given is None else given),
                         fix=f"{key}=(red, green, blue), of pixels in [0, 1], as the network was trained")
    return values
