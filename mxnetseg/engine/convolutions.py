"""The fused 3x3 convolutions of a graph, and how other operators take the place of one."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

import mxnet as mx

from .rewiring import Entry, Graph

# what oneDNN's fusion calls a convolution with what follows it
_FUSED = "_sg_mkldnn_conv"


@dataclass(frozen=True)
class Convolution:
    """A float32 convolution of stride 1 that keeps the size of its map: (N, C, H, W) -> (N, K, H, W).

    Attributes:
        node: of the graph, with what is fused into it.
        weight: name of its weight, (K, C, 3, 3).
        shape: of its input.
        filters: ``K``.
        dilation: the same along both axes.
    """

    node: dict
    weight: str
    shape: Tuple[int, int, int, int]
    filters: int
    dilation: int

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        n, channels, height, width = self.shape
        return 18.0 * n * channels * self.filters * height * width


def convolutions(graph: Graph, shapes: Mapping[str, Sequence[int]], types: Mapping[str, str],
                 values: Mapping[str, mx.nd.NDArray]) -> Iterator[Convolution]:
    """Those of ``graph``; the caller may replace each when it comes.

    Args:
        shapes, types: of its outputs, by name.
        values: its parameters.
    """
    for node in list(graph.nodes):
        inner = node.get("subgraphs", [{"nodes": []}])[0]["nodes"]
        attrs = next((n["attrs"] for n in inner if n["op"] == "Convolution"), {})
        dilation = _dilation(attrs)
        if node["op"] != _FUSED or "quantized" in node["attrs"] or dilation is None:
            continue
        data, weight = (graph.output(entry) for entry in node["inputs"][:2])
        if weight in values and types.get(data) == "float32" and data in shapes:
            yield Convolution(node, weight, tuple(shapes[data]), values[weight].shape[0], dilation)


def _dilation(attrs: Mapping[str, str]) -> Optional[int]:
    """Of a 3x3 convolution that keeps the size of its map; None for others."""
    def pair(key, default):
        return [int(number) for number in re.findall(r"\d+", attrs.get(key, default))]
    dilation = pair("dilate", "(1, 1)")
    same = pair("kernel", "") == [3, 3] and pair("stride", "(1, 1)") == [1, 1] and pair("pad", "(0, 0)") == dilation
    return dilation[0] if same and len(set(dilation)) == 1 and int(attrs.get("num_group", 1)) == 1 else None


def replace(graph: Graph, convolution: Convolution, instead: Callable[[Entry], Entry]) -> None:
    """Put ``instead(input)``, a plain convolution's output, in its place; what was fused into it follows unfused."""
    node = convolution.node
    outer, made = iter(node["inputs"]), []
    for number, part in enumerate(node.pop("subgraphs")[0]["nodes"]):
        inputs = [made[i] for i, *_ in part["inputs"]]
        if part["op"] == "null":
            made.append(next(outer))
        elif part["op"] == "Convolution":
            made.append(instead(inputs[0]))
            if len(inputs) == 3:
                bias = graph.add("Reshape", f"{node['name']}_bias", inputs[2:], shape="(1, -1, 1, 1)")
                made[-1] = graph.add("broadcast_add", f"{node['name']}_biased", [made[-1], bias])
        else:
            made.append(graph.add(part["op"], f"{node['name']}_{number}", inputs, **part.get("attrs", {})))
    # readers know the node by its number and its name
    node.update(op="_copy", attrs={}, inputs=[made[-1]])
    last = graph.nodes[made[-1][0]]
    if last["name"].startswith(node["name"]):
        node.update(op=last["op"], attrs=last["attrs"], inputs=last["inputs"])


class Writer:
    """Adds operators to a graph.

    Args:
        graph: where to.
        stem: begins their names.
    """

    def __init__(self, graph: Graph, stem: str):
        self.graph, self._stem, self._count = graph, stem, 0

    def add(self, op: str, *inputs: Entry, **attributes) -> Entry:
        """A new operator's output."""
        self._count += 1
        return self.graph.add(op, f"{self._stem}{self._count}", inputs,
                              **{key: str(value) for key, value in attributes.items()})

    def constant(self, name: str, constants: Dict[str, mx.nd.NDArray], make: Callable[[], mx.nd.NDArray]) -> Entry:
        """A constant, which is made where there is none of its name yet."""
        if name not in constants:
            constants[name] = make()
        return self.graph.add("null", name)
