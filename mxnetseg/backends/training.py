"""The interface between the trainer and the library that computes its steps."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import CheckpointError
from ..registry import Registry

if TYPE_CHECKING:
    from ..config.schema import Config, Optimizer
    from .group import Group
    from .runtime import Runtime

TRAINING_BACKENDS = Registry("training backend", {
    "mxnet": "mxnetseg.backends.mxnet_training:MXNetTraining",
    "torch": "mxnetseg.backends.torch_training:TorchTraining",
})

UPDATES = "#updates"  # the tensor of a state that counts the updates; no parameter has such a name
TRAINED = "#trained:"  # begins the names of trained parameters in a state, while the network holds their averages
_NORM_OR_BIAS = ("gamma", "beta", "bias")


class TrainingBackend(ABC):
    """Computes the training steps of one network.

    The trainer calls, for each step, :meth:`send`, :meth:`backward` and :meth:`update`, and reads the loss a few steps
    later. None of these waits for a result, except for an update with a loss scale. The network of ``step`` holds the
    values of the training only after :meth:`synchronise`.

    With ``train.ema``, each update also moves an average of every trained parameter (:func:`average_decay`), on the
    device. The network then holds these averages after :meth:`synchronise`, and the state the trained values. Running
    statistics are those of the training, not averaged.

    Args:
        step: the network with its input step and loss (:class:`~mxnetseg.backends.mxnet_step.Step`), initialised.
        config: the configuration. The backend reads ``train``, ``optimizer`` and ``model.norm``.
        devices: the devices, in the backend's terms.
        precision: ``'float32'``, ``'bfloat16'`` or ``'float16'``.
        group: the processes of the training. Each computes its part of every batch; sums over the batch (gradients,
            divisors, the loss) are over all processes, and all begin with rank 0's parameters.

    Attributes:
        name: its name in :data:`TRAINING_BACKENDS`.
        trains_in_place: the parameters that it trains are those of the network, on MXNet's contexts, which are its
            devices. False: it trains a copy, and the network lies on the CPU.
    """

    name: ClassVar[str]
    trains_in_place: ClassVar[bool]

    @abstractmethod
    def __init__(self, step: Any, config: Config, devices: Sequence[Any], precision: str, group: Group):
        ...

    @abstractmethod
    def send(self, images: np.ndarray, labels: np.ndarray) -> Any:
        """Send this process's part of a batch to the devices.

        Args:
            images: uint8 (N, H, W, 3).
            labels: uint8 (N, H, W).
        """

    @abstractmethod
    def backward(self, batch: Any, *, seed: int, loss_scale: float = 1.0) -> Any:
        """Compute the gradients of a batch; return its loss for :meth:`read`, without the factor ``loss_scale``.

        Loss and divisors are those of the whole batch, on all devices of all processes.

        Args:
            batch: the result of :meth:`send`.
            seed: of the dropout. Equal seeds give equal masks, regardless of earlier steps.
            loss_scale: factor of all gradients.
        """

    @abstractmethod
    def read(self, loss: Any) -> float:
        """Wait for a loss and return it."""

    @abstractmethod
    def update(self, rate: float, *, loss_scale: float | None = None) -> bool:
        """Update the parameters; return whether all gradients were finite.

        Args:
            rate: the learning rate.
            loss_scale: the factor of the gradients. If it is given, gradients that are not finite change nothing;
                otherwise they are not looked at, and the result is True. ``optimizer.clip_norm`` clips without it.
        """

    @abstractmethod
    def synchronise(self) -> None:
        """Wait for all steps, and write the parameters, or their averages, and running statistics to the
        network.

        All processes of a group call it at the same point, as they do :meth:`get_state`.
        """

    @abstractmethod
    def runtime(self) -> Runtime:
        """Return a copy of the network, as of the last :meth:`synchronise`, that predicts on the same devices.

        It computes in float32, as `mxnetseg eval` does by default.
        """

    @abstractmethod
    def get_state(self) -> dict[str, np.ndarray]:
        """Return the optimiser's tensors, ``'<parameter>:<k>'``, as MXNet defines them, and the number of updates.

        =============  ==============================================================================
        sgd, nag       ``:0``, the momentum; it contains the learning rate and points downhill, so that an
                       update of sgd adds it to the parameter; missing if ``optimizer.momentum`` is 0
        adam, adamw    ``:0`` and ``:1``, the means of the gradients and of their squares
        ``#updates``   (1,) int64, the number of updates
        ``#trained:``  with ``train.ema``, ``'#trained:<parameter>'``: the parameter's trained value
        =============  ==============================================================================
        """

    @abstractmethod
    def set_state(self, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
        """Restore the tensors that :meth:`get_state` returned, in this backend or in another one.

        Args:
            tensors: the tensors.
            where: their file, for messages.

        Raises:
            CheckpointError: the tensors belong to another network or optimiser.
        """

    def close(self) -> None:  # noqa: B027  # most backends hold nothing
        """Release connections and processes."""


def multipliers(net: Any, config: Optimizer) -> dict[str, tuple[float, float]]:
    """Return the factors of each trained parameter on the learning rate and on the weight decay.

    The learning rate outside ``net.backbone`` is multiplied by ``head_lr_mult``. Norm parameters and biases are not
    decayed if ``decay_norm_and_bias`` is off.

    Args:
        net: the network.
        config: the section of the configuration.
    """
    factors = {}
    for name, parameter in net.named_parameters().items():
        if parameter.grad_req != "null":
            is_decayed = config.decay_norm_and_bias or name.rsplit(".", 1)[-1] not in _NORM_OR_BIAS
            factors[name] = (1.0 if name.startswith("backbone.") else config.head_lr_mult, float(is_decayed))
    return factors


def average_decay(decay: float, updates: int) -> float:
    """Return the decay of the average at an update: average <- decay average + (1 - decay) parameter.

    It is lower at first, so that the initial values are soon forgotten: ``min(decay, (1 + n) / (10 + n))`` at the n-th
    update.

    Args:
        decay: ``train.ema``.
        updates: n.

    Source: TensorFlow, tf.train.ExponentialMovingAverage with num_updates.
    """
    return min(decay, (1 + updates) / (10 + updates))


def take_trained(tensors: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], *,
                 where: object) -> dict[str, np.ndarray]:
    """Remove the trained values of the parameters from a state, and return them by name; none without ``train.ema``.

    Args:
        tensors: the result of :meth:`TrainingBackend.get_state`; changed.
        shapes: the shapes of the network's parameters.
        where: their file, for messages.

    Raises:
        CheckpointError: the tensors belong to another network.
    """
    values = {key[len(TRAINED):]: tensors.pop(key) for key in list(tensors) if key.startswith(TRAINED)}
    for name, value in values.items():
        if shapes.get(name) != value.shape:
            raise CheckpointError("the training state does not fit this network", where=where,
                                  received=f"{name}: {value.shape} in the file, {shapes.get(name, 'no such')} here",
                                  fix="resume with the network that the run was started with")
    return values


def group_state(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[tuple[int, ...]]], *,
                where: object) -> tuple[int, dict[str, list[np.ndarray]]]:
    """Return the number of updates of a state, and its tensors by parameter.

    Args:
        tensors: the result of :meth:`TrainingBackend.get_state`.
        shapes: the shapes of the tensors of each parameter that the optimiser trains.
        where: their file, for messages.

    Raises:
        CheckpointError: the tensors belong to another network or optimiser.
    """
    tensors = dict(tensors)
    updates = int(tensors.pop(UPDATES)[0])
    grouped: dict[str, list[np.ndarray]] = {name: [] for name in shapes}
    if not updates:  # before the first update there is no state
        return 0, grouped

    for key in sorted(tensors, key=lambda key: (key.rpartition(":")[0], int(key.rpartition(":")[2]))):
        name = key.rpartition(":")[0]
        if name not in grouped:
            raise CheckpointError("the training state does not fit this network and optimiser", where=where,
                                  received=f"{name} in the file, no such parameter here",
                                  fix="resume with the network that the run was started with")
        grouped[name].append(tensors[key])

    for name, expected in shapes.items():
        saved = [tensor.shape for tensor in grouped[name]]
        if saved != list(expected):
            raise CheckpointError("the training state does not fit this network and optimiser", where=where,
                                  received=f"{name}: {saved} in the file, {list(expected)} here",
                                  fix="resume with the optimiser and the train.freeze_backbone_epochs that the run was "
                                      "started with")
    return updates, grouped


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of arrays, by which processes compare their parameters."""
    state = sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array))
    return state.hexdigest()
