"""``mxnetseg demo``: train on the built-in sample, evaluate, and draw the results."""
from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .common import (
    add_device_argument,
    add_out_argument,
    add_quiet_argument,
    add_weights_argument,
    chance_level,
    progress_bar,
    whole_number,
)

if TYPE_CHECKING:
    from ..data.base import SegDataset
    from ..engine.inference import Segmenter
    from ..metrics import ConfusionMatrix

_SHOWN = 4  # validation images in the sheet, spread over the split


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--epochs", type=whole_number(), metavar="N", help="default: the value in configs/demo.yaml")
    add_out_argument(parser, "out/demo", "the images")
    add_device_argument(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Train, evaluate, draw; return 0, or 128 + the signal that stopped the training."""
    from ..backends.mxnet_runtime import MXNetRuntime
    from ..config import load_config
    from ..engine.checkpoint import restore_network
    from ..engine.contexts import resolve_contexts
    from ..engine.evaluator import evaluate
    from ..engine.inference import Segmenter
    from ..engine.protocol import Protocol
    from ..engine.trainer import Trainer
    from ..files import check_writable

    began = time.time()
    contexts = resolve_contexts(args.ctx)
    check_writable(args.out)  # before the minutes of training
    config = load_config("demo", overrides=[f"train.epochs={args.epochs}"] if args.epochs else [])

    print("1. training SwiftNet-ResNet18 on the built-in street scenes (`mxnetseg train --config demo` does the same)",
          flush=True)
    trainer = Trainer(config, contexts, folder=args.weights, quiet=args.quiet)
    result = trainer.fit()
    if result.signal is not None:
        print(f"stopped; `mxnetseg train --resume {result.last.path}` resumes the training")
        return 128 + result.signal

    print(f"2. evaluating {result.best.path} on the validation split at several scales (`python eval.py --ms`)",
          flush=True)
    net, _ = restore_network(result.best, contexts)
    protocol = Protocol.of(config, ms=True)
    segmenter = Segmenter(MXNetRuntime(net, contexts), protocol)
    dataset = trainer.val_set
    matrix, control = evaluate(segmenter, dataset, workers=config.data.workers,
                               progress=progress_bar("evaluate", args.quiet))
    print(f"{dataset.name}, {config.data.val_split}: {len(dataset)} images; {protocol}")
    print(matrix.result(dataset.classes).table())
    print(chance_level(control))

    print("3. drawing images", flush=True)
    for content, path in _draw(args.out, dataset, segmenter, matrix).items():
        print(f"  {content:<22} {path}")
    print(f"  {'training curves':<22} {trainer.run_log.curves_path}")
    print(f"done in {(time.time() - began) / 60:.1f} minutes; "
          f"next, try: mxnetseg predict IMAGE_OR_FOLDER")
    return 0


def _draw(out: Path, dataset: SegDataset, segmenter: Segmenter, matrix: ConfusionMatrix) -> dict[str, Path]:
    """Write the images; return their contents and paths."""
    from ..engine.predictor import Prediction
    from ..viz.confusion import confusion
    from ..viz.overlay import grid, with_legend
    from ..viz.palette import colorize, save_rgb_png

    samples = [dataset[i] for i in range(0, len(dataset), max(len(dataset) // _SHOWN, 1))][:_SHOWN]
    predictions = [Prediction(s.image, segmenter(s.image), dataset.classes, dataset.palette, Path(s.name).name)
                   for s in samples]
    sheet = grid([[s.image, colorize(s.mask, dataset.palette), p.color] for s, p in zip(samples, predictions)],
                 captions=["image", "mask", "prediction"])

    images = {"predictions": out / "predictions.png", "confusion": out / "confusion.png"}
    save_rgb_png(with_legend(sheet, dataset.classes, dataset.palette), images["predictions"])
    confusion(matrix.counts, dataset.classes, images["confusion"])
    for prediction in predictions:
        images[f"overlay of {prediction.name}"] = prediction.save(out)[1]
    return images
