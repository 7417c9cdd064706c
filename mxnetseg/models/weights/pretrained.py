"""Start a network's backbone from ImageNet weights."""
from __future__ import annotations

import logging
from pathlib import Path

from ...graph.params_file import MAGIC
from .imagenet import find_weights
from .tensors import read_tensors, set_parameters

log = logging.getLogger(__name__)


def load_pretrained_base(net, path: str | Path | None = None) -> None:
    """Set the backbone from an ImageNet classifier without its last layers.

    The network also takes over the normalisation that the weights expect.

    Args:
        net: an initialised network.
        path: GluonCV's ``.params`` file, or a ``.safetensors`` or ``.pth`` file of the PyTorch form; None: see
            :mod:`~mxnetseg.models.weights.imagenet`.

    Raises:
        EnvironmentProblem, CheckpointError: see :func:`~mxnetseg.models.weights.imagenet.find_weights`.
    """
    backbone = net.backbone

    def use(file: Path) -> None:
        set_parameters(backbone, backbone.convert(read_tensors(file), pytorch=not is_mxnet_file(file)), where=file)

    file = find_weights(backbone, path, use=use)
    net.mean, net.std = backbone.mean, backbone.std
    log.info("backbone from %s", file)


def is_mxnet_file(path: str | Path) -> bool:
    """Return whether a file begins like MXNet's ``.params`` files."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC
