"""MXNet's optimisers by PyTorch's, whose settings follow at each step so that the updates are MXNet's.

==========  ===========================================================================================
sgd         MXNet's momentum contains the learning rate: m <- momentum m - lr (g + wd w), w <- w + m. So
            PyTorch's buffer is -m, its rate 1, and the learning rate is what it calls 1 - dampening.
nag         MXNet's operator, which PyTorch does not have
adam        MXNet adds epsilon to the root of the uncorrected mean of squares, PyTorch to the corrected one: it
            is divided by the same correction.
adamw       as adam; the decay acts on the weight
==========  ===========================================================================================
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .training import UPDATES, group_state

if TYPE_CHECKING:
    from ..config.schema import Optimizer

_EPSILON = 1e-8  # MXNet's default
# our name -> keys of PyTorch's state in MXNet's order, and the factor between both
_SLOTS = {"sgd": (("momentum_buffer",), -1), "nag": (("momentum_buffer",), 1),
          "adam": (("exp_avg", "exp_avg_sq"), 1), "adamw": (("exp_avg", "exp_avg_sq"), 1)}


class NAG(torch.optim.Optimizer):
    """MXNet's Nesterov momentum: w <- w + k^2 m - (1 + k) lr (g + wd w), then m <- k m - lr (g + wd w).

    The operator works in place, so the decay in the momentum is of the new weight.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters."""
        for group in self.param_groups:
            rate, k, decay = group["lr"], group["momentum"], group["weight_decay"]
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            momenta = [self.state[p]["momentum_buffer"] for p in weights]
            steps = torch._foreach_add(gradients, weights, alpha=decay)
            torch._foreach_add_(weights, momenta, alpha=k * k)
            torch._foreach_add_(weights, steps, alpha=-(1 + k) * rate)
            torch._foreach_mul_(momenta, k)
            torch._foreach_add_(momenta, gradients, alpha=-rate)
            torch._foreach_add_(momenta, weights, alpha=-rate * decay)


class Updates:
    """An optimiser of named parameters, with MXNet's updates and MXNet's state.

    Args:
        parameters: the trained parameters by name.
        factors: the factors of each of them on the learning rate and on the weight decay.
        config: the section of the configuration.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], factors: Mapping[str, tuple[float, float]],
                 config: Optimizer):
        self.parameters, self._config = dict(parameters), config
        self._slots, self._sign = _SLOTS[config.name]
        if config.name in ("sgd", "nag") and not config.momentum:
            self._slots = ()

        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            groups.setdefault(factors[name], []).append(parameter)
        self._factors = list(groups)
        self.optimizer = _make([{"params": group} for group in groups.values()], config)
        self._fill(0, {})

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def gradients(self) -> list[torch.Tensor]:
        """Return all gradients."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def step(self, rate: float) -> None:
        """Update the parameters at a learning rate."""
        self.count += 1
        config = self._config
        for group, (rate_factor, decay_factor) in zip(self.optimizer.param_groups, self._factors):
            group["lr"], group["weight_decay"] = rate * rate_factor, config.weight_decay * decay_factor
            if config.name == "sgd" and self._slots:
                group["lr"], group["dampening"] = 1.0, 1 - rate * rate_factor
            elif config.name in ("adam", "adamw"):
                group["eps"] = _EPSILON / math.sqrt(1 - config.beta2 ** self.count)
        self.optimizer.step()

    def get_state(self) -> dict[str, np.ndarray]:
        """Return the state, see :meth:`.training.TrainingBackend.get_state`."""
        tensors = {UPDATES: np.array([self.count], "int64")}
        if self.count:
            for name, parameter in self.parameters.items():
                state = self.optimizer.state[parameter]
                tensors.update({f"{name}:{k}": (self._sign * state[slot]).cpu().contiguous().numpy()
                                for k, slot in enumerate(self._slots)})
        return tensors

    def set_state(self, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
        """Restore a state, see :meth:`.training.TrainingBackend.set_state`."""
        shapes = {name: [tuple(p.shape)] * len(self._slots) for name, p in self.parameters.items()}
        self._fill(*group_state(tensors, shapes, where=where))

    def _fill(self, count: int, tensors: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Give every parameter its state, zeros where there are no tensors."""
        self.count = count
        is_fused = self.optimizer.defaults.get("fused")
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            for slot in self._slots:
                state[slot] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            for slot, tensor in zip(self._slots, tensors.get(name, ())):
                state[slot].copy_(self._sign * torch.from_numpy(np.array(tensor)))
            if "exp_avg" in self._slots:
                state["step"] = torch.tensor(float(count), device=parameter.device if is_fused else "cpu")


def _make(groups: list[dict[str, Any]], config: Optimizer) -> torch.optim.Optimizer:
    if config.name == "nag" and config.momentum:
        return NAG(groups, lr=config.lr, momentum=config.momentum)
    make: Any
    settings: dict[str, Any]
    if config.name in ("sgd", "nag"):  # equal without momentum
        make, settings = torch.optim.SGD, {"lr": config.lr, "momentum": config.momentum}
    else:
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
        settings = {"lr": config.lr, "betas": (config.beta1, config.beta2)}
    try:
        return make(groups, fused=True, **settings)
    except (TypeError, RuntimeError):  # an older PyTorch, or a device without such a kernel
        return make(groups, foreach=True, **settings)
