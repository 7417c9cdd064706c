"""``mxnetseg eval``: score a checkpoint, or write its predictions."""
from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import replace

from .common import (
    add_decoding_arguments,
    add_device_argument,
    add_out_argument,
    add_precision_argument,
    add_quiet_argument,
    add_root_argument,
    add_set_argument,
    add_weights_argument,
    chance_level,
    choose_checkpoint,
    decoding_changes,
    progress_bar,
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="PATH|NAME", help="a .params file, or its name below the weights "
                        "folder (default: the newest; of a run, the best)")
    parser.add_argument("--model", "--network", metavar="NAME",
                        help="refuse a checkpoint of another network; narrows what is newest")
    parser.add_argument("--backbone", help="refuse a checkpoint of another backbone")
    parser.add_argument("--data", help="data set, or folder:PATH (default: what it was trained on)")
    add_root_argument(parser)
    parser.add_argument("--mode", choices=("val", "testval", "test"), default="val",
                        help="val: scores on the validation split; testval: its predictions as pictures; test: "
                             "predictions of the test split (default: %(default)s)")
    parser.add_argument("--split", help="another split than the mode's")
    add_device_argument(parser)
    add_precision_argument(parser, "float32")
    parser.add_argument("--ms", action="store_true", help="average over several scales and the mirrored picture")
    parser.add_argument("--base", type=int, metavar="PIXELS", help="scale pictures to this long side first")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="slide a window of this side over the picture")
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--whole", action="store_true", help="whole pictures, even if trained for a window")
    views.add_argument("--gluoncv", action="store_true", help="slide and average exactly as GluonCV and MXNetSeg did, "
                       "for comparison with what they published")
    parser.add_argument("--absent-as", choices=("skip", "zero"), default="skip", help="a class in neither masks nor "
                        "predictions is left out of the mean, or counts 0 as in GluonCV (default: %(default)s)")
    add_out_argument(parser, "out", "scores and images")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read images")
    add_set_argument(parser, "a key of the checkpoint's configuration: --set eval.stride=0.5, --set eval.batch=4")
    add_decoding_arguments(parser)
    add_weights_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    from ..data import get_dataset, without_folder
    from ..data.decoding import Decoding
    from ..engine.checkpoint import restore_network
    from ..engine.contexts import resolve_contexts
    from ..engine.evaluator import check_classes, evaluate, warn_of_other_images, write_predictions
    from ..engine.inference import Segmenter
    from ..engine.precision import choose_precision
    from ..engine.watch import warn_of_one_class
    from ..files import atomic_write, check_writable
    from ..graph.inference_graph import compile_for_inference
    from ..viz.confusion import confusion

    contexts = resolve_contexts(args.ctx)
    checkpoint = choose_checkpoint(args.checkpoint, args.weights, model=args.model)
    net, sidecar = restore_network(checkpoint, contexts)
    _check_names(args, net, checkpoint)
    config = _configuration(args, sidecar, checkpoint)
    # a root takes the place of a recorded folder: it may have been given below another working directory
    name = args.data or (without_folder(config.data.name) if args.root else config.data.name)
    # a root belongs to the data set it was given for
    root = args.root or (config.data.root if _same_data(name, config.data.name) else None)
    split = args.split or ("test" if args.mode == "test" else sidecar["protocol"]["splits"]["val"])
    decoding = Decoding.of(config.data)
    dataset = get_dataset(name, split=split, root=root, decoding=decoding)
    check_classes(sidecar["data"]["classes"], dataset, where=checkpoint.path)
    if not args.data or dataset.name == sidecar["data"]["name"]:
        warn_of_other_images(sidecar, dataset, where=checkpoint.path)
    protocol = _protocol(args, config)
    out = args.out / checkpoint.stem / args.mode
    check_writable(out)  # now, and not after minutes of work

    print(f"checkpoint  {checkpoint.path}\nnetwork     {net.model_name} on {net.backbone_name}\n"
          f"data        {dataset.name}, {split}: {len(dataset)} images\nprotocol    {protocol}\n"
          f"devices     {', '.join(map(str, contexts))}", flush=True)
    precision, why = choose_precision(args.precision, contexts)
    print(f"precision   {precision} ({why})", flush=True)
    calibration = _calibration(name, root, sidecar, dataset) if precision == "int8" else ()
    network = compile_for_inference(net, contexts, precision, calibration=calibration)
    segmenter = Segmenter(network, contexts, protocol)
    bar = progress_bar("evaluate" if args.mode == "val" else "predict", args.quiet)
    if args.mode != "val":
        written = write_predictions(segmenter, dataset, out, workers=config.data.workers,
                                    timeout=config.data.timeout, progress=bar)
        print(f"{len(written)} predictions in {out}/color (to look at) and {out}/id (the data set's own ids)")
        return 0
    matrix, control = evaluate(segmenter, dataset, workers=config.data.workers, timeout=config.data.timeout,
                               progress=bar)
    scores = matrix.result(dataset.classes, absent_as=args.absent_as)
    print(scores.table(), flush=True)
    warn_of_one_class(scores)
    report = {"checkpoint": str(checkpoint.path), "data": dataset.name, "split": split, "protocol": str(protocol),
              "precision": precision, "unit": "fractions of 1",
              "images": len(dataset), "control_miou": control.result(dataset.classes).to_dict()["miou"],
              **scores.to_dict()}
    with atomic_write(out / "scores.json", "w") as file:
        json.dump(report, file, indent=1, allow_nan=False)
    confusion(matrix.counts, dataset.classes, out / "confusion.png")
    print(f"{chance_level(control)}\n"
          f"scores      {out / 'scores.json'} (fractions of 1)\nconfusion   {out / 'confusion.png'}")
    return 0


