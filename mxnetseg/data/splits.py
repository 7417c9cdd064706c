"""Rules about names: the split that the name of a file or folder means, and images that are copies of one photo."""
from __future__ import annotations

import re
from pathlib import PurePath

from ..errors import DataError

_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
          "test": "test", "testing": "test"}


def split_of(path: PurePath | str) -> str | None:
    """Return the split that the words of a path mean: ``'train'``, ``'val'``, ``'test'``, or None without such a word.

    A word ends where letters and digits end, and may be followed by digits: ``instances_val2017.json`` and
    ``valid/_annotations.coco.json`` mean the split val, ``latest.json`` and ``restrained.json`` mean none.

    Args:
        path: relative to the data, so that folders above it are ignored.

    Raises:
        DataError: the words mean several splits.
    """
    found: dict[str, str] = {}
    for word in re.findall(r"[^\W_]+", str(path).lower()):
        split = _WORDS.get(word.rstrip("0123456789"))
        if split:
            found.setdefault(split, word)
    if len(found) > 1:
        means = ", ".join(f"{word!r} means {split}" for split, word in found.items())
        raise DataError("a path names several splits", where=path, received=means,
                        fix="rename the file or folder, so that only one of these words remains")
    return next(iter(found), None)


def group_of(name: str) -> str:
    """Return the name that the augmented copies of a photo share: ``cat_jpg`` of Roboflow's ``cat_jpg.rf.1b2c3d.jpg``.

    Other names are returned unchanged. The images of a group must stay in one split.
    """
    return re.sub(r"\.rf\.[^/\\]*$", "", name)
