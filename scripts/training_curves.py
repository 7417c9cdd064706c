"""Compare the trainer, in both backends, with a training loop written by hand in PyTorch, on CamVid.

    python scripts/training_curves.py --root CAMVID [--epochs 7] [--out out/curves]

Three runs of FCN-ResNet18 (output stride 32), batch 8, crops of 192x256, SGD with the schedule poly, 45 steps an epoch:

* mxnetseg with the backend MXNet, and the same run (same first weights, same batches) with the backend PyTorch;
* the network of benchmarks/theirs.py with the same first weights, in a loop of its own: transforms like those of
  torchvision's reference for segmentation (resize by 0.5 to 2, flip, crop), its own order of images, its own loss,
  optimiser, schedule and confusion matrix. It shares no code with the trainer.

Writes curves.json and curves.png: the loss of each step, and the validation mIoU of each epoch. Runs that are in
curves.json are not repeated.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402

from mxnetseg.config import Config  # noqa: E402  (first, because it prepares NumPy for mxnet)

RATE, MOMENTUM, DECAY, POWER = 0.02, 0.9, 1e-4, 0.9
BATCH, CROP, LONG_SIDE, SCALE = 8, (192, 256), 480, (0.5, 2.0)
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
COLOURS = {"mxnetseg, MXNet": "#0072b2", "mxnetseg, PyTorch": "#d55e00", "hand-written, PyTorch": "#009e73"}


def configuration(root: Path, epochs: int) -> Config:
    """Return the configuration of our two runs."""
    return Config.from_dict({
        "model": {"name": "fcn", "backbone": "resnet18", "output_stride": 32, "aux": False},
        "data": {"name": "camvid", "root": str(root), "base_size": LONG_SIDE, "crop_size": list(CROP),
                 "scale": list(SCALE), "blur": False},
        "optimizer": {"name": "sgd", "lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY},
        "schedule": {"name": "poly", "power": POWER},
        "train": {"epochs": epochs, "batch_size": BATCH, "log_every": 1, "val_every": 1},
        "eval": {"size_divisor": None}})  # as in the hand-written loop


def run_ours(config: Config, backend: str, folder: Path) -> dict[str, list[float]]:
    """Train with the trainer; return the losses of the steps and the mIoU of the epochs."""
    from mxnetseg.engine.loggers import read_log
    from mxnetseg.engine.trainer import Trainer
    from mxnetseg.engine.training_choice import choose_training

    choice = choose_training(backend, ["cpu"])
    trainer = Trainer(config, choice.devices, backend=choice.name, folder=folder, quiet=True)
    trainer.fit()
    rows = read_log(trainer.run_log.path)
    return {"loss": [row["loss"] for row in rows if row["kind"] == "step"],
            "miou": [row["val_miou"] for row in rows if row["kind"] == "epoch"]}


def run_by_hand(config: Config) -> dict[str, list[float]]:
    """Train the hand-written network in a loop of its own; return losses and mIoU as :func:`run_ours` does."""
    import theirs
    import torch
    import torch.nn.functional as F

    from mxnetseg.data import get_dataset

    train, val = (get_dataset("camvid", split=split, root=config.data.root) for split in ("train", "val"))
    net = theirs.FCN(theirs.resnet18(32), train.nclass)
    copy_first_weights(config, net, train.nclass)

    epochs, steps = config.train.epochs, len(train) // BATCH
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / (epochs * steps)) ** POWER)
    random = np.random.default_rng(1)
    losses, scores = [], []
    for _ in range(epochs):
        net.train()
        order = random.permutation(len(train))
        for step in range(steps):
            pairs = [augment(train[int(i)].image, train[int(i)].mask, random)
                     for i in order[step * BATCH:(step + 1) * BATCH]]
            x, y = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y, ignore_index=255)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        scores.append(mean_iou(net.eval(), val))
        print(f"{len(losses)} steps by hand: loss {np.mean(losses[-steps:]):.3f}, mIoU {scores[-1]:.3f}", flush=True)
    return {"loss": losses, "miou": scores}


def copy_first_weights(config: Config, net: Any, nclass: int) -> None:
    """Give the hand-written network the first weights of our runs: tensors of one shape, in the networks' order."""
    import mxnet as mx
    import torch

    from mxnetseg.models import get_model

    mx.random.seed(config.train.seed)
    ours = get_model("fcn", backbone="resnet18", nclass=nclass, output_stride=32)
    waiting: dict[tuple[int, ...], deque[np.ndarray]] = defaultdict(deque)
    for name, parameter in ours.named_parameters().items():
        if not name.endswith(("running_mean", "running_var")):
            waiting[tuple(parameter.shape)].append(parameter.data().asnumpy())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(waiting[tuple(parameter.shape)].popleft()))
    if any(waiting.values()):
        raise SystemExit("error: the two networks do not have the same parameters")