def _calibration(name: str, root, sidecar, dataset):
    """Pictures to calibrate int8 on: of the training split, so that none of those to be scored is looked at."""
    from ..data import get_dataset
    from ..engine.precision import calibration_images
    from ..errors import MXNetSegError

    split = sidecar["protocol"]["splits"]["train"]
    try:
        return calibration_images(get_dataset(name, split=split, root=root, decoding=dataset.decoding))
    except MXNetSegError as error:
        print(f"int8 is calibrated on the pictures to be scored, for there is no split {split}: {error.what}")
        return calibration_images(dataset)


def _same_data(one: str, other: str) -> bool:
    """Whether two names mean one data set: ``citys`` and ``Cityscapes`` do."""
    from ..data import DATASETS
    from ..errors import UnknownNameError

    try:
        return one == other or DATASETS.resolve(one) == DATASETS.resolve(other)
    except UnknownNameError:  # the path of a folder
        return False


def _check_names(args: Namespace, net, checkpoint) -> None:
    from ..errors import CheckpointError
    from ..models import MODELS
    from ..models.backbones import BACKBONES

    for option, asked, have in (("--model", args.model and MODELS.resolve(args.model), net.model_name),
                                ("--backbone", args.backbone and BACKBONES.resolve(args.backbone),
                                 net.backbone_name)):
        if asked and asked != have:
            raise CheckpointError(f"the checkpoint is not what {option} says", where=checkpoint.path,
                                  received=f"{asked}; the checkpoint is of {have}",
                                  fix=f"leave {option} out: the checkpoint knows")


def _configuration(args: Namespace, sidecar, checkpoint):
    """Return the checkpoint's configuration with the options applied, each within the range of its key."""
    from ..config import Config
    from ..config.loader import parse_override

    config = Config.from_dict(sidecar["config"], where=checkpoint.sidecar_path)
    changes = [(f"--base {args.base}", "eval.base_size", args.base),
               (f"--crop {args.crop}", "eval.crop_size", args.crop),
               (f"--workers {args.workers}", "data.workers", args.workers)]
    if args.crop is not None:
        changes.append(("--crop", "eval.mode", "slide"))
    if args.whole:
        changes.append(("--whole", "eval.mode", "whole"))
    for option, key, value in changes + [(f"--set {text}", *parse_override(text)) for text in args.overrides]:
        if value is not None or option.startswith("--set"):
            config = config.replace({key: value}, where=option)
    return config.replace(decoding_changes(args), where="the command line")


def _protocol(args: Namespace, config):
    from ..engine.inference import Protocol

    protocol = Protocol.of(config, ms=args.ms)
    return replace(protocol, mode="gluoncv") if args.gluoncv else protocol
