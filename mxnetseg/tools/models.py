"""``mxnetseg models``: list the networks."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this text")
    parser.add_argument("--table", action="store_true",
                        help="as a Markdown table with paper, default backbone and parameters (19 classes)")


def run(args: argparse.Namespace) -> int:
    """Print one name a line; 0, or 1 where the filter leaves none."""
    from ..models import list_models

    names = [name for name in list_models() if args.filter.lower() in name.lower()]
    if args.table:
        print("| name | paper | default backbone | parameters, M |\n|---|---|---|---|")
    for name in names:
        print(_row(name) if args.table else name)
    return 0 if names else 1


def _row(name: str) -> str:
    import sys

    from ..models import build_model
    from ..models.cost import count_parameters

    net = build_model(name, nclass=19)
    paper = sys.modules[type(net).__module__].__doc__.split("\n\n")[0].replace("\n", " ").rstrip(".")
    return f"| {name} | {paper} | {net.backbone_name} | {count_parameters(net) / 1e6:.2f} |"
