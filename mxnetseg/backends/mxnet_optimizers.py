"""MXNet's optimisers: their settings for each parameter, and their state as named tensors."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np
from mxnet import gluon

from .training import UPDATES, group_state, multipliers

if TYPE_CHECKING:
    from ..config.schema import Optimizer


@mx.optimizer.register
class DecoupledAdam(mx.optimizer.Adam):
    """AdamW (Loshchilov & Hutter 2019): weight decay acts on the weight, not through the moments.

    w <- (1 - lr wd) w, then Adam's step without decay. MXNet 1.9.1 has no such optimiser.
    """

    def update(self, index, weight, grad, state):
        decay = self._get_wd(index)
        if decay:
            # before Adam counts this step, so that both read the same rate
            weight *= 1 - self._get_lr(index) * decay
        kept, self.wd = self.wd, 0.0
        try:
            super().update(index, weight, grad, state)
        finally:
            self.wd = kept


def _settings(config: Optimizer) -> tuple:
    betas = {"beta1": config.beta1, "beta2": config.beta2}
    momentum = {"momentum": config.momentum}
    return {"sgd": ("sgd", momentum), "nag": ("nag", momentum), "adam": ("adam", betas),
            "adamw": ("decoupledadam", betas)}[config.name]


def make_trainer(net, config: Optimizer, *, accumulate: bool = False,
                 kvstore: str | mx.kv.KVStore = "device") -> gluon.Trainer:
    """Return a Gluon trainer over all parameters of ``net``, whose gradients are already means: call ``step(1)``.

    Args:
        net: the network, initialised.
        config: the section of the configuration.
        accumulate: gradients add up until ``zero_grad()``.
        kvstore: sums the gradients of all devices.
    """
    parameters = net.named_parameters()
    for name, (rate, decay) in multipliers(net, config).items():
        parameter = parameters[name]
        parameter.grad_req = "add" if accumulate else "write"
        parameter.lr_mult, parameter.wd_mult = rate, decay

    name, settings = _settings(config)
    # every context updates its copy from the summed gradient, so all optimiser states can be read and set here
    return gluon.Trainer(net.collect_params(), name, kvstore=kvstore, update_on_kvstore=False,
                         optimizer_params={"learning_rate": config.lr, "wd": config.weight_decay, **settings})


def _names(trainer: gluon.Trainer, net) -> list[str]:
    """Return the structural name of each of the trainer's parameters, in its order."""
    by_identity = {id(p): name for name, p in net.named_parameters().items()}
    return [by_identity.get(id(p), p.name) for p in trainer._params]


def get_states(trainer: gluon.Trainer, net) -> dict[str, np.ndarray]:
    """Return the optimiser's tensors, ``'<parameter>:<k>'``, and the number of its updates (Adam's t).

    All contexts hold the same tensors, so those of the first one are returned. MXNet's own ``save_states`` is a pickle,
    unsafe to read, that refers to parameters by number; names survive a change of their order.
    """
    names = _names(trainer, net)
    tensors = {f"{names[index]}:{k}": tensor.asnumpy() for index, state in trainer._updaters[0].states.items()
               for k, tensor in enumerate(_as_tuple(state))}
    tensors[UPDATES] = np.array([trainer._optimizer.num_update], dtype="int64")
    return tensors


def set_states(trainer: gluon.Trainer, net, tensors: Mapping[str, np.ndarray], contexts: Sequence[mx.Context], *,
               where: object) -> None:
    """Restore the tensors that :func:`get_states` returned, on every context.

    Raises:
        CheckpointError: the tensors belong to another network or optimiser.
    """
    optimizer, names = trainer._optimizer, _names(trainer, net)
    trained = {index: names[index] for index, p in enumerate(trainer._params) if p.grad_req != "null"}

    for device, context in enumerate(contexts):
        fresh = {index: optimizer.create_state_multi_precision(index, trainer._params[index].data(context))
                 for index in trained}
        shapes = {name: [] for name in names}
        shapes.update({trained[index]: [slot.shape for slot in _as_tuple(state)] for index, state in fresh.items()})
        updates, saved = group_state(tensors, shapes, where=where)
        if not updates:
            return

        updater = trainer._updaters[device]
        for index, state in fresh.items():
            for slot, tensor in zip(_as_tuple(state), saved[trained[index]]):
                slot[:] = tensor
            updater.states[index] = state
            updater.states_synced[index] = True

        optimizer._set_current_context(context.device_id)
        for index in range(len(trainer._params)):
            optimizer._index_update_count[index] = updates
        optimizer.num_update = optimizer.begin_num_update = updates


def _as_tuple(state) -> tuple:
    if state is None:
        return ()
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)
