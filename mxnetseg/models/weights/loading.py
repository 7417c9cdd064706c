"""Set the parameters of a network: initial values, ``.params`` files, tensors with our names."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import mxnet as mx

from ...errors import CheckpointError
from ...graph.params_file import check_params_file


class Skipped(NamedTuple):
    """A tensor that was not loaded: its name and why."""

    name: str
    reason: str


def initialize(net, contexts: Sequence[mx.Context], *, random: bool = True) -> None:
    """Set random initial values on every context: He et al. (2015) for convolutions.

    One small forward pass infers the shapes that depend on the input, so that every parameter has its value before the
    first batch.

    Args:
        net: a network.
        contexts: the devices.
        random: False: set zeros, which takes a fraction of the time, because every value is replaced afterwards.
    """
    values = mx.init.MSRAPrelu(factor_type="in", slope=0.0) if random else mx.init.Zero()
    net.initialize(values, ctx=list(contexts))
    if any(p._deferred_init for p in net.collect_params().values()):
        with mx.autograd.pause():
            outputs = net(mx.nd.zeros((1, 3, 64, 64), ctx=contexts[0]))
        # In inference, oneDNN's convolutions change the layout of their weights in place. MXNet's engine treats
        # them as readers, so anything that reads the weights at the same time would get a mixture.
        for output in outputs:
            output.wait_to_read()
        plain_layout(net)


def plain_layout(net) -> None:
    """Restore MXNet's plain layout of convolution weights after an inference in which oneDNN changed it.

    Otherwise every training step would convert them to the plain layout and back, to cast or to update them.
    """
    for parameter in net.collect_params().values():
        for value in parameter.list_data() if len(parameter.shape) > 2 else ():
            kept = value.asnumpy()
            mx.nd.zeros(value.shape, ctx=value.context, out=value)  # a copy into it would keep the layout
            value[:] = kept


def load_arrays(path: str | Path) -> dict[str, mx.nd.NDArray] | list[mx.nd.NDArray]:
    """Load a file of ``mx.nd.save`` on the CPU after checking its structure; bfloat16 is converted to float32.

    Raises:
        CheckpointError: the file is missing, unreadable or damaged.
    """
    index = check_params_file(path)
    try:
        with mx.util.np_shape(index.numpy_shapes):
            arrays = mx.nd.load(str(path))
            for key, tensor in (zip(arrays, index.tensors) if isinstance(arrays, dict) else enumerate(index.tensors)):
                if tensor.dtype == "bfloat16":  # a type that NumPy does not have
                    arrays[key] = arrays[key].astype("float32")
            return arrays
    except (mx.MXNetError, ValueError, MemoryError) as error:
        raise CheckpointError("the file is damaged or no MXNet parameter file", where=path,
                              received=str(error).strip().splitlines()[-1][:200] if str(error) else
                              type(error).__name__, fix="copy or download it again") from None


def read_params(path: str | Path) -> dict[str, mx.nd.NDArray]:
    """Read the tensors of an MXNet ``.params`` file by name, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, or not a ``.params`` file.
    """
    tensors = load_arrays(path)
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError("the file holds no named tensors", where=path,
                              fix="give a file written by save_parameters or by mxnetseg")
    # exported and symbolic models mark the names with `arg:` and `aux:`
    return {name.split(":", 1)[-1]: value for name, value in tensors.items()}


def assign(net, tensors: dict[str, mx.nd.NDArray], *, where: object, skip: bool = False) -> list[Skipped]:
    """Set every parameter of ``net`` from ``tensors`` with our names.

    Args:
        net: initialised.
        where: the file, for messages.
        skip: leave out what is missing, left over or of another shape, and return it (fine-tuning),
            instead of refusing the file.

    Raises:
        CheckpointError: a tensor does not fit and ``skip`` is off; then no parameter is changed.
    """
    parameters = net.named_parameters() if hasattr(net, "named_parameters") else net._collect_params_with_prefix()
    problems = [Skipped(name, "missing in the file") for name in parameters if name not in tensors]
    problems += [Skipped(name, "not in this network") for name in tensors if name not in parameters]
    problems += [Skipped(name, f"shape {tensors[name].shape} in the file, {p.shape} in this network")
                 for name, p in parameters.items() if name in tensors and tuple(p.shape) != tensors[name].shape]
    if problems and not skip:
        shown = "\n".join(f"{p.name}: {p.reason}" for p in problems[:8])
        more = f"\n... and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise CheckpointError("the weights do not fit this network", where=where, received=shown + more,
                              fix="build the network the file was trained with (model, backbone, nclass, aux), "
                                  "or fine-tune from it (train.init_from), which skips what does not fit")
    unfit = {p.name for p in problems}
    for name, parameter in parameters.items():
        if name not in unfit:
            parameter.set_data(tensors[name].astype(parameter.dtype, copy=False))
    return problems


def load_mxnetseg(net, path: str | Path) -> None:
    """Set a network from a ``.params`` file of MXNetSeg.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    assign(net, _renamed(read_params(path), net.from_mxnetseg), where=path)


def _renamed(tensors: dict[str, mx.nd.NDArray], rename: Callable[[str], str | None]):
    renamed = {rename(name): value for name, value in tensors.items()}
    renamed.pop(None, None)
    return renamed
