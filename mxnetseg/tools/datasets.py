"""``mxnetseg datasets``: list the data sets, and where each was found or looked for."""
from __future__ import annotations

import argparse
from typing import List, Optional, Type

from ..data import get_dataset_class, list_datasets
from ..data.base import SegDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="explain this one: classes, licence, layout of its files")
    parser.add_argument("--root", metavar="FOLDER", help="look here instead of $MXNETSEG_DATA and ./dataset")


def run(args: argparse.Namespace) -> int:
    """Print; 0. A data set that is not there is no failure: the list is for finding that out."""
    if args.name:
        print(_explain(get_dataset_class(args.name), args.root))
        return 0
    width = max(map(len, list_datasets()))
    for name in list_datasets():
        dataset = get_dataset_class(name)
        print(f"{name:<{width}}  {_size(dataset):<22}  {_where(dataset, args.root)[0]}")
    return 0


def _size(dataset: Type[SegDataset]) -> str:
    return f"{len(dataset.classes)} classes" if dataset.classes else "classes from its files"


def _where(dataset: Type[SegDataset], root: Optional[str]) -> List[str]:
    """Where the data set is; or that it is not found, and below that the places looked at."""
    places = dataset.places(root)
    for place in places:
        if place.is_dir() and all((place / marker).exists() for marker in dataset.markers):
            return [str(place.absolute())]
    return ["not found", *(f"looked in {place.absolute()}" for place in places)]


def _explain(dataset: Type[SegDataset], root: Optional[str]) -> str:
    """All that the declaration of a data set says."""
    rows = [
        ("name", [dataset.name]),
        ("splits", [", ".join(dataset.splits)]),
        ("classes", [", ".join(dataset.classes) or "one a line in classes.txt"]),
        ("home page", [dataset.home_page or "none"]),
        ("licence", [dataset.licence or "unknown"]),
        ("found", _where(dataset, root)),
        ("layout", dataset.layout.splitlines()),
    ]
    return "\n".join(f"{label + ':':<11}" + ("\n" + " " * 11).join(lines) for label, lines in rows)
