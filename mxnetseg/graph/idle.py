"""Operators that return their input unchanged in an inference."""
from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .graph import Entry, Graph


def idle_operators(graph: Graph, types: Mapping[str, str] = MappingProxyType({})) -> dict[Entry, Entry]:
    """Find outputs that equal an input in an inference: of ``BlockGrad``, copies, dropout, casts to the same type.

    Args:
        graph: the graph.
        types: of its outputs, by name. Casts are found only where these are known.

    Returns:
        the output of each such operator -> the input that it equals.
    """
    found: dict[Entry, Entry] = {}
    for number, node in enumerate(graph.nodes):
        if node["op"] in ("BlockGrad", "_copy") or node["op"] == "Dropout" and node["attrs"].get("mode") != "always":
            found[number, 0] = node["inputs"][0]
        elif node["op"] in ("amp_cast", "amp_multicast"):
            for k, entry in enumerate(node["inputs"]):
                before, after = types.get(graph.output(entry)), types.get(graph.output((number, k)))
                if before is not None and before == after:
                    found[number, k] = entry
    return found
