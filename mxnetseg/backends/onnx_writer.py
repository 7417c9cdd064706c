"""The writer of an ONNX graph: tensors with known types, constants folded, equal operators written once."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ..errors import CheckpointError

# The newest opset that ONNX Runtime 1.19, the last one for Python 3.9, and OpenVINO 2025 read completely (OpenVINO does
# not know the GridSample of opset 20), and the version of files that belongs to it.
OPSET, IR_VERSION = 19, 9

# operators that are computed when the graph is written, if all their inputs are constants
_FOLDED = frozenset("""Abs Add Cast Ceil Clip Concat ConstantOfShape Div Equal Exp Expand Flatten Floor Gather Greater
    GreaterOrEqual Less LessOrEqual MatMul Max Min Mod Mul Neg Not Range Reciprocal ReduceMax ReduceMean ReduceProd
    ReduceSum Relu Reshape Shape Sign Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze Where""".split())
_INFERRED_AS = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}  # ONNX infers no shape for the first
_LARGEST_FOLDED = 1 << 24  # elements of a folded result
_LARGEST_SHAPE = 64  # elements of a constant that is given to the inference of shapes


class Tensor:
    """A tensor of the graph.

    Attributes:
        name: its name in the graph.
        type: its type and shape; a size is a number, a name (``'H'``), or unknown.
        value: a constant's array, otherwise None.
    """

    def __init__(self, name: str, type_: onnx.TypeProto, value: np.ndarray | None = None):
        self.name, self.type, self.value = name, type_, value

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements."""
        return helper.tensor_dtype_to_np_dtype(self.type.tensor_type.elem_type)

    @property
    def shape(self) -> tuple[int | str | None, ...]:
        """Its sizes: a number, a name, or None."""
        return tuple(size.dim_value if size.HasField("dim_value") else size.dim_param or None
                     for size in self.type.tensor_type.shape.dim)

    @property
    def rank(self) -> int:
        """Its number of axes."""
        if not self.type.tensor_type.HasField("shape"):
            raise CheckpointError("the number of axes of a tensor is not known", received=self.name,
                                  fix="to_onnx(..., shapes={input: shape}) with the shape of each input")
        return len(self.type.tensor_type.shape.dim)


class Size:
    """A size that is known when the network runs: (1,) int64, with the operators that shapes need."""

    def __init__(self, writer: Writer, tensor: Tensor):
        self.writer, self.tensor = writer, tensor

    def _with(self, op: str, other: Dim, swapped: bool = False) -> Dim:
        operands = [self.tensor, self.writer.vector(other)]
        return self.writer.dim(self.writer(op, *operands[::-1 if swapped else 1]))

    def __add__(self, other: Dim) -> Dim:
        return self._with("Add", other)

    def __sub__(self, other: Dim) -> Dim:
        return self._with("Sub", other)

    def __rsub__(self, other: Dim) -> Dim:
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other: Dim) -> Dim:
        return self._with("Mul", other)

    def __floordiv__(self, other: Dim) -> Dim:  # sizes are not negative
        return self._with("Div", other)

    def __mod__(self, other: Dim) -> Dim:
        return self._with("Mod", other)

    __radd__, __rmul__ = __add__, __mul__


Dim = Union[int, Size]