def augment(image: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> Iterator[Any]:
    """Resize by a random factor, flip, crop and normalise: float32 (3, H, W) and int64 (H, W)."""
    import cv2
    import torch

    factor = random.uniform(*SCALE) * LONG_SIDE / max(image.shape[:2])
    size = tuple(round(side * factor) for side in image.shape[1::-1])
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    if random.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    missing = [max(crop - side, 0) for crop, side in zip(CROP, mask.shape)]
    image = np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)])
    mask = np.pad(mask, [(0, missing[0]), (0, missing[1])], constant_values=255)
    top, left = (int(random.integers(side - crop + 1)) for side, crop in zip(mask.shape, CROP))
    rows, columns = slice(top, top + CROP[0]), slice(left, left + CROP[1])
    normal = (image[rows, columns].astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(normal.transpose(2, 0, 1).copy()), torch.from_numpy(mask[rows, columns].astype(np.int64))


def mean_iou(net: Any, dataset: Any) -> float:
    """Return the mean over the classes whose union is not empty, on whole images."""
    import torch

    counts = np.zeros((dataset.nclass, dataset.nclass), np.int64)
    with torch.no_grad():
        for sample in dataset:
            x = ((sample.image.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)[None]
            predicted = net(torch.from_numpy(x.copy()))[0].argmax(0).numpy()
            valid = sample.mask != 255
            np.add.at(counts, (sample.mask[valid], predicted[valid]), 1)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    return float(np.mean(np.diag(counts)[union > 0] / union[union > 0]))


def draw(runs: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the losses (mean of 15 steps) and the validation scores of all runs in one image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=110, layout="constrained", facecolor="white")
    losses, scores = figure.subplots(2, 1, sharex=True)
    for name, run in runs.items():
        values, colour = np.array(run["loss"]), COLOURS[name]
        window = 15
        smooth = np.convolve(values, np.ones(window) / window, "valid")
        style = "--" if name.endswith("seg, PyTorch") else "-"
        losses.plot(np.arange(len(smooth)) + window, smooth, style, color=colour, label=name)
        steps = len(values) // len(run["miou"])
        scores.plot([(i + 1) * steps for i in range(len(run["miou"]))], [100 * v for v in run["miou"]], style,
                    marker="o", color=colour, label=name)
    figure.suptitle("FCN-ResNet18 on CamVid from the same random weights")
    losses.set_ylabel("training loss, mean of 15 steps")
    scores.set_ylabel("validation mIoU in %")
    scores.set_xlabel("step")
    for axis in (losses, scores):
        axis.grid(color="#e5e5e5")
        axis.spines[["top", "right"]].set_visible(False)
    losses.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    """Run what is asked for, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--epochs", type=int, default=7, help="of 45 steps")
    parser.add_argument("--out", type=Path, default=Path("out/curves"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = configuration(args.root, args.epochs)

    kept = args.out / "curves.json"
    runs = json.loads(kept.read_text()) if kept.exists() else {}
    for name, run in (("hand-written, PyTorch", lambda: run_by_hand(config)),
                      ("mxnetseg, PyTorch", lambda: run_ours(config, "torch", args.out / "torch")),
                      ("mxnetseg, MXNet", lambda: run_ours(config, "mxnet", args.out / "mxnet"))):
        if name in runs:
            continue
        runs[name] = run()
        kept.write_text(json.dumps(runs))
        draw(runs, args.out / "curves.png")
        print(name, "mIoU by epoch:", " ".join(f"{100 * value:.1f}" for value in runs[name]["miou"]), flush=True)


if __name__ == "__main__":
    main()
