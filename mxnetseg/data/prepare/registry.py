"""Names of the preparations; each file is imported when its preparation is used."""
from __future__ import annotations

from ...registry import Registry

__all__ = ["PREPARATIONS"]

PREPARATIONS = Registry(
    "preparation",
    {
        "acdc": "mxnetseg.data.prepare.lists:ACDCLists",
        "ade20k": "mxnetseg.data.prepare.ade20k:ADE20KFull",
        "auto": "mxnetseg.data.prepare.auto:Auto",
        "cityscapes": "mxnetseg.data.prepare.lists:CityscapesLists",
        "coco": "mxnetseg.data.prepare.coco:COCOtoVOC",
        "coco-json": "mxnetseg.data.prepare.cocojson:COCOJson",
        "colours": "mxnetseg.data.prepare.colours:Colours",
        "cvat-masks": "mxnetseg.data.prepare.cvatmasks:CVATMasks",
        "cvat-xml": "mxnetseg.data.prepare.cvatxml:CVATXml",
        "label-studio": "mxnetseg.data.prepare.labelstudio:LabelStudio",
        "label-studio-masks": "mxnetseg.data.prepare.labelstudiomasks:LabelStudioMasks",
        "labelme": "mxnetseg.data.prepare.labelme:Labelme",
        "nyuv2": "mxnetseg.data.prepare.nyuv2:NYUv2Mat",
        "paired-masks": "mxnetseg.data.prepare.pairedmasks:PairedMasks",
        "pascalcontext": "mxnetseg.data.prepare.pascalcontext:PascalContextAnnotations",
        "pascalvocaug": "mxnetseg.data.prepare.pascalvocaug:VOCandSBD",
        "roboflow-masks": "mxnetseg.data.prepare.roboflowmasks:RoboflowMasks",
        "sunrgbd": "mxnetseg.data.prepare.sunrgbd:SUNRGBDToolbox",
        "supervisely": "mxnetseg.data.prepare.supervisely:Supervisely",
        "voc-folder": "mxnetseg.data.prepare.vocfolder:VOCFolder",
        "yolo": "mxnetseg.data.prepare.yolo:Yolo",
    },
    aliases={"colors": "colours", "mscoco": "coco", "vocaug": "pascalvocaug", "pascalcontext60": "pascalcontext",
             "nyu": "nyuv2", "ade": "ade20k"},
)
