"""Networks and exported symbols as ONNX models."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from .._compat import import_optional
from ..errors import CheckpointError, UsageError, short
from ..files import PathLike
from ..graph.symbol_file import SymbolNode
from .operators import ONNX
from .resizes import with_resizes
from .walk import SEVERAL_OUTPUTS, CheckedGraph, read_source

if TYPE_CHECKING:
    import onnx

    from .onnx_writer import Tensor

INPUT, IMAGE, OUTPUT, CLASS_MAP = "data", "image", "logits", "class_map"  # names in the model
_LARGEST_FILE = (1 << 31) - (1 << 20)  # bytes; a protocol buffer is smaller than 2 GiB
_BATCH_NORMS = ("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm")
_CONVOLUTIONS = ("Convolution", "Convolution_v1", "Deconvolution", "FullyConnected")


def to_onnx(source: Any, params: PathLike | Mapping[str, Any] | None = None, *, inputs: Sequence[str] = ("data",),
            outputs: str = "main", size: tuple[int, int] | None = None, input_type: str = "float32",
            mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
            shapes: Mapping[str, Sequence[int | str]] | None = None,
            metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Return a network or an exported symbol of MXNet as an ONNX model.

    The model computes the same as MXNet in an inference, for any number and size of images. Batch norm is folded into
    the convolutions before it, resizes are ``Resize`` operators, and dropout is left out.

    Args:
        source, params, inputs: see :func:`.torch_graph.to_torch`.
        outputs: ``'main'``: the first output, named ``logits``; ``'all'``: also the auxiliary ones, named
            ``output_1``, ...
        size: fixed (height, width) of the images, for devices that need one; by default any.
        input_type: ``'float32'``: normalised images (N, 3, H, W), named ``data``, give logits. ``'uint8'``: RGB images
            (N, H, W, 3), named ``image``, give a class map (N, H, W) uint8, named ``class_map``.
        mean, std: for ``'uint8'``: of pixels in [0, 1]; by default those of the network.
        shapes: of inputs that are not images: ``{"tokens": ("N", 77)}``; a name is a size that may vary.
        metadata: texts to store in the model, by name.

    Returns:
        the model, checked by ``onnx.checker``. ``onnx.save(model, path)`` writes it.

    Raises:
        CheckpointError: a file is damaged, a parameter is missing or has the wrong shape, or operators or arguments
            are not supported; the message lists all unknown operators.
        UsageError: an argument is wrong.
        EnvironmentProblem: the package onnx is not installed.

    Example:
        >>> from mxnetseg import get_model, to_onnx
        >>> model = to_onnx(get_model("fcn", backbone="resnet18", nclass=5))
        >>> [value.name for value in model.graph.input], [value.name for value in model.graph.output]
        (['data'], ['logits'])
    """
    import_optional("onnx", "to_onnx", fix="pip install 'mxnetseg[onnx]'")
    # they fill the table of operators, and they import onnx
    from . import onnx_indexing, onnx_layers, onnx_shapes  # noqa: F401

    for name, value, allowed in (("outputs", outputs, ("main", "all")),
                                 ("input_type", input_type, ("float32", "uint8"))):
        if value not in allowed:
            raise UsageError(f"{name} has an unknown value", where="to_onnx", received=short(value),
                             fix=f"one of {', '.join(allowed)}")
    if size is not None and not (isinstance(size, (tuple, list)) and len(size) == 2
                                 and all(isinstance(n, int) and n > 0 for n in size)):
        raise UsageError("size is not a height and a width in pixels", where="to_onnx", received=short(size),
                         fix="size=(512, 512), or leave it out for any size")
    statistics = None
    if input_type == "uint8":
        mean, std = mean or getattr(source, "mean", None), std or getattr(source, "std", None)
        if mean is None or std is None or len(inputs) != 1:
            raise UsageError("the normalisation of uint8 images is not known, or there are several inputs",
                             where="to_onnx", received=f"mean={mean}, std={std}, inputs={tuple(inputs)}",
                             fix="give mean=(...) and std=(...) of pixels in [0, 1], and one input")
        statistics = (mean, std)

    graph, values = read_source(source, params, inputs, "to_onnx")
    if outputs == "main":
        graph = graph._replace(heads=graph.heads[:1])
    exporter = _Exporter(with_resizes(graph), values, inputs, ONNX)
    return exporter.model(shapes or {}, size, statistics, metadata or {})


