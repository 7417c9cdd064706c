"""Read the named tensors of any weight file, and set a network from tensors with our names."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mxnet as mx
import numpy as np

from ...errors import CheckpointError, short
from ...files import open_regular
from ...graph.params_file import MAGIC
from .loading import assign, read_params
from .tensorfiles import read_npz, read_safetensors
from .torchfile import read_torch

# Keys under which training programs keep the parameters, and prefixes that they put before the names.
_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_LOSSES = ("loss.", "criterion.")  # saved with a network that was wrapped together with its loss
_DEEPEST_NEST = 4


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read the named tensors of a weight file of any format, floating-point ones as float32.

    Nests (``{"state_dict": ...}``) and prefixes that all names share (``module.``) are removed.

    Raises:
        CheckpointError: the file is missing, damaged, of an unknown format, or holds no named tensors.
    """
    path = Path(path)
    with open_regular(path, "the weight file", CheckpointError) as file:
        begin = file.read(264)
    if path.suffix == ".npz":
        found = read_npz(path)
    elif path.suffix == ".safetensors" or begin[8:9] == b"{":
        found = read_safetensors(path)
    elif begin[:8] == MAGIC:
        found = {name: value.asnumpy() for name, value in read_params(path).items()}
    elif begin[:4] == b"PK\x03\x04" or begin[:1] == b"\x80":
        found = _innermost_tensors(read_torch(path), path)
    elif begin[257:262] == b"ustar":
        raise CheckpointError("a PyTorch checkpoint of a version before 0.1.10 is not supported", where=path,
                              fix="load and save it once with a later PyTorch")
    else:
        raise CheckpointError("the file is damaged, or its format is not supported", where=path,
                              received=f"it begins with {begin[:8]!r}" if begin else "an empty file",
                              fix="give a .pth, .safetensors, .params or .npz file; copy or download it again")
    return {name: value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
            for name, value in _without_prefixes(found).items()}


def _innermost_tensors(found, path: Path) -> dict[str, np.ndarray]:
    """Return the innermost dictionary of tensors below a checkpoint's nests."""
    def innermost(value, depth: int) -> dict[str, np.ndarray]:
        if not isinstance(value, dict) or not depth:  # a dictionary can hold itself
            return {}
        nested = (innermost(value[key], depth - 1) for key in _NESTS if key in value)
        return next(filter(None, nested), None) or {
            name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, np.ndarray)}

    named = innermost(found, _DEEPEST_NEST)
    if not named:
        keys = ", ".join(key if isinstance(key, str) else short(key) for key in [*found][:8])[:200] \
            if isinstance(found, dict) else type(found).__name__[:80]
        raise CheckpointError("the file holds no named tensors", where=path, received=keys,
                              fix="in PyTorch, save the state_dict alone: "
                                  "torch.save(model.state_dict(), PATH)")
    return named


def _without_prefixes(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the prefixes that all names have; the names of a loss do not count and are left out."""
    tensors = dict(tensors)
    while True:
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in tensors)
                       and all(name.startswith((p, *_LOSSES)) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}


def set_parameters(net, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
    """Set every parameter of ``net`` from arrays with our names.

    Raises:
        CheckpointError: they do not fit; then no parameter is changed.
    """
    assign(net, {name: mx.nd.array(value, dtype=np.float32) for name, value in tensors.items()}, where=where)
