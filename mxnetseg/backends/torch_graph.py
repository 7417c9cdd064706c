"""Networks and exported symbols as modules of PyTorch."""
from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CheckpointError, EnvironmentProblem, UsageError, short
from ..files import PathLike
from ..graph.params_file import read_arrays
from ..graph.symbol_file import SymbolGraph, SymbolNode, parse_symbol, read_symbol
from .operators import OPERATORS, arguments_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_LISTED = 20  # names in a message
# inputs of an operator whose values change in training without a gradient
_STATISTICS = {"BatchNorm": (3, 4), "BatchNorm_v1": (3, 4), "_contrib_SyncBatchNorm": (3, 4)}
_SEVERAL_OUTPUTS = ("SliceChannel", "split", "_split_v2", "topk")
# operators whose weight begins with this argument
_FILTERS = {"Convolution": "num_filter", "Convolution_v1": "num_filter", "FullyConnected": "num_hidden"}


def to_torch(source: Any, params: PathLike | Mapping[str, Any] | None = None, *,
             inputs: Sequence[str] = ("data",)) -> torch.nn.Module:
    """Return a network or an exported symbol of MXNet as a module of PyTorch.

    The module computes the same as MXNet at any size that the graph accepts, and can be trained: ``train()`` and
    ``eval()`` switch batch norm and dropout, and gradients flow. It is a ``torch.fx.GraphModule``, whose ``code`` shows
    the computation. Parameters and buffers have the structural names of the network (``backbone.conv1.weight``), or
    the names in the file; ``_`` follows a part of a name that PyTorch uses itself (``half_``). The values are copies.

    Args:
        source: an initialised network; or an exported ``-symbol.json``, for which MXNet need not be installed; or an
            ``mx.sym.Symbol``.
        params: for a symbol: its ``.params`` file, or its arrays by name. Prefixes ``arg:`` and ``aux:`` are removed.
        inputs: names of the symbol's inputs, in the order of the module's arguments.

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
    _require_torch()
    # they fill the table of operators, and they import torch
    from . import torch_indexing, torch_layers, torch_shapes  # noqa: F401

    if hasattr(source, "_collect_params_with_prefix"):
        if params is not None:
            raise UsageError("a network has its own parameters", where="to_torch", received="params",
                             fix="leave params out, or give a symbol")
        graph, values = _trace(source, inputs)
    else:
        graph, values = _symbol(source), _arrays(source, params)
    return _Builder(graph, values, inputs).module()


class _Value(NamedTuple):
    """A parameter of the graph.

    Attributes:
        array: its values.
        name: its name in the module.
        is_trained: it gets gradients.
        is_buffer: it is no parameter, but a constant or a running statistic.
    """

    array: np.ndarray
    name: str
    is_trained: bool = True
    is_buffer: bool = False


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem("PyTorch is not installed", where="to_torch", received=error,
                                 fix="pip install 'torch>=2.2', or pip install 'mxnetseg[torch]'") from None


# ---- where graph and values come from -------------------------------------------------------

def _trace(network: Any, inputs: Sequence[str]) -> tuple[SymbolGraph, dict[str, _Value]]:
    """Return the graph of a Gluon network and its parameters by their names in that graph."""
    import mxnet as mx

    outputs = network(*map(mx.sym.var, inputs))
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    values = {}
    # a shared parameter has several structural names, of which the module has the first
    for name, parameter in network._collect_params_with_prefix().items():
        if parameter.name in values:
            continue
        try:
            data = parameter.data(parameter.list_ctx()[0])
        except (RuntimeError, mx.gluon.parameter.DeferredInitializationError):
            raise CheckpointError("a parameter of the network has no value", where=name,
                                  fix="net.initialize(), then call the network once") from None
        data = data.astype("float32") if "bfloat16" in str(data.dtype) else data
        values[parameter.name] = _Value(data.asnumpy(), name, parameter.grad_req != "null",
                                        isinstance(parameter, mx.gluon.Constant))
    return parse_symbol(symbol.tojson(), where=f"the graph of {type(network).__name__}"), values


def _symbol(source: Any) -> SymbolGraph:
    if isinstance(source, SymbolGraph):
        return source
    if hasattr(source, "tojson"):
        return parse_symbol(source.tojson())
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return read_symbol(source)
    raise UsageError("to_torch converts networks and symbols", received=short(source),
                     fix="a network of get_model, a Gluon block, or the path of a -symbol.json file")


def _arrays(source: Any, params: PathLike | Mapping[str, Any] | None) -> dict[str, _Value]:
    if params is None:
        raise UsageError("a symbol needs its parameters", where="to_torch", received=f"params of {short(source)}: None",
                         fix="to_torch('net-symbol.json', 'net-0000.params')")
    arrays = params if isinstance(params, Mapping) else read_arrays(params)
    values: dict[str, _Value] = {}
    for key, array in arrays.items():
        name = key.split(":", 1)[1] if key.startswith(("arg:", "aux:")) else key
        if name in values:
            raise CheckpointError("two arrays have one name", where=short(name),
                                  received="as a parameter (arg:) and as a statistic (aux:)", fix="delete one of them")
        array = array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)
        values[name] = _Value(array, name, is_buffer=key.startswith("aux:"))
    return values


# ---- the module -----------------------------------------------------------------------------

class _Builder:
    """Builds the module of one graph."""

    def __init__(self, graph: SymbolGraph, values: Mapping[str, _Value], inputs: Sequence[str]):
        self.graph, self.values, self.inputs = graph, values, tuple(inputs)
        self.needed = self._needed()
        self.statistics = self._statistics()
        self.readers = Counter(i for number in self.needed for i, _ in graph.nodes[number].inputs)
        self.check_operators()
        self.check_variables()

    def module(self) -> torch.nn.Module:
        """Return the module."""
        import torch
        from torch import fx

        self.root = torch.nn.Module()
        self.recorded = fx.Graph()
        self.tracer = fx.proxy.GraphAppendingTracer(self.recorded)
        self.results: dict[int, Any] = {}

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
        if node.op in _SEVERAL_OUTPUTS:
            return self.results[number][k]
        if k:
            raise CheckpointError("an output of an operator cannot be converted", where=self._where(node),
                                  received=f"output {k}", fix="a graph that uses the first output only")
        return self.results[number]

    def _call(self, node: SymbolNode) -> Any:
        """Record an operator and return its result."""
        from torch import fx

        operator = OPERATORS[node.op]
        arguments = arguments_of(node.op, node.arguments, self._where(node))
        inputs = [entry for position, entry in enumerate(node.inputs) if position not in operator.ignored]
        try:
            if not operator.is_module:
                result = operator.function(*map(self._tensor, inputs), **arguments)
                return self._constant(node, result) if not inputs else result
            layer = operator.function(**arguments)
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
        except CheckpointError as error:
            raise CheckpointError(error.what, where=error.where or self._where(node), received=error.received,
                                  fix=error.fix) from None
        except TypeError as error:  # the number of inputs
            raise CheckpointError("an operator has the wrong inputs", where=self._where(node),
                                  received=f"{len(inputs)} inputs; {error}", fix="export the network again") from None

    def _constant(self, node: SymbolNode, value: torch.Tensor) -> Any:
        """Record the result of an operator without inputs, as a buffer that follows the module to its device."""
        from torch import fx

        name = _identifier(node.name)
        _place(self.root, "constants", None).register_buffer(name, value, persistent=False)
        return fx.Proxy(self.recorded.get_attr(f"constants.{name}"), self.tracer)

    def _path_of_layer(self, entries: Sequence[tuple[int, int]]) -> str:
        """Return the path that the parameters of a layer share, if they are its own under the layer's names."""
        from .torch_layers import BatchNorm

        names = [_free_name(self.values[node.name].name) for node in (self.graph.nodes[i] for i, _ in entries)
                 if node.is_variable and node.name in self.values]
        paths = {name.rpartition(".")[0] for name in names}
        if tuple(name.rpartition(".")[2] for name in names) != BatchNorm.NAMES or len(paths) != 1:
            return ""
        path = paths.pop()
        return path if all(self.readers[i] == 1 for i, _ in entries) else ""

    def _register(self, number: int) -> _Value:
        """Place a parameter in the module under its name, in nested modules for the parts of the name."""
        import torch

        value = self.values[self.graph.nodes[number].name]
        value = value._replace(name=_free_name(value.name))
        path, _, name = value.name.rpartition(".")
        owner = _place(self.root, path, None)
        tensor = torch.from_numpy(np.array(value.array))
        if number in self.statistics or value.is_buffer or not tensor.is_floating_point():
            owner.register_buffer(name, tensor)
        else:
            owner.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=value.is_trained))
        return value

    def _where(self, node: SymbolNode) -> str:
        return f"{self.graph.where}: {node.op} {short(node.name)}"

    def _statistics(self) -> set[int]:
        """Return the numbers of the variables that are running statistics."""
        return {node.inputs[position][0] for node in self.graph.nodes
                for position in _STATISTICS.get(node.op, ()) if position < len(node.inputs)}

    def _needed(self) -> set[int]:
        """Return the numbers of the nodes on which the outputs depend."""
        needed: set[int] = set()
        waiting = [i for i, _ in self.graph.heads]
        while waiting:
            number = waiting.pop()
            if number in needed:
                continue
            needed.add(number)
            node = self.graph.nodes[number]
            ignored = OPERATORS[node.op].ignored if node.op in OPERATORS else ()
            waiting += [i for position, (i, _) in enumerate(node.inputs) if position not in ignored]
        return needed

    def check_operators(self) -> None:
        """Raise one error that lists every unknown operator."""
        unknown = Counter(node.op for number, node in enumerate(self.graph.nodes)
                          if number in self.needed and not node.is_variable and node.op not in OPERATORS)
        if unknown:
            raise CheckpointError("the graph has operators that cannot be converted", where=self.graph.where,
                                  received=", ".join(f"{op} ({n}x)" for op, n in unknown.most_common()),
                                  fix="replace these layers; mxnetseg/backends/ lists the operators that are converted")

    def check_variables(self) -> None:
        """Raise an error if inputs or parameters are missing, or have shapes that their layers do not have."""
        nodes = self.graph.nodes
        variables = {nodes[number].name for number in self.needed if nodes[number].is_variable}
        absent = [name for name in self.inputs if name not in variables]
        if absent or not self.inputs:
            free = sorted(variables - set(self.values))
            raise CheckpointError("the graph does not have these inputs", where=self.graph.where,
                                  received=_listed(absent) or "no names",
                                  fix=f"inputs={tuple(free[:_LISTED])!r}" if free else "check which file this is")
        missing = sorted(variables - set(self.values) - set(self.inputs))
        unused = sorted(set(self.values) - variables)
        if missing:
            found = f"; the file has {len(unused)} others: {_listed(unused)}" if unused else ""
            raise CheckpointError("parameters of the graph are missing", where=self.graph.where,
                                  received=f"{len(missing)} missing: {_listed(missing)}{found}",
                                  fix="the .params file that was exported together with this symbol; or, if these are "
                                      "inputs, inputs=(...) with their names")
        if unused:
            log.info("%s: %d parameters are not used: %s", self.graph.where, len(unused), _listed(unused))

        for number in sorted(self.needed):
            node = nodes[number]
            expected = self._expected(node)
            for position, wanted in expected.items():
                if position >= len(node.inputs):
                    continue
                value = self.values.get(nodes[node.inputs[position][0]].name)
                if value is None or not nodes[node.inputs[position][0]].is_variable:
                    continue
                shape = value.array.shape
                if len(shape) != len(wanted) or any(w is not None and n != w for n, w in zip(shape, wanted)):
                    raise CheckpointError("a parameter has the wrong shape", where=f"{node.op} {short(node.name)}",
                                          received=f"{short(value.name)} of shape {shape}; the graph has "
                                                   f"{tuple('any' if w is None else w for w in wanted)}",
                                          fix="the .params file that was exported together with this symbol")

    def _expected(self, node: SymbolNode) -> dict[int, tuple[int | None, ...]]:
        """Return the shapes of a node's inputs, by position, as far as its arguments give them; None: any size."""
        if node.op in _STATISTICS:
            gamma = self.values.get(self.graph.nodes[node.inputs[1][0]].name) if len(node.inputs) == 5 else None
            return {} if gamma is None else {i: (gamma.array.size,) for i in (1, 2, 3, 4)}
        if node.op in _FILTERS:
            arguments = arguments_of(node.op, node.arguments, f"{node.op} {short(node.name)}")
            filters = arguments[_FILTERS[node.op]]
            kernel: tuple[Any, ...] = arguments.get("kernel", (None,))  # type: ignore[assignment]
            rest = (None, *kernel) if "kernel" in arguments else kernel
            return {1: (filters, *rest), 2: (filters,)}
        return {}


# ---- places in the module -------------------------------------------------------------------

def _free_name(name: str) -> str:
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


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(short(name) for name in names[:_LISTED])
    return text + (f", ... ({len(names)} in all)" if len(names) > _LISTED else "")
