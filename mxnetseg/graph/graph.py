"""A symbol as a list of nodes that can be read and rewired."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mxnet as mx
import numpy as np

# an output of a node: (number of the node, number of the output)
Entry = tuple[int, int]
# operators whose outputs have numbered names
_NUMBERED_OUTPUTS = {"amp_multicast", "SliceChannel", "split_v2"}
# the reader of an entry that is an output of the whole graph
OUTSIDE = -1


class Graph:
    """A symbol as a list of nodes that can be read and rewired.

    Args:
        symbol: the symbol to read.

    Attributes:
        nodes: as in MXNet's JSON: ``op`` (``'null'`` for a variable), ``name``, ``attrs`` and ``inputs``, a list of
            entries. Inputs precede the nodes that read them, except for nodes added later.
        heads: the entries that are the symbol's outputs.
    """

    def __init__(self, symbol: mx.sym.Symbol):
        graph = json.loads(symbol.tojson(remove_amp_cast=False))
        self.nodes: list[dict] = graph["nodes"]
        names: set[str] = set()
        for number, node in enumerate(self.nodes):
            node["inputs"] = [(i, k) for i, k, _ in node["inputs"]]
            node.setdefault("attrs", {})
            if node["name"] in names and node["op"] != "null":  # a block that is called twice repeats its names
                node["name"] += f"_again{number}"
            names.add(node["name"])

        self.heads: list[Entry] = [(i, k) for i, k, *_ in graph["heads"]]
        self._attributes = graph.get("attrs", {})

    def add(self, op: str, name: str, inputs: Sequence[Entry] = (), **attributes: str) -> Entry:
        """Add a node and return its first output."""
        self.nodes.append({"op": op, "name": name, "attrs": attributes, "inputs": list(inputs)})
        return len(self.nodes) - 1, 0

    def variable(self, name: str) -> Entry:
        """Return the variable of that name, and add it if there is none."""
        known = (number for number, node in enumerate(self.nodes) if (node["op"], node["name"]) == ("null", name))
        number = next(known, None)
        return self.add("null", name) if number is None else (number, 0)

    def replace(self, replacements: Mapping[Entry, Entry]) -> None:
        """Make every reader of a key of ``replacements`` read the key's value instead."""
        def final(entry):
            while entry in replacements:
                entry = replacements[entry]
            return entry

        for node in self.nodes:
            node["inputs"] = [final(entry) for entry in node["inputs"]]
        self.heads = [final(entry) for entry in self.heads]

    def output(self, entry: Entry) -> str:
        """Return MXNet's name of an entry, for variables, operators of one output and those with numbered outputs."""
        number, k = entry
        node = self.nodes[number]
        if node["op"] == "null":
            return node["name"]
        return f"{node['name']}_output{k if node['op'] in _NUMBERED_OUTPUTS else ''}"

    def readers(self) -> dict[Entry, list[int]]:
        """Return the numbers of the nodes that read each entry; :data:`OUTSIDE` for the outputs of the graph."""
        found: dict[Entry, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for entry in node["inputs"]:
                found.setdefault(entry, []).append(number)
        for entry in self.heads:
            found.setdefault(entry, []).append(OUTSIDE)
        return found

    def casts_to(self, number: int, dtype: str) -> bool:
        """Return whether a node casts to ``dtype``; False for :data:`OUTSIDE`."""
        node = self.nodes[number]
        return number >= 0 and node["op"] == "amp_cast" and node["attrs"]["dtype"] == dtype

    def infer(self, what: str, **data) -> dict[str, Any]:
        """Return the ``'shape'`` or ``'type'`` of every output by its name (:meth:`output`), given those of inputs."""
        internals = self.symbol().get_internals()
        values = getattr(internals, f"infer_{what}")(**data)[1]
        return {name: value if what == "shape" else "bfloat16" if "bfloat16" in str(value) else np.dtype(value).name
                for name, value in zip(internals.list_outputs(), values)}

    def symbol(self, heads: Sequence[Entry] | None = None) -> mx.sym.Symbol:
        """Return the symbol of ``heads`` (by default the graph's own), without the nodes that they do not need."""
        heads = self.heads if heads is None else heads
        order: dict[int, int] = {}
        waiting = [(number, False) for number, _ in reversed(heads)]
        while waiting:
            number, inputs_done = waiting.pop()
            if number in order:
                continue
            if inputs_done:
                order[number] = len(order)
            else:
                waiting.append((number, True))
                waiting += [(i, False) for i, _ in reversed(self.nodes[number]["inputs"])]

        nodes = [{**self.nodes[number], "inputs": [[order[i], k, 0] for i, k in self.nodes[number]["inputs"]]}
                 for number in order]
        return mx.sym.load_json(json.dumps({
            "nodes": nodes, "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
            "heads": [[order[i], k, 0] for i, k in heads], "attrs": self._attributes}))


@dataclass
class ShapedGraph:
    """A graph of an inference for inputs of one shape.

    Attributes:
        graph: the nodes.
        shapes, types: of the outputs before any pass, by name (:meth:`Graph.output`).
        values: the parameters by name.
        context: where the graph will run.
        shared_weights: transformed weights by name, which serve every shape; passes add those that are missing.
        constants: the other new constants by name, which serve this shape only.
    """

    graph: Graph
    shapes: Mapping[str, Any]
    types: Mapping[str, str]
    values: Mapping[str, mx.nd.NDArray]
    context: mx.Context = field(default_factory=mx.cpu)
    shared_weights: dict[str, mx.nd.NDArray] = field(default_factory=dict)
    constants: dict[str, mx.nd.NDArray] = field(default_factory=dict)

    @property
    def is_on_cpu(self) -> bool:
        return self.context.device_type == "cpu"
