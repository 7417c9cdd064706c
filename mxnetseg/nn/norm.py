"""Batch normalisation over one context or over several contexts together.

=============================  ==============================================
contexts                       layer
=============================  ==============================================
one                            ``gluon.nn.BatchNorm``
several GPUs                   ``gluon.contrib.nn.SyncBatchNorm``
several CPU contexts           :class:`CrossContextBatchNorm`
=============================  ==============================================

All have the same parameter names, so any of them can load a checkpoint of another.

MXNet's own SyncBatchNorm deadlocks on CPU contexts: while its operator waits for the same operator on the next context,
it holds one of the four temporary workspaces that *all* CPU contexts share (``MXNET_CPU_TEMP_COPY``). If the other
operator, or one before it, gets the same workspace, both wait for ever; with two or more convolutions that is certain.
A thousand workspaces avoid it and cost several gigabytes.
"""
from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
from mxnet import autograd, gluon

from ..errors import ConfigError, MXNetSegError
from .lockstep import exchange
from .precision import as_type_of, to_float32

NORMS = ("auto", "bn", "syncbn", "gn", "frozen")


class CrossContextBatchNorm(gluon.nn.BatchNorm):
    """Batch norm over the joined batch of several CPU contexts.

    It equals :class:`mxnet.gluon.nn.BatchNorm` on the concatenated batch, forward and backward,
    provided that every context gets the same number of samples. x: (N, C, H, W) -> same shape.

    In training the contexts must run under :func:`mxnetseg.nn.lockstep.lockstep`, un-hybridised. They exchange their
    statistics as ordinary recorded copies, so MXNet's engine never waits, and autograd carries gradients between
    contexts. With n contexts and their statistics m_i, v_i, the joint ones are
    mean = 1/n sum m_i and var = 1/n sum (v_i + (m_i - mean)^2), which has no cancellation.
    """

    def __init__(self, in_channels: int = 0, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(axis=1, momentum=momentum, epsilon=epsilon, in_channels=in_channels, **kwargs)
        self._momentum, self._epsilon = momentum, epsilon

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if F is mx.sym or not autograd.is_training() or self._kwargs["use_global_stats"]:  # nothing to exchange
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)

        def per_channel(v):
            return F.reshape(v, shape=(1, -1, 1, 1))

        mean = F.mean(x, axis=(0, 2, 3))
        variance = F.mean(F.square(F.broadcast_sub(x, per_channel(mean))), axis=(0, 2, 3))
        statistics = [[v.as_in_context(x.context) for v in pair] for pair in exchange((mean, variance))]
        mean = F.add_n(*[m for m, _ in statistics]) / len(statistics)
        variance = F.add_n(*[v + F.square(m - mean) for m, v in statistics]) / len(statistics)
        with autograd.pause():
            for running, now in ((running_mean, mean), (running_var, variance)):
                running[:] = self._momentum * running + (1 - self._momentum) * now
        scale = gamma * F.rsqrt(variance + self._epsilon)
        return F.broadcast_add(F.broadcast_mul(x, per_channel(scale)), per_channel(beta - mean * scale))


class GroupNorm32(gluon.HybridBlock):
    """Group normalisation with at most 32 groups (Wu & He 2018), for batches too small for batch norm.

    The number of groups is the largest of 32, 16, ... 1 that divides the channels.
    x: (N, C, H, W) -> same shape; computed in float32. Its parameters stay float32, as those of batch norm do.

    Args:
        in_channels: C; 0: taken from the first input, which must come before hybridisation.
        epsilon: added to the variance.
        scale: learn gamma; it exists in either case.
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
        # MXNet 1.9.1's operator scales per group, the paper (section 3.1) per channel
        one = F.ones_like(F.slice_axis(gamma, axis=0, begin=0, end=groups))
        y = F.GroupNorm(to_float32(F, x), one, F.zeros_like(one), num_groups=groups, eps=self._epsilon)
        y = F.broadcast_mul(y, F.reshape(gamma, shape=(1, -1, 1, 1)))
        return as_type_of(F, F.broadcast_add(y, F.reshape(beta, shape=(1, -1, 1, 1))), x)


class LayerNorm(gluon.nn.LayerNorm):
    """Gluon's layer norm, computed in float32; its parameters stay float32 too. Any x -> same shape."""

    def cast(self, dtype):
        super().cast("float32")

    def hybrid_forward(self, F, x, gamma, beta):
        return as_type_of(F, super().hybrid_forward(F, to_float32(F, x), gamma, beta), x)


def choose_norm(name: str, contexts: Sequence[mx.Context]) -> tuple[type, dict]:
    """Return ``(norm_layer, norm_kwargs)``, GluonCV's idiom, for a network on ``contexts``.

    Args:
        name: ``'auto'`` (synchronised if there are several contexts), ``'bn'`` (each context
            by itself), ``'syncbn'``, ``'gn'``, or ``'frozen'`` (batch norm with its running statistics, which stay
            as they are; scale and shift are trained).
        contexts: contexts on which the network will train.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in NORMS:
        raise ConfigError("unknown normalisation", where="model.norm", received=name,
                          fix=f"one of {', '.join(NORMS)}")
    if name == "gn":
        return GroupNorm32, {}
    if name == "frozen":
        return gluon.nn.BatchNorm, {"use_global_stats": True}
    if name == "bn" or len(contexts) == 1:
        return gluon.nn.BatchNorm, {}
    if contexts[0].device_type == "gpu":
        return gluon.contrib.nn.SyncBatchNorm, {"num_devices": len(contexts)}
    return CrossContextBatchNorm, {}
