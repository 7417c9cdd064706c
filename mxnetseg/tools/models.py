"""``mxnetseg models``: list the networks."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this text")


def run(args: argparse.Namespace) -> int:
    """Print one name a line; 0, or 1 where the filter leaves none."""
    from ..models import list_models

    names = [name for name in list_models() if args.filter.lower() in name.lower()]
    for name in names:
        print(name)
    return 0 if names else 1
