"""``mxnetseg config``: show, explain or save a configuration; say what one of MXNetSeg's means today."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional, Tuple

from ..config import list_configs, load_config, overview
from ..errors import UsageError
from ..files import atomic_write
from .common import add_set_argument

_VERBS = ("show", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", nargs="*", metavar="CONFIG",
                        help="a YAML file, or a name from --list (default: the defaults). `show` may stand before it; "
                             "`import FILE` prints only what differs from the defaults, and says how MXNetSeg's "
                             "learning rate was translated")
    add_set_argument(parser, "change one key, for example --set optimizer.lr=0.01; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the configurations that come with mxnetseg")
    parser.add_argument("--describe", action="store_true", help="explain every key: meaning, type, range")
    parser.add_argument("--save", metavar="FILE", help="write the configuration to a YAML file instead")


def run(args: argparse.Namespace) -> int:
    """Print or save; 0."""
    if args.list:
        print("\n".join(list_configs()))
        return 0
    verb, source = _words(args.source)
    if verb == "import":
        text = overview(source, overrides=args.overrides)
    else:
        config = load_config(source, overrides=args.overrides)
        text = config.describe() if args.describe else config.to_yaml()
    if args.save:
        with atomic_write(args.save, "w") as file:
            file.write(text)
        print(f"wrote {args.save}")
    else:
        print(text, end="")
    return 0


def _words(words) -> Tuple[Optional[str], Optional[str]]:
    """The verb and the configuration, each None where it is missing."""
    verb, rest = (words[0], words[1:]) if words and words[0] in _VERBS else (None, words)
    if len(rest) > 1 or (verb == "import" and not rest):
        raise UsageError("one configuration at a time" if rest else "import what?", received=" ".join(words),
                         fix="mxnetseg config [show] NAME, or mxnetseg config import FILE")
    source = rest[0] if rest else None
    if verb == "import" and not Path(source).is_file():
        raise UsageError("there is no such file to import", received=source, fix="give the path of a YAML file")
    return verb, source
