"""Training epochs of the whole program with its loader: ``python -m benchmarks.epoch TASK``, where TASK is JSON.

``{"form": "float32", "data": ".../png", "network": "fcn", "backbone": "resnet18", "output_stride": 8, "base": 480,
"crop": 256, "batch": 8}``: one run trains on every image once. It also reports the number of images and for how long
the training waited for the loader.

With ``"ctx": ["0", "1"]`` it trains on the devices that ``--ctx 0 1`` selects on this machine.

Forms: the values of ``train.precision``, run by the real :class:`~mxnetseg.engine.trainer.Trainer`; and ``mxnetseg``:
MXNetSeg's training step, fed by GluonCV's data set and MXNet's ``DataLoader`` with 16 processes.
"""
from __future__ import annotations

import json
import sys
import tempfile
import time

import mxnet as mx

from mxnetseg.config import Config
from mxnetseg.engine.contexts import resolve_contexts
from mxnetseg.engine.trainer import Trainer
from mxnetseg.models import get_model
from mxnetseg.models._cost import count_parameters

from .loading import gluoncv
from .ours import mxnetseg_step, resize_as_mxnetseg
from .serve import WaitingTime, resident_mib, serve

_WORKERS_OF_MXNETSEG = 16  # its only choice
_NEVER_REACHED = 10 ** 6


def _ours(task, folder):
    """Return the network, and a function that trains one epoch and returns (images, seconds waited)."""
    config = Config().replace({
        "model.name": task["network"], "model.backbone": task["backbone"],
        "model.output_stride": task["output_stride"], "model.aux": False, "data.name": f"folder:{task['data']}",
        "data.recipe": "mxnetseg", "data.base_size": task["base"], "data.crop_size": [task["crop"]] * 2,
        "train.batch_size": task["batch"], "train.precision": task["form"], "optimizer.lr": 1e-3,
        # no validation and no checkpoint, as in the other competitors
        "train.epochs": _NEVER_REACHED, "train.val_every": 0, "train.save_every": _NEVER_REACHED})
    trainer = Trainer(config, resolve_contexts(task.get("ctx", ["cpu"])), folder=folder, validate=False, quiet=True)
    waited = WaitingTime(trainer.loader.epoch)
    trainer.loader.epoch = waited

    def epoch():
        trainer._train_epoch()
        trainer._end_epoch()
        mx.nd.waitall()
        return len(trainer.loader) * task["batch"], waited.take()
    return trainer.net, epoch


def _mxnetseg(task, folder):
    """Return the network, and a function that trains one epoch and returns (images, seconds waited)."""
    resize_as_mxnetseg()
    net = get_model(task["network"], backbone=task["backbone"], nclass=19, output_stride=task["output_stride"])
    step = mxnetseg_step(net, task["batch"])
    waited = WaitingTime(gluoncv(task, workers=_WORKERS_OF_MXNETSEG))

    def epoch():
        count = 0
        for images, masks in waited(0):
            # they arrive in memory that is shared between processes
            step(images.as_in_context(mx.cpu()), masks.as_in_context(mx.cpu()).astype("float32"))
            count += len(images)
        return count, waited.take()
    return net, epoch


def main() -> None:
    imported = resident_mib()
    task = json.loads(sys.argv[1])
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        net, epoch = (_mxnetseg if task["form"] == "mxnetseg" else _ours)(task, folder)

        def run():
            count, waited = epoch()
            return {"images": count, "waited_seconds": waited}
        for _ in range(task["warm_up"]):
            run()
        serve({"parameters": count_parameters(net), "imported_mib": imported,
               "warm_up_s": round(time.perf_counter() - began, 2)}, run)


if __name__ == "__main__":
    main()
