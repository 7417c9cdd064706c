"""From what one downloads, or has drawn, to what a data set reads: ``prepare('nyuv2', source, target)``.

Each conversion is one file and one line here. It is a list of files to make, each written wholly or not at all and
each with a digest of what it is made from (:mod:`~mxnetseg.data.prepare.stamp`): a second run makes again what has
changed and nothing else, and an interrupted run resumes.
"""
from __future__ import annotations

from ...registry import Registry
from .base import Preparation, Prepared, prepare

__all__ = ["PREPARATIONS", "Preparation", "Prepared", "prepare"]

PREPARATIONS = Registry(
    "preparation",
    {
        "acdc": "mxnetseg.data.prepare.lists:ACDCLists",
        "ade20k": "mxnetseg.data.prepare.ade20k:ADE20KFull",
        "cityscapes": "mxnetseg.data.prepare.lists:CityscapesLists",
        "coco": "mxnetseg.data.prepare.coco:COCOtoVOC",
        "coco-json": "mxnetseg.data.prepare.cocojson:COCOJson",
        "colours": "mxnetseg.data.prepare.colours:Colours",
        "labelme": "mxnetseg.data.prepare.labelme:Labelme",
        "nyuv2": "mxnetseg.data.prepare.nyuv2:NYUv2Mat",
        "pascalcontext": "mxnetseg.data.prepare.pascalcontext:PascalContextAnnotations",
        "pascalvocaug": "mxnetseg.data.prepare.pascalvocaug:VOCandSBD",
        "sunrgbd": "mxnetseg.data.prepare.sunrgbd:SUNRGBDToolbox",
    },
    aliases={"colors": "colours", "mscoco": "coco", "vocaug": "pascalvocaug", "pascalcontext60": "pascalcontext",
             "nyu": "nyuv2", "ade": "ade20k"},
)
