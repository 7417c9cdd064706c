"""Freezing of a network's backbone: its parameters and norm statistics keep their values."""
from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from mxnet import gluon

from ..backends.training import TRAINED, UPDATES, TrainingBackend
from ..config.schema import Config
from ..errors import ConfigError
from .checkpoint import LoadedCheckpoint

log = logging.getLogger(__name__)


def freeze_backbone(net, config: Config, loaded: LoadedCheckpoint | None) -> FrozenBackbone | None:
    """Freeze the backbone if the run begins or resumes with a frozen one; return None if it does not.

    A checkpoint from the end of the last frozen epoch is still that of a frozen run.

    Args:
        net: the network, before its training backend is built.
        config: the configuration.
        loaded: the checkpoint to resume from, None for a new run.

    Raises:
        ConfigError: the network has no backbone of its own.
    """
    epochs, progress = config.train.freeze_backbone_epochs, loaded.sidecar["progress"] if loaded else {}
    is_frozen = epochs > 0 and (progress.get("epoch", 0), progress.get("batch", 0)) <= (epochs, 0)
    return FrozenBackbone(net, epochs) if is_frozen else None


class FrozenBackbone:
    """A backbone whose parameters are not trained and whose norms use their running statistics in training, too.

    Args:
        net: the network, before its training backend is built.
        epochs: number of epochs in which it is frozen.
    """

    def __init__(self, net, epochs: int):
        self._epochs = epochs
        self._parameters = [p for name, p in net.named_parameters().items()
                            if name.startswith("backbone.") and p.grad_req != "null"]
        if not self._parameters:
            raise ConfigError("this network has no backbone that could be frozen", received=net.model_name,
                              where="train.freeze_backbone_epochs", fix="--set train.freeze_backbone_epochs=0")

        self._norms: list[gluon.nn.BatchNorm] = []
        net.backbone.apply(self._note_norm)
        self._switch(is_frozen=True)
        count = sum(p.list_data()[0].size for p in self._parameters)
        log.info("the backbone is frozen: %.2f M parameters keep their values", count / 1e6)

    def _note_norm(self, block: gluon.Block) -> None:
        if isinstance(block, gluon.nn.BatchNorm) and not block._kwargs["use_global_stats"]:
            self._norms.append(block)

    def _switch(self, *, is_frozen: bool) -> None:
        for parameter in self._parameters:
            parameter.grad_req = "null" if is_frozen else "write"
        for norm in self._norms:
            norm._kwargs["use_global_stats"] = is_frozen

    def ends_at(self, epoch: int) -> bool:
        """Return whether the backbone is trained in an epoch, counted from 0."""
        return epoch >= self._epochs

    def thaw(self, backend: TrainingBackend, make: Callable[[], TrainingBackend]) -> TrainingBackend:
        """Make the backbone trainable; return a new training backend, whose optimiser starts anew.

        Args:
            backend: the backend until now, whose weights and averages the new one takes over; it is closed.
            make: builds the new backend.
        """
        backend.synchronise()
        trained = {name: value for name, value in backend.get_state().items() if name.startswith(TRAINED)}
        backend.close()
        self._switch(is_frozen=False)

        new = make()
        new.set_state({UPDATES: np.zeros(1, "int64"), **trained}, where="the training so far")
        log.info("the backbone is trained from now on; the optimiser starts anew")
        return new
