"""Training steps with their loss, and outputs of networks, in PyTorch and in MXNet: in float32 and in float64."""
from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np
import torch

from mxnetseg import to_torch
from mxnetseg.backends.mxnet_step import Step

_ROOT = Path(__file__).resolve().parents[2]


def life() -> Any:
    """Return tests/models/test_life.py, which builds every network in a small form."""
    spec = importlib.util.spec_from_file_location("life", _ROOT / "tests/models/test_life.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_dropout(net: mx.gluon.HybridBlock) -> None:
    """Switch off everything that is random in training."""
    def switch_off(block):
        if isinstance(block, mx.gluon.nn.Dropout):
            block._rate = 0
    net.apply(switch_off)


class Results(NamedTuple):
    """Value of the loss; gradients and, after the step, running statistics by structural name."""

    loss: float
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


def mxnet_step(net: Any, loss: Any, images: np.ndarray, labels: np.ndarray, dtype: str = "float64") -> Results:
    """Compute a step in MXNet, in float32 or with all of the graph in float64."""
    step = _step(net, loss)
    symbol = mx.sym.Group([number for term in step(mx.sym.var("images"), mx.sym.var("labels")) for number in term])
    symbol = _with_type(symbol, dtype)
    data = {"images": mx.nd.array(images, dtype="uint8"), "labels": mx.nd.array(labels, dtype="uint8")}
    names, parameters = {}, {}
    for name, parameter in step._collect_params_with_prefix().items():
        names.setdefault(parameter.name, name)
        parameters[parameter.name] = parameter
    values = {name: parameter.data().astype(dtype) for name, parameter in parameters.items()}
    trained = [name for name in symbol.list_arguments() if name not in data and parameters[name].grad_req != "null"]
    gradients = {name: mx.nd.zeros(values[name].shape, dtype=dtype) for name in trained}
    statistics = {name: values[name] for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), {name: data[name] if name in data else values[name]
                                      for name in symbol.list_arguments()}, gradients, "write", statistics)

    numbers = executor.forward(is_train=True)
    value, heads = 0.0, []
    for weight, total, count in zip(loss.weights, numbers[::2], numbers[1::2]):
        divisor = count + (count == 0)
        value += weight * float((total / divisor).asscalar())
        heads += [weight / divisor, mx.nd.zeros_like(count)]
    executor.backward(heads)
    mx.nd.waitall()
    for name in _slopes(symbol) & gradients.keys():
        # MXNet 1.9.1 computes PReLU in place, and its slope's gradient from the result: it is multiplied by the slope
        gradients[name][:] = gradients[name] / values[name]
    return Results(value, *({names[name][4:]: array.asnumpy() for name, array in found.items()}
                            for found in (gradients, statistics)))


def _slopes(symbol: Any) -> set[str]:
    """Return the names of the slopes of all PReLU layers."""
    nodes = json.loads(symbol.tojson())["nodes"]
    return {nodes[node["inputs"][1][0]]["name"] for node in nodes
            if node["op"] == "LeakyReLU" and len(node["inputs"]) > 1}


def torch_step(module: torch.nn.Module, weights: Any, images: np.ndarray, labels: np.ndarray) -> Results:
    """Compute the same with a converted :class:`~mxnetseg.engine.step.Step`."""
    numbers = module.train()(torch.from_numpy(images), torch.from_numpy(labels))
    value = sum(weight * total / (count + (count == 0)).detach()
                for weight, total, count in zip(weights, numbers[::2], numbers[1::2]))
    value.sum().backward()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained.items()}
    statistics = {name: value for name, value in module.state_dict().items() if name not in trained}
    return Results(float(value.detach()), *({name[4:].replace("half_.", "half."): value.numpy()
                                             for name, value in found.items()} for found in (gradients, statistics)))


def largest_difference(got: Results, wanted: Results) -> tuple[float, str]:
    """Return the largest difference of a gradient or a statistic, relative to its largest element, and its name.

    A gradient that is zero up to rounding (a bias before a batch norm) is compared with 1e-3 of the largest gradient,
    a mean with 1e-3 of the deviation.
    """
    def floor(name):
        variance = wanted.statistics.get(name.replace("mean", "var"))
        return 1e-12 if variance is None else 1e-3 * np.sqrt(variance.max())

    least = 1e-3 * max(np.abs(gradient).max() for gradient in wanted.gradients.values())
    assert set(got.gradients) == set(wanted.gradients)
    assert set(got.statistics) >= set(wanted.statistics)
    pairs = [(name, got.gradients[name], other, least) for name, other in wanted.gradients.items()]
    pairs += [(name, got.statistics[name], other, floor(name)) for name, other in wanted.statistics.items()]
    return max((float(np.abs(one - other).max() / max(np.abs(other).max(), lowest)), name)
               for name, one, other, lowest in pairs)


def mxnet_outputs(net: Any, x: np.ndarray, dtype: str = "float64") -> list[np.ndarray]:
    """Compute the outputs of a network, with all of the graph in ``dtype``."""
    outputs = net(mx.sym.var("data"))
    symbol = _with_type(mx.sym.Group(list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]), dtype)
    values = {parameter.name: parameter.data().astype(dtype) for parameter in net.collect_params().values()}
    values["data"] = mx.nd.array(x, dtype=dtype)
    executor = symbol.bind(mx.cpu(), {name: values[name] for name in symbol.list_arguments()},
                           aux_states={name: values[name] for name in symbol.list_auxiliary_states()})
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def _with_type(symbol: mx.sym.Symbol, dtype: str) -> mx.sym.Symbol:
    """Return a graph that computes in ``dtype`` where it asks for float32, such as in the loss."""
    content = json.loads(symbol.tojson())
    for node in content["nodes"]:
        if node["op"] == "one_hot" or node.get("attrs", {}).get("dtype") == "float32":
            node["attrs"]["dtype"] = dtype
    return mx.sym.load_json(json.dumps(content))


def convert_step(net: Any, loss: Any) -> torch.nn.Module:
    """Return the training graph with its loss as a module of (images, labels)."""
    return to_torch(_step(net, loss), inputs=("images", "labels"))


def _step(net: Any, loss: Any) -> Step:
    step = Step(net, loss)
    step.input.initialize()
    return step


def in_float64(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a converted network that computes in float64, also where the graph asks for float32."""
    module = copy.deepcopy(module)
    widths = {torch.float32: torch.float64, "float32": "float64"}

    def widen(value):
        return widths.get(value, value) if isinstance(value, (str, torch.dtype)) else value
    for node in module.graph.nodes:
        node.args = tuple(map(widen, node.args))
        node.kwargs = {key: widen(value) for key, value in node.kwargs.items()}
    module.recompile()
    return module.double()
