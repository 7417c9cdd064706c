"""The network that comes with the package.

Its folder holds a checkpoint in float16, the same network as an ONNX file, and a model card, which
``scripts/include_network.py`` writes. Nothing here imports MXNet.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._compat import is_installed
from ..backends.choice import BACKENDS
from ..errors import CheckpointError
from .sidecar import parse

FOLDER = Path(__file__).resolve().parents[1] / "included"
STEM = "network"  # of the files NAME.params, NAME.json and NAME.onnx
_READ_ONNX = ("onnxruntime", "openvino")  # backends for which no checkpoint has to be built
ALTERNATIVES = {
    "mxnetseg predict --checkpoint gluoncv:fcn_resnet50_ade": "downloads a network for 150 classes of scenes",
    "mxnetseg models --pretrained": "lists networks that can be downloaded",
    "mxnetseg demo": "trains one on the built-in images, in minutes"}


def has_included() -> bool:
    """Return whether a network comes with this installation."""
    return _file(".json").is_file() and (_file(".params").is_file() or _file(".onnx").is_file())


def included_path(backend: str = "auto") -> Path:
    """Return the file of the included network that a backend reads: the checkpoint, or the ONNX file.

    Args:
        backend: ``'auto'``, which takes the ONNX file where MXNet is not installed, or a name of
            :data:`~mxnetseg.backends.choice.BACKENDS`.

    Raises:
        CheckpointError: no network comes with this installation.
    """
    params, onnx = _file(".params"), _file(".onnx")
    takes_onnx = not (is_installed("mxnet") and is_installed("gluoncv")) if backend == "auto" else \
        BACKENDS.resolve(backend) in _READ_ONNX
    if not has_included():
        width = max(map(len, ALTERNATIVES))
        raise CheckpointError("no network comes with this installation", where=FOLDER, fix="\n".join(
            f"{command:<{width}}  {effect}" for command, effect in ALTERNATIVES.items()))
    return onnx if onnx.is_file() and (takes_onnx or not params.is_file()) else params


def included_sidecar() -> Mapping[str, Any]:
    """Return the description of the included network."""
    return parse(_file(".json"))


def describe_included() -> str:
    """Return one line on the included network: what it is, its classes, its data and its licence."""
    sidecar = included_sidecar()
    model, data = sidecar["model"], sidecar["data"]
    classes = data["classes"]
    shown = ", ".join(classes if len(classes) <= 12 else [*classes[:11], "..."])
    network = " on ".join(filter(None, (model["name"], model.get("backbone"))))
    return (f"included with mxnetseg: {network}, trained on {data['name']} ({len(classes)} classes: {shown}); "
            f"licence: {sidecar.get('license', 'not recorded')}")


def _file(ending: str) -> Path:
    return FOLDER / f"{STEM}{ending}"
