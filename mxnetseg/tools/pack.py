"""``mxnetseg pack``: write each split of a data set into one file, for slow disks."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from .common import (
    add_data_arguments,
    add_decoding_arguments,
    add_quiet_argument,
    add_timeout_argument,
    choose_decoding,
    progress_bar,
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_data_arguments(parser)
    parser.add_argument("target", nargs="?", type=Path, metavar="DST",
                        help="folder for the packs; train on them with --data pack:DST")
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="pack these (default: train and val)")
    parser.add_argument("--force", action="store_true", help="write existing packs again")
    parser.add_argument("--verify", action="store_true",
                        help="only read and check all items of NAME, given as pack:PATH; write no file")
    add_timeout_argument(parser)
    add_decoding_arguments(parser)
    add_quiet_argument(parser)


def run(args: Namespace) -> int:
    """Write or verify the packs. Return 0."""
    from ..data import get_dataset, locate_dataset
    from ..data.pack import SUFFIX, PackDataset, packs_in, verify, write_pack
    from ..errors import UsageError

    decoding = choose_decoding(args)
    if args.verify:
        if locate_dataset(args.name, root=args.root)[0] is not PackDataset or args.target:
            raise UsageError("--verify needs packs as NAME and no DST", received=args.name,
                             fix="mxnetseg pack pack:PATH --verify")
        folder = locate_dataset(args.name)[1]
        for split in args.split or [path.stem for path in packs_in(folder)]:
            dataset: Any = get_dataset(args.name, split=split, decoding=decoding)  # a PackDataset
            verify(dataset, progress_bar(split, args.quiet), timeout=args.timeout)
            print(f"{dataset.path}: {len(dataset)} items, valid")
        return 0

    if args.target is None:
        raise UsageError("pack needs a folder to write to", received=args.name, fix="mxnetseg pack NAME DST")
    for split in _splits(args):
        path = args.target / (split + SUFFIX)
        if path.exists() and not args.force:
            print(f"{path} exists; --force writes it again")
            continue
        dataset = get_dataset(args.name, split=split, root=args.root, decoding=decoding)
        write_pack(dataset, path, progress_bar(split, args.quiet), timeout=args.timeout)
        print(f"{path}: {len(dataset)} items, {path.stat().st_size / 2**20:.1f} MiB")
    print(f"train on them with --data pack:{args.target}")
    return 0


def _splits(args: Namespace) -> list[str]:
    from ..data import locate_dataset

    known = locate_dataset(args.name, root=args.root)[0].splits
    return args.split or [split for split in ("train", "val") if split in known]
