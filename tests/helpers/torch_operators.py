"""An operator in PyTorch against the same operator in MXNet: values, gradients and running statistics."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np
import torch

from mxnetseg import to_torch
from mxnetseg.backends import torch_indexing, torch_layers, torch_shapes  # noqa: F401  (they fill the table)
from mxnetseg.graph.symbol_file import SymbolGraph, SymbolNode, symbol_text


def build(op: str, arguments: Mapping[str, str], count: int, outputs: int = 1) -> SymbolGraph:
    """Return the graph of one operator with the inputs x0, x1, ...; an operator without inputs follows an output x0."""
    if not count:
        nodes = SymbolNode("null", "x0", {}, ()), SymbolNode(op, "op", arguments, ())
        return SymbolGraph(nodes, ((0, 0), *((1, k) for k in range(outputs))))
    nodes = [SymbolNode("null", f"x{i}", {}, ()) for i in range(count)]
    nodes.append(SymbolNode(op, "op", arguments, tuple((i, 0) for i in range(count))))
    return SymbolGraph(tuple(nodes), tuple((count, k) for k in range(outputs)))


def compare_with_mxnet(op: str, arguments: Mapping[str, str], inputs: Sequence[tuple[int, ...] | np.ndarray], *,
                       outputs: int = 1, aux: Sequence[int] = (), no_gradient: Sequence[int] = (),
                       heads: Sequence[int] | None = None, evaluate: bool = False, label: bool = False,
                       positive: bool = False, small: bool = False, tolerance: float = 2e-5, seed: int = 0) -> None:
    """Assert that PyTorch and MXNet compute the same.

    Args:
        op, arguments: the operator.
        inputs: shapes of random tensors, or arrays.
        outputs: the number of outputs.
        aux: numbers of the inputs that are running statistics.
        no_gradient: numbers of the inputs whose gradients are not compared.
        heads: numbers of the outputs that are propagated back; None: all.
        evaluate: compare the values outside training.
        label: the inputs after the first are not used in PyTorch.
        positive, small: random values above 0.1, or between -0.9 and 0.9.
        tolerance: relative to the largest value, or absolute if that is below 1.
        seed: of the random values.
    """
    random = np.random.RandomState(seed)

    def values_of(spec):
        if not isinstance(spec, tuple):
            return spec
        value = random.normal(size=spec).astype("float32")
        return np.abs(value) + np.float32(0.1) if positive else np.tanh(value) * np.float32(0.9) if small else value

    def close(got, wanted, what):
        assert got.shape == wanted.shape, (what, got.shape, wanted.shape)
        assert got.dtype == wanted.dtype, (what, got.dtype, wanted.dtype)
        assert np.abs(got - wanted).max() <= tolerance * max(1, np.abs(wanted).max()), what

    values = [values_of(spec) for spec in inputs or [(1,)]]
    for i in aux:
        values[i] = np.abs(values[i])
    graph = build(op, arguments, len(inputs), outputs)

    symbol = mx.sym.load_json(symbol_text(graph))
    arrays = {f"x{i}": mx.nd.array(value, dtype=value.dtype) for i, value in enumerate(values) if i not in aux}
    skipped = {f"x{i}" for i in no_gradient}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items()
                 if not evaluate and name not in skipped}
    statistics = {f"x{i}": mx.nd.array(values[i]) for i in aux}
    executor = symbol.bind(mx.cpu(), arrays, gradients, "write", aux_states=statistics)
    wanted = [output.asnumpy() for output in executor.forward(is_train=not evaluate)]
    followed = range(len(wanted)) if heads is None else heads
    above = [random.normal(size=output.shape).astype("float32") * (k in followed) for k, output in enumerate(wanted)]

    names = [f"x{i}" for i in range(len(values)) if i not in aux and not (i and label)]
    module = to_torch(graph, {f"aux:x{i}": values[i] for i in aux}, inputs=names).train(not evaluate)
    tensors = [torch.tensor(values[int(name[1:])]) for name in names]
    tensors = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in tensors]
    got = module(*tensors)
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        close(one.detach().numpy(), other, "values")

    if not evaluate and not skipped >= set(names):
        executor.backward([mx.nd.array(head, dtype=output.dtype) for head, output in zip(above, wanted)])
        pairs = [(output, torch.tensor(head)) for output, head in zip(got, above) if output.requires_grad]
        torch.autograd.backward([output for output, _ in pairs], [head for _, head in pairs])
        for name, tensor in zip(names, tensors):
            if name not in skipped:
                gradient = np.zeros(tensor.shape, "float32") if tensor.grad is None else tensor.grad.numpy()
                close(gradient, gradients[name].asnumpy(), f"gradient of {name}")
    state = module.state_dict()
    for name, array in statistics.items():
        close(state[name].numpy(), array.asnumpy(), f"statistics {name}")
