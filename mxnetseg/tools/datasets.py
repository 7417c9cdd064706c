"""``mxnetseg datasets``: list the data sets, and the folder where each was found or the folders searched."""
from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterator

from ..data import get_dataset_class, list_datasets
from ..data.base import SegDataset
from .common import add_root_argument

NOT_FOUND = "not found"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?",
                        help="show the classes, colours, splits, layout and licence of this data set")
    add_root_argument(parser)
    parser.add_argument("--layout", action="store_true",
                        help="also show the folders and files that each data set expects")
    parser.add_argument("--markdown", action="store_true",
                        help="print Markdown, as in docs/datasets.md, for all data sets or for NAME")


def run(args: argparse.Namespace) -> int:
    """Print the list or one data set. Return 0, also if data sets are missing."""
    if args.markdown:
        print("\n".join(_page([args.name] if args.name else list_datasets())))
    elif args.name:
        print(_explain(get_dataset_class(args.name), args.root))
    else:
        width = max(map(len, list_datasets()))
        locations = {name: _location(get_dataset_class(name), args.root) for name in list_datasets()}
        for name in sorted(locations, key=lambda name: locations[name][0] == NOT_FOUND):  # the found ones first
            dataset = get_dataset_class(name)
            # of folders that differ only in case, show the first
            where = {line.lower(): line for line in reversed(locations[name])}
            print(f"{name:<{width}}  {_size(dataset):<22}  {'; '.join(reversed(where.values()))}")
            if args.layout:
                print(textwrap.indent(dataset.layout, "    "), end="\n\n")
    return 0


def _size(dataset: type[SegDataset]) -> str:
    return f"{len(dataset.classes)} classes" if dataset.classes else "classes from its files"


def _location(dataset: type[SegDataset], root: str | None) -> list[str]:
    """Return the folder of the data set, or ``not found`` and the folders that were searched."""
    places = dataset.places(root)
    for place in places:
        if dataset.is_at(place):
            return [str(place.absolute())]
    return [NOT_FOUND, *(f"looked in {place.absolute()}" for place in places)]


def _explain(dataset: type[SegDataset], root: str | None) -> str:
    """Return the declaration of a data set as text."""
    colours = [f"#{bytes(color).hex()}" for color in dataset.palette]
    classes = [f"{i:>3}  {colour}  {name}" for i, (colour, name) in enumerate(zip(colours, dataset.classes))]

    rows = [
        ("name", [dataset.name]),
        ("splits", [_split(dataset, split) for split in dataset.splits]),
        ("notes", [dataset.split_notes]),
        ("classes", classes or ["one a line in classes.txt"]),
        ("home page", [dataset.home_page or "none"]),
        ("licence", [dataset.licence or "unknown"]),
        ("found", _location(dataset, root)),
        ("layout", dataset.layout.splitlines()),
        ("prepare", [dataset.preparation()]),
    ]
    return "\n".join(f"{label + ':':<11}" + ("\n" + " " * 11).join(lines) for label, lines in rows if any(lines))


def _split(dataset: type[SegDataset], split: str) -> str:
    """Return ``trainval: 3475 images (train + val)``, as far as it is known."""
    count, parts = dataset.published_count(split), dataset.combined.get(split)
    return split + (f": {count} images" if count else "") + (f" ({' + '.join(parts)})" if parts else "")


def _page(names: list[str]) -> Iterator[str]:
    """Yield Markdown: a table of the data sets, then a section for each."""
    yield "| name | description | classes | images by split |\n|---|---|---|---|"
    for name in names:
        dataset = get_dataset_class(name)
        counts = [f"{s} {dataset.published_count(s) or ''}".strip() for s in dataset.splits]
        yield f"| {name} | {_summary(dataset)} | {len(dataset.classes) or 'any'} | {', '.join(counts)} |"

    sections: dict[tuple[str, str], list[str]] = {}  # data sets with the same files share a section
    for name in names:
        dataset = get_dataset_class(name)
        sections.setdefault((dataset.__module__, dataset.layout), []).append(name)
    for members in sections.values():
        dataset = get_dataset_class(members[0])
        yield f"\n## {', '.join(members)}\n\n{_paper(dataset)}\n\n```\n{dataset.layout}\n```\n"
        for label, text in (("Splits", dataset.split_notes), ("Home page", dataset.home_page),
                            ("Preparation", dataset.preparation()), ("Licence", dataset.licence)):
            if text:
                yield f"* {label}: {text}"


def _summary(dataset: type[SegDataset]) -> str:
    """Return the first paragraph of the class docstring as one line of Markdown."""
    return inspect.cleandoc(dataset.__doc__).split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _paper(dataset: type[SegDataset]) -> str:
    """Return the docstring of the module as Markdown: a description of the data set, and its paper."""
    return inspect.cleandoc(sys.modules[dataset.__module__].__doc__).replace("\n\n", "\n").replace("``", "`")
