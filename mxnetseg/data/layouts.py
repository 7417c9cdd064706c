"""The few ways in which data sets arrange their files, so that each set only has to name its own.

Every function returns pairs in a fixed order and checks nothing but the lists: whether the files exist is
asked once for all data sets, in :mod:`mxnetseg.data.base`.
"""
from __future__ import annotations

import re
from typing import List, Optional, Sequence, Tuple, TypeVar

import numpy as np

from ..errors import DataError
from .base import IMAGE_SUFFIXES, Pair, SegDataset, list_files, read_list

_HOLD_OUT_SEED = 0
T = TypeVar("T")


def by_name(dataset: SegDataset, listed: str, *, image: str, mask: Optional[str]) -> List[Pair]:
    """A list with one NAME a line.

    Args:
        dataset: whose root the paths are below; mistakes of the list are added to its ``problems``.
        listed: the list, below the root.
        image, mask: paths below the root with ``{}`` for the name; ``mask`` is None where there are none.

    Raises:
        DataNotFoundError, DataError: the list is missing, empty or no text.
    """
    names = _distinct(dataset, listed, [_bare(line) for line in read_list(dataset.root / listed)])
    return [Pair(name, dataset.root / image.format(name), dataset.root / mask.format(name) if mask else None)
            for name in names]


def by_line(dataset: SegDataset, listed: str, *, images: str, masks: str, fallback: str = "") -> List[Pair]:
    """A list with ``image mask`` on each line, both below folders of the root.

    Args:
        dataset: whose root the paths are below; mistakes of the list are added to its ``problems``.
        listed: the list, below the root.
        images, masks: the folders; empty for the root.
        fallback: ending of the mask's name where a line names the image alone; by default that is a mistake.

    Raises:
        DataNotFoundError, DataError: the list is missing, empty or no text.
    """
    found: List[Tuple[str, str]] = []
    for number, line in enumerate(read_list(dataset.root / listed), 1):
        words = split_line(line)
        if len(words) == 1 and fallback:
            name = _bare(line)
            words = [line if name != line else f"{name}.jpg", name + fallback]
        if len(words) != 2:
            dataset.problems.append(DataError(
                f"a line of a list of {dataset.name} is not a pair 'image mask'",
                where=f"{dataset.root / listed}, entry {number}", received=line,
                fix="write two paths, separated by a space; by a tab if a path holds spaces"))
            continue
        found.append((words[0], words[1]))
    at = {_bare(image): (image, mask) for image, mask in found}
    names = _distinct(dataset, listed, [_bare(image) for image, _ in found])
    return [Pair(name, dataset.root / images / at[name][0], dataset.root / masks / at[name][1]) for name in names]


def by_folder(dataset: SegDataset, *, images: str, masks: Optional[str], image_end: str = ".jpg",
              mask_end: str = ".png", prefix: str = "") -> List[Pair]:
    """Every image below a folder, its mask at the same place below another.

    Args:
        dataset: whose root the folders are below.
        images, masks: the folders; ``masks`` is None where there are none.
        image_end, mask_end: how their file names end; what is before is the name, with its subfolders.
        prefix: put before the names, to keep those of several folders apart.
    """
    folder = dataset.root / images
    pairs = []
    for path in list_files(folder, IMAGE_SUFFIXES):
        name = path.relative_to(folder).as_posix()
        if name.endswith(image_end):
            name = name[:-len(image_end)]
            pairs.append(Pair(prefix + name, path, dataset.root / masks / (name + mask_end) if masks else None))
    return pairs


def hold_out(items: Sequence[T], *, share: float = 0.1) -> Tuple[List[T], List[T]]:
    """Divide into a part to train on and one to validate on, by a random choice that is the same everywhere.

    Args:
        items: in an order that does not depend on the machine.
        share: of the items to validate on; at least one, at most all but one.

    Returns:
        Two lists, each in the order of ``items``.
    """
    count = min(max(1, round(share * len(items))), len(items) - 1)
    order = np.random.Generator(np.random.PCG64(_HOLD_OUT_SEED)).permutation(len(items))
    chosen = set(order[:max(count, 0)].tolist())
    return ([item for i, item in enumerate(items) if i not in chosen],
            [item for i, item in enumerate(items) if i in chosen])


def split_line(line: str) -> List[str]:
    """The fields of a line: separated by tabs if it has any, else by commas, else by white space."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [word.strip() for word in line.split(separator)]


def _bare(name: str) -> str:
    """A name without the suffix of an image, with slashes as Unix writes them."""
    name = name.replace("\\", "/")
    suffix = re.search(r"\.\w+$", name)
    return name[:suffix.start()] if suffix and suffix.group().lower() in IMAGE_SUFFIXES else name


def _distinct(dataset: SegDataset, listed: str, names: List[str]) -> List[str]:
    """The names without repetitions, which are added to the problems."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):
        twice = next(name for name in distinct if names.count(name) > 1)
        dataset.problems.append(DataError(
            f"a list of {dataset.name} names {len(names) - len(distinct)} images more than once",
            where=dataset.root / listed, received=twice, fix="remove the repeated lines"))
    return distinct
