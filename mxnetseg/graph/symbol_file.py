"""MXNet's ``symbol.json`` files, read and written in plain Python without MXNet.

A symbol is a list of nodes in an order in which every node follows the nodes that it reads::

    {"nodes": [{"op": "null", "name": "data", "inputs": []},
               {"op": "Convolution", "name": "conv0", "attrs": {"kernel": "(3, 3)", ...}, "inputs": [[0, 0, 0], ...]}],
     "arg_nodes": [0, ...], "heads": [[1, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}

``op`` is ``null`` for a variable. An input is (node, output of that node, version, which is not used). All values of
``attrs`` are strings. Older files write an operator's arguments in ``param`` and the user's attributes in ``attr``,
have two numbers in an input, and leave out the running statistics of batch norm; they are read as MXNet 1.9.1 reads
them.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ..errors import CheckpointError, reason, short
from ..files import PathLike, atomic_write, open_regular

_LARGEST = 256 << 20  # bytes; a symbol of a thousand layers has less than one million
_VERSION = 10901
# attributes of the user and of the executor, which do not change what an operator computes
_NOT_ARGUMENTS = re.compile(r"__\w+__|ctx_group|(\w+_)?(lr_mult|wd_mult)|force_mirroring|mirror_stage")
_STATISTICS = ("moving_mean", "moving_var")


class SymbolNode(NamedTuple):
    """A variable or an operator.

    Attributes:
        op: the operator; ``'null'`` for a variable.
        name: its name.
        attributes: the arguments as strings, those of the user (``__lr_mult__``) included.
        inputs: (number of the node, number of its output), in the operator's order.
    """

    op: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[int, int], ...]

    @property
    def is_variable(self) -> bool:
        return self.op == "null"

    @property
    def arguments(self) -> dict[str, str]:
        """The attributes without those that do not change what the operator computes."""
        return {key: value for key, value in self.attributes.items() if not _NOT_ARGUMENTS.fullmatch(key)}


class SymbolGraph(NamedTuple):
    """A symbol as data.

    Attributes:
        nodes: inputs precede the nodes that read them.
        heads: the outputs of the symbol, as (node, output of the node).
        where: the file, for messages.
    """

    nodes: tuple[SymbolNode, ...]
    heads: tuple[tuple[int, int], ...]
    where: str = "the symbol"

    @property
    def variables(self) -> list[str]:
        """The names of the variables in their order."""
        return [node.name for node in self.nodes if node.is_variable]


def read_symbol(path: PathLike) -> SymbolGraph:
    """Return the symbol of a file.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged or no symbol.
    """
    with open_regular(path, "the symbol file", CheckpointError) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise CheckpointError("the symbol file is too large", where=path, received=f"more than {_LARGEST:,} bytes",
                              fix="give the -symbol.json file; the weights belong to the .params file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _damaged(str(path), f"byte {error.start} is not UTF-8")
    return parse_symbol(text, where=str(path))


def parse_symbol(text: str, where: str = "the symbol") -> SymbolGraph:
    """Return the symbol of a JSON text, as ``mx.sym.Symbol.tojson`` writes it.

    Args:
        text: the JSON.
        where: the source, for messages.

    Raises:
        CheckpointError: the text is no symbol.
    """
    def pairs(items):
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key is given twice")
        return found

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        _damaged(where, reason(error))
    if not isinstance(content, dict) or not isinstance(content.get("nodes"), list):
        _damaged(where, "it has no list of nodes")

    nodes: list[SymbolNode] = []
    moved: list[int] = []  # number in the file -> number in `nodes`, which has added variables
    names: set[str] = set()
    for number, item in enumerate(content["nodes"]):
        node = _node(item, number, moved, where)
        if node.op in ("BatchNorm", "BatchNorm_v1") and len(node.inputs) == 3:
            for suffix in _STATISTICS:
                node = node._replace(inputs=(*node.inputs, (len(nodes), 0)))
                nodes.append(SymbolNode("null", f"{node.name}_{suffix}", {}, ()))
        if node.is_variable and node.name in names:
            _damaged(where, f"two variables are named {short(node.name)}")
        if node.is_variable:
            names.add(node.name)
        moved.append(len(nodes))
        nodes.append(node)

    heads = content.get("heads")
    if not isinstance(heads, list) or not heads:
        _damaged(where, "it has no outputs (heads)")
    return SymbolGraph(tuple(nodes), tuple(_entry(head, moved, "heads", where) for head in heads), where)


def write_symbol(path: PathLike, graph: SymbolGraph) -> None:
    """Write a symbol to a file that ``mx.sym.load`` reads."""
    with atomic_write(path, "w") as stream:
        stream.write(symbol_text(graph))


def symbol_text(graph: SymbolGraph) -> str:
    """Return a symbol as the JSON that ``mx.sym.load_json`` reads."""
    nodes = [{"op": node.op, "name": node.name, "attrs": dict(node.attributes),
              "inputs": [[i, k, 0] for i, k in node.inputs]} for node in graph.nodes]
    variables = [number for number, node in enumerate(graph.nodes) if node.is_variable]
    return json.dumps({"nodes": nodes, "arg_nodes": variables, "node_row_ptr": list(range(len(nodes) + 1)),
                       "heads": [[i, k, 0] for i, k in graph.heads],
                       "attrs": {"mxnet_version": ["int", _VERSION]}}, indent=2)


def _node(item: Any, number: int, moved: list[int], where: str) -> SymbolNode:
    place = f"node {number}"
    if not isinstance(item, dict) or not isinstance(item.get("op"), str) or not isinstance(item.get("name"), str):
        _damaged(where, f"{place} has no op or no name")
    attributes: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        part = item.get(key, {})
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            _damaged(where, f"{key!r} of {place} ({short(item['name'])}) is not a mapping of strings")
        for name, value in part.items():
            if attributes.setdefault(name, value) != value:
                _damaged(where, f"{place} ({short(item['name'])}) has two values of {short(name)}")
    inputs = item.get("inputs", [])
    if not isinstance(inputs, list):
        _damaged(where, f"the inputs of {place} are not a list")
    if item["op"] == "null" and inputs:
        _damaged(where, f"{place} is a variable and has inputs")
    return SymbolNode(item["op"], item["name"], attributes,
                      tuple(_entry(entry, moved, f"the inputs of {place}", where) for entry in inputs))


def _entry(entry: Any, moved: list[int], place: str, where: str) -> tuple[int, int]:
    if (not isinstance(entry, list) or not 2 <= len(entry) <= 3
            or not all(isinstance(i, int) and not isinstance(i, bool) for i in entry)):
        _damaged(where, f"{place}: {short(entry)} is not a list of 2 or 3 whole numbers")
    number, output = entry[:2]
    if not 0 <= number < len(moved) or output < 0:
        _damaged(where, f"{place}: {short(entry)} is not an output of one of the {len(moved)} nodes before it")
    return moved[number], output


def _damaged(where: str, violation: str) -> NoReturn:
    raise CheckpointError("the file is damaged or no symbol of MXNet", where=where, received=violation,
                          fix="export the network again, or copy or download the file again")
