"""``mxnetseg eval``: compute the scores of a checkpoint, or write its predictions."""
from __future__ import annotations

import hashlib
import os
import shlex
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .common import (
    add_backend_argument,
    add_checkpoint_argument,
    add_decoding_arguments,
    add_out_argument,
    add_precision_argument,
    add_quiet_argument,
    add_root_argument,
    add_set_argument,
    add_shard_argument,
    add_weights_argument,
    decoding_changes,
    open_named_network,
    progress_bar,
    resolve_precision,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import Config
    from ..data.base import Sample, SegDataset
    from ..data.shards import Shard
    from ..engine.inference import Segmenter
    from ..engine.network import OpenNetwork
    from ..engine.protocol import Protocol
    from ..report.recorder import Recorder

_TIMED, _TIMED_SECONDS = 5, 3.0  # predictions that are timed at the end, and about how long that may take


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_checkpoint_argument(parser, included=False)
    parser.add_argument("--model", "--network", metavar="NAME",
                        help="refuse a checkpoint of another network; consider only its runs for the default")
    parser.add_argument("--backbone", help="refuse a checkpoint of another backbone")
    parser.add_argument("--data", help="data set, or folder:PATH (default: the one it was trained on)")
    add_root_argument(parser)
    parser.add_argument("--mode", choices=("val", "testval", "test"), default="val",
                        help="val: scores on the validation split; testval: predictions of the validation split as "
                             "images; test: predictions of the test split (default: %(default)s)")
    parser.add_argument("--zip", metavar="FILE", help="with --mode test: also write the zip that the evaluation server "
                        "of the data set takes (Cityscapes, ACDC)")
    parser.add_argument("--split", help="use this split instead of the mode's")
    add_backend_argument(parser)
    add_precision_argument(parser, None)
    parser.add_argument("--ms", action="store_true", help="average over several scales and the flipped image")
    parser.add_argument("--base", type=int, metavar="PIXELS", help="scale images to this long side first")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="slide a window of this side over the image")
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--whole", action="store_true", help="evaluate whole images, even if the configuration says "
                       "sliding windows")
    views.add_argument("--gluoncv", action="store_true", help="slide and average exactly as GluonCV and MXNetSeg did, "
                       "to compare with their published scores")
    parser.add_argument("--absent-as", choices=("skip", "zero"), default="skip", help="a class that occurs in neither "
                        "masks nor predictions is left out of the mean, or counts as 0 as in GluonCV (default: "
                        "%(default)s)")
    parser.add_argument("--scores-only", action="store_true", help="keep no details of each image, which "
                        "`mxnetseg report` shows; faster")
    add_out_argument(parser, "out", "scores and images")
    add_shard_argument(parser, "images")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read images")
    add_set_argument(parser, "a key of the checkpoint's configuration: --set eval.stride=0.5, --set eval.batch=4")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Evaluate; return 0."""
    from ..data import get_dataset, without_folder
    from ..data.decoding import Decoding
    from ..data.submission import RULES, open_submission
    from ..data.submission import check as check_submission
    from ..engine.evaluator import check_classes, evaluate, warn_of_other_images, write_predictions
    from ..engine.inference import Segmenter
    from ..errors import UsageError
    from ..files import check_writable, expand
    from ..report.partial import Partial, write_partial
    from ..report.recorder import Recorder, discard_details
    from ._scores import publish

    if args.shard.count > 1 and args.mode != "val":
        raise UsageError("--shard divides the scoring of a split", received=f"--mode {args.mode}",
                         fix="leave --shard out; `mxnetseg predict --shard` divides predictions")

    network = open_named_network(args.checkpoint, args.weights, backend=args.backend, ctx=args.ctx, model=args.model,
                                 included=False)
    sidecar = network.sidecar
    _check_names(args, network)
    _check_zip(args)
    config = _configuration(args, network.config())

    # --root replaces a recorded folder, which may be relative to another working directory
    name = args.data or (without_folder(config.data.name) if args.root else config.data.name)
    # a recorded root is valid only for the data set that it was recorded with
    root = args.root or (config.data.root if _same_data(name, config.data.name) else None)
    split = args.split or ("test" if args.mode == "test" else _splits(sidecar)["val"])
    dataset = get_dataset(name, split=split, root=root, decoding=Decoding.of(config.data))
    check_classes(sidecar["data"]["classes"], dataset, where=network.path)
    if not args.data or dataset.name == sidecar["data"]["name"]:
        warn_of_other_images(sidecar, dataset, where=network.path)
    protocol = _protocol(args, config)
    out = args.out / network.stem / args.mode
    check_writable(out)  # before the minutes of computation
    if args.zip:
        check_submission(dataset)
        check_writable(expand(args.zip).absolute().parent)

    print(f"network     {' on '.join(filter(None, (network.model_name, network.backbone_name))) or 'not recorded'}\n"
          f"data        {dataset.name}, {split}: {len(dataset)} images\nprotocol    {protocol}\n"
          f"devices     {', '.join(map(str, network.devices))}", flush=True)
    precision = resolve_precision(args.precision, network)
    key = _key(args, network, dataset, protocol, precision)
    if args.shard.count > 1:
        key.update(_digests(network, dataset))
        if _is_complete(out, args.shard, key):
            return 0
    calibration = _calibration(name, root, sidecar, dataset) if network.calibrates(precision) else ()
    segmenter = Segmenter(network.load(precision, calibration), protocol)
    bar = progress_bar("evaluate" if args.mode == "val" else "predict", args.quiet)

    if args.mode != "val":
        with open_submission(expand(args.zip), dataset) if args.zip else nullcontext() as submission:
            written = write_predictions(segmenter, dataset, out, workers=config.data.workers,
                                        timeout=config.data.timeout, progress=bar,
                                        observer=submission.add if submission else None)
        print(f"{len(written)} predictions in {out}/color (coloured) and {out}/id (the data set's own ids)")
        if args.zip:
            print(f"{args.zip}: upload it at {RULES[dataset.name].page}")
        if dataset.mask_path(0) is not None:
            print(f"image, truth, prediction and errors side by side in {out}/sheet")
        return 0

    recorder = None
    if args.scores_only:
        discard_details(out)
    else:
        recorder = Recorder(out, len(dataset), dataset.classes, dataset.palette,
                            args.shard.indices(len(dataset)))
    matrix, control = evaluate(segmenter, dataset, workers=config.data.workers, timeout=config.data.timeout,
                               progress=bar, observer=_observer(recorder, segmenter) if recorder else None,
                               shard=args.shard)
    description = {} if recorder is None else {
        **_description(network), "config": config.to_dict(), "speed": _speed(segmenter, dataset.load_image(0)),
        "devices": list(map(str, network.devices))}
    if args.shard.count > 1:
        names = [dataset.pair(i).name for i in args.shard.indices(len(dataset))]
        file = write_partial(Partial(key, {"checkpoint": str(network.path), **description}, args.shard, names, matrix,
                                     control, recorder.counts() if recorder else {}), out)
        print(f"scores of {len(names)} of {len(dataset)} images in {file}\n"
              f"when all {args.shard.count} parts are there: mxnetseg merge {shlex.quote(str(out))}")
        return 0
    publish(out, matrix, control, dataset.classes, {**key, "checkpoint": str(network.path)}, recorder, description)
    return 0


def _key(args: Namespace, network: OpenNetwork, dataset: SegDataset, protocol: Protocol,
         precision: str) -> dict[str, Any]:
    """Return what an evaluation depends on: the parts of one evaluation have it in common, and :func:`_digests`."""
    from .. import __version__

    return {"mxnetseg": __version__, "backend": network.choice.backend, "precision": precision,
            "protocol": str(protocol), "data": dataset.name, "split": dataset.split, "images": len(dataset),
            "absent_as": args.absent_as, "details": not args.scores_only, "classes": list(dataset.classes),
            "palette": np.asarray(dataset.palette).tolist()}


def _digests(network: OpenNetwork, dataset: SegDataset) -> dict[str, str]:
    """Return checksums of the network and of the split, which only parts need: they read or look at every file."""
    return {"network": network.digest(), "names and sizes of the files": _files_digest(dataset)}


def _is_complete(out: Path, shard: Shard, key: Mapping[str, Any]) -> bool:
    """Return whether a part was evaluated already, and print it."""
    from ..errors import DataError
    from ..report.partial import partial_path, read_partial

    path = partial_path(out, shard)
    try:
        is_complete = path.is_file() and read_partial(path).key == key
    except DataError:  # it is written again
        return False
    if is_complete:
        print(f"the scores of this part are in {path} already")
    return is_complete


def _files_digest(dataset: SegDataset) -> str:
    """Return a checksum of the names of a split in their order, and of the sizes of the files, which are not read."""
    digest = hashlib.sha256()
    for i in range(len(dataset)):
        name, *files = dataset.pair(i)
        sizes = [os.path.getsize(file) for file in files if file is not None]
        digest.update(f"{name} {sizes}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _check_zip(args: Namespace) -> None:
    """Refuse ``--zip`` with another mode than the one that predicts the test split."""
    from ..errors import UsageError

    if args.zip and args.mode != "test":
        raise UsageError("--zip writes the predictions of the test split", where="--zip",
                         received=f"--mode {args.mode}", fix="--mode test, or leave out --zip")


def _observer(recorder: Recorder, segmenter: Segmenter) -> Callable[[Sample, np.ndarray], None]:
    """Return a function that gives each image of an evaluation to the recorder."""
    def observe(sample: Sample, prediction: np.ndarray) -> None:
        is_wanted = segmenter.runtime.has_scores and recorder.wants_probabilities(sample.image)
        probabilities = segmenter.probabilities(sample.image) if is_wanted else None
        recorder.add(sample.name, sample.image, sample.mask, prediction, probabilities)
    return observe


def _speed(segmenter: Segmenter, image: np.ndarray) -> dict[str, Any]:
    """Return the size of an image and the median of the milliseconds that its prediction takes, of up to 5."""
    times: list[float] = []
    while len(times) < _TIMED and sum(times) < _TIMED_SECONDS:
        began = time.perf_counter()
        list(segmenter.stream(iter([image])))
        times.append(time.perf_counter() - began)
    return {"milliseconds": 1000 * statistics.median(times), "height": image.shape[0], "width": image.shape[1]}


def _description(network: OpenNetwork) -> dict[str, Any]:
    """Return what a report says about a network: its architecture, size and training."""
    from ..engine.loggers import read_log
    from ..engine.sidecar import BEST
    from ..files import sha256

    is_file = network.path.is_file()
    log = network.path.with_name(network.stem.removesuffix(BEST) + ".jsonl")
    return {"checkpoint": str(network.path), "sha256": sha256(network.path) if is_file else "",
            "bytes": network.path.stat().st_size if is_file else None,
            "network": network.model_name, "backbone": network.backbone_name, "parameters": network.parameters,
            "epochs": [row for row in read_log(log) if row["kind"] == "epoch"]}


def _calibration(name: str, root: str | None, sidecar: Mapping[str, Any], dataset: SegDataset) -> list[np.ndarray]:
    """Return images to calibrate int8 on, from the training split, so that the scored images stay unseen.

    Without a training split they come from ``dataset``, and a message says so.
    """
    from ..data import get_dataset
    from ..engine.precision import calibration_images
    from ..errors import MXNetSegError

    split = _splits(sidecar)["train"]
    try:
        return calibration_images(get_dataset(name, split=split, root=root, decoding=dataset.decoding))
    except MXNetSegError as error:
        print(f"int8 is calibrated on the scored images, because the split {split} cannot be read: {error.what}")
        return calibration_images(dataset)


def _same_data(one: str, other: str) -> bool:
    """Return True if two names stand for one data set, as ``citys`` and ``Cityscapes`` do."""
    from ..data import DATASETS
    from ..errors import UnknownNameError

    try:
        return one == other or DATASETS.resolve(one) == DATASETS.resolve(other)
    except UnknownNameError:  # the path of a folder
        return False


def _splits(sidecar: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the names of the splits, which an exported network of another project does not record."""
    return {"train": "train", "val": "val", **sidecar.get("protocol", {}).get("splits", {})}


