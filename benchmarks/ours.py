"""One competitor in MXNet: ``python -m benchmarks.ours TASK``, where TASK is JSON.

``{"network": "fcn", "backbone": "resnet18", "size": [512, 512], "batch": 1, "do": "infer", "form": "float32",
"output_stride": 8, "warm_up": 3}``: ``warm_up`` is the number of runs before it reports that it is ready.

Forms of ``infer``: the values of ``--precision``; and ``mxnetseg``: a hybridised network with ``BilinearResize2D``, as
MXNetSeg runs it. ``int8`` quantises every layer here; with random weights, the usual check would exclude all of them.
Forms of ``train``: ``float32`` and ``bfloat16``, this library's step, in MXNet or in the ``backend`` of the task,
there compiled with ``compile``; and ``mxnetseg``, MXNetSeg's step: ``BilinearResize2D``, a loss on ``SoftmaxOutput``,
``waitall`` after every step.
"""
from __future__ import annotations

import json
import sys
import time

import mxnet as mx
import numpy as np
from mxnet import autograd

from mxnetseg.graph import int8_search
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.graph.shape_cache import ShapeCache
from mxnetseg.models import get_model
from mxnetseg.models._cost import count_parameters

from .serve import resident_mib, serve


def main() -> None:
    task = json.loads(sys.argv[1])
    if task.get("backend") == "torch":
        import torch  # noqa: F401

    imported = resident_mib()
    if task["form"] == "mxnetseg":
        import gluoncv  # noqa: F401  (as MXNetSeg does)

        resize_as_mxnetseg()
    mx.random.seed(0)
    net = get_model(task["network"], backbone=task["backbone"], nclass=19, output_stride=task["output_stride"])
    ready = {"library": f"mxnet {mx.__version__}", "parameters": count_parameters(net), "imported_mib": imported}
    began = time.perf_counter()
    run = (_inference if task["do"] == "infer" else _training)(net, task)
    for _ in range(task["warm_up"]):
        run()
    serve({**ready, "warm_up_s": round(time.perf_counter() - began, 2)}, run, hot=True)


def resize_as_mxnetseg() -> None:
    """Make networks that are built from now on resize with ``BilinearResize2D``, as in MXNetSeg."""
    from mxnetseg.nn import resize as module

    def resize(F, x, like, *, align_corners):
        return F.contrib.BilinearResize2D(x, F.BlockGrad(like), mode="like", align_corners=align_corners)
    # the modules of networks that are imported already have imported the function by name
    original = module.resize
    for each in [m for name, m in sys.modules.items() if name.startswith("mxnetseg.")]:
        if getattr(each, "resize", None) is original:
            each.resize = resize


def _images(task) -> np.ndarray:
    return np.random.RandomState(0).normal(size=(task["batch"], 3, *task["size"])).astype("float32")


def _inference(net, task):
    x = mx.nd.array(_images(task))
    if task["form"] == "mxnetseg":
        net.hybridize()
        graph = net
    else:
        int8_search.AGREEMENT = 0.0
        rng = np.random.RandomState(1)
        calibration = [rng.randint(0, 256, (*task["size"], 3)).astype("uint8") for _ in range(2)]
        compiled = compile_for_inference(net, [mx.cpu()], task["form"],
                                         calibration=calibration if task["form"] == "int8" else ())
        graph = ShapeCache(lambda: MainOutput(compiled))
    return lambda: _first(graph(x)).wait_to_read()


class MainOutput(mx.gluon.HybridBlock):
    """Network that returns only the first of another network's outputs."""

    def __init__(self, net):
        super().__init__()
        with self.name_scope():
            self.net = net

    def hybrid_forward(self, F, x):
        return self.net(x)[0]


def _first(outputs):
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def _training(net, task):
    labels = np.random.RandomState(2).randint(0, 19, (task["batch"], *task["size"])).astype("uint8")
    if task["form"] == "mxnetseg":
        step = mxnetseg_step(net, task["batch"])
        x, label = mx.nd.array(_images(task)), mx.nd.array(labels, dtype="float32")
        return lambda: step(x, label)

    from mxnetseg.backends.group import Group
    from mxnetseg.backends.training import TRAINING_BACKENDS
    from mxnetseg.config import Config
    from mxnetseg.engine.setup import make_step
    from mxnetseg.engine.training_choice import choose_training

    config = Config().replace({"optimizer.lr": 1e-3, "train.compile": task.get("compile", False)})
    choice = choose_training(task.get("backend", "mxnet"), ["cpu"])
    step = make_step(config, net, [mx.cpu()], len(choice.devices))
    backend = TRAINING_BACKENDS.get(choice.name)(step, config, choice.devices, task["form"], Group())
    images = np.random.RandomState(0).randint(0, 256, (task["batch"], *task["size"], 3)).astype("uint8")
    batch = backend.send(images, labels)

    def run():
        loss = backend.backward(batch, seed=0)
        backend.update(config.optimizer.lr)
        backend.read(loss)
        mx.nd.waitall()  # only to measure the time
    return run


def mxnetseg_step(net, batch: int):
    """Return MXNetSeg's step: a function of normalised images (batch, 3, H, W) and float32 labels (batch, H, W)."""
    from gluoncv.loss import MixSoftmaxCrossEntropyLoss

    net.hybridize()
    loss = MixSoftmaxCrossEntropyLoss(aux=False, ignore_label=255)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3, "momentum": 0.9, "wd": 1e-4})

    def step(x, label) -> None:
        with autograd.record():
            losses = loss(net(x)[0], label)
        autograd.backward(losses)
        trainer.step(batch)
        mx.nd.waitall()
    return step


if __name__ == "__main__":
    main()
