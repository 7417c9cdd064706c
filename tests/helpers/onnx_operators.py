"""An operator in ONNX Runtime against the same operator in MXNet."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np
import onnxruntime

from mxnetseg import to_onnx
from mxnetseg.graph.symbol_file import SymbolGraph, SymbolNode, symbol_text


def session(model):
    """Return a session of ONNX Runtime on one thread, which reports errors only."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def build(op: str, arguments: Mapping[str, str], count: int, outputs: int = 1) -> SymbolGraph:
    """Return the graph of one operator with the inputs x0, x1, ...; an operator without inputs follows an output x0."""
    if not count:
        nodes = SymbolNode("null", "x0", {}, ()), SymbolNode(op, "op", arguments, ())
        return SymbolGraph(nodes, ((0, 0), *((1, k) for k in range(outputs))))
    nodes = [SymbolNode("null", f"x{i}", {}, ()) for i in range(count)]
    nodes.append(SymbolNode(op, "op", arguments, tuple((i, 0) for i in range(count))))
    return SymbolGraph(tuple(nodes), tuple((count, k) for k in range(outputs)))


def compare_with_mxnet(op: str, arguments: Mapping[str, str], inputs: Sequence[tuple[int, ...] | np.ndarray], *,
                       outputs: int = 1, aux: Sequence[int] = (), label: bool = False, positive: bool = False,
                       small: bool = False, tolerance: float = 2e-5, seed: int = 0, static: bool = False,
                       **_: object) -> None:
    """Assert that ONNX Runtime and MXNet compute the same in an inference.

    Args:
        op, arguments: the operator.
        inputs: shapes of random tensors, or arrays. Those of one axis or of whole numbers are parameters, except for
            the first.
        outputs: the number of outputs.
        aux: numbers of the inputs that are running statistics.
        label: the inputs after the first are not used.
        positive, small: random values above 0.1, or between -0.9 and 0.9.
        tolerance: relative to the largest value, or absolute if that is below 1.
        seed: of the random values.
        static: the sizes of the inputs are known at the conversion; otherwise all but the channels of 4 axes may vary.
    """
    random = np.random.RandomState(seed)

    def values_of(spec):
        if not isinstance(spec, tuple):
            return spec
        value = random.normal(size=spec).astype("float32")
        return np.abs(value) + np.float32(0.1) if positive else np.tanh(value) * np.float32(0.9) if small else value

    values = [values_of(spec) for spec in inputs or [(1,)]]
    for i in aux:
        values[i] = np.abs(values[i])
    graph = build(op, arguments, len(inputs), outputs)

    symbol = mx.sym.load_json(symbol_text(graph))
    arrays = {f"x{i}": mx.nd.array(value, dtype=value.dtype) for i, value in enumerate(values) if i not in aux}
    statistics = {f"x{i}": mx.nd.array(values[i]) for i in aux}
    executor = symbol.bind(mx.cpu(), arrays, aux_states=statistics)
    wanted = [output.asnumpy() for output in executor.forward(is_train=False)]

    parameters = {f"x{i}": value for i, value in enumerate(values)
                  if i and (value.ndim == 1 or i in aux or value.dtype != np.float32)}
    if values[0].dtype != np.float32:  # the inputs of a model are float32
        cast = SymbolNode("Cast", "cast", {"dtype": str(values[0].dtype)}, ((0, 0),))
        first, *others, node = graph.nodes
        inputs_ = tuple((1 if i == 0 else i + 1, 0) for i, _ in node.inputs)
        graph = graph._replace(nodes=(first, cast, *others, node._replace(inputs=inputs_)),
                               heads=tuple((number + 1, k) for number, k in graph.heads))
        values[0] = values[0].astype(np.float32)
    fed = {f"x{i}": value for i, value in enumerate(values) if f"x{i}" not in parameters and not (i and label)}
    shapes = {name: value.shape if static else [
        n if axis == 1 and value.ndim == 4 else f"{name}_{axis}" for axis, n in enumerate(value.shape)]
        for name, value in fed.items()}
    model = to_onnx(graph, parameters, inputs=list(fed), outputs="all", shapes=shapes)
    got = session(model).run(None, fed)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        assert one.shape == other.shape, (one.shape, other.shape)
        assert one.dtype == other.dtype, (one.dtype, other.dtype)
        assert np.abs(one - other).max() <= tolerance * max(1, np.abs(other).max())