class Writer:
    """Writes the operators of a graph.

    Attributes:
        nodes: the operators in order.
        initializers: arrays by name.
        scope: name for the tensors that are written next.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.scope = "graph"
        self._names: Counter[str] = Counter()
        self._written: dict[tuple[Any, ...], list[Tensor]] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, op: str, *inputs: Tensor | None, outputs: int = 1, **attributes: Any) -> Any:
        """Write an operator and return its result, or a list of them if ``outputs`` is more than 1.

        Args:
            op: the operator of ONNX.
            inputs: its inputs; None leaves out an optional one.
            outputs: number of its outputs.
            attributes: its attributes; those that are None are left out.
        """
        attributes = {key: value for key, value in attributes.items() if value is not None}
        key = (op, *(x and x.name for x in inputs), outputs, repr(sorted(attributes.items())))
        if key not in self._written:
            self._written[key] = self._write(op, inputs, outputs, attributes)
        results = self._written[key]
        return results[0] if outputs == 1 else results

    def _write(self, op, inputs, outputs, attributes) -> list[Tensor]:
        names = [self.unique(f"{self.scope}/{op}") for _ in range(outputs)]
        node = helper.make_node(op, [x.name if x else "" for x in inputs], names, name=names[0], **attributes)
        given = [x for x in inputs if x]
        if op in _FOLDED and all(x.value is not None for x in given):
            folded = ReferenceEvaluator(helper.make_model(
                helper.make_graph([node], "folded", [helper.make_value_info(x.name, x.type) for x in given],
                                  [onnx.ValueInfoProto(name=name) for name in names]),
                opset_imports=[helper.make_opsetid("", OPSET)])).run(None, {x.name: x.value for x in given})
            if sum(np.size(value) for value in folded) <= _LARGEST_FOLDED:
                return [self.constant(np.asarray(value)) for value in folded]
        for x in given:
            if x.value is not None:
                self.initializers[x.name] = x.value

        data = {x.name: numpy_helper.from_array(x.value, x.name) for x in given
                if x.value is not None and x.value.size <= _LARGEST_SHAPE}
        try:
            types = shape_inference.infer_node_outputs(defs.get_schema(_INFERRED_AS.get(op, op), OPSET, ""), node,
                                                       {x.name: x.type for x in given}, data,
                                                       opset_imports=[helper.make_opsetid("", OPSET)])
        except (onnx.shape_inference.InferenceError, RuntimeError) as error:
            raise CheckpointError("the shapes of the graph do not fit together", received=error,
                                  fix="check the sizes that are given, and that symbol and parameters belong together"
                                  ) from None
        self.nodes.append(node)
        return [Tensor(name, types[name]) for name in names]

    def unique(self, name: str) -> str:
        """Return a name that no tensor has yet."""
        self._names[name] += 1
        return name if self._names[name] == 1 else self.unique(f"{name}_{self._names[name]}")

    def rename(self, tensor: Tensor, name: str, first: int = 0) -> None:
        """Give a tensor, which the operators from number ``first`` on read or write, a name that no other has."""
        for node in self.nodes[first:]:
            for names in (node.input, node.output):
                for i, one in enumerate(names):
                    if one == tensor.name:
                        names[i] = name
        tensor.name = name

    # ---- constants ----------------------------------------------------------------------------

    def parameter(self, name: str, value: np.ndarray) -> Tensor:
        """Return a constant under a name of its own."""
        return Tensor(self.unique(name), _type_of(value), value)

    def constant(self, value: np.ndarray) -> Tensor:
        """Return a constant; equal ones are one tensor."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = self.parameter(f"constant_{value.dtype}", value)
        return self._constants[key]

    def number(self, value: float, like: Tensor) -> Tensor:
        """Return a number in the type of a tensor."""
        array = np.array(value, like.dtype)
        if like.dtype.kind in "iu" and array != value:
            raise CheckpointError("a number is not a whole number, as the tensor's elements are", received=value,
                                  fix="cast the tensor to float32 before the operator")
        return self.constant(array)

    def integers(self, *values: int) -> Tensor:
        """Return a vector of whole numbers."""
        return self.constant(np.array(values, np.int64))

    # ---- sizes --------------------------------------------------------------------------------

    def sizes(self, x: Tensor) -> list[Dim]:
        """Return the sizes of all axes of a tensor."""
        return [size if isinstance(size, int) else Size(self, self("Shape", x, start=axis, end=axis + 1))
                for axis, size in enumerate(x.shape[:x.rank])]

    def dim(self, tensor: Tensor) -> Dim:
        """Return the size in a vector of one element."""
        return Size(self, tensor) if tensor.value is None else int(tensor.value.reshape(-1)[0])

    def vector(self, *sizes: Dim) -> Tensor:
        """Return sizes as one vector of int64."""
        parts: list[Tensor] = []
        known: list[int] = []
        for size in (*sizes, None):
            if isinstance(size, int):
                known.append(size)
                continue
            if known:
                parts.append(self.integers(*known))
                known = []
            if size is not None:
                parts.append(size.tensor)
        if len(parts) == 1:
            return parts[0]
        return self("Concat", *parts, axis=0) if parts else self.integers()

    def reshape(self, x: Tensor, sizes: Sequence[Dim]) -> Tensor:
        """Reshape; a size may be -1."""
        known = [size if isinstance(size, int) and size >= 0 else None for size in sizes]
        rest = [i for i, size in enumerate(sizes) if isinstance(size, int) and size < 0]
        old = [size for size in x.shape if isinstance(size, int)]
        if rest and len(old) == x.rank and all(size is not None for i, size in enumerate(known) if i != rest[0]):
            others = int(np.prod([size for size in known if size is not None], dtype=np.int64))
            known[rest[0]] = int(np.prod(old, dtype=np.int64)) // max(others, 1)
        unknown = [i for i, size in enumerate(known) if size is None]
        if not rest and len(unknown) == 1:  # one unknown size is the rest, so that the shape is a constant
            sizes = [-1 if i == unknown[0] else size for i, size in enumerate(sizes)]
        return self.with_shape(self("Reshape", x, self.vector(*sizes), allowzero=1 if 0 in known else None), known)

    def with_shape(self, x: Tensor, shape: Sequence[Any]) -> Tensor:
        """Give a written tensor a shape of which the caller knows more than ONNX infers."""
        if x.value is None:
            x.type = helper.make_tensor_type_proto(x.type.tensor_type.elem_type, shape)
        return x

    def arange(self, count: Dim) -> Tensor:
        """Return 0, 1, ..., count - 1 as int64."""
        zero, one = (self.constant(np.array(i, np.int64)) for i in (0, 1))
        return self("Range", zero, self("Squeeze", self.vector(count), self.integers(0)), one)

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """Convert to another type."""
        dtype = np.dtype(dtype)
        return x if x.dtype == dtype else self("Cast", x, to=helper.np_dtype_to_tensor_dtype(dtype))

    def unsqueeze(self, x: Tensor, *axes: int) -> Tensor:
        """Insert axes of size 1."""
        return self("Unsqueeze", x, self.integers(*axes))


def _type_of(value: np.ndarray) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
