"""The passes that run once per precision, when a network is compiled for inference.

``float32``: oneDNN folds batch norm, ReLU and residual sums into the convolutions; the result equals the network's to
rounding. ``bfloat16``: convolutions and matrix products with 8 bits of mantissa, accumulated in float32; softmax, norms
and resizing stay in float32. ``float16``: the same for GPUs. ``int8``: convolutions on integers, with one scale for
each channel of a weight, and the range of each activation measured on real images (Jacob et al. 2018, section 2);
layers that cost accuracy stay in float32.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mxnet as mx

from .graph import Entry, Graph
from .half_precision import convert_with_weights
from .idle import idle_operators
from .int8 import quantize
from .passes import Pass

# MXNet's pass for oneDNN. Not optimize_for(), which then infers shapes and goes wrong on HRNet and CANetV2.
_ONEDNN = "MKLDNN"
# operators into which oneDNN folds an activation
_LAYERS = {"Convolution", "BatchNorm", "elemwise_add"}


@dataclass(frozen=True)
class NetworkGraph:
    """The main output of a network as a symbol of ``data``, with its weights.

    Attributes:
        symbol: normalised ``data`` (N, 3, H, W) -> logits.
        arguments, auxiliaries: parameters and running statistics by name.
        device_type: where it will run: ``'cpu'`` or ``'gpu'``.
        calibration: normalised images (1, 3, H, W), on which int8 measures the ranges of activations.
        float32_layers: names of the layers that int8 left in float32.
    """

    symbol: mx.sym.Symbol
    arguments: Mapping[str, mx.nd.NDArray]
    auxiliaries: Mapping[str, mx.nd.NDArray]
    device_type: str = "cpu"
    calibration: Sequence[mx.nd.NDArray] = ()
    float32_layers: tuple[str, ...] = ()


def use_activation_operator(network: NetworkGraph) -> NetworkGraph:
    """Write ``relu`` and ``sigmoid`` of a layer as the operator ``Activation``, the only one that oneDNN folds."""
    graph = Graph(network.symbol)
    for node in graph.nodes:
        if node["op"] in ("relu", "sigmoid") and graph.nodes[node["inputs"][0][0]]["op"] in _LAYERS:
            node.update(op="Activation", attrs={"act_type": node["op"]})
    return replace(network, symbol=graph.symbol())


def pad_odd_channels(network: NetworkGraph) -> NetworkGraph:
    """Give convolutions of an odd number of input channels one more channel, of zeros.

    oneDNN multiplies bfloat16 in pairs and has no fast kernel for an odd number of channels, such as the three of an
    image: its slow kernel takes 6.6 ms for 7x7 on 512 x 512, the fast one with four channels 4.0 ms.
    """
    graph, arguments = Graph(network.symbol), dict(network.arguments)
    graph.replace(idle_operators(graph))
    padded: dict[Entry, Entry] = {}
    for node in list(graph.nodes):
        if node["op"] != "Convolution" or int(node["attrs"].get("num_group", 1)) != 1:
            continue
        data, weight = node["inputs"][:2]
        name = graph.nodes[weight[0]]["name"]
        value = network.arguments.get(name)
        if value is None or value.ndim != 4 or value.shape[1] % 2 == 0:
            continue

        if data not in padded:
            padded[data] = _with_zero_channel(graph, data, f"{node['name']}_even")
        node["inputs"][0] = padded[data]
        graph.nodes[weight[0]]["attrs"].pop("__shape__", None)
        arguments[name] = mx.nd.concat(value, mx.nd.zeros_like(value[:, :1]), dim=1)
    return replace(network, symbol=graph.symbol(), arguments=arguments)


def _with_zero_channel(graph: Graph, data: Entry, stem: str) -> Entry:
    source = data
    # A part of a concatenation has the same height and width. Reading it leaves the whole to convolutions only.
    while graph.nodes[source[0]]["op"] == "Concat" and graph.nodes[source[0]]["attrs"].get("dim", "1") == "1":
        source = graph.nodes[source[0]]["inputs"][0]
    channel = graph.add("slice_axis", f"{stem}_slice", [source], axis="1", begin="0", end="1")
    zeros = graph.add("zeros_like", f"{stem}_zeros", [channel])
    return graph.add("Concat", f"{stem}_concat", [data, zeros], num_args="2", dim="1")


def convert_to_bfloat16(network: NetworkGraph) -> NetworkGraph:
    """Convert convolutions and dense layers to bfloat16, with their weights."""
    return _convert(network, "bfloat16")


def convert_to_float16(network: NetworkGraph) -> NetworkGraph:
    """Convert convolutions and dense layers to float16, with their weights."""
    return _convert(network, "float16")


def _convert(network: NetworkGraph, precision: str) -> NetworkGraph:
    symbol, arguments, auxiliaries = convert_with_weights(
        network.symbol, network.arguments, network.auxiliaries, precision)
    return replace(network, symbol=symbol, arguments=arguments, auxiliaries=auxiliaries)


def cast_before_concatenation(network: NetworkGraph) -> NetworkGraph:
    """Move casts to bfloat16 from after a concatenation to before it, and cancel them with casts from bfloat16.

    If all readers of a concatenation want bfloat16, its parts are joined in bfloat16: half as much memory is moved, and
    parts that are bfloat16 already are not cast twice. The result is the same bit for bit.
    """
    graph = Graph(network.symbol)
    graph.replace(idle_operators(graph))
    types = graph.infer("type", data="float32")
    replacements: dict[Entry, Entry] = {}
    for number in reversed(range(len(graph.nodes))):
        node = graph.nodes[number]
        if node["op"] != "Concat":
            continue
        readers = graph.readers()[number, 0]
        if all(graph.casts_to(reader, "bfloat16") for reader in readers):
            node["inputs"] = [graph.add("amp_cast", f"{node['name']}_half{i}", [entry], dtype="bfloat16")
                              for i, entry in enumerate(node["inputs"])]
            replacements.update({(reader, 0): (number, 0) for reader in readers})
    graph.replace(replacements)

    replacements = {}
    for number, node in enumerate(graph.nodes):
        if graph.casts_to(number, "bfloat16") and graph.casts_to(node["inputs"][0][0], "float32"):
            origin = graph.nodes[node["inputs"][0][0]]["inputs"][0]
            if types.get(graph.output(origin)) == "bfloat16":
                replacements[number, 0] = origin
    graph.replace(replacements)
    return replace(network, symbol=graph.symbol())


def fuse_layers(network: NetworkGraph) -> NetworkGraph:
    """Let oneDNN fold norms, activations and sums into convolutions, on CPUs."""
    if network.device_type != "cpu":
        return network
    return replace(network, symbol=network.symbol.get_backend_symbol(_ONEDNN))


def convert_to_int8(network: NetworkGraph) -> NetworkGraph:
    """Convert the layers to int8 that keep the classes of the calibration images."""
    symbol, arguments, auxiliaries, float32_layers = quantize(
        network.symbol, network.arguments, network.auxiliaries, network.calibration)
    return replace(network, symbol=symbol, arguments=arguments, auxiliaries=auxiliaries,
                   float32_layers=float32_layers)


_ACTIVATIONS, _FUSION = Pass("activations", use_activation_operator), Pass("onednn-fusion", fuse_layers)
# precision -> its passes, in order
PRECISION_PASSES: Mapping[str, Sequence[Pass[NetworkGraph]]] = {
    "float32": (_ACTIVATIONS, _FUSION),
    "bfloat16": (_ACTIVATIONS, Pass("even-channels", pad_odd_channels), Pass("to-bfloat16", convert_to_bfloat16),
                 Pass("early-casts", cast_before_concatenation), _FUSION),
    "float16": (_ACTIVATIONS, Pass("to-float16", convert_to_float16), _FUSION),
    "int8": (_ACTIVATIONS, Pass("to-int8", convert_to_int8)),
}
