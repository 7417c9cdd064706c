"""Batch normalisation, over one context or over all of them.

=============================  ==============================================
contexts                       layer
=============================  ==============================================
one                            ``gluon.nn.BatchNorm``
several GPUs                   ``gluon.contrib.nn.SyncBatchNorm``
several CPU contexts           :class:`CrossContextBatchNorm`
=============================  ==============================================

All have the same parameter names, so a checkpoint moves freely between them.

Why not MXNet's own SyncBatchNorm on CPU contexts: its operator holds one of the four temporary
workspaces that *all* CPU contexts share (``MXNET_CPU_TEMP_COPY``) while it waits for its twin on
the next context. As soon as the twin, or an operator before it, is handed the same workspace,
both wait for ever; from two convolutions on that is certain. A thousand workspaces avoid it and
cost several gigabytes.
"""
from __future__ import annotations

from typing import Sequence, Tuple

import mxnet as mx
from mxnet import autograd, gluon

from ..errors import ConfigError, MXNetSegError
from .lockstep import exchange
from .precision import as_type_of, wide

NORMS = ("auto", "bn", "syncbn", "gn")


class CrossContextBatchNorm(gluon.nn.BatchNorm):
    """Batch norm over the joined batch of several CPU contexts.

    Equal to :class:`mxnet.gluon.nn.BatchNorm` on the concatenated batch, forward and backward,
    provided that every context gets the same number of samples. x: (N, C, H, W) -> same.

    In training the contexts must run under :func:`mxnetseg.nn.lockstep.lockstep`, un-hybridised:
    they swap their statistics as ordinary recorded copies, so nothing in MXNet's engine ever waits
    and autograd carries the gradient across. With n contexts and their statistics m_i, v_i,
    mean = 1/n sum m_i and var = 1/n sum (v_i + (m_i - mean)^2), which has no cancellation.
    """

    def __init__(self, in_channels: int = 0, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(axis=1, momentum=momentum, epsilon=epsilon, in_channels=in_channels, **kwargs)
        self._momentum, self._epsilon = momentum, epsilon

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if F is mx.sym or not autograd.is_training():  # the running statistics need no company
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)

        def per_channel(v):
            return F.reshape(v, shape=(1, -1, 1, 1))

        mean = F.mean(x, axis=(0, 2, 3))
        variance = F.mean(F.square(F.broadcast_sub(x, per_channel(mean))), axis=(0, 2, 3))
        everybody = [[v.as_in_context(x.context) for v in theirs] for theirs in exchange((mean, variance))]
        mean = F.add_n(*[m for m, _ in everybody]) / len(everybody)
        variance = F.add_n(*[v + F.square(m - mean) for m, v in everybody]) / len(everybody)
        with autograd.pause():
            for running, now in ((running_mean, mean), (running_var, variance)):
                running[:] = self._momentum * running + (1 - self._momentum) * now
        scale = gamma * F.rsqrt(variance + self._epsilon)
        return F.broadcast_add(F.broadcast_mul(x, per_channel(scale)), per_channel(beta - mean * scale))


class GroupNorm32(gluon.HybridBlock):
    """Group normalisation with at most 32 groups (Wu & He 2018), for batches too small for BN.

    The number of groups is the largest of 32, 16, ... 1 that divides the channels.
    x: (N, C, H, W) -> same; float32 inside, and its parameters stay float32, as batch norm's do.

    Args:
        in_channels: C; 0: what the first input has (it must come before hybridisation).
        epsilon: added to the variance.
        scale: whether gamma is learned; it exists in any case.
    """

    def __init__(self, in_channels: int = 0, epsilon: float = 1e-5, scale: bool = True, **kwargs):
        super().__init__(**kwargs)
        self._epsilon = epsilon
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=(in_channels,), init="ones", allow_deferred_init=True,
                                         grad_req="write" if scale else "null")
            self.beta = self.params.get("beta", shape=(in_channels,), init="zeros", allow_deferred_init=True)

    def cast(self, dtype):
        super().cast("float32")

    def infer_shape(self, x):
        self.gamma.shape = self.beta.shape = (x.shape[1],)

    def hybrid_forward(self, F, x, gamma, beta):
        channels = self.gamma.shape[0]
        if not channels:
            raise MXNetSegError("group norm was hybridised before it knew its channels",
                                fix="call the network once before hybridize(), or give in_channels")
        groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)
        # the operator of MXNet 1.9.1 scales per group; the paper (section 3.1) scales per channel
        one = F.ones_like(F.slice_axis(gamma, axis=0, begin=0, end=groups))
        y = F.GroupNorm(wide(F, x), one, F.zeros_like(one), num_groups=groups, eps=self._epsilon)
        y = F.broadcast_mul(y, F.reshape(gamma, shape=(1, -1, 1, 1)))
        return as_type_of(F, F.broadcast_add(y, F.reshape(beta, shape=(1, -1, 1, 1))), x)


class LayerNorm(gluon.nn.LayerNorm):
    """Gluon's layer norm, float32 inside; its parameters stay float32, as batch norm's do. Any x -> same."""

    def cast(self, dtype):
        super().cast("float32")

    def hybrid_forward(self, F, x, gamma, beta):
        return as_type_of(F, super().hybrid_forward(F, wide(F, x), gamma, beta), x)


def choose_norm(kind: str, contexts: Sequence[mx.Context]) -> Tuple[type, dict]:
    """``(norm_layer, norm_kwargs)``, GluonCV's idiom, for a network on ``contexts``.

    Args:
        kind: ``'auto'`` (synchronised when there are several contexts), ``'bn'`` (each context
            for itself), ``'syncbn'`` or ``'gn'``.
        contexts: the contexts the network will train on.

    Raises:
        ConfigError: unknown kind.
    """
    if kind not in NORMS:
        raise ConfigError("unknown normalisation", where="model.norm", received=kind,
                          fix=f"one of {', '.join(NORMS)}")
    if kind == "gn":
        return GroupNorm32, {}
    if kind == "bn" or len(contexts) == 1:
        return gluon.nn.BatchNorm, {}
    if contexts[0].device_type == "gpu":
        return gluon.contrib.nn.SyncBatchNorm, {"num_devices": len(contexts)}
    return CrossContextBatchNorm, {}
