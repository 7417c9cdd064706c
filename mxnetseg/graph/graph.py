"""A symbol as a list of nodes that can be read and rewired."""
from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np

# an output of a node: (number of the node, number of the output)
Entry = Tuple[int, int]
# operators whose outputs are numbered
_SEVERAL = {"amp_multicast", "SliceChannel", "split_v2"}


class Graph:
    """A symbol as a list of nodes that can be read and rewired.

    Args:
        symbol: what to read.

    Attributes:
        nodes: as in MXNet's JSON: ``op`` (``'null'`` for a variable), ``name``, ``attrs`` and ``inputs``, a list of
            entries; inputs come before what reads them, but for nodes added later.
        heads: the entries that are the symbol's outputs.
    """

    def __init__(self, symbol: mx.sym.Symbol):
        graph = json.loads(symbol.tojson(remove_amp_cast=False))
        self.nodes: List[dict] = graph["nodes"]
        names: Set[str] = set()
        for number, node in enumerate(self.nodes):
            node["inputs"] = [(i, k) for i, k, _ in node["inputs"]]
            node.setdefault("attrs", {})
            if node["name"] in names and node["op"] != "null":  # a block that is called twice names its nodes alike
                node["name"] += f"_again{number}"
            names.add(node["name"])
        self.heads: List[Entry] = [(i, k) for i, k, *_ in graph["heads"]]
        self._attributes = graph.get("attrs", {})

    def add(self, op: str, name: str, inputs: Sequence[Entry] = (), **attributes: str) -> Entry:
        """A new node's first output."""
        self.nodes.append({"op": op, "name": name, "attrs": attributes, "inputs": list(inputs)})
        return len(self.nodes) - 1, 0

    def variable(self, name: str) -> Entry:
        """The variable of that name, which is made where there is none."""
        known = (number for number, node in enumerate(self.nodes) if (node["op"], node["name"]) == ("null", name))
        number = next(known, None)
        return self.add("null", name) if number is None else (number, 0)

    def replace(self, instead: Mapping[Entry, Entry]) -> None:
        """Whoever reads an entry in ``instead`` reads the other from now on."""
        def last(entry):
            while entry in instead:
                entry = instead[entry]
            return entry
        for node in self.nodes:
            node["inputs"] = [last(entry) for entry in node["inputs"]]
        self.heads = [last(entry) for entry in self.heads]

    def output(self, entry: Entry) -> str:
        """The name that MXNet has for it, if it is a variable or its node has one output, or several alike."""
        number, k = entry
        node = self.nodes[number]
        return node["name"] if node["op"] == "null" else f"{node['name']}_output{k if node['op'] in _SEVERAL else ''}"

    def readers(self) -> Dict[Entry, List[int]]:
        """Who reads an entry; -1 stands for the outside."""
        found: Dict[Entry, List[int]] = {}
        for number, node in enumerate(self.nodes):
            for entry in node["inputs"]:
                found.setdefault(entry, []).append(number)
        for entry in self.heads:
            found.setdefault(entry, []).append(-1)
        return found

    def infer(self, what: str, **data) -> Dict[str, Any]:
        """``'shape'`` or ``'type'`` of the outputs, see :meth:`output`, for those of ``data``."""
        internals = self.symbol().get_internals()
        values = getattr(internals, f"infer_{what}")(**data)[1]
        return {name: value if what == "shape" else "bfloat16" if "bfloat16" in str(value) else np.dtype(value).name
                for name, value in zip(internals.list_outputs(), values)}

    def symbol(self, heads: Optional[Sequence[Entry]] = None) -> mx.sym.Symbol:
        """The graph of ``heads`` (by default its own), without what they do not need."""
        heads = self.heads if heads is None else heads
        order: Dict[int, int] = {}
        waiting = [(number, False) for number, _ in reversed(heads)]
        while waiting:
            number, ready = waiting.pop()
            if number in order:
                continue
            if ready:
                order[number] = len(order)
            else:
                waiting.append((number, True))
                waiting += [(i, False) for i, _ in reversed(self.nodes[number]["inputs"])]
        nodes = [{**self.nodes[number], "inputs": [[order[i], k, 0] for i, k in self.nodes[number]["inputs"]]}
                 for number in order]
        return mx.sym.load_json(json.dumps({
            "nodes": nodes, "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
            "heads": [[order[i], k, 0] for i, k in heads], "attrs": self._attributes}))
