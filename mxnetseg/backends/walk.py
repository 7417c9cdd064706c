"""The graph and the parameters that a conversion starts from, read from any source and checked."""
from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import CheckpointError, UsageError, short
from ..files import PathLike
from ..graph.params_file import read_arrays
from ..graph.symbol_file import SymbolGraph, SymbolNode, parse_symbol, read_symbol
from .operators import OperatorTable
from .package import NetworkPackage, read_package
from .signatures import STATISTICS

log = logging.getLogger(__name__)

_LISTED = 20  # names in a message
SEVERAL_OUTPUTS = ("SliceChannel", "split", "_split_v2", "topk")
# operators whose weight begins with this argument
_FILTERS = {"Convolution": "num_filter", "Convolution_v1": "num_filter", "FullyConnected": "num_hidden"}


class Value(NamedTuple):
    """A parameter of the graph.

    Attributes:
        array: its values.
        name: its name after the conversion.
        is_trained: it gets gradients.
        is_buffer: it is no parameter, but a constant or a running statistic.
    """

    array: np.ndarray
    name: str
    is_trained: bool = True
    is_buffer: bool = False


# ---- where graph and values come from -------------------------------------------------------

def read_source(source: Any, params: PathLike | Mapping[str, Any] | None, inputs: Sequence[str], target: str, *,
                casts: bool = False) -> tuple[SymbolGraph, dict[str, Value]]:
    """Return the graph to convert, and its parameters by their names in the graph.

    Args:
        source, params, inputs, casts: see :func:`.torch_graph.to_torch`.
        target: the function of the user, for messages.

    Raises:
        CheckpointError: a file is damaged, or a parameter of a network has no value.
        UsageError: ``source`` is something else, or ``params`` does not belong to it.
    """
    if hasattr(source, "_collect_params_with_prefix"):
        if params is not None:
            raise UsageError("a network has its own parameters", where=target, received="params",
                             fix="leave params out, or give a symbol")
        return _trace(source, inputs, casts)
    if isinstance(source, NetworkPackage) or isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        if params is not None:
            raise UsageError("an exported network has its own parameters", where=target, received="params",
                             fix="leave params out, or give a symbol")
        package = source if isinstance(source, NetworkPackage) else read_package(source)
        return package.graph, _arrays(package.graph, package.arrays, target)
    return _symbol(source, target), _arrays(source, params, target)


def _trace(network: Any, inputs: Sequence[str], casts: bool) -> tuple[SymbolGraph, dict[str, Value]]:
    """Return the graph of a Gluon network and its parameters by their names in that graph."""
    import mxnet as mx

    symbol = mx.sym.Group(list(_leaves(network(*map(mx.sym.var, inputs)))))
    values = {}
    # a shared parameter has several structural names, of which the first counts
    for name, parameter in network._collect_params_with_prefix().items():
        if parameter.name in values:
            continue
        try:
            data = parameter.data(parameter.list_ctx()[0])
        except (RuntimeError, mx.gluon.parameter.DeferredInitializationError):
            raise CheckpointError("a parameter of the network has no value", where=name,
                                  fix="net.initialize(), then call the network once") from None
        data = data.astype("float32") if "bfloat16" in str(data.dtype) else data
        values[parameter.name] = Value(data.asnumpy(), name, parameter.grad_req != "null",
                                       isinstance(parameter, mx.gluon.Constant))
    graph = parse_symbol(symbol.tojson(remove_amp_cast=not casts), where=f"the graph of {type(network).__name__}")
    return _types_from_maps(graph), values


def _leaves(outputs: Any) -> Iterator[Any]:
    """Yield the symbols of nested outputs."""
    if isinstance(outputs, (list, tuple)):
        for output in outputs:
            yield from _leaves(output)
    else:
        yield outputs


def _types_from_maps(graph: SymbolGraph) -> SymbolGraph:
    """Let a cast to the type of a map (``nn.precision.as_type_of``) read the map, not a copied element of it."""
    nodes = list(graph.nodes)
    for number, node in enumerate(nodes):
        if node.op == "amp_multicast":
            data, like = node.inputs
            while nodes[like[0]].op in ("slice_axis", "Reshape", "BlockGrad"):
                like = nodes[like[0]].inputs[0]
            nodes[number] = node._replace(inputs=(data, like))
    return graph._replace(nodes=tuple(nodes))


def _symbol(source: Any, target: str) -> SymbolGraph:
    if isinstance(source, SymbolGraph):
        return source
    if hasattr(source, "tojson"):
        return parse_symbol(source.tojson())
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return read_symbol(source)
    raise UsageError(f"{target} converts networks and symbols", received=short(source),
                     fix="a network of get_model, a Gluon block, or the path of a -symbol.json file")