class _Exporter(CheckedGraph):
    """Writes the model of one graph."""

    def model(self, shapes: Mapping[str, Sequence[int | str]], size: tuple[int, int] | None,
              statistics: tuple[Sequence[float], Sequence[float]] | None, metadata: Mapping[str, str]
              ) -> onnx.ModelProto:
        """Return the model. For the arguments see :func:`to_onnx`; ``statistics``: mean and std for uint8 images."""
        import onnx
        from onnx import helper, numpy_helper

        from .onnx_writer import IR_VERSION, OPSET, Writer

        self.writer = Writer()
        self.results: dict[int, Any] = {}
        self.folded = self._foldable()
        self.merged: dict[Any, list[Tensor]] = {}
        graph_inputs = self._inputs(shapes, size, statistics)
        convolutions = set(self.folded.values())
        for number in sorted(self.needed):
            node = self.graph.nodes[number]
            if not node.is_variable and number not in convolutions:
                self.results[number] = self._written(number, node)

        results = [self._tensor(entry) for entry in self.graph.heads]
        graph_outputs = [self._class_map(results[0])] if statistics else [
            self._output(x, f"output_{i}" if i else OUTPUT, results[:i]) for i, x in enumerate(results)]

        w = self.writer
        total = sum(value.nbytes for value in w.initializers.values())
        if total > _LARGEST_FILE:
            raise CheckpointError("the network is too large for an ONNX file", where=self.graph.where,
                                  received=f"{total:,} bytes of weights", fix="a network of less than 2 GiB")
        graph = helper.make_graph(
            w.nodes, "mxnetseg", *([helper.make_value_info(x.name, x.type) for x in side]
                                   for side in (graph_inputs, graph_outputs)),
            initializer=[numpy_helper.from_array(value, name) for name, value in w.initializers.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="mxnetseg", producer_version=__version__)
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    # ---- inputs and outputs -------------------------------------------------------------------

    def _inputs(self, shapes, size, statistics) -> list[Tensor]:
        """Enter the inputs of the graph into the results, and return those of the model."""
        from onnx import TensorProto, helper

        from .onnx_writer import Tensor

        numbers = {node.name: number for number, node in enumerate(self.graph.nodes) if node.is_variable}
        height, width = size or ("H", "W")
        if statistics:
            channels = len(statistics[0])
            image = Tensor(self.writer.unique(IMAGE),
                           helper.make_tensor_type_proto(TensorProto.UINT8, ("N", height, width, channels)))
            self.results[numbers[self.inputs[0]]] = self._normalized(image, *statistics)
            return [image]
        tensors = []
        for name in self.inputs:
            shape = shapes.get(name, ("N", self._channels(numbers[name]), height, width))
            tensors.append(Tensor(self.writer.unique(name), helper.make_tensor_type_proto(TensorProto.FLOAT, shape)))
            self.results[numbers[name]] = tensors[-1]
        return tensors

    def _channels(self, number: int) -> int | str:
        """Return the channels of an input, from the weights of the layer that reads it."""
        for reader in sorted(self.needed):
            node = self.graph.nodes[reader]
            if (number, 0) not in node.inputs[:1]:
                continue
            parameter = self.values.get(self.graph.nodes[node.inputs[1][0]].name) if len(node.inputs) > 1 else None
            if node.op.startswith("Convolution") and parameter is not None:
                return parameter.array.shape[1] * int(node.arguments.get("num_group", "1"))
            if node.op in _BATCH_NORMS and parameter is not None:
                return parameter.array.size
            channels = self._channels(reader)
            if channels != "C":
                return channels
        return "C"

    def _normalized(self, image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """Return uint8 (N, H, W, C) as float32 (N, C, H, W), normalised as :class:`~mxnetseg.nn.blocks.InputStep`."""
        w = self.writer
        w.scope = "normalization"
        scale, shift = (w.constant(np.array(values, np.float32).reshape(1, -1, 1, 1)) for values in (
            [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std)]))
        x = w.cast(w("Transpose", image, perm=[0, 3, 1, 2]), np.float32)
        return w("Add", w("Mul", x, scale), shift)

    def _class_map(self, logits: Tensor) -> Tensor:
        w = self.writer
        w.scope = CLASS_MAP
        classes = logits.shape[1]
        if not isinstance(classes, int) or classes > 256:
            raise CheckpointError("a class map of uint8 has at most 256 classes", where=self.graph.where,
                                  received=f"{classes} channels", fix="input_type='float32'")
        result = w.cast(w("ArgMax", logits, axis=1, keepdims=0), np.uint8)
        w.rename(result, w.unique(CLASS_MAP))
        return result

    def _output(self, x: Tensor, name: str, others: Sequence[Tensor]) -> Tensor:
        """Return a result under its name as an output."""
        w = self.writer
        w.scope = name
        if x.value is not None or x in others or x.name in self.inputs:
            x = w("Identity", x)
        w.rename(x, w.unique(name))
        return x

    # ---- operators ----------------------------------------------------------------------------

    def _tensor(self, entry: tuple[int, int]) -> Tensor:
        number, k = entry
        node = self.graph.nodes[number]
        if node.is_variable and number not in self.results:
            value = self.values[node.name]
            self.results[number] = self.writer.parameter(value.name, value.array)
        if node.op in SEVERAL_OUTPUTS:
            return self.results[number][k]
        if k:
            raise CheckpointError("an output of an operator cannot be converted", where=self.where(node),
                                  received=f"output {k}", fix="a graph that uses the first output only")
        return self.results[number]

    def _written(self, number: int, node: SymbolNode) -> Any:
        """Write an operator and return its result."""
        w = self.writer
        w.scope = node.name
        first = len(w.nodes)
        if number in self.folded:
            convolution = self.graph.nodes[self.folded[number]]
            weights = self._folded_weights(convolution, node)
            result = self.call(convolution, lambda arguments, inputs: ONNX[convolution.op].function(
                w, self._tensor(inputs[0]), *weights, **{**arguments, "no_bias": False}))
        else:
            result = self.call(node, lambda arguments, inputs: ONNX[node.op].function(
                w, *map(self._tensor, inputs), **arguments))
        written = {name for one in w.nodes[first:] for name in one.output}
        if not isinstance(result, list) and result.name in written:
            w.rename(result, w.unique(node.name), first)
        return result

    def _foldable(self) -> dict[int, int]:
        """Return the batch norms that follow a convolution, with its node, whose result nothing else reads."""
        heads = {number for number, _ in self.graph.heads}
        found = {}
        for number in self.needed:
            node = self.graph.nodes[number]
            if node.op not in _BATCH_NORMS or len(node.inputs) != 5:
                continue
            before = node.inputs[0][0]
            convolution = self.graph.nodes[before]
            arguments = self.operators.arguments_of(node.op, node.arguments, self.where(node))
            parameters = [self.graph.nodes[i].name for i, _ in (*node.inputs[1:], *convolution.inputs[1:])]
            if (convolution.op in _CONVOLUTIONS and convolution.arguments.get("flatten", "True") in ("True", "1")
                    and self.readers[before] == 1 and before not in heads and arguments["axis"] == 1
                    and not arguments["output_mean_var"] and all(name in self.values for name in parameters)):
                found[number] = before
        return found

    def _folded_weights(self, convolution: SymbolNode, norm: SymbolNode) -> list[Tensor]:
        """Return weight and bias of a convolution with the batch norm after it."""
        names = [self.graph.nodes[i].name for i, _ in (*convolution.inputs[1:], *norm.inputs[1:])]
        arguments = self.operators.arguments_of(norm.op, norm.arguments, self.where(norm))
        no_bias = self.operators.arguments_of(convolution.op, convolution.arguments, self.where(convolution))["no_bias"]
        key = (*names, arguments["eps"], arguments["fix_gamma"])
        if key not in self.merged:
            weight, *bias, gamma, beta, mean, variance = (self.values[name].array.astype(np.float64) for name in names)
            scale = 1 / np.sqrt(variance + arguments["eps"])  # type: ignore[operator]
            scale = scale if arguments["fix_gamma"] else scale * gamma
            shift = beta + ((0 if no_bias or not bias else bias[0]) - mean) * scale
            if convolution.op == "Deconvolution":  # (C, filters / groups, ...)
                groups = scale.size // weight.shape[1]
                parts = weight.reshape(groups, -1, *weight.shape[1:])
                weight = (parts * scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
            else:
                weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
            dtype = self.values[names[0]].array.dtype
            label = self.values[names[0]].name
            self.merged[key] = [self.writer.parameter(name, value.astype(dtype)) for name, value in (
                (label, weight), (f"{label.rpartition('.')[0] or label}.folded_bias", shift))]
        return self.merged[key]
