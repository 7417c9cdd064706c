"""``mxnetseg config``: show, explain or save a configuration; convert one of MXNetSeg's."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..config import Config, list_configs, load_config, overview
from ..errors import UnknownNameError, UsageError
from ..files import atomic_write
from .common import add_set_argument

_VERBS = ("show", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", nargs="*", metavar="CONFIG",
                        help="a YAML file, or a name from --list (default: the defaults). `show` may precede it. "
                             "`import FILE` prints only the keys that differ from the defaults, and explains how "
                             "MXNetSeg's learning rate was converted")
    add_set_argument(parser, "change one key, for example --set optimizer.lr=0.01; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the configurations that come with mxnetseg")
    parser.add_argument("--describe", nargs="?", const="", metavar="SECTION",
                        help="explain every key, or those of one section: meaning, type, range")
    parser.add_argument("--save", metavar="FILE", help="write the configuration to a YAML file instead of printing it")


def run(args: argparse.Namespace) -> int:
    """Print or save the configuration; return 0."""
    if args.list:
        print("\n".join(list_configs()))
        return 0

    verb, source = _split_words(args.source)
    if verb == "import":
        text = overview(source, overrides=args.overrides)
    else:
        config = load_config(source, overrides=args.overrides)
        text = config.to_yaml() if args.describe is None else _description(config, args.describe)

    if args.save:
        with atomic_write(args.save, "w") as file:
            file.write(text)
        print(f"wrote {args.save}")
    else:
        print(text, end="")
    return 0


def _description(config: Config, section: str) -> str:
    """Return the explanation of all keys, or of those of a section (``''``: of all)."""
    sections = list(config.to_dict())
    if section and section not in sections:
        error = UnknownNameError("section of the configuration", section, sections, where="--describe")
        error.fix = f"one of {', '.join(sections)}; to describe a file: mxnetseg config {section} --describe"
        raise error
    return config.describe(section or None)


def _split_words(words: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the verb and the configuration, each None if it is missing."""
    verb, rest = (words[0], words[1:]) if words and words[0] in _VERBS else (None, words)
    if len(rest) > 1 or (verb == "import" and not rest):
        raise UsageError("more than one configuration" if rest else "`import` needs a file", received=" ".join(words),
                         fix="mxnetseg config [show] NAME, or mxnetseg config import FILE")
    source = rest[0] if rest else None
    if verb == "import" and not Path(source).is_file():
        raise UsageError("the file to import does not exist", received=source, fix="give the path of a YAML file")
    return verb, source
