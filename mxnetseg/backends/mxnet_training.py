"""Training steps in MXNet, on one or several contexts."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import clip_global_norm

from ..errors import ConfigError
from ..graph.inference_graph import compile_for_inference
from ..losses import global_backward
from .mxnet_average import WeightAverage, set_trained
from .mxnet_optimizers import get_states, make_trainer, set_states
from .mxnet_parallel import DeviceBatches, are_finite, split_batch
from .mxnet_runtime import MXNetRuntime
from .mxnet_step import Divisors, Step, TrainingGraph
from .training import TRAINED, TrainingBackend, take_trained

if TYPE_CHECKING:
    from ..config.schema import Config
    from .group import Group


class MXNetTraining(TrainingBackend):
    """Training of the network itself, on the contexts that hold it.

    Attributes:
        graph: the compiled step.
        optimizer: the Gluon trainer.
    """

    name = "mxnet"
    trains_in_place = True

    def __init__(self, step: Step, config: Config, devices: Sequence[mx.Context], precision: str, group: Group):
        train = config.train
        if group.size > 1:
            raise ConfigError("the backend mxnet trains in one process", where="--backend", received="mxnet in "
                              f"{group.size} processes", fix="--backend torch")
        if train.compile:
            raise ConfigError("MXNet compiles every training graph itself", where="train.compile", received="true",
                              fix="--set train.compile=false, or --backend torch")
        if train.deterministic:  # read by MXNet's GPU operators; those of the CPU are deterministic
            os.environ["MXNET_ENFORCE_DETERMINISM"] = "1"

        self._step, self._contexts, self._micro_batches = step, list(devices), train.accumulate
        self.graph = TrainingGraph(step, self._contexts, precision)
        self._divisors = Divisors(step) if train.accumulate > 1 else None
        self.optimizer = make_trainer(step.net, config.optimizer, accumulate=train.accumulate > 1)
        self._clip_norm = config.optimizer.clip_norm
        self._average = WeightAverage(step.net, train.ema) if train.ema else None

    def send(self, images: np.ndarray, labels: np.ndarray) -> list[DeviceBatches]:
        return split_batch(images, labels, self._contexts, self._micro_batches)

    def backward(self, batch: list[DeviceBatches], *, seed: int, loss_scale: float = 1.0) -> mx.nd.NDArray:
        mx.random.seed(seed)
        if self._average is not None:
            self._average.show(False)
        if self._divisors is None:
            return self._backward_micro_batch(batch[0], loss_scale)

        self._step.net.collect_params().zero_grad()
        divisors = self._divisors([labels for device_batches in batch for _, labels in device_batches])
        return mx.nd.add_n(*[self._backward_micro_batch(device_batches, loss_scale, divisors)
                             for device_batches in batch])

    def _backward_micro_batch(self, device_batches: DeviceBatches, loss_scale: float,
                              divisors: Sequence[mx.nd.NDArray | None] | None = None) -> mx.nd.NDArray:
        with autograd.record():
            loss_sums = self.graph(device_batches)
        return global_backward(loss_sums, self._step.loss.weights, scale=loss_scale,
                               micro_batches=self._micro_batches, divisors=divisors)

    def read(self, loss: mx.nd.NDArray) -> float:
        return float(loss.asnumpy()[0])

    def update(self, rate: float, *, loss_scale: float | None = None) -> bool:
        self.optimizer.set_learning_rate(rate)
        self.optimizer.allreduce_grads()
        if loss_scale is None:
            self._update(1)
            return True

        is_finite = are_finite([gradients[0] for gradients in self._gradients()])
        if is_finite:
            self._update(loss_scale)
        return is_finite

    def _gradients(self) -> list[list[mx.nd.NDArray]]:
        """Return the gradients of each trained parameter, one per context."""
        return [p.list_grad() for p in self._step.net.collect_params().values() if p.grad_req != "null"]

    def _update(self, divisor: float) -> None:
        if self._clip_norm is not None:
            for of_a_context in zip(*self._gradients()):
                clip_global_norm(of_a_context, self._clip_norm * divisor, check_isfinite=False)  # does not wait
        self.optimizer.update(divisor)
        if self._average is not None:
            self._average.follow(self.optimizer._optimizer.num_update)

    def synchronise(self) -> None:
        mx.nd.waitall()  # running statistics change without MXNet's engine knowing
        if self._average is not None:
            self._average.show(True)

    def runtime(self) -> MXNetRuntime:
        # a separate copy, because inference changes the layout of weights, which would slow training down
        return MXNetRuntime(compile_for_inference(self._step.net, self._contexts), self._contexts)

    def get_state(self) -> dict[str, np.ndarray]:
        trained = self._average.trained() if self._average is not None else {}
        return {**get_states(self.optimizer, self._step.net), **{TRAINED + name: v for name, v in trained.items()}}

    def set_state(self, tensors: Mapping[str, np.ndarray], *, where: object) -> None:
        tensors, net = dict(tensors), self._step.net
        trained = take_trained(tensors, {name: p.shape for name, p in net.named_parameters().items()}, where=where)
        set_states(self.optimizer, net, tensors, self._contexts, where=where)
        set_trained(net, trained)
