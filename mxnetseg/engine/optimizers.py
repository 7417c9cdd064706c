"""Optimisers: which parameter learns how fast, and their state as named tensors."""
from __future__ import annotations

from typing import Dict, List, Sequence

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
            # the rate of this step before Adam counts it: both read it from the same place
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
    """A Gluon trainer over all parameters of ``net``; its gradients are already means.

    Parameters outside ``net.backbone`` learn ``head_lr_mult`` times as fast; norm parameters and biases
    are not decayed if ``decay_norm_and_bias`` is off. Call ``trainer.step(1)``.

    Args:
        net: initialised.
        config: the configuration's section.
        accumulate: gradients add up until ``zero_grad()``.
    """
    for name, parameter in net.named_parameters().items():
        if parameter.grad_req == "null":
            continue
        parameter.grad_req = "add" if accumulate else "write"
        parameter.lr_mult = 1.0 if name.startswith("backbone.") else config.head_lr_mult
        plain = config.decay_norm_and_bias or name.rsplit(".", 1)[-1] not in _NORM_OR_BIAS
        parameter.wd_mult = 1.0 if plain else 0.0
    name, settings = _settings(config)
    # every context updates its own copy from the summed gradient, so all states can be read and set here
    return gluon.Trainer(net.collect_params(), name, update_on_kvstore=False,
                         optimizer_params={"learning_rate": config.lr, "wd": config.weight_decay, **settings})


def _names(trainer: gluon.Trainer, net) -> List[str]:
    """Structural name of each of the trainer's parameters, in its order."""
    by_identity = {id(p): name for name, p in net.named_parameters().items()}
    return [by_identity.get(id(p), p.name) for p in trainer._params]


_UPDATES = "#updates"  # no parameter is called so


def get_states(trainer: gluon.Trainer, net) -> Dict[str, mx.nd.NDArray]:
    """The optimiser's tensors, ``'<parameter>:<k>'``, and how many updates it has made (Adam's t).

    All contexts hold the same, so the first one's are taken. MXNet's own ``save_states`` is a pickle
    that refers to parameters by number; this survives both a reordering and a suspicious reader.
    """
    names = _names(trainer, net)
    tensors = {f"{names[index]}:{k}": tensor for index, state in trainer._updaters[0].states.items()
               for k, tensor in enumerate(_as_tuple(state))}
    tensors[_UPDATES] = mx.nd.array([trainer._optimizer.num_update], dtype="int64")
    return tensors


def set_states(trainer: gluon.Trainer, net, tensors: Dict[str, mx.nd.NDArray],
               contexts: Sequence[mx.Context], *, where: object) -> None:
    """Put back what :func:`get_states` returned, on every context.

    Raises:
        CheckpointError: the tensors are not those of this network and optimiser.
    """
    tensors = dict(tensors)
    updates = int(tensors.pop(_UPDATES).asnumpy()[0])
    if not updates:  # there is no state before the first one
        return
    optimizer = trainer._optimizer
    by_name = {name: [] for name in _names(trainer, net)}
    for key in sorted(tensors, key=lambda k: (k.rpartition(":")[0], int(k.rpartition(":")[2]))):
        name = key.rpartition(":")[0]
        if name not in by_name:
            raise CheckpointError("the training state does not fit this network and optimiser", where=where,
                                  received=f"{name} in the file, no such parameter here",
                                  fix="resume with the network the run was started with")
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
                                      fix="resume with the optimiser the run was started with")
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
