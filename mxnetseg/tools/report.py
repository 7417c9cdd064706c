"""``mxnetseg report``: judge one evaluation, or compare several, on one page."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from .common import whole_number


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("evaluations", nargs="+", type=Path, metavar="EVALUATION",
                        help="folder that `mxnetseg eval` wrote, its scores.json, or a checkpoint that was evaluated; "
                             "further ones are compared with the first")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE",
                        help="HTML file to write (default: %(default)s)")
    parser.add_argument("--title", metavar="TEXT", help="title of the page (default: data set and split)")
    parser.add_argument("--images", type=whole_number(0, 100), default=6, metavar="N",
                        help="images in each group: worst, most different, most ordinary (default: %(default)s)")
    parser.add_argument("--samples", type=whole_number(1, 100_000), default=1000, metavar="N",
                        help="bootstrap samples of the intervals (default: %(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N",
                        help="seed of the bootstrap (default: %(default)s)")
    parser.add_argument("--evaluated", type=Path, default=Path("out"), metavar="DIR",
                        help="folder in which `mxnetseg eval` writes, to find the evaluation of a checkpoint "
                             "(default: %(default)s)")


def run(args: Namespace) -> int:
    """Write the page; return 0."""
    from ..errors import UsageError
    from ..files import atomic_write
    from ..report.page import make_page
    from ..report.record import find_folder, read_record

    if args.out.suffix not in (".html", ".htm"):
        raise UsageError("a report is an HTML file", where="--out", received=args.out,
                         fix=f"--out {args.out.with_suffix('.html')}")
    folders = [find_folder(given, args.evaluated) for given in args.evaluations]
    page = make_page([read_record(folder) for folder in folders], title=args.title, shown=args.images,
                     samples=args.samples, seed=args.seed)
    with atomic_write(args.out, "w") as stream:
        stream.write(page)

    for letter, folder in zip("ABCDEF", folders):
        print(f"{letter}  {folder}" if len(folders) > 1 else folder)
    print(f"report  {args.out} ({len(page) / 1e6:.1f} MB; open it in a browser)")
    return 0
