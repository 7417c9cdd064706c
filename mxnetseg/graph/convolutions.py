"""The fused 3x3 convolutions of a graph, and their replacement by other operators."""
from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, product
from typing import Any, Callable, NamedTuple

import mxnet as mx
import numpy as np

from .._processor import has_avx512
from .graph import Entry, Graph, ShapedGraph

# oneDNN's name of a convolution fused with the operators after it
_FUSED = "_sg_mkldnn_conv"
# multiplications and additions of a 3x3 window: 9 of each
_OPERATIONS_PER_OUTPUT = 18.0


def rewriting_pays(variable: str) -> bool:
    """Return whether to replace convolutions on this processor.

    Args:
        variable: an environment variable that decides if it is set: 1 always, 0 never. By default convolutions are
            replaced on processors without AVX-512 only. With it multiplications take half of the time, but moving
            memory takes as long.
    """
    return os.environ.get(variable, "0" if has_avx512() else "1") != "0"


class BatchNorm(NamedTuple):
    """A batch norm after a convolution: names of its parameters, and its ``eps``; ``gamma`` None stands for ones."""

    gamma: str | None
    beta: str
    mean: str
    variance: str
    eps: float


@dataclass(frozen=True)
class Convolution:
    """A float32 convolution of stride 1 that keeps the size of its map: (N, C, H, W) -> (N, K, H, W).

    Attributes:
        node: the node of the graph, which includes the operators fused into it.
        weight: name of its weight, (K, C, 3, 3).
        bias: name of its bias, if it has one.
        norm: the batch norm that is fused into it, if there is one.
        shape: of its input.
        filters: ``K``.
        dilation: the same along both axes.
    """

    node: dict
    weight: str
    bias: str | None
    norm: BatchNorm | None
    shape: tuple[int, int, int, int]
    filters: int
    dilation: int

    @property
    def operations(self) -> float:
        """Number of multiplications and additions."""
        n, channels, height, width = self.shape
        return _OPERATIONS_PER_OUTPUT * n * channels * self.filters * height * width

    @property
    def name(self) -> str:
        """Name of the result of :meth:`folded`; equal results have equal names."""
        return f"{self.weight}_{self.norm.beta}" if self.norm else self.weight

    def folded(self, values: Mapping[str, mx.nd.NDArray]) -> tuple[np.ndarray, np.ndarray]:
        """Fold the norm into the weight.

        Args:
            values: the parameters.

        Returns:
            the weight, and the sum of bias and norm's shift, (1, K, 1, 1).
        """
        weight = values[self.weight].asnumpy()
        shift = values[self.bias].asnumpy() if self.bias else 0
        if self.norm:
            gamma, beta, mean, variance = (
                1 if name is None else values[name].asnumpy() for name in self.norm[:4])
            scale = gamma / np.sqrt(variance + self.norm.eps)
            weight, shift = weight * scale[:, None, None, None], beta + (shift - mean) * scale
        return weight, np.reshape(shift, (1, -1, 1, 1))


def fused_convolutions(shaped: ShapedGraph) -> Iterator[Convolution]:
    """Yield the fused float32 convolutions of a graph; the caller may replace each one before it takes the next."""
    graph = shaped.graph
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

        is_known = all(name in shaped.values for name in (weight, *bias, *norm[1:]))
        if is_known and shaped.types.get(data) == "float32" and data in shaped.shapes:
            images, channels, height, width = shaped.shapes[data]
            yield Convolution(node, weight, bias[0] if bias else None,
                              _batch_norm(norm[1:], fused["BatchNorm"]["attrs"]) if norm else None,
                              (images, channels, height, width), shaped.values[weight].shape[0], dilation)


def dilation_of(attrs: Mapping[str, str]) -> int:
    """Return the dilation of a 3x3 convolution of one group that keeps the size of its map; 0 for any other."""
    def pair(key, default):
        return [int(number) for number in re.findall(r"\d+", attrs.get(key, default))]

    dilation = pair("dilate", "(1, 1)")
    keeps_size = pair("kernel", "") == [3, 3] and pair("stride", "(1, 1)") == [1, 1] \
        and pair("pad", "(0, 0)") == dilation
    is_plain = keeps_size and len(set(dilation)) == 1 and int(attrs.get("num_group", 1)) == 1
    return dilation[0] if is_plain else 0


