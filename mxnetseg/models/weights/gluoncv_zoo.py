"""The segmentation checkpoints of GluonCV's model store: what they are, and where their files come from.

The SHA-1 sums are those of ``gluoncv.model_zoo.model_store`` (a test compares them), so that a file can be fetched
where neither MXNet nor GluonCV is installed. The scores are those of GluonCV's documentation
(``docs/model_zoo/csv_tables/Segmentations``); none was measured with this library.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ...errors import EnvironmentProblem, UnknownNameError, UsageError
from .downloads import BROKEN, MIRROR_VARIABLE, GluonCVFile, Progress, Source, at_server, cached, caches, mirror, stores

PREFIX = "gluoncv:"  # of a checkpoint's name in --checkpoint


class Published(NamedTuple):
    """A checkpoint of GluonCV.

    Attributes:
        sha1: of its ``.params`` file.
        megabytes: about the size of the file, computed from its network.
        miou, pixel_accuracy: published by GluonCV, per cent: of VOC on the test server, else on the validation split;
            None if it published none.
    """

    sha1: str
    megabytes: int
    miou: float | None = None
    pixel_accuracy: float | None = None


CHECKPOINTS: dict[str, Published] = {
    "fcn_resnet50_ade": Published("3479525af7bdbf345e74e150aaae2e48174c0c5f", 142, 39.5, 79.0),
    "fcn_resnet101_ade": Published("d544440a35586f662ed1a5405ab9aa89cd750558", 219, 41.6, 80.6),
    "psp_resnet50_ade": Published("3f220f537400dfa607c3d041ed3b172db39b0b01", 197, 41.5, 80.1),
    "psp_resnet101_ade": Published("240a4758b506447faf7c55cd7a7837d66f5039a6", 273, 43.3, 80.8),
    "deeplab_resnet50_ade": Published("c7789b237adc7253405bee57c84d53b15db45942", 169, 42.5, 80.5),
    "deeplab_resnet101_ade": Published("bf1584dfcec12063eff3075ee643e181c0f6d443", 245, 44.1, 81.1),
    "deeplab_resnest50_ade": Published("a8312db6e30a464151580f2bda83479786455724", 176, 45.1, 81.2),
    "deeplab_resnest101_ade": Published("6d05c630fb7acb38615f7f4d360fb90f47b25042", 260, 46.9, 82.1),
    "deeplab_resnest200_ade": Published("9134a6f7d1399b549d5803d8faed3dfc74efc0d8", 348, 48.4, 82.5),
    "deeplab_resnest269_ade": Published("d45b33dedf4cca13b8147213c5360e30f93685bd", 511, 47.6, 82.6),
    "fcn_resnet101_voc": Published("12c2b9b3be7d4e133e52477150a9b3e616626a82", 218, 83.6),
    "psp_resnet101_voc": Published("2c2f4e1c2b11461b52598a4b2038bccbcfc166eb", 273, 85.1),
    "deeplab_resnet101_voc": Published("311ed22c63f3ac28b5f1e1663c458f26600e62da", 245, 86.2),
    "deeplab_resnet152_voc": Published("d35bea8817935d1ab310ef1e6dd06bb18c2d5f0d", 308, 86.7),
    "fcn_resnet101_coco": Published("766cdf9cc3e5b980b141643f054db5b48863f634", 218, 66.2, 92.2),
    "psp_resnet101_coco": Published("09f89cad0e107cb2bffdb1b07706ba31798096f2", 273, 70.4, 92.4),
    "deeplab_resnet101_coco": Published("ed817f76086abb4c3404af62ec1b5487c67642b7", 245, 70.4, 92.5),
    "deeplab_resnet152_coco": Published("83247aaeeded6988790cd93ac93151514094846f", 308),
    "psp_resnet101_citys": Published("d0e8603120ab02118a8973d52a26b8296d1b4078", 273, 79.9, 96.4),
    "deeplab_resnet50_citys": Published("cf6a7bb3d55360933de647a8505f7936003902a4", 169, 78.7, 96.3),
    "deeplab_resnet101_citys": Published("eb8477a91efc244c85b364c0736664078aaf0e65", 245, 79.4, 96.4),
    "danet_resnet50_citys": Published("143e1f1c1c1f2d3a3416887e088ebfdd4e1e2345", 191, 78.5, 96.3),
    "danet_resnet101_citys": Published("6ead3d099f7a320846bddb51148c3fe3b5ade5c2", 267, 80.1, 96.5),
}
# parts of the names, METHOD_BACKBONE_DATA, and the network or data set here
_MODELS = {"fcn": "fcn", "psp": "pspnet", "deeplab": "deeplabv3", "danet": "danet"}
_DATA = {"ade": "ade20k", "voc": "pascalvoc", "coco": "coco", "citys": "cityscapes"}

_INT8 = "it is a quantised graph for one size without published weights; `--precision int8` calibrates any checkpoint"
# checkpoints and networks that GluonCV lists and that are not read, with the reason
REFUSED: dict[str, str] = {
    "deeplab_v3b_plus_wideresnet_citys": "its backbone, a WideResNet-38, is not among the backbones here",
    "icnet_resnet50_citys": "GluonCV's ICNet differs from the one here, which is mmsegmentation's",
    "icnet_resnet50_mhpv1": "GluonCV's ICNet differs from the one here, which is mmsegmentation's",
    "fastscnn_citys": "GluonCV's FastSCNN differs from the one here, which is mmsegmentation's",
    "fcn_resnet50_voc": "GluonCV names the network, but its store has no weights of it",
    "hrnet_w18_small_v1_s": "GluonCV names the network, but its store has no weights of it",
    "hrnet_w18_small_v2_s": "GluonCV names the network, but its store has no weights of it",
    "hrnet_w48_s": "GluonCV names the network, but its store has no weights of it",
    **{f"{name}_int8": _INT8 for name in ("fcn_resnet101_voc", "fcn_resnet101_coco", "psp_resnet101_voc",
                                          "psp_resnet101_coco", "deeplab_resnet101_voc", "deeplab_resnet101_coco")},
}


def network_of(name: str) -> tuple[str, str, str]:
    """Return the network, the backbone and the data set of a key of :data:`CHECKPOINTS`, by their names here."""
    method, backbone, data = name.split("_")
    return _MODELS[method], backbone, _DATA[data]


def published(name: str) -> Published:
    """Return the description of a checkpoint.

    Args:
        name: a key of :data:`CHECKPOINTS`, without :data:`PREFIX`.

    Raises:
        UsageError: GluonCV lists it, but it is not read; the message has the reason.
        UnknownNameError: there is no such checkpoint; the message has the nearest names.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    if name in REFUSED:
        others = [other for other in CHECKPOINTS if other.rsplit("_", 1)[1] == name.rsplit("_", 1)[1]]
        best = max(others, key=lambda other: CHECKPOINTS[other].miou or 0, default="fcn_resnet50_ade")
        raise UsageError("this checkpoint of GluonCV is not read", where=PREFIX + name, received=REFUSED[name],
                         fix=f"another one: {PREFIX}{best}; `mxnetseg models --pretrained` lists them")
    raise UnknownNameError("checkpoint of GluonCV:", name, CHECKPOINTS)


