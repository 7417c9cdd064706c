"""Search for the folder of a data set on the disk."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..files import PathLike, expand

DATA_VARIABLE = "MXNETSEG_DATA"


def candidate_folders(subdir: str, root: PathLike | None) -> list[Path]:
    """Return the folders in which a data set is looked for, in this order.

    Args:
        subdir: folder below the data folder; ``a|b``: one of them.
        root: the data set's own folder or one of the folders above it; None: ``$MXNETSEG_DATA``, then ``./dataset``.
    """
    folders = subdir.split("|")
    below = [name for folder in folders for name in (folder, folder.lower())]
    if root is not None:
        bases, below = [root], ["", *(folder.split("/")[-1] for folder in folders), *below]
    else:
        bases = [os.environ[DATA_VARIABLE]] if os.environ.get(DATA_VARIABLE) else []
        bases.append("dataset")
    places = [expand(base) / folder for base in bases for folder in below]
    return list(dict.fromkeys(places))


def missing_markers(place: Path, markers: Sequence[str]) -> list[str]:
    """Return the markers that a folder lacks. A marker is a path below the folder; ``a|b``: one of them."""
    return [m.replace("|", " or ") for m in markers if not any((place / name).exists() for name in m.split("|"))]


def has_markers(place: Path, markers: Sequence[str]) -> bool:
    """Return whether a folder exists and lacks none of the markers."""
    return place.is_dir() and not missing_markers(place, markers)


def describe_search(places: Sequence[Path], markers: Sequence[str], split: str,
                    split_markers: Sequence[str]) -> str:
    """Describe why none of the folders holds a data set, a line for each.

    Args:
        places: the folders that were looked in.
        markers: markers of the data set.
        split: name of the requested split.
        split_markers: markers of a folder that holds this split alone.
    """
    alone = ", ".join(split_markers).replace("|", " or ")
    alone = f"; or {alone} for the split {split!r} alone" if alone else ""
    lines = []
    for place in places:
        lacks = f"it lacks {', '.join(missing_markers(place, markers))}{alone}" if place.is_dir() else "no such folder"
        lines.append(f"{place.absolute()}  ({lacks})")
    return "\n".join(lines)
