"""Optimisers: their settings for each parameter, and their state as named tensors."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import mxnet as mx
from mxnet import gluon

from ..config.schema import Optimizer
from ..errors import CheckpointError

_NORM_OR_BIAS = ("gamma", "beta", "bias")


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


def make_trainer(net, config: Optimizer, *, accumulate: bool = False) -> gluon.Trainer:
    """Return a Gluon trainer over all parameters of ``net``, whose gradients are already means: call ``step(1)``.

    The learning rate outside ``net.backbone`` is multiplied by ``head_lr_mult``. Norm parameters and biases are not
    decayed if ``decay_norm_and_bias`` is off.

    Args:
        net: the network, initialised.
        config: the section of the configuration.
        accumulate: gradients add up until ``zero_grad()``.
    """
    for name, parameter in net.named_parameters().items():
        if parameter.grad_req == "null":
            continue
        parameter.grad_req = "add" if accumulate else "write"
        parameter.lr_mult = 1.0 if name.startswith("backbone.") else config.head_lr_mult
        is_decayed = config.decay_norm_and_bias or name.rsplit(".", 1)[-1] not in _NORM_OR_BIAS
        parameter.wd_mult = 1.0 if is_decayed else 0.0

    name, settings = _settings(config)
    # every context updates its copy from the summed gradient, so all optimiser states can be read and set here
    return gluon.Trainer(net.collect_params(), name, update_on_kvstore=False,
                         optimizer_params={"learning_rate": config.lr, "wd": config.weight_decay, **settings})


def _names(trainer: gluon.Trainer, net) -> list[str]:
    """Return the structural name of each of the trainer's parameters, in its order."""
    by_identity = {id(p): name for name, p in net.named_parameters().items()}
    return [by_identity.get(id(p), p.name) for p in trainer._params]


_UPDATES = "#updates"  # no parameter has such a name


def get_states(trainer: gluon.Trainer, net) -> dict[str, mx.nd.NDArray]:
    """Return the optimiser's tensors, ``'<parameter>:<k>'``, and the number of its updates (Adam's t).

    All contexts hold the same tensors, so those of the first one are returned. MXNet's own ``save_states`` is a pickle,
    unsafe to read, that refers to parameters by number; names survive a change of their order.
    """
    names = _names(trainer, net)
    tensors = {f"{names[index]}:{k}": tensor for index, state in trainer._updaters[0].states.items()
               for k, tensor in enumerate(_as_tuple(state))}
    tensors[_UPDATES] = mx.nd.array([trainer._optimizer.num_update], dtype="int64")
    return tensors


def set_states(trainer: gluon.Trainer, net, tensors: Mapping[str, mx.nd.NDArray],
               contexts: Sequence[mx.Context], *, where: object) -> None:
    """Restore the tensors that :func:`get_states` returned, on every context.

    Raises:
        CheckpointError: the tensors belong to another network or optimiser.
    """
    tensors = dict(tensors)
    updates = int(tensors.pop(_UPDATES).asnumpy()[0])
    if not updates:  # before the first update there is no state
        return

    optimizer = trainer._optimizer
    by_name = {name: [] for name in _names(trainer, net)}
    for key in sorted(tensors, key=lambda k: (k.rpartition(":")[0], int(k.rpartition(":")[2]))):
        name = key.rpartition(":")[0]
        if name not in by_name:
            raise CheckpointError("the training state does not fit this network and optimiser", where=where,
                                  received=f"{name} in the file, no such parameter here",
                                  fix="resume with the network that the run was started with")
        by_name[name].append(tensors[key])

    for device, context in enumerate(contexts):
        updater = trainer._updaters[device]
        for index, (name, parameter) in enumerate(zip(_names(trainer, net), trainer._params)):
            if parameter.grad_req == "null":
                continue
            fresh = optimizer.create_state_multi_precision(index, parameter.data(context))
            slots, saved = _as_tuple(fresh), by_name[name]
            if [s.shape for s in slots] != [s.shape for s in saved]:
                raise CheckpointError("the training state does not fit this network and optimiser", where=where,
                                      received=f"{name}: {[s.shape for s in saved]} in the file, "
                                               f"{[s.shape for s in slots]} here",
                                      fix="resume with the optimiser that the run was started with")
            for slot, tensor in zip(slots, saved):
                slot[:] = tensor.as_in_context(context)
            updater.states[index] = fresh
            updater.states_synced[index] = True

        optimizer._set_current_context(context.device_id)
        for index in range(len(trainer._params)):
            optimizer._index_update_count[index] = updates
    optimizer.num_update = optimizer.begin_num_update = updates


def _as_tuple(state) -> tuple:
    if state is None:
        return ()
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)
