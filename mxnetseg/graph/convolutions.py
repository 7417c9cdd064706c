"""The fused 3x3 convolutions of a graph, and how other operators take the place of one."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, product
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .._processor import has_avx512
from .graph import Entry, Graph

# what oneDNN's fusion calls a convolution with what follows it
_FUSED = "_sg_mkldnn_conv"


def rewriting_pays(variable: str) -> bool:
    """Whether it does on this processor, or the environment's ``variable`` says so: 1 anywhere, 0 nowhere.

    By itself without AVX-512 only: with it multiplications take half of the time, and moving memory takes as long.
    """
    return os.environ.get(variable, "0" if has_avx512() else "1") != "0"


class Norm(NamedTuple):
    """A batch norm behind a convolution: names of its parameters, and its ``eps``; ``gamma`` None stands for ones."""

    gamma: Optional[str]
    beta: str
    mean: str
    variance: str
    eps: float


@dataclass(frozen=True)
class Convolution:
    """A float32 convolution of stride 1 that keeps the size of its map: (N, C, H, W) -> (N, K, H, W).

    Attributes:
        node: of the graph, with what is fused into it.
        weight: name of its weight, (K, C, 3, 3).
        bias: name of its bias, if it has one.
        norm: the batch norm that is fused into it, if there is one.
        shape: of its input.
        filters: ``K``.
        dilation: the same along both axes.
    """

    node: dict
    weight: str
    bias: Optional[str]
    norm: Optional[Norm]
    shape: Tuple[int, int, int, int]
    filters: int
    dilation: int

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        n, channels, height, width = self.shape
        return 18.0 * n * channels * self.filters * height * width

    @property
    def name(self) -> str:
        """Of what :meth:`folded` gives: the same wherever it is the same."""
        return f"{self.weight}_{self.norm.beta}" if self.norm else self.weight

    def folded(self, values: Mapping[str, mx.nd.NDArray]) -> Tuple[np.ndarray, np.ndarray]:
        """Its weight with that of the norm, and what bias and norm add to its output, (1, K, 1, 1).

        Args:
            values: the parameters.
        """
        weight = values[self.weight].asnumpy()
        shift = values[self.bias].asnumpy() if self.bias else 0
        if self.norm:
            gamma, beta, mean, variance = (
                1 if name is None else values[name].asnumpy() for name in self.norm[:4])
            scale = gamma / np.sqrt(variance + self.norm.eps)
            weight, shift = weight * scale[:, None, None, None], beta + (shift - mean) * scale
        return weight, np.reshape(shift, (1, -1, 1, 1))


def convolutions(graph: Graph, shapes: Mapping[str, Any], types: Mapping[str, str],
                 values: Mapping[str, mx.nd.NDArray]) -> Iterator[Convolution]:
    """Those of ``graph``; the caller may replace each when it comes.

    Args:
        shapes, types: of its outputs, by name.
        values: its parameters.
    """
    for node in list(graph.nodes):
        parts = node.get("subgraphs", [{"nodes": []}])[0]["nodes"]
        fused = {part["op"]: part for part in parts}
        dilation = dilation_of(fused.get("Convolution", {}).get("attrs", {}))
        if node["op"] != _FUSED or "quantized" in node["attrs"] or not dilation:
            continue
        outer = iter(graph.output(entry) for entry in node["inputs"])
        names = [next(outer) if part["op"] == "null" else None for part in parts]

        def inputs(op, names=names, fused=fused):
            return [names[i] for i, *_ in fused[op]["inputs"]] if op in fused else []
        (data, weight, *bias), norm = inputs("Convolution"), inputs("BatchNorm")
        known = all(name in values for name in (weight, *bias, *norm[1:]))
        if known and types.get(data) == "float32" and data in shapes:
            yield Convolution(node, weight, bias[0] if bias else None,
                              _norm(norm[1:], fused["BatchNorm"]["attrs"]) if norm else None,
                              shapes[data], values[weight].shape[0], dilation)


def dilation_of(attrs: Mapping[str, str]) -> int:
    """Of a 3x3 convolution of one group that keeps the size of its map; 0 for others."""
    def pair(key, default):
        return [int(number) for number in re.findall(r"\d+", attrs.get(key, default))]
    dilation = pair("dilate", "(1, 1)")
    same = pair("kernel", "") == [3, 3] and pair("stride", "(1, 1)") == [1, 1] and pair("pad", "(0, 0)") == dilation
    return dilation[0] if same and len(set(dilation)) == 1 and int(attrs.get("num_group", 1)) == 1 else 0


def _norm(names: Sequence[str], attrs: Mapping[str, str]) -> Norm:
    fixed = attrs.get("fix_gamma", "True") == "True"
    gamma, beta, mean, variance = names
    return Norm(None if fixed else gamma, beta, mean, variance, float(attrs.get("eps", 1e-3)))


@dataclass(frozen=True)
class Span:
    """Outputs ``[begin, end)`` along an axis."""

    begin: int
    end: int

    @property
    def reads(self) -> Tuple[int, int]:
        """The inputs [begin, end) that they need; along the pictures of a batch the same."""
        return self.begin, self.end


def instead_of(node: dict, graph: Graph) -> Callable[..., Entry]:
    """``add(op, *inputs, **attributes)``: writes an operator, named after the node that it replaces; its output."""
    numbers = count(1)

    def add(op: str, *inputs: Entry, **attributes) -> Entry:
        return graph.add(op, f"{node['name']}_instead{next(numbers)}", inputs,
                         **{key: str(value) for key, value in attributes.items()})
    return add


class Writer:
    """Writes other operators into a graph, in the place of a convolution.

    Args:
        graph: where to.
        convolution: which one.
        values: the parameters.
        weights: what is made of weights, by name, for all sizes; what is missing is added.

    Attributes:
        add: writes an operator, see :func:`instead_of`.
    """

    def __init__(self, graph: Graph, convolution: Convolution, values: Mapping[str, mx.nd.NDArray],
                 weights: Dict[str, mx.nd.NDArray]):
        self.convolution = convolution
        self.add = instead_of(convolution.node, graph)
        self._graph, self._weights = graph, weights
        self._folded = lru_cache(None)(lambda: convolution.folded(values))

    def constant(self, name: str, constants: Dict[str, mx.nd.NDArray], make: Callable[[], np.ndarray]) -> Entry:
        """A float32 constant, which is made where there is none of its name yet."""
        if name not in constants:
            constants[name] = mx.nd.array(make(), dtype="float32")
        return self._graph.variable(name)

    def weight(self, kind: str, make: Callable[[np.ndarray], np.ndarray]) -> Entry:
        """What ``make`` makes of the weight (K, C, 3, 3) with the norm folded in."""
        return self.constant(f"{self.convolution.name}_{kind}", self._weights, lambda: make(self._folded()[0]))

    def replace(self, compute: Callable[[Entry], Entry]) -> None:
        """Put operators in the place of the convolution and its norm; what else was fused into it follows unfused.

        Args:
            compute: writes them, without bias: map -> map.
        """
        node = self.convolution.node
        outer, made = iter(node["inputs"]), []
        for part in node.pop("subgraphs")[0]["nodes"]:
            inputs = [made[i] for i, *_ in part["inputs"]]
            if part["op"] == "null":
                made.append(next(outer))
            elif part["op"] == "Convolution":
                made.append(self._shifted(compute(inputs[0])))
            elif part["op"] == "BatchNorm":
                made.append(inputs[0])
            else:
                made.append(self.add(part["op"], *inputs, **part.get("attrs", {})))
        # readers know the node by its number and its name
        last = self._graph.nodes[made[-1][0]]
        node.update(op=last["op"], attrs=last["attrs"], inputs=last["inputs"])

    def in_blocks(self, pictures: Sequence[Span], rows: Sequence[Span], columns: Sequence[Span],
                  block: Callable[[Any, Any, Entry], Entry], x: Entry) -> Entry:
        """(N, C, H, W) -> (N, K, H, W), block after block; one that is done takes memory in the whole only.

        Args:
            pictures, rows, columns: spans of the outputs.
            block: makes one without bias: ``block(row, column, what they read of some pictures)``.
        """
        shape, filters = self.convolution.shape, self.convolution.filters
        if len(pictures) == len(rows) == len(columns) == 1:
            return block(rows[0], columns[0], x)
        x = self.add("Reshape", x, shape=shape)  # lays it out plainly, once, or else every slice would do it again
        whole = self.add("_zeros", shape=(shape[0], filters, *shape[2:]), dtype="float32")
        for row, picture, column in product(rows, pictures, columns):
            begin, end = zip(picture.reads, (0, shape[1]), row.reads, column.reads)
            part = block(row, column, self.add("slice", x, begin=begin, end=end))
            whole = self.add("_slice_assign", whole, part,  # in place
                             begin=(picture.begin, 0, row.begin, column.begin),
                             end=(picture.end, filters, row.end, column.end))
        # MXNet prepares gradients for any graph, and _slice_assign has none
        return self.add("BlockGrad", whole)

    def _shifted(self, x: Entry) -> Entry:
        if not self.convolution.bias and not self.convolution.norm:
            return x
        return self.add("broadcast_add", x, self.constant(
            f"{self.convolution.name}_shift", self._weights, lambda: self._folded()[1]))
