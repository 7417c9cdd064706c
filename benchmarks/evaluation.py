"""Evaluation at several scales and flipped, ours or GluonCV's: ``python -m benchmarks.evaluation TASK``.

TASK is JSON: ``{"do": "evaluate", "form": "float32", "checkpoint": ".../fcn.params", "data": ".../images"}``; the
other entries have defaults, see :data:`DEFAULTS`. One run takes one image from its file to the confusion matrix and
ends with it, so that the competitors alternate image by image; with ``"per_run": n`` it takes n images, and reading,
network and metric of different images may overlap. Our compilation is part of the first runs; ``"warm_up": n`` puts n
runs before, which are neither timed nor scored. At the end each competitor reports the mIoU over all images of its
runs, in percent, over the classes that occur.

Forms: the values of ``--precision``; and ``gluoncv``: its ``MultiEvalModel`` and ``SegmentationMetric``, used as in
MXNetSeg, with the same weights, hybridised, with ``BilinearResize2D``.

Both compute the protocol of GluonCV's ``MultiEvalModel``: the long side is ``base``, windows are squares of ``crop``
that step by two thirds of it, there are six scales, each window is also flipped, and exp(logits) is averaged.
``Protocol("gluoncv")`` has the same probabilities up to rounding, so the mIoU is the same. Two other values of
``mode`` are those of our configurations. ``slide`` has as many windows, but moves them inwards at the border, where
GluonCV pads them with black, and averages the softmax. ``whole`` computes each scale in one piece without overlaps,
which is half the work.

:func:`prepare` writes the images and, without a checkpoint, a briefly trained network. All competitors read the same.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Callable

import cv2
import mxnet as mx
import numpy as np

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.config import Config
from mxnetseg.data import get_dataset
from mxnetseg.data.base import IGNORE
from mxnetseg.engine.checkpoint import Checkpoint, restore_network
from mxnetseg.engine.evaluator import evaluate
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.precision import calibration_images
from mxnetseg.engine.protocol import Protocol
from mxnetseg.files import PathLike
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.metrics import ConfusionMatrix
from mxnetseg.models._cost import count_parameters
from mxnetseg.viz.palette import save_color_png, save_rgb_png

from .ours import resize_as_mxnetseg
from .serve import serve

# base, crop and classes: those of MXNetSeg's configurations for Cityscapes; scales: GluonCV's
DEFAULTS: dict[str, Any] = {"mode": "gluoncv", "base": 2048, "crop": 768, "scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
                            "flip": True, "batch": 1, "per_run": 1, "warm_up": 0}
_CLASSES = 19
_TRAINING_IMAGES, _CROP, _EPOCHS = 24, 256, 8
_CALIBRATION = 4


class _Subset:
    """``count`` images of a data set from ``first`` on; after the last image of the data set follows its first."""

    def __init__(self, dataset, first: int, count: int):
        self._dataset, self._indices = dataset, [(first + k) % len(dataset) for k in range(count)]
        self.nclass = dataset.nclass

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, k):
        return self._dataset[self._indices[k]]

    def image_path(self, k):
        return self._dataset.image_path(self._indices[k])

    def mask_path(self, k):
        return self._dataset.mask_path(self._indices[k])


def _ours(net, dataset, task) -> tuple[Callable[..., None], Callable[[], float]]:
    """Return a function that evaluates the next images, and one that returns the mIoU of all of them."""
    protocol = Protocol(mode=task["mode"], base_size=task["base"], crop_size=(task["crop"],) * 2,
                        scales=tuple(task["scales"]), flip=task["flip"], batch=task["batch"])
    calibration = ()
    if task["form"] == "int8":  # on crops of the size of the windows
        images = calibration_images(get_dataset(task["data"], split="train"), _CALIBRATION)
        calibration = [image[:task["crop"], :task["crop"]] for image in images]
    compiled = compile_for_inference(net, [mx.cpu()], task["form"], calibration=calibration)
    segmenter = Segmenter(MXNetRuntime(compiled), protocol)
    counted, runs = ConfusionMatrix(dataset.nclass), 0

    def run(counts=True):
        nonlocal runs
        matrix = evaluate(segmenter, _Subset(dataset, runs * task["per_run"], task["per_run"]))[0]
        if counts:
            counted.merge(matrix)
            runs += 1
    return run, counted.miou


def _gluoncv(net, dataset, task) -> tuple[Callable[..., None], Callable[[], float]]:
    """Return a function that evaluates the next images, and one that returns the mIoU of all of them."""
    from gluoncv.model_zoo.segbase import MultiEvalModel
    from gluoncv.utils.metrics.segmentation import SegmentationMetric
    from mxnet.gluon.data.vision import transforms

    net.hybridize()
    evaluator = MultiEvalModel(_AsGluonCV(net, task), net.nclass, [mx.cpu()], flip=task["flip"], scales=task["scales"])
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(net.mean, net.std)])
    metric, runs = SegmentationMetric(net.nclass), 0

    def run(counts=True):
        nonlocal runs
        subset = _Subset(dataset, runs * task["per_run"], task["per_run"])
        for k in range(len(subset)):
            sample = subset[k]
            mask = sample.mask.astype("int32")
            mask[mask == IGNORE] = -1
            scores = evaluator.parallel_forward(transform(mx.nd.array(sample.image, dtype="uint8")).expand_dims(0))[0]
            metric.update(mx.nd.array(mask[None]), scores)
            metric.get()
        if counts:
            runs += 1
        else:
            metric.reset()

    def miou():  # metric.get() scores absent classes as 0
        occurs = metric.total_union > 0
        return float((metric.total_inter[occurs] / metric.total_union[occurs]).mean())
    return run, miou


class _AsGluonCV:
    """Network with the attributes that ``MultiEvalModel`` reads."""

    def __init__(self, net, task):
        self._net, self.base_size, self.crop_size = net, task["base"], task["crop"]

    def collect_params(self):
        return self._net.collect_params()

    def evaluate(self, x):
        return self._net(x)[0]


def prepare(folder: PathLike, *, network: str = "fcn", backbone: str = "resnet18", output_stride: int = 8,
            size: tuple[int, int] = (1024, 2048), images: int = 30, checkpoint: PathLike | None = None,
            data: str = "sample", root: PathLike | None = None) -> dict[str, str]:
    """Write the files that all competitors read: images enlarged to ``size``, and a trained network.

    Args:
        folder: an existing, empty folder.
        network, backbone, output_stride: the network to train, for some minutes and with 19 classes. Unused with
            a ``checkpoint``.
        size: (height, width) of the images.
        images: their largest number, spread over the data set's validation split.
        checkpoint: weights trained for ``data``.
        data, root: the data set.

    Returns:
        the entries ``checkpoint`` and ``data`` of the task.
    """
    folder = Path(folder)
    target = folder / "images"
    for split, count in (("train", _TRAINING_IMAGES), ("val", images)):
        dataset = get_dataset(data, split=split, root=root)
        for k, i in enumerate(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)):
            sample = dataset[int(i)]
            image, mask = (cv2.resize(x, tuple(size)[::-1], interpolation=how) for x, how in (
                (sample.image, cv2.INTER_LINEAR), (sample.mask, cv2.INTER_NEAREST)))
            save_rgb_png(image, target / "images" / split / f"{k:03d}.png")
            save_color_png(mask, dataset.palette, target / "masks" / split / f"{k:03d}.png")
    classes = list(dataset.classes)
    if checkpoint is None:
        classes += [f"none {k}" for k in range(len(classes), _CLASSES)]
    (target / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    if checkpoint is None:
        checkpoint = _train(folder / "weights", target, network, backbone, output_stride)
    return {"checkpoint": str(checkpoint), "data": str(target)}


def _train(folder: Path, images: Path, network: str, backbone: str, output_stride: int) -> Path:
    from mxnetseg.engine.trainer import Trainer

    config = Config().replace({
        "model.name": network, "model.backbone": backbone, "model.output_stride": output_stride,
        "data.name": str(images), "data.crop_size": [_CROP, _CROP], "optimizer.lr": 0.02,
        "train.epochs": _EPOCHS, "train.batch_size": 4})
    return Trainer(config, [mx.cpu()], folder=folder, validate=False, quiet=True).fit().last.path


def main() -> None:
    task = {**DEFAULTS, **json.loads(sys.argv[1])}
    began = time.perf_counter()
    if task["form"] == "gluoncv":
        resize_as_mxnetseg()
    net, _ = restore_network(Checkpoint(task["checkpoint"]), [mx.cpu()])
    ready = {"parameters": count_parameters(net)}
    dataset = get_dataset(task["data"], split="val")
    run, miou = (_gluoncv if task["form"] == "gluoncv" else _ours)(net, dataset, task)
    for _ in range(task["warm_up"]):
        run(counts=False)
    serve({**ready, "warm_up_s": round(time.perf_counter() - began, 2)}, run,
          end=lambda: {"miou": 100 * miou()})


if __name__ == "__main__":
    main()
