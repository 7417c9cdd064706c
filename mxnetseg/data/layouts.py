"""Common layouts of data sets: lists of names, lists of pairs, folders, and held-out parts.

Every function returns pairs in a fixed order and checks the lists only. :mod:`mxnetseg.data.base` checks once, for all
data sets, that the files exist.
"""
from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Callable, TypeVar

from ..errors import DataError
from .base import IMAGE_SUFFIXES, Pair, SegDataset, list_files, read_list
from .listing import inside, nfc
from .splits import group_of

T = TypeVar("T")


def by_name(dataset: SegDataset, list_path: str, *, image: str, mask: str | None) -> list[Pair]:
    """Return the pairs of a list with one NAME a line.

    Args:
        dataset: paths are below its root; mistakes of the list are added to its ``problems``.
        list_path: path of the list below the root.
        image, mask: paths below the root with ``{}`` for the name; ``mask`` is None for a split without masks.

    Raises:
        DataNotFoundError, DataError: the list is missing, empty or not text.
    """
    names = []
    for number, line in enumerate(read_list(dataset.root / list_path), 1):
        name = inside(dataset.root, _without_suffix(line))
        if name is None:
            dataset.problems.append(_outside_error(dataset, list_path, number, line))
        else:
            names.append(name)
    names = _distinct(dataset, list_path, names)
    return [Pair(name, dataset.root / image.format(name), dataset.root / mask.format(name) if mask else None)
            for name in names]


def by_line(dataset: SegDataset, list_path: str, *, images: str, masks: str, fallback: str = "") -> list[Pair]:
    """Return the pairs of a list with ``image mask`` on each line.

    Args:
        dataset: paths are below its root; mistakes of the list are added to its ``problems``.
        list_path: path of the list below the root.
        images, masks: folders below the root that hold the files; empty for the root itself.
        fallback: suffix of the mask's name for a line with an image only; by default such a line is a mistake.

    Raises:
        DataNotFoundError, DataError: the list is missing, empty or not text.
    """
    found: list[tuple[str, str, str]] = []
    for number, line in enumerate(read_list(dataset.root / list_path), 1):
        words = split_line(line)
        if len(words) == 1 and fallback:
            name = _without_suffix(line)
            words = [line if name != line else f"{name}.jpg", name + fallback]
        if len(words) != 2:
            dataset.problems.append(DataError(
                f"a line of a list of {dataset.name} is not a pair 'image mask'",
                where=f"{dataset.root / list_path}, entry {number}", received=line,
                fix="write two paths, separated by a space; by a tab if a path holds spaces"))
            continue

        image, mask = (inside(dataset.root, os.path.join(folder, word)) for folder, word in zip((images, masks), words))
        if image is None or mask is None:
            dataset.problems.append(_outside_error(dataset, list_path, number, line))
            continue
        name = image[len(images) + 1:] if images and image.startswith(images + "/") else image
        found.append((_without_suffix(name), image, mask))

    paths = {name: (image, mask) for name, image, mask in found}
    names = _distinct(dataset, list_path, [name for name, _, _ in found])
    return [Pair(name, *(dataset.root / path for path in paths[name])) for name in names]


def by_folder(dataset: SegDataset, *, images: str, masks: str | None, image_end: str = ".jpg",
              mask_end: str = ".png", prefix: str = "") -> list[Pair]:
    """Return a pair for every image below a folder; its mask has the same path below another folder.

    Args:
        dataset: the folders are below its root.
        images, masks: the folders; ``masks`` is None for a split without masks.
        image_end, mask_end: ends of the file names. The path before this end, with subfolders, is the name of the pair.
        prefix: added before each name, so that names of several folders differ.
    """
    folder = dataset.root / images
    pairs = []
    for path in list_files(folder, IMAGE_SUFFIXES):
        name = path.relative_to(folder).as_posix()
        if name.endswith(image_end):
            name = name[:-len(image_end)]
            pairs.append(Pair(prefix + name, path, dataset.root / masks / (name + mask_end) if masks else None))
    return pairs


def hold_out(items: Sequence[T], *, name: Callable[[T], str] = str, fraction: float = 0.1,
             exact: bool = False) -> tuple[list[T], list[T]]:
    """Split items into a training part and a validation part by a hash of their names, the same on every machine.

    The hash of each name is a number between 0 and 1. A name is held out for validation if its number is below
    ``fraction``. Nothing else matters, so adding or removing images moves no other image between the parts. There are
    two exceptions, both rare except in tiny data sets. If no number is below ``fraction`` (one case in three with 10
    names, one in 200 with 50), the smallest is held out until a smaller one is added. If all numbers are below it, the
    largest stays in training. Roboflow's augmented copies of one image count as one name.

    Args:
        items: in any order.
        name: returns the name of an item.
        fraction: part of the names to validate on; at least one name, at most all but one.
        exact: hold out exactly this fraction, the names with the smallest numbers. Use it for a published list, which
            does not grow: a name added to it or removed from it moves at most one other name.

    Returns:
        The training items and the validation items, each in the order of ``items``.
    """
    groups = [group_of(nfc(name(item))) for item in items]
    ranked = sorted((_hash_number(group), group) for group in set(groups))
    count = round(fraction * len(ranked)) if exact else sum(number < fraction for number, _ in ranked)
    count = max(min(max(count, 1), len(ranked) - 1), 0)

    held_out = {group for _, group in ranked[:count]}
    return ([item for item, group in zip(items, groups) if group not in held_out],
            [item for item, group in zip(items, groups) if group in held_out])


def _hash_number(name: str) -> float:
    """Return the hash of a name as a number, 0 <= x < 1."""
    data = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(data, "big") / (1 << 48)


def split_line(line: str) -> list[str]:
    """Return the fields of a line, separated by tabs if it has any, else by commas, else by white space."""
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [word.strip() for word in line.split(separator)]


def _without_suffix(name: str) -> str:
    """Return a name without an image suffix, with forward slashes."""
    name = name.replace("\\", "/")
    suffix = re.search(r"\.\w+$", name)
    return name[:suffix.start()] if suffix and suffix.group().lower() in IMAGE_SUFFIXES else name


def _outside_error(dataset: SegDataset, list_path: str, number: int, line: str) -> DataError:
    return DataError(f"a list of {dataset.name} names a file outside the data set",
                     where=f"{dataset.root / list_path}, entry {number}", received=line,
                     fix="write paths below the data set's folder; to use files in any folder, use list:FOLDER")


def _distinct(dataset: SegDataset, list_path: str, names: list[str]) -> list[str]:
    """Return the names without repetitions; repetitions are added to the problems."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) < len(names):
        twice = next(name for name in distinct if names.count(name) > 1)
        dataset.problems.append(DataError(
            f"a list of {dataset.name} names {len(names) - len(distinct)} images more than once",
            where=dataset.root / list_path, received=twice, fix="remove the repeated lines"))
    return distinct
