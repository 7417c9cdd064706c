"""Data parallelism in MXNet: a batch split across contexts, and the forward of one network on all of them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from ..nn.lockstep import lockstep
from ..nn.norm import CrossContextBatchNorm

# one (images, labels) per device: uint8 (N, H, W, 3) and uint8 (N, H, W)
DeviceBatches = list[tuple[mx.nd.NDArray, mx.nd.NDArray]]

_MOST_ARRAYS = 200  # that multi_all_finite() takes; given more, it writes beyond its own memory


def to_device(array: np.ndarray, context: mx.Context) -> mx.nd.NDArray:
    """Return ``array`` on a device, without a change of its type.

    On the first CPU context the result shares the memory of ``array``, which must not be written to afterwards.
    """
    if context == mx.cpu(0):
        return mx.nd.from_numpy(np.ascontiguousarray(array), zero_copy=True)
    return mx.nd.array(array, ctx=context, dtype=array.dtype)


def are_finite(arrays: Sequence[mx.nd.NDArray]) -> bool:
    """Return whether no number in ``arrays``, all on one device, is NaN or infinite."""
    groups = [arrays[i:i + _MOST_ARRAYS] for i in range(0, len(arrays), _MOST_ARRAYS)]
    return all(bool(mx.nd.multi_all_finite(*group, num_arrays=len(group)).asnumpy().all()) for group in groups)


def split_batch(images: np.ndarray, labels: np.ndarray, contexts: Sequence[mx.Context],
                micro_batches: int = 1) -> list[DeviceBatches]:
    """Split a global batch evenly across devices and micro-batches, and send it there.

    Args:
        images: uint8 (N, H, W, 3); N is a multiple of ``len(contexts) * micro_batches``.
        labels: uint8 (N, H, W).
        contexts: the devices.
        micro_batches: parts of the batch that are computed one after the other.

    Returns:
        the micro-batches, each a list of (images, labels), one per device.
    """
    size = len(images) // (micro_batches * len(contexts))
    starts = iter(range(0, len(images), size))
    return [[(to_device(images[start:start + size], context), to_device(labels[start:start + size], context))
             for context, start in zip(contexts, starts)] for _ in range(micro_batches)]


def needs_lockstep(net) -> bool:
    """Return whether ``net`` holds a layer whose contexts must meet while they run (un-hybridised)."""
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, CrossContextBatchNorm) else None)
    return bool(found)


def forward(net, inputs: Sequence[Any], *, in_step: bool) -> list[Any]:
    """Return ``[net(x) for x in inputs]``, one input per context, in the caller's autograd mode.

    Args:
        net: the network, initialised on every input's context.
        inputs: one batch per context.
        in_step: run the contexts in lockstep; the result of :func:`needs_lockstep`, which the caller keeps.
    """
    if not in_step:
        return [net(x) for x in inputs]
    recording, training = autograd.is_recording(), autograd.is_training()

    def run(x):
        with autograd._RecordingStateScope(recording, training):  # the caller's record() or pause()
            return net(x)

    return lockstep([lambda x=x: run(x) for x in inputs])
