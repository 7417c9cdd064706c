"""Networks and exported symbols as modules of PyTorch."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._compat import import_optional
from ..errors import CheckpointError
from ..files import PathLike
from ..graph.symbol_file import SymbolNode
from .operators import TORCH
from .walk import SEVERAL_OUTPUTS, CheckedGraph, Value, read_source

if TYPE_CHECKING:
    import torch


def to_torch(source: Any, params: PathLike | Mapping[str, Any] | None = None, *,
             inputs: Sequence[str] = ("data",), casts: bool = False) -> torch.nn.Module:
    """Return a network or an exported symbol of MXNet as a module of PyTorch.

    The module computes the same as MXNet at any size that the graph accepts, and can be trained: ``train()`` and
    ``eval()`` switch batch norm and dropout, and gradients flow. It is a ``torch.fx.GraphModule``, whose ``code`` shows
    the computation. Parameters and buffers have the structural names of the network (``backbone.conv1.weight``), or
    the names in the file; ``_`` follows a part of a name that PyTorch uses itself (``half_``). The values are copies.

    Args:
        source: an initialised network; or an exported ``-symbol.json`` or folder (``mxnetseg export --format hub``),
            for which MXNet need not be installed; or an ``mx.sym.Symbol``.
        params: for a symbol: its ``.params`` file, or its arrays by name. Prefixes ``arg:`` and ``aux:`` are removed.
        inputs: names of the symbol's inputs, in the order of the module's arguments.
        casts: of a network: keep the casts of the parts that stay in float32 when it runs under ``torch.autocast``.
            Without them, positions along an axis are not exact in half precision.

    Returns:
        a module in ``eval()`` mode, of one tensor (N, 3, H, W) for a network of this library, that returns a tensor, or
        a tuple of them if there are several outputs (with ``aux``).

    Raises:
        CheckpointError: a file is damaged, a parameter is missing or has the wrong shape, or operators or arguments
            are not supported; the message lists all unknown operators.
        UsageError: ``source`` is something else.
        EnvironmentProblem: PyTorch is not installed.

    Example:
        >>> from mxnetseg import get_model, to_torch
        >>> module = to_torch(get_model("fcn", backbone="resnet18", nclass=5))
        >>> import torch
        >>> with torch.no_grad():
        ...     module(torch.zeros(1, 3, 97, 145)).shape
        torch.Size([1, 5, 97, 145])
        >>> "backbone.conv1.weight" in module.state_dict()
        True
    """
    import_optional("torch", "to_torch", fix="pip install 'mxnetseg[torch]'")
    # they fill the table of operators, and they import torch
    from . import torch_indexing, torch_layers, torch_shapes  # noqa: F401

    graph, values = read_source(source, params, inputs, "to_torch", casts=casts)
    return _Builder(graph, values, inputs, TORCH).module()


# ---- the module -----------------------------------------------------------------------------

class _Builder(CheckedGraph):
    """Builds the module of one graph."""

    def module(self) -> torch.nn.Module:
        """Return the module."""
        import torch
        from torch import fx

        self.root = torch.nn.Module()
        self.recorded = fx.Graph()
        self.tracer = fx.proxy.GraphAppendingTracer(self.recorded)
        self.results: dict[int, Any] = {}
        self.calls: Counter[int] = Counter()

        numbers = {node.name: number for number, node in enumerate(self.graph.nodes) if node.is_variable}
        for name in self.inputs:
            self.results[numbers[name]] = fx.Proxy(self.recorded.placeholder(_identifier(name)), self.tracer)
        for number in sorted(self.needed):
            node = self.graph.nodes[number]
            if not node.is_variable:
                self.results[number] = self._call(node)

        heads = [self._tensor(entry).node for entry in self.graph.heads]
        self.recorded.output(heads[0] if len(heads) == 1 else tuple(heads))
        module = fx.GraphModule(self.root, self.recorded, class_name="MXNetGraph")
        module.graph.lint()
        return module.eval()

    def _tensor(self, entry: tuple[int, int]) -> Any:
        """Return the recorded value of an entry. A parameter is recorded when it is first read."""
        from torch import fx

        number, k = entry
        node = self.graph.nodes[number]
        if node.is_variable and number not in self.results:
            value = self._register(number)
            self.results[number] = fx.Proxy(self.recorded.get_attr(value.name), self.tracer)
        if node.op in SEVERAL_OUTPUTS:
            return self.results[number][k]
        if k:
            raise CheckpointError("an output of an operator cannot be converted", where=self.where(node),
                                  received=f"output {k}", fix="a graph that uses the first output only")
        return self.results[number]

    def _call(self, node: SymbolNode) -> Any:
        """Record an operator and return its result."""
        from torch import fx

        from .torch_layers import BatchNorm

        operator = TORCH[node.op]

        def record(arguments, inputs):
            if not operator.is_module:
                result = operator.function(*map(self._tensor, inputs), **arguments)
                return self._constant(node, result) if not inputs else result
            layer = operator.function(**arguments)
            if isinstance(layer, BatchNorm):  # its running mean may be that of other nodes too
                mean = inputs[3][0]
                layer.call, layer.calls = self.calls[mean], self.readers[mean]
                self.calls[mean] += 1
            path = self._path_of_layer(inputs[1:])
            if path:  # the layer owns its parameters, as in the network
                inputs, parameters = inputs[:1], inputs[1:]
                _place(self.root, path, layer)
                for number, _ in parameters:
                    self._register(number)
            else:
                path = f"layers.{_identifier(node.name)}"
                while _find(self.root, path) is not None:  # a block that is called twice repeats its names
                    path += "_again"
                _place(self.root, path, layer)
            tensors = tuple(self._tensor(entry).node for entry in inputs)
            return fx.Proxy(self.recorded.call_module(path, tensors), self.tracer)
        return self.call(node, record)

    def _constant(self, node: SymbolNode, value: torch.Tensor) -> Any:
        """Record the result of an operator without inputs, as a buffer that follows the module to its device."""
        from torch import fx

        name = _identifier(node.name)
        _place(self.root, "constants", None).register_buffer(name, value, persistent=False)
        return fx.Proxy(self.recorded.get_attr(f"constants.{name}"), self.tracer)

    def _path_of_layer(self, entries: Sequence[tuple[int, int]]) -> str:
        """Return the path that the parameters of a layer share, if they are its own under the layer's names."""
        from .torch_layers import BatchNorm

        names = [free_name(self.values[node.name].name) for node in (self.graph.nodes[i] for i, _ in entries)
                 if node.is_variable and node.name in self.values]
        paths = {name.rpartition(".")[0] for name in names}
        if tuple(name.rpartition(".")[2] for name in names) != BatchNorm.NAMES or len(paths) != 1:
            return ""
        path = paths.pop()
        return path if all(self.readers[i] == 1 for i, _ in entries) else ""

    def _register(self, number: int) -> Value:
        """Place a parameter in the module under its name, in nested modules for the parts of the name."""
        import torch

        value = self.values[self.graph.nodes[number].name]
        value = value._replace(name=free_name(value.name))
        path, _, name = value.name.rpartition(".")
        owner = _place(self.root, path, None)
        tensor = torch.from_numpy(np.array(value.array))
        if number in self.statistics or value.is_buffer or not tensor.is_floating_point():
            owner.register_buffer(name, tensor)
        else:
            owner.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=value.is_trained))
        return value


# ---- places in the module -------------------------------------------------------------------

def free_name(name: str) -> str:
    """Return a name in which ``_`` follows each part that PyTorch's modules use themselves: ``half_.conv.weight``."""
    from torch import fx

    return ".".join(part + "_" if hasattr(fx.GraphModule, part) else part for part in name.split("."))


def _find(root: torch.nn.Module, path: str) -> torch.nn.Module | None:
    """Return the module at a path, or None."""
    for part in path.split("."):
        root = getattr(root, part, None)
        if root is None:
            return None
    return root


def _place(root: torch.nn.Module, path: str, layer: torch.nn.Module | None) -> torch.nn.Module:
    """Place a layer at a path, or an empty module if there is none; return the module at the path."""
    import torch

    *parents, last = path.split(".")
    for part in parents:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = getattr(root, part)
    if not last:
        return root
    if layer is not None or not hasattr(root, last):
        root.add_module(last, torch.nn.Module() if layer is None else layer)
    return getattr(root, last)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)
