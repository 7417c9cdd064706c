"""The prediction of a Gluon network as plain data."""
from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np

from ..errors import CheckpointError
from ..graph.symbol_file import SymbolGraph, parse_symbol


def trace_prediction(net: Any) -> tuple[SymbolGraph, dict[str, np.ndarray]]:
    """Return the graph of a network's first output, and the arrays that it reads.

    Variables and arrays have the structural names of the parameters (``backbone.conv1.weight``), and the operators
    lose the prefix that counts the networks of a process (``fcn0_``), so that the result is the same in every process.

    Args:
        net: an initialised network of one input.

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
        if parameter.name in names or parameter.name not in needed:  # shared: the first structural name counts
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
