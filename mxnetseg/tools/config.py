"""``mxnetseg config``: show, explain or save a configuration."""
from __future__ import annotations

import argparse

from ..config import list_configs, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", nargs="?", metavar="CONFIG",
                        help="a YAML file, or a name from --list (default: the defaults)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                        help="change one key, for example --set optimizer.lr=0.01; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the configurations that come with mxnetseg")
    parser.add_argument("--describe", action="store_true", help="explain every key: meaning, type, range")
    parser.add_argument("--save", metavar="FILE", help="write the configuration to a YAML file instead")


def run(args: argparse.Namespace) -> int:
    """Print or save; 0."""
    if args.list:
        print("\n".join(list_configs()))
        return 0
    config = load_config(args.source, overrides=args.overrides)
    if args.save:
        config.dump(args.save)
        print(f"wrote {args.save}")
    else:
        print(config.describe() if args.describe else config.to_yaml(), end="")
    return 0