def _arrays(source: Any, params: PathLike | Mapping[str, Any] | None, target: str) -> dict[str, Value]:
    if params is None:
        raise UsageError("a symbol needs its parameters", where=target, received=f"params of {short(source)}: None",
                         fix=f"{target}('net-symbol.json', 'net-0000.params')")
    arrays = params if isinstance(params, Mapping) else read_arrays(params)
    values: dict[str, Value] = {}
    for key, array in arrays.items():
        name = key.split(":", 1)[1] if key.startswith(("arg:", "aux:")) else key
        if name in values:
            raise CheckpointError("two arrays have one name", where=short(name),
                                  received="as a parameter (arg:) and as a statistic (aux:)", fix="delete one of them")
        array = array.asnumpy() if hasattr(array, "asnumpy") else np.asarray(array)
        values[name] = Value(array, name, is_buffer=key.startswith("aux:"))
    return values


# ---- the checked graph ----------------------------------------------------------------------

class CheckedGraph:
    """A graph whose operators, inputs and parameters were checked: the base of the converters.

    Attributes:
        graph, values, inputs: as given.
        needed: the numbers of the nodes on which the outputs depend.
        statistics: the numbers of the variables that are running statistics.
        readers: how many inputs of needed nodes read a node.
    """

    def __init__(self, graph: SymbolGraph, values: Mapping[str, Value], inputs: Sequence[str],
                 operators: OperatorTable):
        """Check a graph.

        Args:
            graph, values: see :func:`read_source`.
            inputs: the names of the graph's inputs.
            operators: the table of the target.

        Raises:
            CheckpointError: operators are unknown, inputs or parameters are missing, or shapes are wrong.
        """
        self.graph, self.values, self.inputs = graph, values, tuple(inputs)
        self.operators = operators
        self.needed = self._needed()
        self.statistics = {node.inputs[position][0] for node in graph.nodes
                           for position in STATISTICS.get(node.op, ()) if position < len(node.inputs)}
        self.readers = Counter(i for number in self.needed for i, _ in graph.nodes[number].inputs)
        self._check_operators()
        self._check_variables()

    def where(self, node: SymbolNode) -> str:
        """Return the place of a node, for messages."""
        return f"{self.graph.where}: {node.op} {short(node.name)}"

    def call(self, node: SymbolNode, compute: Callable[[dict[str, object], list[tuple[int, int]]], Any]) -> Any:
        """Return the result of a function of a node's arguments and inputs; an error gets the node's place."""
        arguments = self.operators.arguments_of(node.op, node.arguments, self.where(node))
        ignored = self.operators[node.op].ignored
        inputs = [entry for position, entry in enumerate(node.inputs) if position not in ignored]
        try:
            return compute(arguments, inputs)
        except CheckpointError as error:
            raise CheckpointError(error.what, where=error.where or self.where(node), received=error.received,
                                  fix=error.fix) from None
        except (TypeError, IndexError) as error:  # the number of inputs, or of their axes
            raise CheckpointError("an operator has the wrong inputs", where=self.where(node),
                                  received=f"{len(inputs)} inputs; {error}", fix="export the network again") from None

    def _needed(self) -> set[int]:
        needed: set[int] = set()
        waiting = [i for i, _ in self.graph.heads]
        while waiting:
            number = waiting.pop()
            if number in needed:
                continue
            needed.add(number)
            node = self.graph.nodes[number]
            ignored = self.operators[node.op].ignored if node.op in self.operators else ()
            waiting += [i for position, (i, _) in enumerate(node.inputs) if position not in ignored]
        return needed

    def _check_operators(self) -> None:
        """Raise one error that lists every unknown operator."""
        unknown = Counter(node.op for number, node in enumerate(self.graph.nodes)
                          if number in self.needed and not node.is_variable and node.op not in self.operators)
        if unknown:
            raise CheckpointError("the graph has operators that cannot be converted", where=self.graph.where,
                                  received=", ".join(f"{op} ({n}x)" for op, n in unknown.most_common()),
                                  fix="replace these layers; mxnetseg/backends/signatures.py lists the operators that "
                                      "are converted")

    def _check_variables(self) -> None:
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
            for position, wanted in self._expected(node).items():
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
        if node.op in STATISTICS:
            gamma = self.values.get(self.graph.nodes[node.inputs[1][0]].name) if len(node.inputs) == 5 else None
            return {} if gamma is None else {i: (gamma.array.size,) for i in (1, 2, 3, 4)}
        if node.op in _FILTERS:
            arguments = self.operators.arguments_of(node.op, node.arguments, f"{node.op} {short(node.name)}")
            filters: Any = arguments[_FILTERS[node.op]]
            kernel: Any = arguments.get("kernel", (None,))
            rest = (None, *kernel) if "kernel" in arguments else kernel
            return {1: (filters, *rest), 2: (filters,)}
        return {}


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(short(name) for name in names[:_LISTED])
    return text + (f", ... ({len(names)} in all)" if len(names) > _LISTED else "")
