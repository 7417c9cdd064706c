"""``mxnetseg summary``: show the size and cost of a network, its paper and published scores."""
from __future__ import annotations

import argparse
import json
from typing import Any

from .common import add_set_argument, whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="network (`mxnetseg models` lists them)")
    parser.add_argument("--backbone", help="feature extractor (default: the network's own)")
    parser.add_argument("--nclass", type=whole_number(), default=19, metavar="N",
                        help="number of classes (default: %(default)s)")
    parser.add_argument("--output-stride", type=whole_number(), metavar="N",
                        help="8, 16 or 32, if the network offers a choice")
    parser.add_argument("--aux", action="store_true", help="include the auxiliary heads, which only training needs")
    add_set_argument(parser, "an option of this network: --set width=18, or as in a configuration, "
                     "--set model.options.width=18")
    parser.add_argument("--size", type=whole_number(32), nargs="+", default=[512], metavar="PIXELS",
                        help="height and width of the image, or its side if it is square, for which to count "
                        "multiply-adds (default: 512)")
    parser.add_argument("--depth", type=whole_number(), default=1, metavar="N",
                        help="levels of child blocks to list (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the summary; return 0."""
    facts = summarise(args)
    print(json.dumps(facts, indent=1) if args.json else "\n".join(_lines(facts)))
    return 0


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """Return the facts that the command prints, as plain values for JSON.

    Raises:
        UsageError: the network, backbone or option is unknown, or ``--size`` has more than two numbers.
    """
    from ..config.loader import parse_override
    from ..errors import UsageError
    from ..models import MODELS, build_model
    from ..models._cost import measure
    from ..models._published import PAPERS, results

    if len(args.size) > 2:
        raise UsageError("--size takes one or two numbers", where="--size", received=" ".join(map(str, args.size)),
                         fix="give a side, or height and width: --size 512, --size 1024 2048")
    options = {key.removeprefix("model.").removeprefix("options."): value
               for key, value in map(parse_override, args.overrides)}
    net = build_model(args.model, nclass=args.nclass, backbone=args.backbone, output_stride=args.output_stride,
                      aux=args.aux or None, **options)
    height, width = args.size[0], args.size[-1]
    cost, name = measure(net, (height, width)), MODELS.resolve(args.model)
    paper = PAPERS[name]
    return {
        "model": name, "backbone": net.backbone_name, "classes": net.nclass, "size": [height, width],
        "output_stride": net.backbone.taps[-1].reduction, "taps": [list(tap) for tap in net.backbone.taps],
        "parameters": {"all": cost.count(), "trainable": cost.count(trainable=True),
                       "not_trained": cost.count(trainable=False), "backbone": cost.count(below="backbone"),
                       "heads": cost.count() - cost.count(below="backbone")},
        "macs": {"layers": cost.layer_macs, "backbone": cost.macs(below="backbone"),
                 "heads": cost.layer_macs - cost.macs(below="backbone"), "attention": cost.product_macs,
                 "resampling": cost.resampling_macs, "mmcv": cost.mmcv},
        "children": [{"name": child, "parameters": cost.count(below=child), "macs": cost.macs(below=child)}
                     for child in cost.children(args.depth)],
        "paper": {**paper._asdict(), "url": paper.url},
        "published": [result._asdict() for result in results(name)],
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    from ..models._published import Paper, Result

    parameters, macs = facts["parameters"], facts["macs"]
    height, width = facts["size"]
    paper = Paper(*(facts["paper"][field] for field in Paper._fields))
    lines = [
        f"network       {facts['model']} on {facts['backbone']}, {facts['classes']} classes",
        f"paper         {paper}",
        f"taps          {', '.join(f'{channels} at 1/{stride}' for channels, stride in facts['taps'])}",
        f"stride        {facts['output_stride']}",
        f"parameters    {_mega(parameters['all'])}: {_mega(parameters['trainable'])} trained, "
        f"{_mega(parameters['not_trained'])} running statistics and constants; "
        f"{_mega(parameters['backbone'])} backbone, {_mega(parameters['heads'])} decoder and heads",
        f"multiply-adds {_giga(macs['layers'])} at {height} x {width}: {_giga(macs['backbone'])} backbone, "
        f"{_giga(macs['heads'])} decoder and heads ({macs['layers'] / 2 ** 30:.2f} x 2^30)",
        f"not counted   {_giga(macs['attention'])} in products of feature maps (attention), "
        f"{_giga(macs['resampling'])} in resizing",
        f"mmcv's count  {_giga(macs['mmcv'])}",
    ]
    published = [Result(**row) for row in facts["published"]]
    for i, result in enumerate(published):
        lines.append(("published     " if i == 0 else " " * 14) + f"mIoU {result}")
    if not published:
        lines.append("published     no figure known")
    rows = facts["children"]
    longest = max(len("child"), *(len(row["name"]) for row in rows))
    lines += ["", f"{'child':<{longest}}  {'parameters':>11}  {'multiply-adds':>13}"]
    lines += [f"{row['name']:<{longest}}  {_mega(row['parameters']):>11}  {_giga(row['macs']):>13}" for row in rows]
    return lines


def _mega(number: int) -> str:
    return f"{number / 1e6:.3f} M"


def _giga(number: int) -> str:
    return f"{number / 1e9:.3f} G"
