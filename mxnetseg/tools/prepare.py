"""``mxnetseg prepare``: convert downloads and your own annotations to the layout of a data set."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from .common import add_quiet_argument, add_timeout_argument, progress_bar, whole_number


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="name of the preparation (default: list all)")
    parser.add_argument("source", nargs="?", type=Path, metavar="SRC", help="folder to read; it is not changed")
    parser.add_argument("target", nargs="?", type=Path, metavar="DST",
                        help="folder to write; files are kept unless their sources or the classes have changed")
    parser.add_argument("--classes", type=Path, metavar="FILE",
                        help="names of the classes, one a line, for your own data (default: SRC/classes.txt)")
    parser.add_argument("--boxes", choices=("ignore", "fill"), help="coco-json, yolo, cvat-xml, "
                        "label-studio, supervisely: ignore objects with a box but no outline, or fill their boxes "
                        "(default: refuse them)")
    parser.add_argument("--force", action="store_true",
                        help="make all files again, even files that were edited or that no preparation made")
    parser.add_argument("--ids", metavar="VALUE:ID,...", help="masks of ids: class id of each value, 255 to ignore it, "
                        "such as 1:0,2:1,0:255")
    parser.add_argument("--reduce-zero-label", action="store_true",
                        help="masks of ids: ignore the value 0 and subtract one from the others")
    parser.add_argument("--workers", type=whole_number(), metavar="N",
                        help="number of threads (default: one for each core)")
    add_timeout_argument(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Convert and audit. Return 0 if the result can be used for training, else 1."""
    from ..data.prepare import PREPARATIONS, prepare, recognise
    from ..errors import UsageError
    from .check_data import report

    if args.name is None:
        print("\n\n".join(_explain(name) for name in PREPARATIONS.names()))
        return 0
    name = PREPARATIONS.resolve(args.name)
    if args.source is None or args.target is None:
        raise UsageError("prepare needs a source and a target", received=args.name, fix=_explain(name))

    if name == "auto":
        name, evidence = recognise(args.source)
        print(f"recognised {name}: {evidence}\nthe same as: mxnetseg prepare {name} {args.source} {args.target}")

    done = prepare(name, args.source, args.target, classes=args.classes, force=args.force, workers=args.workers,
                   boxes=args.boxes, ids=args.ids, reduce_zero_label=args.reduce_zero_label, timeout=args.timeout,
                   progress=progress_bar(name, args.quiet))
    left_out = f", {done.left_out} left out" if done.left_out else ""
    print(f"{done.made} files made, {done.kept} up to date{left_out}")
    if done.remade:
        print(f"{len(done.remade)} made again, because their sources or classes have changed: {_some(done.remade)}")
    if done.removed:
        print(f"{len(done.removed)} removed, because their sources no longer exist: {_some(done.removed)}")
    print("".join(f"{note}\n" for note in done.notes))
    print("\n".join(report(done.audit)))
    return 0 if done.audit.passed else 1


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *["..."] * (len(names) > 5)])


def _explain(name: str) -> str:
    from ..data.prepare import PREPARATIONS

    preparation = PREPARATIONS.get(name)
    return f"mxnetseg prepare {name} SRC DST\n  SRC: {preparation.needs}\n  DST: {preparation.makes}"
