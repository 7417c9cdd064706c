"""PyTorch's processes of a training: gradients through DistributedDataParallel, and batch norm over all of them.

DistributedDataParallel carries the gradients while the backward pass runs. It averages them, but the divisors of the
loss are those of the whole batch, so the gradients of the loss are multiplied by the number of processes first.
PyTorch's own SyncBatchNorm runs on CUDA only; :func:`normalise_over_processes` runs on every device.
"""
from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from .torch_layers import BatchNorm

if TYPE_CHECKING:
    from .group import Group

_NEVER = timedelta(days=7)  # the watchdog of the group ends a process earlier


class Solo:
    """One process alone: sums are what they are."""

    size = 1

    def wrap(self, module: torch.nn.Module, *, synchronise_norm: bool) -> Any:
        """Return the module that computes a step."""
        return module

    def sum(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return the sums over the processes of tensors of one shape."""
        return tensors

    def without_gradients(self, wrapped: Any) -> AbstractContextManager[Any]:
        """Return a context in which backward passes keep their gradients in this process."""
        return nullcontext()

    def average_statistics(self) -> None:
        """Average running statistics that each process computes from its own images."""

    def close(self) -> None:
        """Leave the group."""


class Processes(Solo):
    """Several processes, over NCCL on CUDA's GPUs and over gloo elsewhere.

    Args:
        group: the processes.
        device: of this process.
    """

    def __init__(self, group: Group, device: torch.device):
        self.size = group.size
        self._own_statistics: list[torch.Tensor] = []
        if device.type == "cuda":
            torch.cuda.set_device(device)
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")  # it would abort before the watchdog speaks
        interface = _interface_of(group.address)
        if interface:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)

        # rank 0 takes any free port, so that no port but that of the control plane must be agreed upon
        timeout = timedelta(seconds=group.start_timeout)
        store = dist.TCPStore(group.address, 0, group.size, True, timeout, wait_for_workers=False) \
            if group.is_main else None
        place = group.broadcast([group.address, store.port] if store else None)
        if store is None:
            store = dist.TCPStore(place[0], place[1], group.size, False, timeout)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=group.rank,
                                world_size=group.size, timeout=_NEVER)

    def wrap(self, module: torch.nn.Module, *, synchronise_norm: bool) -> Any:
        """Return the module with rank 0's values, whose backward pass sums the gradients times ``1 / size``."""
        layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
        if synchronise_norm:
            for layer in layers:
                layer.normalise = partial(normalise_over_processes, size=self.size)
        else:
            self._own_statistics = [buffer for name, buffer in module.named_buffers()
                                    if name.rpartition(".")[2] in ("running_mean", "running_var")]
        # running statistics are equal, or averaged at the end of an epoch
        name = "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters else \
            "broadcast_buffers"  # before PyTorch 2.13
        return DistributedDataParallel(module, gradient_as_bucket_view=True, **{name: False})

    def sum(self, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        joined = torch.stack(list(tensors))
        dist.all_reduce(joined)
        return joined.unbind()

    def without_gradients(self, wrapped: Any) -> AbstractContextManager[Any]:
        return wrapped.no_sync()

    def average_statistics(self) -> None:
        if self._own_statistics:
            joined, = self.sum([torch.cat([buffer.flatten() for buffer in self._own_statistics])])
            parts = (joined / self.size).split([buffer.numel() for buffer in self._own_statistics])
            for buffer, part in zip(self._own_statistics, parts):
                buffer.copy_(part.view_as(buffer))

    def close(self) -> None:
        # after an error NCCL might wait for work that another process never begins
        if dist.is_initialized() and (dist.get_backend() == "gloo" or sys.exc_info()[0] is None):
            dist.destroy_process_group()


def _interface_of(address: str) -> str | None:
    """Return the name of the network interface with an IPv4 address, None where it cannot be found.

    gloo would ask for the address of the host's own name, which the other hosts often do not reach.
    """
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


# ---- batch norm -----------------------------------------------------------------------------


def normalise_over_processes(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor, eps: float, *,
                             size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalise (N, C, ...) by the statistics of its channels in all processes.

    It equals :func:`.torch_layers.normalise_batch` on the joined batch, forward and backward.

    Args:
        x: this process's part of the batch.
        weight, bias: (C,); None: weight 1.
        eps: added to the variance.
        size: number of processes.

    Returns:
        the normalised x, mean and variance (C,).
    """
    return _NormaliseOverProcesses.apply(x, torch.ones_like(bias) if weight is None else weight, bias, eps, size)


class _NormaliseOverProcesses(torch.autograd.Function):
    """Batch norm with joint statistics.

    With n_i pixels, means m_i and variances v_i of the processes, they are

        m = sum n_i m_i / n,    v = sum n_i (v_i + (m_i - m)^2) / n,

    which has no cancellation. The backward pass of batch norm needs two sums per channel over all processes, which are
    the gradients of bias and weight.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float,
                size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        channels, pixels = x.shape[1], x.numel() // x.shape[1]
        var, mean = torch.var_mean(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x, axes, correction=0)

        own = torch.cat([mean, var, mean.new_full((1,), pixels)])
        every = [torch.empty_like(own) for _ in range(size)]
        dist.all_gather(every, own)
        table = torch.stack(every)  # one row per process
        means, variances, share = table[:, :channels], table[:, channels:-1], table[:, -1:] / table[:, -1].sum()
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)

        ctx.save_for_backward(x, weight, mean, var, table[:, -1].sum())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, var, pixels = ctx.saved_tensors
        # as if mean and variance were constants; the rest of the gradient follows from the sums over all pixels
        local, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True])
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)

        scale = (var + ctx.eps).rsqrt()
        slope = sums[0] / pixels * weight * scale.square()
        shape = [1, -1, *[1] * (x.dim() - 2)]
        offset = sums[1] / pixels * weight * scale - slope * mean
        rest = x * slope.to(x.dtype).view(shape) + offset.to(x.dtype).view(shape) if x.dtype == slope.dtype else \
            (x.float() * slope.view(shape) + offset.view(shape)).to(x.dtype)
        return local - rest, of_weight, of_bias, None, None
