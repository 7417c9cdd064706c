"""One network on several contexts: the forward of a data-parallel step."""
from __future__ import annotations

from typing import Any, List, Sequence

from mxnet import autograd

from ..nn.lockstep import lockstep
from ..nn.norm import CrossContextBatchNorm


def needs_lockstep(net) -> bool:
    """Whether ``net`` holds a layer whose contexts must meet while they run (un-hybridised)."""
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, CrossContextBatchNorm) else None)
    return bool(found)


def forward(net, inputs: Sequence[Any], *, in_step: bool) -> List[Any]:
    """``[net(x) for x in inputs]``, one input a context, keeping the caller's autograd mode.

    Args:
        net: the network, initialised on every input's context.
        inputs: one batch a context.
        in_step: run the contexts in lockstep: :func:`needs_lockstep`, asked once by the caller.
    """
    if not in_step:
        return [net(x) for x in inputs]
    recording, training = autograd.is_recording(), autograd.is_training()

    def run(x):
        with autograd._RecordingStateScope(recording, training):  # record() or pause(), as outside
            return net(x)

    return lockstep([lambda x=x: run(x) for x in inputs])