def file_of(name: str) -> GluonCVFile:
    """Return the file of a checkpoint in GluonCV's store; raises as :func:`published`."""
    return GluonCVFile.of(name, published(name).sha1)


def find(name: str, progress: Progress | None = None) -> Path:
    """Return the verified ``.params`` file of a checkpoint; download it if no cache has it.

    Args:
        name: a key of :data:`CHECKPOINTS`.
        progress: called with the bytes received so far, and in all if the server says so.

    Raises:
        UsageError, UnknownNameError: see :func:`published`.
        EnvironmentProblem: no source has the file; the message says where to put it by hand.
    """
    file = file_of(name)
    tried = []
    for source in _sources(file, progress):
        try:
            return source.fetch()
        except BROKEN as error:
            tried.append(f"{source.where}: {error}")
    raise EnvironmentProblem(
        f"the checkpoint {PREFIX}{name} is not available", where="\n".join(tried),
        fix=f"copy {file.member} (SHA-1 {file.sha1}) to {caches()[0]}, or set {MIRROR_VARIABLE} to a server that has "
            f"{file.on_server}")


def _sources(file: GluonCVFile, progress: Progress | None) -> list[Source]:
    servers = [*filter(None, [mirror()]), *stores()]
    return [*cached(file), *(at_server(address, file, progress) for address in servers)]
