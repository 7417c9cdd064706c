"""Data sets by name: ``get_dataset('camvid', split='val')``.

Nothing here imports MXNet: a data set yields NumPy arrays, see :mod:`mxnetseg.data.base`.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple, Type

from ..errors import UnknownNameError, UsageError
from ..registry import Registry

if TYPE_CHECKING:
    from .base import PathLike, SegDataset

__all__ = ["DATASETS", "get_dataset", "get_dataset_class", "list_datasets", "locate_dataset"]

# A new data set is one file and one line here; its module is imported when it is asked for.
DATASETS = Registry(
    "data set",
    {
        "camvid": "mxnetseg.data.camvid:CamVid",
        "cityscapes": "mxnetseg.data.cityscapes:Cityscapes",
        "folder": "mxnetseg.data.folder:FolderDataset",
        "pascalvoc": "mxnetseg.data.pascalvoc:PascalVOC",
        "sample": "mxnetseg.data.sample:SampleDataset",
    },
    aliases={"citys": "cityscapes", "voc": "pascalvoc", "voc2012": "pascalvoc", "pascalvoc2012": "pascalvoc",
             "CamVidFull": "camvid"},
)
_FOLDER = "folder:"


def list_datasets() -> List[str]:
    """Names of the data sets, sorted."""
    return DATASETS.names()


def get_dataset_class(name: str) -> Type[SegDataset]:
    """The class behind a name, imported now.

    Raises:
        UnknownNameError: no such data set.
    """
    return DATASETS.get(name)


def get_dataset(name: str, *, split: str = "train", root: Optional[PathLike] = None) -> SegDataset:
    """Open one split of a data set.

    Args:
        name: a name of :func:`list_datasets` (case and separators do not matter); or folder data, as
            ``'folder:PATH'`` or the path of an existing folder.
        split: ``'train'``, ``'val'``, ...; each data set names its own.
        root: where the data set lies, if not in ``$MXNETSEG_DATA`` or ``./dataset``.

    Raises:
        UnknownNameError: no such data set or split.
        DataNotFoundError: its files are not there.
        UsageError: both a folder and a ``root`` were given.
    """
    kind, root = locate_dataset(name, root=root)
    return kind(split=split, root=root)


def locate_dataset(name: str, *, root: Optional[PathLike] = None) -> Tuple[Type[SegDataset], Optional[PathLike]]:
    """The class and the root that :func:`get_dataset` opens for a name.

    Raises:
        UnknownNameError: no such data set.
        UsageError: both a folder and a ``root`` were given.
    """
    folder = _folder_in(name)
    if folder is None:
        return get_dataset_class(name), root
    if root is not None:
        raise UsageError("folder data was given two folders", received=f"{name} and root {root}",
                         fix="give one: --data folder:PATH, or --data folder --root PATH")
    return get_dataset_class("folder"), folder


def _folder_in(name: str) -> Optional[Path]:
    """The folder that ``name`` stands for, None if it is the name of a data set."""
    if name.startswith(_FOLDER):
        return Path(name[len(_FOLDER):])
    if "/" in name or os.sep in name:  # surely a path, even if nothing is there
        return Path(name)
    try:
        DATASETS.resolve(name)
        return None  # a data set's name goes before a folder of the same name
    except UnknownNameError:
        return Path(name) if Path(name).is_dir() else None
