"""``mxnetseg datasets``: list the data sets, and where each was found or looked for."""
from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from typing import Dict, Iterator, List, Optional, Tuple, Type

from ..data import get_dataset_class, list_datasets
from ..data.base import SegDataset
from .common import add_root_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="explain this one: classes and colours, splits, layout, licence")
    add_root_argument(parser)
    parser.add_argument("--layout", action="store_true", help="below each, the folders and files that it expects")
    parser.add_argument("--markdown", action="store_true", help="as the page docs/datasets.md has it, all or the one")


def run(args: argparse.Namespace) -> int:
    """Print; 0. A data set that is not there is no failure: the list is for finding that out."""
    if args.markdown:
        print("\n".join(_page([args.name] if args.name else list_datasets())))
    elif args.name:
        print(_explain(get_dataset_class(args.name), args.root))
    else:
        width = max(map(len, list_datasets()))
        for name in list_datasets():
            dataset = get_dataset_class(name)
            # of places that differ in case alone, the first is enough
            where = {line.lower(): line for line in reversed(_where(dataset, args.root))}
            print(f"{name:<{width}}  {_size(dataset):<22}  {'; '.join(reversed(where.values()))}")
            if args.layout:
                print(textwrap.indent(dataset.layout, "    "), end="\n\n")
    return 0


def _size(dataset: Type[SegDataset]) -> str:
    return f"{len(dataset.classes)} classes" if dataset.classes else "classes from its files"


def _where(dataset: Type[SegDataset], root: Optional[str]) -> List[str]:
    """Where the data set is; or that it is not found, and below that the places looked at."""
    places = dataset.places(root)
    for place in places:
        if dataset.is_at(place):
            return [str(place.absolute())]
    return ["not found", *(f"looked in {place.absolute()}" for place in places)]


def _explain(dataset: Type[SegDataset], root: Optional[str]) -> str:
    """All that the declaration of a data set says."""
    colours = [f"#{bytes(color).hex()}" for color in dataset.palette]
    classes = [f"{i:>3}  {colour}  {name}" for i, (colour, name) in enumerate(zip(colours, dataset.classes))]
    rows = [
        ("name", [dataset.name]),
        ("splits", [_split(dataset, split) for split in dataset.splits]),
        ("notes", [dataset.split_notes]),
        ("classes", classes or ["one a line in classes.txt"]),
        ("home page", [dataset.home_page or "none"]),
        ("licence", [dataset.licence or "unknown"]),
        ("found", _where(dataset, root)),
        ("layout", dataset.layout.splitlines()),
        ("prepare", [dataset.preparation()]),
    ]
    return "\n".join(f"{label + ':':<11}" + ("\n" + " " * 11).join(lines) for label, lines in rows if any(lines))


def _split(dataset: Type[SegDataset], split: str) -> str:
    """``trainval: 3475 images (train + val)``, as far as it is known."""
    count, parts = dataset.published_count(split), dataset.combined.get(split)
    return split + (f": {count} images" if count else "") + (f" ({' + '.join(parts)})" if parts else "")


def _page(names: List[str]) -> Iterator[str]:
    """Markdown: a table of the data sets, then a section for each."""
    yield "| name | what | classes | images, by split |\n|---|---|---|---|"
    for name in names:
        dataset = get_dataset_class(name)
        counts = [f"{s} {dataset.published_count(s) or ''}".strip() for s in dataset.splits]
        yield f"| {name} | {_summary(dataset)} | {len(dataset.classes) or 'any'} | {', '.join(counts)} |"
    sections: Dict[Tuple[str, str], List[str]] = {}  # those that share their files share a section
    for name in names:
        dataset = get_dataset_class(name)
        sections.setdefault((dataset.__module__, dataset.layout), []).append(name)
    for together in sections.values():
        dataset = get_dataset_class(together[0])
        yield f"\n## {', '.join(together)}\n\n{_paper(dataset)}\n\n```\n{dataset.layout}\n```\n"
        for label, text in (("Splits", dataset.split_notes), ("From", dataset.home_page),
                            ("Prepared by", dataset.preparation()), ("Licence", dataset.licence)):
            if text:
                yield f"* {label}: {text}"


def _summary(dataset: Type[SegDataset]) -> str:
    return inspect.cleandoc(dataset.__doc__).split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _paper(dataset: Type[SegDataset]) -> str:
    """The head of the module's docstring: what the data set is, and its paper."""
    return inspect.cleandoc(sys.modules[dataset.__module__].__doc__).replace("\n\n", "\n")