def _batch_norm(names: Sequence[str], attrs: Mapping[str, str]) -> BatchNorm:
    has_fixed_gamma = attrs.get("fix_gamma", "True") == "True"
    gamma, beta, mean, variance = names
    return BatchNorm(None if has_fixed_gamma else gamma, beta, mean, variance, float(attrs.get("eps", 1e-3)))


@dataclass(frozen=True)
class Span:
    """Outputs ``[begin, end)`` along an axis."""

    begin: int
    end: int

    @property
    def reads(self) -> tuple[int, int]:
        """The inputs [begin, end) that they need; here, along the images of a batch, the same."""
        return self.begin, self.end


def replacement_writer(node: dict, graph: Graph) -> Callable[..., Entry]:
    """Return ``add(op, *inputs, **attributes)``, which writes an operator and returns its output.

    Args:
        node: the node to be replaced, after which the operators are named.
        graph: the graph to write to.
    """
    numbers = count(1)

    def add(op: str, *inputs: Entry, **attributes) -> Entry:
        return graph.add(op, f"{node['name']}_instead{next(numbers)}", inputs,
                         **{key: str(value) for key, value in attributes.items()})
    return add


class ConvolutionRewriter:
    """Replacement of one convolution by other operators.

    Args:
        shaped: the graph to write to; its shared weights are extended.
        convolution: the convolution to replace.

    Attributes:
        add: writes an operator, see :func:`replacement_writer`.
    """

    def __init__(self, shaped: ShapedGraph, convolution: Convolution):
        self.convolution = convolution
        self.add = replacement_writer(convolution.node, shaped.graph)
        self._graph, self._weights = shaped.graph, shaped.shared_weights
        self._folded = lru_cache(None)(lambda: convolution.folded(shaped.values))

    def constant(self, name: str, constants: dict[str, mx.nd.NDArray], make: Callable[[], np.ndarray]) -> Entry:
        """Return a float32 constant, and make it if ``constants`` does not hold its name yet."""
        if name not in constants:
            constants[name] = mx.nd.array(make(), dtype="float32")
        return self._graph.variable(name)

    def weight(self, suffix: str, transform: Callable[[np.ndarray], np.ndarray]) -> Entry:
        """Return ``transform`` of the weight (K, C, 3, 3) with the norm folded in, as a shared weight.

        Args:
            suffix: names the transform.
            transform: computes the new weight.
        """
        return self.constant(f"{self.convolution.name}_{suffix}", self._weights, lambda: transform(self._folded()[0]))

    def replace(self, compute: Callable[[Entry], Entry]) -> None:
        """Replace the convolution and its norm; the other operators fused into it follow unfused.

        Args:
            compute: writes the operators of the convolution without bias: map -> map.
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

        # readers refer to the node by its number and its name, so it becomes the last operator itself
        last = self._graph.nodes[made[-1][0]]
        node.update(op=last["op"], attrs=last["attrs"], inputs=last["inputs"])

    def in_blocks(self, images: Sequence[Span], rows: Sequence[Span], columns: Sequence[Span],
                  block: Callable[[Any, Any, Entry], Entry], x: Entry) -> Entry:
        """Compute (N, C, H, W) -> (N, K, H, W) block after block, so that only one block at a time takes extra memory.

        Args:
            images, rows, columns: spans of the outputs.
            block: writes one block without bias: ``block(rows, columns, the inputs that they read)``.
            x: the map.
        """
        shape, filters = self.convolution.shape, self.convolution.filters
        if len(images) == len(rows) == len(columns) == 1:
            return block(rows[0], columns[0], x)

        x = self.add("Reshape", x, shape=shape)  # converts the layout once; otherwise every slice would
        whole = self.add("_zeros", shape=(shape[0], filters, *shape[2:]), dtype="float32")
        for row, image, column in product(rows, images, columns):
            begin, end = zip(image.reads, (0, shape[1]), row.reads, column.reads)
            part = block(row, column, self.add("slice", x, begin=begin, end=end))
            whole = self.add("_slice_assign", whole, part,  # in place
                             begin=(image.begin, 0, row.begin, column.begin),
                             end=(image.end, filters, row.end, column.end))
        # MXNet prepares gradients for any graph, and _slice_assign has none
        return self.add("BlockGrad", whole)

    def _shifted(self, x: Entry) -> Entry:
        if not self.convolution.bias and not self.convolution.norm:
            return x
        return self.add("broadcast_add", x, self.constant(
            f"{self.convolution.name}_shift", self._weights, lambda: self._folded()[1]))
