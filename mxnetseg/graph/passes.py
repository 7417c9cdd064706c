"""Rewritings of a network's graph that change no result: what MXNet itself leaves to be done at every picture.

``Fused`` and ``PerSize`` use them; ``--precision plain`` leaves all of them out.
"""
from __future__ import annotations

import re
from types import MappingProxyType
from typing import Dict, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np

from .dilated import without_zeros
from .graph import Entry, Graph
from .winograd import winograd

_BFLOAT16 = "bfloat16"
# operators whose output is known once its shape is
_OF_SHAPE = {"_contrib_arange_like": lambda shape: np.arange(*shape, dtype="float32"),
             "ones_like": lambda shape: np.ones(shape, "float32"),
             "zeros_like": lambda shape: np.zeros(shape, "float32")}
# operators into which an activation can be folded
_LAYERS = {"Convolution", "BatchNorm", "elemwise_add"}


def activations(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """``relu`` and ``sigmoid`` of a layer as the operator ``Activation``, the only one that oneDNN folds into it."""
    graph = Graph(symbol)
    for node in graph.nodes:
        if node["op"] in ("relu", "sigmoid") and graph.nodes[node["inputs"][0][0]]["op"] in _LAYERS:
            node.update(op="Activation", attrs={"act_type": node["op"]})
    return graph.symbol()


def even_inputs(symbol: mx.sym.Symbol, arguments: Mapping[str, mx.nd.NDArray]):
    """Convolutions of an odd number of channels get one more, of zeros.

    oneDNN multiplies bfloat16 in pairs and has no fast kernel for an odd number, such as a picture's three channels:
    its slow one takes 6.6 ms for 7x7 on 512 x 512, the fast one of four channels 4.0.

    Returns:
        the symbol, and the arguments with the wider weights.
    """
    graph, even = Graph(symbol), dict(arguments)
    graph.replace(_idle(graph))
    wider: Dict[Entry, Entry] = {}
    for node in list(graph.nodes):
        if node["op"] != "Convolution" or int(node["attrs"].get("num_group", 1)) != 1:
            continue
        data, weight = node["inputs"][:2]
        name = graph.nodes[weight[0]]["name"]
        value = arguments.get(name)
        if value is None or value.ndim != 4 or value.shape[1] % 2 == 0:
            continue
        if data not in wider:
            stem, part = f"{node['name']}_even", data
            # a part of a concatenation is as high and wide, and leaves the whole to be read by convolutions only
            while graph.nodes[part[0]]["op"] == "Concat" and graph.nodes[part[0]]["attrs"].get("dim", "1") == "1":
                part = graph.nodes[part[0]]["inputs"][0]
            one = graph.add("slice_axis", f"{stem}_slice", [part], axis="1", begin="0", end="1")
            zeros = graph.add("zeros_like", f"{stem}_zeros", [one])
            wider[data] = graph.add("Concat", f"{stem}_concat", [data, zeros], num_args="2", dim="1")
        node["inputs"][0] = wider[data]
        graph.nodes[weight[0]]["attrs"].pop("__shape__", None)
        even[name] = mx.nd.concat(value, mx.nd.zeros_like(value[:, :1]), dim=1)
    return graph.symbol(), even


def early_casts(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Casts to bfloat16 behind a concatenation go before it, and cancel with casts from bfloat16 there.

    Where all that reads a concatenation wants bfloat16, its parts are joined in bfloat16: half as much memory is
    moved, and what is bfloat16 already is not cast to and fro. Bit for bit the same.

    Args:
        symbol: of a float32 ``data``; its parameters know their types.
    """
    graph = Graph(symbol)
    graph.replace(_idle(graph))
    types = graph.infer("type", data="float32")
    instead: Dict[Entry, Entry] = {}
    for number in reversed(range(len(graph.nodes))):
        node = graph.nodes[number]
        if node["op"] != "Concat":
            continue
        readers = graph.readers()[number, 0]
        if all(_casts(graph, reader, _BFLOAT16) for reader in readers):
            node["inputs"] = [graph.add("amp_cast", f"{node['name']}_half{i}", [entry], dtype="bfloat16")
                              for i, entry in enumerate(node["inputs"])]
            instead.update({(reader, 0): (number, 0) for reader in readers})
    graph.replace(instead)
    instead = {}
    for number, node in enumerate(graph.nodes):
        if _casts(graph, number, _BFLOAT16) and _casts(graph, node["inputs"][0][0], "float32"):
            origin = graph.nodes[node["inputs"][0][0]]["inputs"][0]
            if types.get(graph.output(origin)) == _BFLOAT16:
                instead[number, 0] = origin
    graph.replace(instead)
    return graph.symbol()


def for_size(symbol: mx.sym.Symbol, shape: Sequence[int], dtype: str, values: Mapping[str, mx.nd.NDArray],
             context: mx.Context, weights: Optional[Dict[str, mx.nd.NDArray]] = None,
             ) -> Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray]]:
    """The graph of an inference for inputs of one size.

    What depends on sizes and weights only, such as the weights of resizing, is computed here, once. Products with it
    are left to oneDNN, which is twice as fast as ``dot``. What does nothing in an inference is left out: casts to the
    type that a map has, ``BlockGrad``, dropout.

    Args:
        symbol: of ``data``.
        shape, dtype: of ``data``.
        values: the parameters.
        context: where it will run.
        weights: constants that do not depend on the size, by name, for the next one; what is missing is added.

    Returns:
        the symbol, and the new constants that it reads; of ``weights`` it reads those of that name.
    """
    graph, constants, weights = Graph(symbol), {}, {} if weights is None else weights
    shapes, types = graph.infer("shape", data=tuple(shape)), graph.infer("type", data=dtype)
    graph.replace(_idle(graph, types))
    if context.device_type == "cpu":
        _leave_pooling_to_onednn(graph, shapes, types)
        constants = winograd(graph, shapes, types, values, weights)
        without_zeros(graph, shapes, types, values, weights)
    fixed = _fixed(graph, types)
    wanted = [entry for entry, readers in graph.readers().items()
              if entry[0] in fixed and any(reader not in fixed for reader in readers)]
    values = dict(values)
    for number in fixed:
        node = graph.nodes[number]
        if node["op"] in _OF_SHAPE:
            values[node["name"]] = mx.nd.array(_OF_SHAPE[node["op"]](shapes[graph.output((number, 0))]), ctx=context)
            node.update(op="null", inputs=[], attrs={})
    if wanted:
        sub = graph.symbol(wanted)
        results = sub.eval(ctx=context, **{name: values[name] for name in sub.list_inputs()})
        graph.replace({entry: graph.variable(f"constant{i}") for i, entry in enumerate(wanted)})
        constants.update({f"constant{i}": value for i, value in enumerate(results)})
    if context.device_type == "cpu":
        _leave_products_to_onednn(graph, types, constants)
    symbol = graph.symbol()
    return symbol, {name: constants[name] for name in symbol.list_inputs() if name in constants}


def _idle(graph: Graph, types: Mapping[str, str] = MappingProxyType({})) -> Dict[Entry, Entry]:
    """Outputs that are an input as it is -> that input. Casts need ``types`` to be known for it."""
    found: Dict[Entry, Entry] = {}
    for number, node in enumerate(graph.nodes):
        if node["op"] in ("BlockGrad", "_copy") or node["op"] == "Dropout" and node["attrs"].get("mode") != "always":
            found[number, 0] = node["inputs"][0]
        elif node["op"] in ("amp_cast", "amp_multicast"):
            for k, entry in enumerate(node["inputs"]):
                before, after = types.get(graph.output(entry)), types.get(graph.output((number, k)))
                if before is not None and before == after:
                    found[number, k] = entry
    return found


def _fixed(graph: Graph, types: Mapping[str, str]) -> Set[int]:
    """The nodes that depend on sizes, and on nothing else but weights."""
    fixed: Set[int] = set()
    for number, node in enumerate(graph.nodes):
        if node["op"] in _OF_SHAPE:
            told = {name for name in node["attrs"] if not name.startswith("__")}
            along_an_axis = told == ({"axis"} if node["op"] == "_contrib_arange_like" else set())
            if along_an_axis and types.get(graph.output((number, 0))) == "float32":
                fixed.add(number)
            continue
        before = [i for i, _ in node["inputs"]]
        if any(i in fixed for i in before) and "subgraphs" not in node and all(
                i in fixed or graph.nodes[i]["op"] == "null" and graph.nodes[i]["name"] != "data" for i in before):
            fixed.add(number)
    return fixed


def _leave_pooling_to_onednn(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str]) -> None:
    """Adaptive mean pooling, for which maps are laid out anew, as mean pooling: where its cells are all alike.

    Of a bfloat16 map whose means are wanted in bfloat16, it is not cast first: oneDNN adds up in float32.
    """
    readers, instead = graph.readers(), {}
    for number, node in enumerate(graph.nodes):
        attrs = node["attrs"]
        of_map = node["op"] == "mean" and (attrs.get("axis"), attrs.get("keepdims")) == ("(2, 3)", "True")
        if not of_map and node["op"] != "_contrib_AdaptiveAvgPooling2D" \
                or graph.output(node["inputs"][0]) not in shapes:
            continue
        cells = [int(n) for n in re.findall(r"\d+", attrs.get("output_size", "1"))] * 2
        windows = [_windows(*pair) for pair in zip(shapes[graph.output(node["inputs"][0])][2:], cells)]
        if None in windows or len(cells) > 4:
            continue
        kernel, stride = (str(tuple(pair)) for pair in zip(*windows))
        node.update(op="Pooling", attrs={"pool_type": "avg", "kernel": kernel, "stride": stride})
        cast, after = graph.nodes[node["inputs"][0][0]], readers.get((number, 0), [-1])
        if cast["op"] == "amp_cast" and types.get(graph.output(cast["inputs"][0])) == _BFLOAT16 \
                and all(_casts(graph, reader, _BFLOAT16) for reader in after):
            node["inputs"] = cast["inputs"]
            instead.update({(reader, 0): (number, 0) for reader in after})
    graph.replace(instead)


def _windows(length: int, cells: int) -> Optional[Tuple[int, int]]:
    """Size and step of the cells of adaptive pooling along an axis, if they are all of one size and step."""
    begins = [i * length // cells for i in range(cells)]
    sizes = {-(-(i + 1) * length // cells) - begin for i, begin in enumerate(begins)}
    steps = {after - before for before, after in zip(begins, begins[1:])} or {length}
    if len(sizes) > 1 or len(steps) > 1 or 0 in steps:
        return None
    return sizes.pop(), steps.pop()


def _casts(graph: Graph, number: int, kind: str) -> bool:
    """Whether a node (-1: the outside) casts to ``kind``."""
    node = graph.nodes[number]
    return number >= 0 and node["op"] == "amp_cast" and node["attrs"]["dtype"] == kind


def _leave_products_to_onednn(graph: Graph, types: Mapping[str, str], constants: Dict[str, mx.nd.NDArray]) -> None:
    """``dot(x, constant)``, which goes to OpenBLAS, as a dense layer."""
    turned: Dict[str, Entry] = {}
    for node in list(graph.nodes):
        if node["op"] != "dot" or "True" in (node["attrs"].get("transpose_a"), node["attrs"].get("transpose_b")):
            continue
        x, factor = node["inputs"]
        name = graph.nodes[factor[0]]["name"]
        value = constants.get(name)
        if value is None or value.ndim != 2 or types.get(graph.output(x)) != "float32":
            continue
        if name not in turned:
            constants[f"{name}_turned"] = value.T
            turned[name] = graph.variable(f"{name}_turned")
        node.update(op="FullyConnected", inputs=[x, turned[name]],
                    attrs={"num_hidden": str(value.shape[1]), "no_bias": "True", "flatten": "False"})
