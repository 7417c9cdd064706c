"""ONNX models in float16, with ONNX Runtime's converter and our choice of what stays in float32."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._compat import import_optional
from ..errors import UsageError, short

if TYPE_CHECKING:
    import onnx

# operators that add up many elements or grow exponentially; float16 has three digits and ends at 65504
_FLOAT32_OPERATORS = {"Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GlobalAveragePool",
                      "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "CumSum", "Exp", "Pow", "LRN",
                      "GridSample"}
# operators through which the positions of GridSample are followed back, up to the layer that computes the offsets
_MOVING = {"Add", "Sub", "Mul", "Div", "Concat", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Slice", "Split"}


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of :func:`.onnx_graph.to_onnx` that computes in float16. Inputs and outputs keep their types.

    Weights and maps are float16. Positions, attention, softmax, norms with statistics of the map and means over many
    elements stay in float32, as in a network that MXNet computes in float16. The given model is not changed.

    Raises:
        UsageError: the model has no weights in float32.
        EnvironmentProblem: ONNX Runtime, whose converter this uses, is not installed.

    Example:
        >>> from mxnetseg import get_model, to_float16, to_onnx
        >>> model = to_onnx(get_model("fcn", backbone="resnet18", nclass=5))
        >>> half = to_float16(model)
        >>> 0.45 < half.ByteSize() / model.ByteSize() < 0.55
        True
    """
    for package in ("onnx", "onnxruntime.transformers"):
        import_optional(package, "to_float16", fix="pip install 'mxnetseg[onnx]'")
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    if not isinstance(model, onnx.ModelProto) or not any(
            tensor.data_type == onnx.TensorProto.FLOAT for tensor in model.graph.initializer):
        raise UsageError("the model has no weights in float32", where="to_float16",
                         received=short(type(model).__name__), fix="to_float16(to_onnx(net))")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = convert_float_to_float16(copy, keep_io_types=True, node_block_list=sorted(_float32_nodes(model.graph)),
                                    op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATORS])
    _drop_detours(half.graph, {node.name for node in model.graph.node})
    sorted_model = OnnxModel(half)
    sorted_model.topological_sort(is_deterministic=True)  # the converter appends its casts
    onnx.checker.check_model(sorted_model.model, full_check=True)
    return sorted_model.model


def _drop_detours(graph: onnx.GraphProto, given: set[str]) -> None:
    """Connect neighbours in float32: the converter casts to float16 after each such node and back before the next.

    Args:
        graph: the converted graph, which is changed.
        given: the names of the nodes before the conversion, whose casts are kept.
    """
    import onnx

    casts = {node.output[0]: (node.input[0], node.attribute[0].i) for node in graph.node
             if node.op_type == "Cast" and node.name not in given}
    direct = {}
    for output, (source, to) in casts.items():
        if to == onnx.TensorProto.FLOAT and casts.get(source, (None, None))[1] == onnx.TensorProto.FLOAT16:
            direct[output] = casts[source][0]
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = direct.get(name, name)

    outputs = {tensor.name for tensor in graph.output}
    while True:
        read = outputs.union(*(node.input for node in graph.node))
        unread = [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in read]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)


def _float32_nodes(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of the nodes that compute positions, and of the products of two maps: attention."""
    names = {tensor.name for tensor in graph.input}  # tensors that depend on the image, not only on its size
    makers = {}
    for node in graph.node:
        makers.update(dict.fromkeys(node.output, node))
        read = [name in names for name in node.input]
        if node.op_type != "Shape" and any(read):
            names.update(node.output)
        elif node.op_type != "Cast" or any(name in makers for name in node.input):
            yield node.name
        if node.op_type == "MatMul" and all(read):
            yield node.name

    waiting = [node.input[1] for node in graph.node if node.op_type == "GridSample"]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type in _MOVING:
            yield node.name
            waiting += node.input
