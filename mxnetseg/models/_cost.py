"""Parameters and multiply-adds of a network, read from its graph. Nothing is computed, and no value is needed."""
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mxnet as mx

# operator -> which of its inputs is the weight, (outputs, inputs / groups, ...) or, for Deconvolution, (inputs, ...)
_WEIGHT_AT = {"Convolution": 1, "FullyConnected": 1, "Deconvolution": 1, "_contrib_DeformableConvolution": 2,
              "_contrib_ModulatedDeformableConvolution": 3}
_POOLINGS = ("Pooling", "_contrib_AdaptiveAvgPooling2D")
_RECTIFIERS = ("relu", "leaky", "prelu", "elu")


class ParameterInfo(NamedTuple):
    """A parameter that the graph reads: its structural name, its shape, and whether training changes it."""

    name: str
    shape: tuple[int, ...]
    trainable: bool

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


class LayerCost(NamedTuple):
    """Multiply-adds of one layer with a weight, which the structural name is of."""

    weight: str
    macs: int


@dataclass(frozen=True)
class Cost:
    """Cost of one image in inference, with the auxiliary outputs that the network was built with.

    Published figures follow one of two conventions, which must not be mixed:

    * FlatteNet's and HRNet's "GFLOPs" are :attr:`layer_macs` / 2^30;
    * mmcv's (1.3.8) "FLOPs" are :attr:`mmcv` / 10^9. SFNet's figures are those.

    Attributes:
        size: (height, width) of the image.
        parameters: in the order in which the graph reads them.
        layers: convolutions and fully connected layers, one entry each time one runs.
        product_macs: matrix products between maps: attention. No convention counts them.
        resampling_macs: matrix products with fixed weights: :mod:`mxnetseg.nn.resize` and pool. Other
            implementations have an operator there, so no convention counts them.
        biases, activations, pooling: elements that a bias is added to, that a ReLU of any kind writes, that a
            pooling reads.
    """

    size: tuple[int, int]
    parameters: tuple[ParameterInfo, ...]
    layers: tuple[LayerCost, ...]
    product_macs: int
    resampling_macs: int
    biases: int
    activations: int
    pooling: int

    @property
    def layer_macs(self) -> int:
        """Multiply-adds of convolutions and fully connected layers: what papers call FLOPs or MACs."""
        return sum(layer.macs for layer in self.layers)

    @property
    def mmcv(self) -> int:
        """Operations as mmcv 1.3.8 counts them in a network with synchronised batch norm.

        The sum of multiply-adds, added biases, elements that a ReLU writes and elements that a pooling layer reads.
        mmcv does not count synchronised batch norm.
        """
        return self.layer_macs + self.biases + self.activations + self.pooling

    def count(self, *, trainable: bool | None = None, below: str = "") -> int:
        """Elements of the parameters.

        Args:
            trainable: True: what training changes; False: the rest, such as running statistics; None: both.
            below: only of the child of that structural name.
        """
        return sum(p.size for p in self.parameters if _is_below(p.name, below) and trainable in (None, p.trainable))

    def macs(self, *, below: str = "") -> int:
        """Multiply-adds of the layers of the child of that structural name."""
        return sum(layer.macs for layer in self.layers if _is_below(layer.weight, below))

    def children(self, depth: int = 1) -> list[str]:
        """Structural names of the children, in the graph's order, and below each its own down to ``depth`` levels."""
        tree: dict[str, None] = {}
        for parameter in self.parameters:
            parts = parameter.name.split(".")
            for level in range(min(depth, len(parts))):
                tree[".".join(parts[:level + 1])] = None
        order = list(tree)

        def key(name):  # a child follows its parent, siblings are in the order of their first use
            parts = name.split(".")
            return [order.index(".".join(parts[:level + 1])) for level in range(len(parts))]
        return sorted(tree, key=key)


def measure(net, size: Sequence[int] = (512, 512)) -> Cost:
    """Return the cost of a network for one image. The network must be built; it needs no values.

    Args:
        net: a network of :func:`~mxnetseg.models.build_model` or :func:`~mxnetseg.models.get_model`.
        size: (height, width) of the image.
    """
    known = {p.name: (name, p) for name, p in net._collect_params_with_prefix().items()}
    parameters, layers = [], []
    products = resampling = biases = activations = pooling = 0
    for node in _nodes(mx.sym.Group(list(net(mx.sym.var("data")))), (1, 3, *size)):
        elements = math.prod(node.shape)
        if node.operator in _WEIGHT_AT:
            at = _WEIGHT_AT[node.operator]
            weight = node.inputs[at]
            positions = math.prod(node.inputs[0].shape) if node.operator == "Deconvolution" else elements
            layers.append(LayerCost(known[weight.variable().name][0], positions * math.prod(weight.shape[1:])))
            biases += elements if len(node.inputs) > at + 1 else 0
        elif node.operator == "batch_dot":
            products += elements * math.prod(node.inputs[0].shape) // math.prod(node.shape[:2])
        elif node.operator == "dot":
            resampling += elements * node.inputs[1].shape[0]
        elif node.rectifies():
            activations += elements
        elif node.operator in _POOLINGS:
            pooling += math.prod(node.inputs[0].shape)
        elif node.name in known:
            name, parameter = known[node.name]
            parameters.append(ParameterInfo(name, node.shape, parameter.grad_req != "null"))
    return Cost((int(size[0]), int(size[1])), tuple(parameters), tuple(layers), products, resampling, biases,
                activations, pooling)


def count_parameters(net) -> int:
    """All parameters of a network, running statistics included, as MXNetSeg's tables count them."""
    return measure(net, (64, 64)).count()


def _is_below(name: str, parent: str) -> bool:
    return not parent or name == parent or name.startswith(parent + ".")


class _Node(NamedTuple):
    """A node of a graph; ``shape`` is of its first output, ``operator`` ``'null'`` for a variable."""

    operator: str
    name: str
    attributes: dict[str, str]
    inputs: tuple[_Node, ...]
    shape: tuple[int, ...]

    def variable(self) -> _Node:
        """The variable that this node is, or is a reshaped or cast form of."""
        return self.inputs[0].variable() if self.inputs else self

    def rectifies(self) -> bool:
        """Return whether it is a ReLU of a feature map; ReLUs of fewer axes belong to the weights of a resize."""
        kind = self.attributes.get("act_type", "relu" if self.operator == "relu" else None)
        return kind in _RECTIFIERS and len(self.shape) == 4


def _nodes(outputs: mx.sym.Symbol, shape: Sequence[int]) -> Iterator[_Node]:
    """The nodes of a graph, inputs first, for an input ``data`` of that shape."""
    inner = outputs.get_internals()
    shapes = iter(zip(inner.list_outputs(), inner.infer_shape(data=tuple(shape))[1]))
    pending = next(shapes, None)
    nodes: list[_Node] = []
    for entry in json.loads(outputs.tojson(remove_amp_cast=False))["nodes"]:
        # Both lists have one order. Names are not unique in a graph that calls a block twice, but an operator's
        # outputs stand together: NAME_output, or NAME_output0, NAME_output1, ...
        first = pending[1]
        count = 1
        pending = next(shapes, None)
        while pending is not None and entry["op"] != "null" and pending[0] == f"{entry['name']}_output{count}":
            pending, count = next(shapes, None), count + 1
        nodes.append(_Node(entry["op"], entry["name"], entry.get("attrs", {}),
                           tuple(nodes[i] for i, *_ in entry["inputs"]), tuple(first)))
        yield nodes[-1]
