"""Training steps in PyTorch: the graph of MXNet's step, network and loss, as a module of PyTorch."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import fx

from ..errors import ConfigError
from .package import NetworkPackage
from .torch_distributed import Processes, Solo
from .torch_graph import free_name, to_torch
from .torch_optimizers import Updates
from .torch_runtime import TorchRuntime
from .training import TRAINED, TrainingBackend, average_decay, digest, multipliers, take_trained

if TYPE_CHECKING:
    from ..config.schema import Config
    from .group import Group

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MicroBatch(NamedTuple):
    """Part of a batch on the device: images uint8 (N, H, W, 3), labels uint8 (N, H, W)."""

    images: torch.Tensor
    labels: torch.Tensor


class TorchTraining(TrainingBackend):
    """Training of a copy of the network in PyTorch, on one device in each process.

    Attributes:
        module: images uint8 (N, H, W, 3), labels uint8 (N, H, W) -> sum, count, sum, count, ... of the loss's terms.
        updates: its optimiser.
    """

    name = "torch"
    trains_in_place = False

    def __init__(self, step: Any, config: Config, devices: Sequence[torch.device], precision: str, group: Group):
        train = config.train
        self._device, self._micro_batches, self._weights = devices[0], train.accumulate, step.loss.weights
        self._half = _HALF.get(precision)
        if train.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(train.deterministic)
        torch.backends.cudnn.benchmark = not train.deterministic

        self.module = to_torch(step, inputs=("images", "labels"), casts=self._half is not None).train()
        self.module.to(self._device)
        if self._device.type != "mps":
            self.module.to(memory_format=torch.channels_last)
        self._processes = Processes(group, self._device) if group.size > 1 else Solo()
        self._divisors = _label_divisors(self.module, self._processes) if train.accumulate > 1 else None
        self._forward: Callable[..., Sequence[torch.Tensor]] = self._processes.wrap(
            self.module, synchronise_norm=config.model.norm in ("auto", "syncbn"))
        group.agree(lambda: {"initial parameters": digest(
            parameter.detach().cpu().numpy() for parameter in self.module.parameters())})
        if train.compile:
            self._forward = torch.compile(self._forward, dynamic=False)

        self._network = step.net
        self._tensors = self._tensors_by_name()
        factors = multipliers(step.net, config.optimizer)
        self.updates = Updates({name: tensor for name, tensor in self._tensors.items()
                                if isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad}, factors,
                               config.optimizer)
        _free_gradients(step.net)
        self._clip_norm, self._ema = config.optimizer.clip_norm, train.ema
        self._averages = {name: parameter.detach().clone() for name, parameter in self.updates.parameters.items()
                          if train.ema}

    def _tensors_by_name(self) -> dict[str, torch.Tensor]:
        """Return the parameters and running statistics by their names in the network; of several names, the last."""
        here = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        first: dict[int, str] = {}
        names: dict[str, str] = {}
        for name, parameter in self._network.named_parameters().items():
            names[first.setdefault(id(parameter), free_name(f"net.{name}"))] = name
        return {name: here[own] for own, name in names.items() if own in here}

    def send(self, images: np.ndarray, labels: np.ndarray) -> list[MicroBatch]:
        def parts(array: np.ndarray) -> tuple[torch.Tensor, ...]:
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if self._device.type == "cuda":
                tensor = tensor.pin_memory().to(self._device, non_blocking=True)
            return tensor.to(self._device).chunk(self._micro_batches)
        return [MicroBatch(*pair) for pair in zip(parts(images), parts(labels))]

    def backward(self, batch: list[MicroBatch], *, seed: int, loss_scale: float = 1.0) -> torch.Tensor:
        torch.manual_seed(seed)
        self.updates.zero_grad()
        divisors: Sequence[torch.Tensor | None] = [None] * len(self._weights)
        if self._divisors is not None:
            divisors = self._divisors(batch)
        try:
            with self._processes.without_gradients(self._forward):
                losses = [self._backward_micro_batch(part, divisors, loss_scale) for part in batch[:-1]]
            losses.append(self._backward_micro_batch(batch[-1], divisors, loss_scale))
        except RuntimeError as error:
            if "deterministic" not in str(error):
                raise
            raise ConfigError("an operator of this network has no deterministic form on this device",
                              where="train.deterministic", received=str(error).splitlines()[0],
                              fix="--set train.deterministic=false") from None
        return self._processes.sum([torch.stack(losses).sum()])[0]

    def _backward_micro_batch(self, part: MicroBatch, divisors: Sequence[torch.Tensor | None],
                              loss_scale: float) -> torch.Tensor:
        """Propagate one micro-batch back; return its part of the loss."""
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            numbers = self._forward(*part)

        sums, counts = numbers[::2], numbers[1::2]
        with torch.no_grad():
            if None in divisors:
                counts = self._processes.sum(counts)
            # the divisor is 0 for a loss that is a sum, or without valid pixels; 1 takes its place
            known = [count * self._micro_batches if divisor is None else divisor
                     for count, divisor in zip(counts, divisors)]
            per_unit = [weight / (divisor + (divisor == 0)) for weight, divisor in zip(self._weights, known)]
            value = torch.stack([(total * unit).sum() for total, unit in zip(sums, per_unit)]).sum()
        # gradients are averaged over the processes, but the divisor is that of the whole batch
        factor = loss_scale * self._processes.size
        torch.autograd.backward(list(sums), [unit * factor for unit in per_unit])
        return value

    def read(self, loss: torch.Tensor) -> float:
        return float(loss)

    def update(self, rate: float, *, loss_scale: float | None = None) -> bool:
        if loss_scale is not None:
            gradients = self.updates.gradients()
            if not bool(torch.stack(torch._foreach_norm(gradients, float("inf"))).isfinite().all()):
                return False
            torch._foreach_mul_(gradients, 1 / loss_scale)
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.updates.parameters.values(), self._clip_norm)
        self.updates.step(rate)
        if self._averages:
            decay = average_decay(self._ema, self.updates.count)
            averages, weights = list(self._averages.values()), [p.detach() for p in self.updates.parameters.values()]
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, weights, alpha=1 - decay)
        return True

    def synchronise(self) -> None:
        self._processes.average_statistics()
        parameters = self._network.named_parameters()
        for name, tensor in self._tensors.items():
            values = self._averages.get(name, tensor).detach().cpu().contiguous().numpy()
            for data in parameters[name].list_data():
                data[:] = values

    def runtime(self) -> TorchRuntime:
        net = self._network
        package = NetworkPackage.of_network(net, {"normalisation": {"mean": net.mean, "std": net.std}})
        return TorchRuntime(TorchRuntime.convert(package), str(self._device), "float32")

    def get_state(self) -> dict[str, np.ndarray]:
        trained = self.updates.parameters if self._averages else {}
        return {**self.updates.get_state(), **{TRAINED + name: np.array(parameter.detach().cpu().contiguous())
                                               for name, parameter in trained.items()}}

    def set_state(self, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
        tensors = dict(tensors)
        trained = take_trained(tensors, {name: p.shape for name, p in self._network.named_parameters().items()},
                               where=where)
        self.updates.set_state(tensors, where=where)
        with torch.no_grad():
            for name in trained.keys() & self._tensors.keys():
                self._tensors[name].copy_(torch.from_numpy(np.array(trained[name])))

    def close(self) -> None:
        self._processes.close()


def _free_gradients(net: Any) -> None:
    """Free MXNet's gradient arrays, which are as large as the parameters: the copy in PyTorch has its own."""
    for parameter in net.collect_params().values():
        if parameter._grad is not None:
            # the parameter and autograd hold them, so both let go; grad_req keeps telling which parameters are trained
            parameter._data, parameter._grad = [data.detach() for data in parameter._data], None


def _label_divisors(module: fx.GraphModule,
                    processes: Solo) -> Callable[[Sequence[MicroBatch]], list[torch.Tensor | None]]:
    """Return a function of all micro-batches of a batch that gives the divisor of each term over the whole batch, in
    all processes.

    It is None for a term whose divisor depends on the network (mining).
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    outputs = graph.graph_copy(module.graph, copies)
    counts = list(outputs)[1::2]
    images = next(node for node in graph.nodes if node.op == "placeholder")
    depends = {images}
    for node in graph.nodes:
        if depends.intersection(node.all_input_nodes):
            depends.add(node)
    known = [count not in depends for count in counts]
    graph.output(tuple(count for count, is_known in zip(counts, known) if is_known))
    divisors = fx.GraphModule(module, graph)
    divisors.graph.eliminate_dead_code()
    divisors.recompile()

    def over_the_batch(batch: Sequence[MicroBatch]) -> list[torch.Tensor | None]:
        with torch.no_grad():
            sums = [torch.stack(parts).sum(0) for parts in zip(*[divisors(*part) for part in batch])]
            sums = list(processes.sum(sums)) if sums else []
        found = iter(sums)
        return [next(found) if is_known else None for is_known in known]
    return over_the_batch