def _check_names(args: Namespace, network: OpenNetwork) -> None:
    """Refuse a checkpoint of another network or backbone than the options name."""
    from ..errors import CheckpointError
    from ..models import MODELS
    from ..models.backbones import BACKBONES

    model = args.model and MODELS.resolve(args.model)
    backbone = args.backbone and BACKBONES.resolve(args.backbone)
    for option, asked, found in (("--model", model, network.model_name),
                                 ("--backbone", backbone, network.backbone_name)):
        if asked and asked != found:
            raise CheckpointError(f"the checkpoint does not match {option}", where=network.path,
                                  received=f"{asked}; the checkpoint holds {found or 'no name of it'}",
                                  fix=f"leave {option} out")


def _configuration(args: Namespace, config: Config) -> Config:
    """Return the configuration with the options applied, each within the range of its key."""
    from ..config.loader import parse_override

    changes: list[tuple[str, str, Any]] = []  # option, key, value
    for name, key in (("base", "eval.base_size"), ("crop", "eval.crop_size"), ("workers", "data.workers")):
        value = getattr(args, name)
        if value is not None:
            changes.append((f"--{name} {value}", key, value))
    if args.crop is not None:
        changes.append(("--crop", "eval.mode", "slide"))
    if args.whole:
        changes.append(("--whole", "eval.mode", "whole"))
    changes += [(f"--set {text}", *parse_override(text)) for text in args.overrides]

    for option, key, value in changes:
        config = config.replace({key: value}, where=option)
    return config.replace(decoding_changes(args), where="the command line")


def _protocol(args: Namespace, config: Config) -> Protocol:
    """Return the evaluation protocol of a configuration and the options ``--ms`` and ``--gluoncv``."""
    from ..engine.protocol import Protocol

    protocol = Protocol.of(config, ms=args.ms)
    return replace(protocol, mode="gluoncv") if args.gluoncv else protocol
