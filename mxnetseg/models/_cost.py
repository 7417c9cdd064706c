"""Parameters and multiply-adds of a network, counted from its graph without running it."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ._nodes import nodes

if TYPE_CHECKING:
    from ._base import SegModel

# operator -> index of its input that is the weight: (outputs, inputs / groups, ...), of Deconvolution (inputs, ...)
_WEIGHT_AT = {"Convolution": 1, "FullyConnected": 1, "Deconvolution": 1, "_contrib_DeformableConvolution": 2,
              "_contrib_ModulatedDeformableConvolution": 3}
_POOLINGS = ("Pooling", "_contrib_AdaptiveAvgPooling2D")


class ParameterInfo(NamedTuple):
    """A parameter that the graph reads: structural name, shape, and whether training changes it."""

    name: str
    shape: tuple[int, ...]
    trainable: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class LayerCost(NamedTuple):
    """Multiply-adds of one layer, and the structural name of its weight."""

    weight: str
    macs: int


@dataclass(frozen=True)
class Cost:
    """Cost of an inference on one image, including auxiliary outputs if the network was built with them.

    Published figures follow one of two conventions, which must not be mixed:

    * FlatteNet's and HRNet's "GFLOPs" are :attr:`layer_macs` / 2^30;
    * mmcv's (1.3.8) "FLOPs", which SFNet reports, are :attr:`mmcv` / 10^9.

    Attributes:
        size: (height, width) of the image.
        parameters: in the order in which the graph reads them.
        layers: convolutions and fully connected layers, one entry for each call.
        product_macs: matrix products of two feature maps (attention). No convention counts them.
        resampling_macs: matrix products with fixed weights, of :mod:`mxnetseg.nn.resize` and pooling. Other
            implementations use an operator instead, so no convention counts them.
        biases, activations, pooling: elements to which a bias is added, which a ReLU or its variants write, and
            which a pooling reads.
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
        """Multiply-adds of convolutions and fully connected layers, which papers call FLOPs or MACs."""
        return sum(layer.macs for layer in self.layers)

    @property
    def mmcv(self) -> int:
        """Count of mmcv 1.3.8 for a network with synchronised batch norm, which it leaves out.

        It is the sum of multiply-adds, additions of biases, elements that ReLUs write and elements that poolings read.
        """
        return self.layer_macs + self.biases + self.activations + self.pooling

    def count(self, *, trainable: bool | None = None, below: str = "") -> int:
        """Return the number of elements of the parameters.

        Args:
            trainable: True: parameters that training changes; False: the others, such as running statistics; None: all.
            below: structural name of a child; only its parameters count. Empty: all.
        """
        return sum(p.size for p in self.parameters if _is_below(p.name, below) and trainable in (None, p.trainable))

    def macs(self, *, below: str = "") -> int:
        """Return the multiply-adds of the layers of a child, given its structural name; of all if it is empty."""
        return sum(layer.macs for layer in self.layers if _is_below(layer.weight, below))

    def children(self, depth: int = 1) -> list[str]:
        """Return structural names in the graph's order: children, each followed by its own, ``depth`` levels deep."""
        tree: dict[str, None] = {}
        for parameter in self.parameters:
            parts = parameter.name.split(".")
            for level in range(min(depth, len(parts))):
                tree[".".join(parts[:level + 1])] = None
        order = list(tree)

        def key(name: str) -> list[int]:  # a child follows its parent; siblings are in the order of their first use
            parts = name.split(".")
            return [order.index(".".join(parts[:level + 1])) for level in range(len(parts))]
        return sorted(tree, key=key)


def measure(net: SegModel, size: Sequence[int] = (512, 512)) -> Cost:
    """Return the cost of a network for one image. Its parameters need no values.

    Args:
        net: a network of :func:`~mxnetseg.models.build_model` or :func:`~mxnetseg.models.get_model`.
        size: (height, width) of the image.
    """
    known = {p.name: (name, p) for name, p in net._collect_params_with_prefix().items()}
    parameters, layers = [], []
    products = resampling = biases = activations = pooling = 0
    for node in nodes(net, size):
        elements = math.prod(node.shape)
        if node.operator in _WEIGHT_AT:
            index = _WEIGHT_AT[node.operator]
            weight = node.inputs[index]
            positions = math.prod(node.inputs[0].shape) if node.operator == "Deconvolution" else elements
            layers.append(LayerCost(known[weight.variable().name][0], positions * math.prod(weight.shape[1:])))
            biases += elements if len(node.inputs) > index + 1 else 0
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


def count_parameters(net: SegModel) -> int:
    """Return the number of all parameters, running statistics included, as MXNetSeg's tables count them."""
    return measure(net, (64, 64)).count()


def _is_below(name: str, parent: str) -> bool:
    return not parent or name == parent or name.startswith(parent + ".")
