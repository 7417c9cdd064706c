"""Data sets by name: ``get_dataset('camvid', split='val')``.

This package does not import MXNet: a data set yields NumPy arrays, see :mod:`mxnetseg.data.base`.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UnknownNameError, UsageError
from ..files import expand
from ..registry import Registry

if TYPE_CHECKING:
    from .base import Decoding, PathLike, SegDataset

__all__ = ["DATASETS", "get_dataset", "get_dataset_class", "list_datasets", "locate_dataset",
           "without_folder"]

# A new data set is one file and one line here; its module is imported when it is first used.
DATASETS = Registry(
    "data set",
    {
        "acdc": "mxnetseg.data.acdc:ACDC",
        "acdcfog": "mxnetseg.data.acdc:ACDCFog",
        "acdcnight": "mxnetseg.data.acdc:ACDCNight",
        "acdcrain": "mxnetseg.data.acdc:ACDCRain",
        "acdcsnow": "mxnetseg.data.acdc:ACDCSnow",
        "ade20k": "mxnetseg.data.ade20k:ADE20K",
        "aeroscapes": "mxnetseg.data.aeroscapes:Aeroscapes",
        "bdd100k": "mxnetseg.data.bdd100k:BDD100K",
        "camvid": "mxnetseg.data.camvid:CamVid",
        "camvidfull": "mxnetseg.data.camvid:CamVidFull",
        "citycoarse": "mxnetseg.data.cityscapes:CityCoarse",
        "cityscapes": "mxnetseg.data.cityscapes:Cityscapes",
        "coco": "mxnetseg.data.coco:COCO",
        "cocostuff10k": "mxnetseg.data.cocostuff:COCOStuff10k",
        "cocostuff164k": "mxnetseg.data.cocostuff:COCOStuff164k",
        "cocostuff182": "mxnetseg.data.cocostuff:COCOStuff182",
        "folder": "mxnetseg.data.folder:FolderDataset",
        "gatech": "mxnetseg.data.gatech:GATECH",
        "list": "mxnetseg.data.listfile:ListDataset",
        "mapillary": "mxnetseg.data.mapillary:Mapillary",
        "mhpv1": "mxnetseg.data.mhpv1:MHPv1",
        "nyuv2": "mxnetseg.data.nyuv2:NYUv2",
        "pascalcontext": "mxnetseg.data.pascalcontext:PascalContext",
        "pascalcontext60": "mxnetseg.data.pascalcontext:PascalContext60",
        "pascalvoc": "mxnetseg.data.pascalvoc:PascalVOC",
        "pascalvocaug": "mxnetseg.data.pascalvocaug:PascalVOCAug",
        "sample": "mxnetseg.data.sample.dataset:SampleDataset",
        "sbd": "mxnetseg.data.sbd:SBD",
        "siftflow": "mxnetseg.data.siftflow:SiftFlow",
        "stanfordbackground": "mxnetseg.data.stanfordbackground:StanfordBackground",
        "sunrgbd": "mxnetseg.data.sunrgbd:SUNRGBD",
        "weizmannhorses": "mxnetseg.data.weizmannhorses:WeizmannHorses",
    },
    aliases={"citys": "cityscapes", "voc": "pascalvoc", "voc2012": "pascalvoc", "pascalvoc2012": "pascalvoc",
             "vocaug": "pascalvocaug", "pascalaug": "pascalvocaug", "pcontext": "pascalcontext",
             "pascalcontext59": "pascalcontext", "mscoco": "coco", "cocostuff": "cocostuff10k", "bdd": "bdd100k",
             "ade": "ade20k", "nyu": "nyuv2", "mhp": "mhpv1", "mapillaryvistas": "mapillary", "vistas": "mapillary",
             "stanford10": "stanfordbackground", "weizhorses": "weizmannhorses"},
    listed_by="mxnetseg datasets",
)
_BY_PATH = ("folder", "list", "pack")  # data sets that are named with their folder: folder:PATH


def list_datasets() -> list[str]:
    """Return the names of the data sets, sorted.

    Example::

        >>> from mxnetseg.data import list_datasets
        >>> [name for name in list_datasets() if name.startswith("acdc")]
        ['acdc', 'acdcfog', 'acdcnight', 'acdcrain', 'acdcsnow']
    """
    return DATASETS.names()


def get_dataset_class(name: str) -> type[SegDataset]:
    """Return the class of the data set with this name, and import its module.

    Raises:
        UnknownNameError: no such data set.
    """
    return DATASETS.get(name)


def get_dataset(name: str, *, split: str = "train", root: PathLike | None = None,
                decoding: Decoding | None = None) -> SegDataset:
    """Open one split of a data set.

    Args:
        name: a name of :func:`list_datasets` (case and separators do not matter); or your own data, as
            ``'folder:PATH'``, the path of an existing folder, ``'list:PATH'``, or ``'pack:PATH'`` for a folder
            that ``mxnetseg pack`` wrote.
        split: ``'train'``, ``'val'``, ...; each data set has its own.
        root: folder of the data set, if it is not in ``$MXNETSEG_DATA`` or ``./dataset``.
        decoding: how images of more than 8 bits or of other than 1 or 3 bands are converted; by default they are
            refused.

    Raises:
        UnknownNameError: no such data set or split.
        DataNotFoundError: its files do not exist.
        UsageError: both a folder and a ``root`` were given.

    Example::

        >>> from mxnetseg.data import get_dataset
        >>> dataset = get_dataset("sample", split="val")  # painted on first use
        >>> len(dataset), dataset.classes[:3]
        (40, ('road', 'marking', 'sidewalk'))
        >>> image, mask, name = dataset[0]
        >>> image.shape, mask.shape, name
        ((192, 288, 3), (192, 288), 'val/000')
    """
    dataset_class, root = locate_dataset(name, root=root)
    return dataset_class(split=split, root=root, **({} if decoding is None else {"decoding": decoding}))


def locate_dataset(name: str, *, root: PathLike | None = None) -> tuple[type[SegDataset], PathLike | None]:
    """Return the class and the root that :func:`get_dataset` opens for a name.

    Raises:
        UnknownNameError: no such data set.
        UsageError: both a folder and a ``root`` were given.
    """
    dataset, folder = _split_name(name)
    if folder is None:
        return get_dataset_class(dataset), root
    if root is not None:
        raise UsageError("folder data was given two folders", received=f"{name} and root {root}",
                         fix=f"give one: {dataset}:PATH, or {dataset} with --root PATH")
    if dataset == "pack":  # not a data set with a name of its own: it holds any of them
        from .pack import PackDataset

        return PackDataset, folder
    return get_dataset_class(dataset), folder


def without_folder(name: str) -> str:
    """Return ``'folder'`` for ``'folder:PATH'`` or a path, and other names as they are, to be used with a root."""
    dataset, folder = _split_name(name)
    return name if folder is None else dataset


def _split_name(name: str) -> tuple[str, Path | None]:
    """Return the name of the data set that ``name`` stands for, and the folder if ``name`` contains one."""
    dataset, colon, path = name.partition(":")
    if colon and dataset in _BY_PATH:
        return dataset, expand(path)
    if "/" in name or os.sep in name or name.startswith("~"):  # a path, whether it exists or not
        return "folder", expand(name)
    try:
        return DATASETS.resolve(name), None  # the name of a data set comes before a folder of the same name
    except UnknownNameError:
        return ("folder", Path(name)) if Path(name).is_dir() else (name, None)
