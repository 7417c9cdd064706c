"""Between MXNet and plain data: the prediction of a Gluon network as a package, and a package computed by MXNet."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

import mxnet as mx
import numpy as np

from ..errors import CheckpointError
from ..graph.symbol_file import SymbolGraph, parse_symbol, symbol_text

if TYPE_CHECKING:
    from .package import NetworkPackage


def trace_prediction(net: Any, *, all_parameters: bool = False) -> tuple[SymbolGraph, dict[str, np.ndarray]]:
    """Return the graph of a network's first output, and the arrays that it reads.

    Variables and arrays have the structural names of the parameters (``backbone.conv1.weight``), and the operators
    lose the prefix that counts the networks of a process (``fcn0_``), so that the result is the same in every process.

    Args:
        net: an initialised network of one input.
        all_parameters: return the arrays of the other outputs, too.

    Raises:
        CheckpointError: a parameter has no value.
    """
    outputs = net(mx.sym.var("data"))
    main = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    graph = parse_symbol(main.tojson(), where=f"the graph of {type(net).__name__}")
    needed = set(graph.variables)

    names: dict[str, str] = {}  # in the graph -> in the network
    arrays = {}
    for name, parameter in net._collect_params_with_prefix().items():
        # of a shared parameter, the first structural name counts
        if parameter.name in names or parameter.name not in needed and not all_parameters:
            continue
        names[parameter.name] = name
        try:
            data = parameter.data(parameter.list_ctx()[0])
        except (RuntimeError, mx.gluon.parameter.DeferredInitializationError):
            raise CheckpointError("a parameter of the network has no value", where=name,
                                  fix="net.initialize(), then call the network once") from None
        arrays[name] = (data.astype("float32") if "bfloat16" in str(data.dtype) else data).asnumpy()

    def renamed(node):
        if node.is_variable:  # its initializer and multipliers are of the training
            return node._replace(name=names.get(node.name, node.name), attributes={})
        return node._replace(name=node.name[len(net.prefix):] if node.name.startswith(net.prefix) else node.name)

    return graph._replace(nodes=tuple(map(renamed, graph.nodes))), arrays


def package_function(package: NetworkPackage) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that computes the outputs of a package in MXNet, at any size.

    Raises:
        CheckpointError: the graph has operators that MXNet does not have.
    """
    try:
        symbol = mx.sym.load_json(symbol_text(package.graph))
    except mx.MXNetError as error:
        raise CheckpointError("MXNet does not accept the graph", where=package.graph.where,
                              received=_last_line(error), fix="export the network again") from None
    return _symbol_function(symbol, package.arrays, package.inputs[0])


def files_function(prefix: str, name: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that computes the outputs of ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.

    Args:
        prefix: path without the endings.
        name: the input.
    """
    symbol, arguments, auxiliaries = mx.model.load_checkpoint(prefix, 0)
    arrays = {key: value.asnumpy() for key, value in {**arguments, **auxiliaries}.items()}
    return _symbol_function(symbol, arrays, name)


def _symbol_function(symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], name: str
                     ) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function of one input; inputs of a loss, such as labels, are zero."""
    def compute(x: np.ndarray) -> list[np.ndarray]:
        try:
            executor = symbol.simple_bind(mx.cpu(), grad_req="null", **{name: x.shape})
        except (mx.MXNetError, RuntimeError) as error:
            raise CheckpointError("MXNet cannot compute the graph", where=f"input {name!r}, {x.shape}",
                                  received=_last_line(error),
                                  fix="--size H W with the size that the network was made for; or --inputs with the "
                                      "names of its inputs") from None
        for own in (executor.arg_dict, executor.aux_dict):
            for key, target in own.items():
                if key in arrays:
                    if arrays[key].shape != target.shape:  # some shapes would be broadcast
                        raise CheckpointError("a parameter has the wrong shape", where=key,
                                              received=f"{arrays[key].shape}; the graph has {target.shape}",
                                              fix="the .params file that was exported together with this symbol")
                    target[:] = mx.nd.array(arrays[key], dtype=target.dtype)
        return [output.asnumpy() for output in executor.forward(is_train=False, **{name: mx.nd.array(x)})]
    return compute


def _last_line(error: Exception) -> str:
    return next((line.strip()[:300] for line in reversed(str(error).splitlines()) if line.strip()), "")
