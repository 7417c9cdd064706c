"""Parameters in and out of a network: first values, ImageNet's, other projects' names."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import mxnet as mx

from ...errors import CheckpointError
from .imagenet import find_weights
from .paramsfile import MAGIC, check_params_file

log = logging.getLogger(__name__)


class Skipped(NamedTuple):
    """A tensor that was not loaded: its name and why."""

    name: str
    reason: str


def initialize(net, contexts: Sequence[mx.Context]) -> None:
    """Random first values on every context: He et al. (2015) for convolutions.

    Shapes that depend on the input are settled by one small forward, so that every parameter has its
    value before the first batch comes.
    """
    net.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0), ctx=list(contexts))
    if any(p._deferred_init for p in net.collect_params().values()):
        with mx.autograd.pause():
            outputs = net(mx.nd.zeros((1, 3, 64, 64), ctx=contexts[0]))
        # In inference a convolution of oneDNN lays its weights out anew, in place. Who reads them meanwhile
        # gets a mixture, for MXNet's engine takes the running convolution for a mere reader.
        for output in outputs:
            output.wait_to_read()
        plain_layout(net)


def plain_layout(net) -> None:
    """Lay out the weights of convolutions as MXNet does, after oneDNN has done it its way in an inference.

    Every step of training would turn them into the plain layout and back, to cast or to update them.
    """
    for parameter in net.collect_params().values():
        for value in parameter.list_data() if len(parameter.shape) > 2 else ():
            kept = value.asnumpy()
            mx.nd.zeros(value.shape, ctx=value.context, out=value)  # a copy into it would keep the layout
            value[:] = kept


def load_arrays(path: Union[str, Path]) -> Union[Dict[str, mx.nd.NDArray], List[mx.nd.NDArray]]:
    """Load what ``mx.nd.save`` wrote, on the CPU, after its structure was checked; bfloat16 comes as float32.

    Raises:
        CheckpointError: the file is missing, unreadable or damaged.
    """
    index = check_params_file(path)
    try:
        with mx.util.np_shape(index.numpy_shapes):
            arrays = mx.nd.load(str(path))
            for key, tensor in (zip(arrays, index.tensors) if isinstance(arrays, dict) else enumerate(index.tensors)):
                if tensor.dtype == "bfloat16":  # which NumPy does not have
                    arrays[key] = arrays[key].astype("float32")
            return arrays
    except (mx.MXNetError, ValueError, MemoryError) as error:
        raise CheckpointError("the file is damaged or no MXNet parameter file", where=path,
                              received=str(error).strip().splitlines()[-1][:200] if str(error) else
                              type(error).__name__, fix="copy or download it again") from None


def read_params(path: Union[str, Path]) -> Dict[str, mx.nd.NDArray]:
    """The tensors of an MXNet ``.params`` file by name, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, or no such file at all.
    """
    tensors = load_arrays(path)
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError("the file holds no named tensors", where=path,
                              fix="give a file written by save_parameters or by mxnetseg")
    # `arg:` and `aux:` are how exported and symbolic models mark them
    return {name.split(":", 1)[-1]: value for name, value in tensors.items()}


def assign(net, tensors: Dict[str, mx.nd.NDArray], *, where: object, skip: bool = False) -> List[Skipped]:
    """Set every parameter of ``net`` from ``tensors``, which have our names.

    Args:
        net: initialised.
        where: the file, for messages.
        skip: leave out what is missing, left over or of another shape, and return it (fine-tuning),
            instead of refusing the file.

    Raises:
        CheckpointError: a tensor does not fit and ``skip`` is off. Nothing has been set then.
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


def load_pretrained_base(net, path: Optional[Union[str, Path]] = None) -> None:
    """Set the backbone from an ImageNet classifier, without its last layers; the network takes over what the weights
    expect of the pixels.

    Args:
        path: GluonCV's ``.params`` file, or a ``.safetensors`` or ``.pth`` file of the PyTorch form; None: see
            :mod:`~mxnetseg.models.weights.imagenet`.

    Raises:
        EnvironmentProblem, CheckpointError: see :func:`~mxnetseg.models.weights.imagenet.find_weights`.
    """
    from .foreign import read_tensors, set_parameters  # they build on this module

    backbone = net.backbone

    def use(file: Path) -> None:
        set_parameters(backbone, backbone.convert(read_tensors(file), pytorch=not is_mxnet_file(file)), where=file)

    file = find_weights(backbone, path, use=use)
    net.mean, net.std = backbone.mean, backbone.std
    log.info("backbone from %s", file)


def is_mxnet_file(path: Union[str, Path]) -> bool:
    """Whether a file begins as MXNet's ``.params`` do."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def load_mxnetseg(net, path: Union[str, Path]) -> None:
    """Set a network from a ``.params`` file of MXNetSeg.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    assign(net, _renamed(read_params(path), net.from_mxnetseg), where=path)


def _renamed(tensors: Dict[str, mx.nd.NDArray], rename: Callable[[str], Optional[str]]):
    renamed = {rename(name): value for name, value in tensors.items()}
    renamed.pop(None, None)
    return renamed
