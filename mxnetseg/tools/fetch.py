"""``mxnetseg fetch``: download trained networks before they are needed, for example where there is no network later."""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .common import add_quiet_argument

if TYPE_CHECKING:
    from ..models.weights.downloads import Progress


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="gluoncv:NAME, hub:USER/NAME or "
                        "hub:USER/NAME@REVISION; gluoncv: may be left out (`mxnetseg models --pretrained` lists these)")
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Download what is not on this machine yet; print where each network is. One that fails does not stop the others.

    Returns:
        0, or 1 if a network could not be downloaded.
    """
    from ..errors import EnvironmentProblem, UnknownNameError, UsageError
    from ..models.weights.gluoncv_zoo import published

    names = [name if ":" in name or name == "included" else f"gluoncv:{name}" for name in args.names]
    for name in names:  # refuse a wrong name before anything is downloaded
        prefix, _, rest = name.partition(":")
        if prefix == "gluoncv":
            published(rest)
        elif name == "included":
            raise UsageError("the included network comes with mxnetseg", received=name, fix="leave it out")
        elif prefix != "hub":
            raise UnknownNameError("origin of a network:", prefix, ("gluoncv", "hub"))

    failures = []
    for name in dict.fromkeys(names):
        try:
            with _bar(name, args.quiet) as progress:
                path = _fetch(name, progress)
        except EnvironmentProblem as error:
            failures.append(error)
            print(f"{name}: not available")
            continue
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else \
            path.stat().st_size
        print(f"{name}: {path} ({size / 1e6:.1f} MB)")
    if failures:
        print("not available:", *failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


def _fetch(name: str, progress: Progress) -> Path:
    """Return the file or folder of a network, which is downloaded if necessary. MXNet is not needed."""
    from ..engine.named import hub_folder
    from ..models.weights.gluoncv_zoo import find

    prefix, _, rest = name.partition(":")
    return find(rest, progress) if prefix == "gluoncv" else hub_folder(rest)


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Progress]:
    """Show a progress bar from the first byte on, which may be in the middle of the file."""
    from tqdm import tqdm

    bars: list[tqdm] = []

    def progress(received: int, total: int | None) -> None:
        if not bars:
            bars.append(tqdm(total=total, initial=received, unit="B", unit_scale=True, desc=name, leave=False,
                             dynamic_ncols=True, disable=quiet or not sys.stderr.isatty()))
        bars[0].update(received - bars[0].n)
    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()
