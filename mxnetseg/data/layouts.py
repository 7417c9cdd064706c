"""The few ways in which data sets arrange their files, so that each set only has to name its own.

Every function returns pairs in a fixed order and checks nothing but the lists: whether the files exist is
asked once for all data sets, in :mod:`mxnetseg.data.base`.
"""
from __future__ import annotations

import hashlib
import os
import re
from typing import Callable, List, Optional, Sequence, Tuple, TypeVar

from ..errors import DataError
from .base import IMAGE_SUFFIXES, Pair, SegDataset, list_files, read_list
from .listing import inside, nfc
from .splits import group_of

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
    names = []
    for number, line in enumerate(read_list(dataset.root / listed), 1):
        name = inside(dataset.root, _bare(line))
        if name is None:
            dataset.problems.append(_leaves(dataset, listed, number, line))
        else:
            names.append(name)
    names = _distinct(dataset, listed, names)
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
    found: List[Tuple[str, str, str]] = []
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
        image, mask = (inside(dataset.root, os.path.join(folder, word)) for folder, word in zip((images, masks), words))
        if image is None or mask is None:
            dataset.problems.append(_leaves(dataset, listed, number, line))
            continue
        name = image[len(images) + 1:] if images and image.startswith(images + "/") else image
        found.append((_bare(name), image, mask))
    at = {name: (image, mask) for name, image, mask in found}
    names = _distinct(dataset, listed, [name for name, _, _ in found])
    return [Pair(name, *(dataset.root / path for path in at[name])) for name in names]


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


def hold_out(items: Sequence[T], *, name: Callable[[T], str] = str, share: float = 0.1,
             exact: bool = False) -> Tuple[List[T], List[T]]:
    """Divide into a part to train on and one to validate on, by a hash of the names: the same on every machine.

    Each name has a number between 0 and 1, its hash, and is held out if that is below ``share``. It depends on
    nothing else, so images that are added or removed move no other between the parts, with two exceptions, both rare
    but for tiny data sets. If no number is below ``share`` (of 10 names in one case of three, of 50 in one of 200),
    the smallest is held out until a smaller one comes. If all of them are, the greatest is kept. Copies of one image
    by Roboflow count as one name.

    Args:
        items: in any order.
        name: of an item.
        share: of the names to validate on; at least one, at most all but one.
        exact: hold out exactly this share, those with the smallest numbers. This is the choice for a published list,
            which does not grow: each name added to it or removed from it would move one other at most.

    Returns:
        Two lists, each in the order of ``items``.
    """
    groups = [group_of(nfc(name(item))) for item in items]
    ranked = sorted((_draw(group), group) for group in set(groups))
    count = round(share * len(ranked)) if exact else sum(number < share for number, _ in ranked)
    count = max(min(max(count, 1), len(ranked) - 1), 0)
    held_out = {group for _, group in ranked[:count]}
    return ([item for item, group in zip(items, groups) if group not in held_out],
            [item for item, group in zip(items, groups) if group in held_out])


def _draw(name: str) -> float:
    """Return the number of a name, 0 <= x < 1."""
    data = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(data, "big") / (1 << 48)


def split_line(line: str) -> List[str]:
    """The fields of a line: separated by tabs if it has any, else by commas, else by white space."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [word.strip() for word in line.split(separator)]


def _bare(name: str) -> str:
    """A name without the suffix of an image, with slashes as Unix writes them."""
    name = name.replace("\\", "/")
    suffix = re.search(r"\.\w+$", name)
    return name[:suffix.start()] if suffix and suffix.group().lower() in IMAGE_SUFFIXES else name


def _leaves(dataset: SegDataset, listed: str, number: int, line: str) -> DataError:
    return DataError(f"a list of {dataset.name} names a file outside the data set",
                     where=f"{dataset.root / listed}, entry {number}", received=line,
                     fix="write paths below the data set's folder; for files that lie anywhere, use list: data")


def _distinct(dataset: SegDataset, listed: str, names: List[str]) -> List[str]:
    """The names without repetitions, which are added to the problems."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):
        twice = next(name for name in distinct if names.count(name) > 1)
        dataset.problems.append(DataError(
            f"a list of {dataset.name} names {len(names) - len(distinct)} images more than once",
            where=dataset.root / listed, received=twice, fix="remove the repeated lines"))
    return distinct
