"""Resizes that a graph computes as matrix products (:mod:`mxnetseg.nn.resize`), replaced by one operator each."""
from __future__ import annotations

from .._resize_marks import COLUMNS, RESIZE_KIND, RESIZE_MARK, ROWS, SOURCE, TARGET
from ..graph.symbol_file import SymbolGraph, SymbolNode

RESIZE = "_mxnetseg_resize"  # the operator's name; :mod:`.signatures` declares it

_SAME_SIZE = ("BlockGrad", "amp_cast", "Cast", "_copy")  # operators between a map and its positions

_Entry = tuple[int, int]


def with_resizes(graph: SymbolGraph) -> SymbolGraph:
    """Return a graph in which the marked matrix products are operators :data:`RESIZE`.

    The operator reads the map, and the tensor to whose height and width it is resized, if there is one. A graph that
    an older version exported does not have all marks, and keeps its products.
    """
    nodes = list(graph.nodes)
    for number, node in enumerate(graph.nodes):
        kind, _, factor = node.attributes.get(RESIZE_KIND, "").partition("*")
        products = _products(graph, number) if kind else None
        if products is None:
            continue
        x, matrices = products
        targets = {_origin(graph, entry) for matrix in matrices for entry in _targets(graph, matrix)}
        if len(targets) == 1 or (factor and not targets):
            nodes[number] = SymbolNode(RESIZE, node.name, {"kind": kind, "factor": factor or "1"}, (x, *targets))
    return graph._replace(nodes=tuple(nodes))


def _products(graph: SymbolGraph, number: int) -> tuple[_Entry, list[_Entry]] | None:
    """Return the map that a resize reads and its two matrices, from the product along the columns."""
    matrices = []
    for axis in (COLUMNS, ROWS):
        for op in ("dot", "transpose"):
            node = graph.nodes[number]
            if node.op != op or node.attributes.get(RESIZE_MARK) != axis:
                return None
            x = node.inputs[0]
            matrices += node.inputs[1:]
            number = x[0]
    return x, matrices


def _targets(graph: SymbolGraph, matrix: _Entry) -> set[_Entry]:
    """Return the tensors whose positions are marked as those of the target, among all from which a matrix is made."""
    found: set[_Entry] = set()
    seen: set[int] = set()
    waiting = [matrix[0]]
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        node = graph.nodes[number]
        mark = node.attributes.get(RESIZE_MARK)
        if mark == TARGET:
            found.add(node.inputs[0])
        elif mark != SOURCE:
            waiting += [i for i, _ in node.inputs]
    return found


def _origin(graph: SymbolGraph, entry: _Entry) -> _Entry:
    while graph.nodes[entry[0]].op in _SAME_SIZE:
        entry = graph.nodes[entry[0]].inputs[0]
    return entry
