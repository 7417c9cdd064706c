"""Training steps in MXNet, on one or several contexts of one or several processes."""
from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import clip_global_norm

from ..errors import ConfigError
from ..graph.inference_graph import compile_for_inference
from ..losses import global_backward
from ..losses.mixed import SumNumbers
from .mxnet_average import WeightAverage, set_trained
from .mxnet_kvstore import KVStore
from .mxnet_optimizers import get_states, make_trainer, set_states
from .mxnet_parallel import DeviceBatches, are_finite, split_batch
from .mxnet_runtime import MXNetRuntime
from .mxnet_step import Divisors, Step, TrainingGraph
from .training import TRAINED, TrainingBackend, digest, take_trained

if TYPE_CHECKING:
    from ..config.schema import Config
    from .group import Group

_STATISTICS = ("running_mean", "running_var")
_WITHOUT_STATISTICS = ("gn", "frozen")  # norms that compute none in training

log = logging.getLogger(__name__)


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
        if train.compile:
            raise ConfigError("MXNet compiles every training graph itself", where="train.compile", received="true",
                              fix="--set train.compile=false, or --backend torch")
        if train.deterministic:  # read by MXNet's GPU operators; those of the CPU are deterministic
            os.environ["MXNET_ENFORCE_DETERMINISM"] = "1"

        self._step, self._contexts, self._micro_batches = step, list(devices), train.accumulate
        self.graph = TrainingGraph(step, self._contexts, precision)
        self._divisors = Divisors(step) if train.accumulate > 1 else None
        self._kvstore = None
        if group.size > 1:
            _check_norm(step.net, config, group)
            group.agree(lambda: {"initial parameters": digest(
                parameter.list_data()[0].asnumpy() for parameter in step.net.named_parameters().values())})
            self._kvstore = KVStore(group, self._contexts)
        self._sum_numbers: SumNumbers = self._kvstore.sum_numbers if self._kvstore else list
        self._averages_statistics = config.model.norm not in _WITHOUT_STATISTICS
        self.optimizer = make_trainer(step.net, config.optimizer, accumulate=train.accumulate > 1,
                                      kvstore=self._kvstore.store if self._kvstore else "device")
        if self._kvstore is not None:
            self.optimizer._init_kvstore()
            self.optimizer._init_params()
            mx.nd.waitall()  # a gradient of the same key could overtake the parameter on its way here
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
        divisors = self._divisors([labels for device_batches in batch for _, labels in device_batches],
                                  sum_numbers=self._sum_numbers)
        return mx.nd.add_n(*[self._backward_micro_batch(device_batches, loss_scale, divisors)
                             for device_batches in batch])

    def _backward_micro_batch(self, device_batches: DeviceBatches, loss_scale: float,
                              divisors: Sequence[mx.nd.NDArray | None] | None = None) -> mx.nd.NDArray:
        with autograd.record():
            loss_sums = self.graph(device_batches)
        return global_backward(loss_sums, self._step.loss.weights, scale=loss_scale,
                               micro_batches=self._micro_batches, divisors=divisors, sum_numbers=self._sum_numbers)

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
        if self._kvstore is not None and self._averages_statistics:
            for key, parameter in enumerate(self.optimizer._params):
                if parameter.name.endswith(_STATISTICS):
                    self._kvstore.average(key, parameter.list_data())
            mx.nd.waitall()
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

    def close(self) -> None:
        if self._kvstore is not None:
            self._kvstore.close()


def _check_norm(net: Any, config: Config, group: Group) -> None:
    """Warn that batch norm sees the images of one process only; refuse what that makes impossible.

    Raises:
        ConfigError: batch norm over all processes is asked for, or a process has too few images for it.
    """
    norm, images = config.model.norm, config.train.batch_size // config.train.accumulate // group.size
    fix = "--set model.norm=gn, --set model.norm=frozen to keep the running statistics, or --backend torch"
    if norm in _WITHOUT_STATISTICS:
        return
    if norm == "syncbn":
        raise ConfigError("MXNet does not synchronise batch norm between processes", where="model.norm",
                          received=f"syncbn, {group.size} processes", fix=f"--set model.norm=bn, {fix}")
    if images < net.needs_batch:
        raise ConfigError(f"{net.model_name} normalises a feature map of 1 x 1, which needs at least {net.needs_batch} "
                          "images at once", where="train.batch_size", received=f"{images} in each of {group.size} "
                          f"processes, with norm {norm}", fix=f"a larger --batch-size, {fix}")
    if group.is_main:
        log.warning("batch norm computes its statistics in each process, over %d images at once, and the running "
                    "statistics are averaged. To compute as one process does: %s", images, fix)
