"""The paper of each network, and the figures that were published for it.

None of the figures was obtained with this package: they are "published", never "reproduced".
"""
from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """A network's source. ``link`` is on arXiv if the paper is there, otherwise its DOI or home page."""

    title: str
    authors: str
    venue: str
    link: str
    note: str = ""

    def __str__(self) -> str:
        note = f" {self.note}" if self.note else ""
        return f"{self.title}. {self.authors}, {self.venue}, {self.link}.{note}"

    @property
    def url(self) -> str:
        """Address of the paper's page."""
        scheme, _, name = self.link.partition(":")
        return {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(scheme, f"{scheme}:") + name


class Result(NamedTuple):
    """One published row, in percent.

    Attributes:
        data, split: the images it was evaluated on.
        by: its publisher: MXNetSeg, the paper, its authors' repository, or a port.
        backbone: with all else that distinguishes this row from others.
        miou, miou_ms: mean IoU with one scale, and with several scales and flips.
        pa, pa_ms: pixel accuracy, likewise.
        output_stride: output stride of the backbone, if several are common.
        config: name under which the run was published.
    """

    data: str
    split: str
    by: str
    backbone: str
    miou: float | None = None
    miou_ms: float | None = None
    pa: float | None = None
    pa_ms: float | None = None
    output_stride: int | None = None
    config: str | None = None

    def __str__(self) -> str:
        """Return one line: ``71.6 (74.7 with scales and flip), Cityscapes val, ResNet-18 /32, by MXNetSeg``."""
        scores = f"{self.miou}" if self.miou is not None else ""
        if self.miou_ms is not None:
            scores += f" ({self.miou_ms} with scales and flip)" if scores else f"{self.miou_ms} with scales and flip"
        stride = f" /{self.output_stride}" if self.output_stride else ""
        return f"{scores}, {self.data} {self.split}, {self.backbone}{stride}, by {self.by}"


_SWIFTNET = Paper("In defense of pre-trained ImageNet architectures for real-time semantic segmentation of "
                  "road-driving images", "Orsic, Kreso, Bevandic & Segvic", "CVPR 2019", "arXiv:1903.08469")
_CANET = Paper("Attention-guided chained context aggregation for semantic segmentation",
               "Tang, Liu, Zhang, Jiang & Zhang", "Image and Vision Computing 2021", "arXiv:2002.12041")

PAPERS: dict[str, Paper] = {
    "acfnet": Paper("ACFNet: attentional class feature network for semantic segmentation",
                    "Zhang, Chen, Li, Hong, Liu, Ma, Han & Ding", "ICCV 2019", "arXiv:1909.09408"),
    "alignseg": Paper("AlignSeg: feature-aligned segmentation networks", "Huang, Wei, Wang, Liu, Huang & Shi",
                      "TPAMI 2021", "arXiv:2003.00872"),
    "att2scale": Paper("Attention to scale: scale-aware semantic image segmentation",
                       "Chen, Yang, Wang, Xu & Yuille", "CVPR 2016", "arXiv:1511.03339"),
    "attanet": Paper("AttaNet: attention-augmented network for fast and accurate scene parsing",
                     "Song, Mei & Huang", "AAAI 2021", "arXiv:2103.05930"),
    "bisenet": Paper("BiSeNet: bilateral segmentation network for real-time semantic segmentation",
                     "Yu, Wang, Peng, Gao, Yu & Sang", "ECCV 2018", "arXiv:1808.00897"),
    "canet": _CANET,
    "canetv2": _CANET._replace(note="The second version, parallel encoder-decoders, is MXNetSeg's."),
    "danet": Paper("Dual attention network for scene segmentation", "Fu, Liu, Tian, Li, Bao, Fang & Lu",
                   "CVPR 2019", "arXiv:1809.02983"),
    "deeplabv3": Paper("Rethinking atrous convolution for semantic image segmentation",
                       "Chen, Papandreou, Schroff & Adam", "2017", "arXiv:1706.05587"),
    "deeplabv3plus": Paper("Encoder-decoder with atrous separable convolution for semantic image segmentation",
                           "Chen, Zhu, Papandreou, Schroff & Adam", "ECCV 2018", "arXiv:1802.02611"),
    "ddrnet": Paper("Deep dual-resolution networks for real-time and accurate semantic segmentation of road scenes",
                    "Hong, Pan, Sun & Jia", "IEEE T-ITS 2022", "arXiv:2101.06085"),
    "denseaspp": Paper("DenseASPP for semantic segmentation in street scenes", "Yang, Yu, Zhang, Li & Yang",
                       "CVPR 2018", "doi:10.1109/CVPR.2018.00388"),
    "eprnet": Paper("EPRNet: efficient pyramid representation network for real-time street scene segmentation",
                    "Tang, Liu, Jiang & Zhang", "IEEE T-ITS 23(7), 2022", "https://trid.trb.org/View/1993922"),
    "fapn": Paper("FaPN: feature-aligned pyramid network for dense image prediction", "Huang, Lu, Cheng & He",
                  "ICCV 2021", "arXiv:2108.07058"),
    "fastscnn": Paper("Fast-SCNN: fast semantic segmentation network", "Poudel, Liwicki & Cipolla", "BMVC 2019",
                      "arXiv:1902.04502"),
    "fcn": Paper("Fully convolutional networks for semantic segmentation", "Long, Shelhamer & Darrell", "CVPR 2015",
                 "arXiv:1411.4038"),
    "flattenet": Paper("FlatteNet: a simple versatile framework for dense pixelwise prediction", "Cai & Pu",
                       "IEEE Access 2019", "arXiv:1909.09961"),
    "gffnet": Paper("GFF: gated fully fusion for semantic segmentation", "Li, Zhao, Han, Tong, Tan & Yang",
                    "AAAI 2020", "arXiv:1904.01803"),
    "hrnet": Paper("Deep high-resolution representation learning for visual recognition",
                   "Wang, Sun, Cheng, Jiang, Deng, Zhao, Liu, Mu, Tan, Wang, Liu & Xiao", "TPAMI 2021",
                   "arXiv:1908.07919"),
    "icnet": Paper("ICNet for real-time semantic segmentation on high-resolution images",
                   "Zhao, Qi, Shen, Shi & Jia", "ECCV 2018", "arXiv:1704.08545"),
    "ladderdensenet": Paper(
        "Ladder-style DenseNets for semantic segmentation of large natural images", "Kreso, Segvic & Krapac",
        "ICCV Workshops 2017", "https://openaccess.thecvf.com/content_ICCV_2017_workshops/w3/html/"
        "Kreso_Ladder-Style_DenseNets_for_ICCV_2017_paper.html"),
    "ocrnet": Paper("Object-contextual representations for semantic segmentation", "Yuan, Chen & Wang", "ECCV 2020",
                    "arXiv:1909.11065"),
    "ovenet": Paper("OVeNet: offset vector network for semantic segmentation", "Alexandropoulos, Sakaridis & Maragos",
                    "WACV 2024", "arXiv:2303.14516"),
    "pidnet": Paper("PIDNet: a real-time semantic segmentation network inspired by PID controllers",
                    "Xu, Xiong & Bhattacharyya", "CVPR 2023", "arXiv:2206.02066"),
    "pspnet": Paper("Pyramid scene parsing network", "Zhao, Shi, Qi, Wang & Jia", "CVPR 2017", "arXiv:1612.01105"),
    "seenet": Paper("Towards bridging semantic gap to improve semantic segmentation", "Pang, Li, Shen & Shao",
                    "ICCV 2019", "doi:10.1109/ICCV.2019.00433"),
    "segformer": Paper("SegFormer: simple and efficient design for semantic segmentation with transformers",
                       "Xie, Wang, Yu, Anandkumar, Alvarez & Luo", "NeurIPS 2021", "arXiv:2105.15203"),
    "semanticfpn": Paper("Panoptic feature pyramid networks", "Kirillov, Girshick, He & Dollar", "CVPR 2019",
                         "arXiv:1901.02446"),
    "setr": Paper("Rethinking semantic segmentation from a sequence-to-sequence perspective with transformers",
                  "Zheng, Lu, Zhao, Zhu, Luo, Wang, Fu, Feng, Xiang, Torr & Zhang", "CVPR 2021", "arXiv:2012.15840"),
    "sfnet": Paper("Semantic flow for fast and accurate scene parsing",
                   "Li, You, Zhu, Zhao, Yang, Yang, Tan & Tong", "ECCV 2020", "arXiv:2002.10120"),
    "swiftnet": _SWIFTNET,
    "swiftnetpr": _SWIFTNET,
    "upernet": Paper("Unified perceptual parsing for scene understanding", "Xiao, Liu, Zhou, Jiang & Sun",
                     "ECCV 2018", "arXiv:1807.10221"),
}

_CITYS, _VOC, _CONTEXT = "Cityscapes", "VOC 2012", "Pascal-Context (59)"
_MXNETSEG, _PAPER, _AUTHORS = "MXNetSeg", "the paper", "its authors"
_R18, _R50, _R101 = "ResNet-18", "ResNet-50", "ResNet-101"
_PORT, _MMSEG = "its port to mmsegmentation", "mmsegmentation"

RESULTS: dict[str, list[Result]] = {
    "acfnet": [Result(_CITYS, "test", _PAPER, _R101, 81.85)],
    "alignseg": [Result(_CITYS, "test", _PAPER, _R101, 82.6), Result("ADE20K", "val", _PAPER, _R101, 45.95)],
    "att2scale": [Result(_VOC, "val", _MXNETSEG, _R101, 77.1, pa=94.8, output_stride=8, config="peachy-snow-4")],
    "bisenet": [Result(_CITYS, "val", _MXNETSEG, _R18, 71.6, 74.7, output_stride=32, config="silver-brook-24"),
                Result(_CITYS, "test", _MXNETSEG, _R18, None, 74.8, output_stride=32, config="effortless-dust-25")],
    "danet": [Result(_CITYS, "val", _MXNETSEG, _R101, 79.7, 80.9, output_stride=8)],
    "ddrnet": [Result(_CITYS, "val", _AUTHORS, "23-slim", 77.8), Result(_CITYS, "val", _AUTHORS, "23", 79.5),
               Result(_CITYS, "test", _AUTHORS, "23-slim, train + val", 77.4),
               Result(_CITYS, "test", _AUTHORS, "23, train + val", 79.4),
               Result("CamVid", "test", _AUTHORS, "23-slim at 720 x 960", 74.7)],
    "deeplabv3": [Result(_CITYS, "val", _MXNETSEG, _R101, 79.3, 80.0, output_stride=8),
                  Result(_VOC, "val", _MXNETSEG, _R101, 80.1, 80.4, 95.5, 95.6, 8, "fearless-firefly-5")],
    "deeplabv3plus": [Result(_VOC, "val", _MXNETSEG, _R101, 79.9, 80.1, 95.5, 95.6, 8, "robust-pine-18"),
                      Result("NYUv2", "val", _MXNETSEG, _R101, 46.0, 47.2, 73.5, 74.3, 8, "comfy-dew-31")],
    "denseaspp": [Result(_CITYS, "val", _MXNETSEG, _R101, 78.7, 79.8, output_stride=8,
                         config="neapolitan-pastry-1")],
    "eprnet": [Result(_CITYS, "test", _PAPER, "EPRNet", 73.9)],
    "fcn": [Result(_CITYS, "val", _MXNETSEG, _R18, 64.9, 68.1, output_stride=32),
            Result(_CITYS, "val", _MXNETSEG, _R18, 68.3, 69.9, output_stride=8, config="pretty-surf-1"),
            Result(_CITYS, "val", _MXNETSEG, _R101, 74.5, output_stride=8),
            Result(_VOC, "val", _MXNETSEG, _R101, 74.6, 75.0, 94.4, 94.5, 8, "glad-voice-1"),
            Result("NYUv2", "val", _MXNETSEG, _R101, 39.7, 41.0, 69.2, 70.2, 8, "hopeful-snowflake-1")],
    "flattenet": [Result(_CONTEXT, "val", _AUTHORS, "ResNet-101, PPM", None, 53.3),
                  Result(_CONTEXT, "val", _AUTHORS, "ResNet-101, attention", None, 53.9),
                  Result(_VOC, "test", _AUTHORS, "ResNet-101, PPM", None, 83.09),
                  Result(_VOC, "test", _AUTHORS, "ResNet-101, attention", None, 84.32),
                  Result(_VOC, "test", _AUTHORS, "ResNet-101, attention, COCO pretrained", None, 85.69)],
    "gffnet": [Result(_CITYS, "test", _PAPER, _R101, 82.3)],
    "hrnet": [Result(_CITYS, "val", _AUTHORS, "HRNetV2-W48", 81.1)],
    "pidnet": [Result(_CITYS, "val", _AUTHORS, "S", 78.8), Result(_CITYS, "val", _AUTHORS, "M", 79.9),
               Result(_CITYS, "val", _AUTHORS, "L", 80.9), Result(_CITYS, "test", _AUTHORS, "S, train + val", 78.6),
               Result(_CITYS, "test", _AUTHORS, "M, train + val", 79.8),
               Result(_CITYS, "test", _AUTHORS, "L, train + val", 80.6),
               Result("CamVid", "test", _AUTHORS, "S, Cityscapes pretrained", 80.1)],
    "pspnet": [Result(_CITYS, "val", _MXNETSEG, _R101, 78.2, 79.5, output_stride=8),
               Result("ADE20K", "val", _MXNETSEG, _R101, 42.9, 43.7, 80.1, 80.9, 8),
               Result(_VOC, "val", _MXNETSEG, _R101, 78.1, 78.5, 95.1, 95.3, 8, "smart-valley-12"),
               Result("NYUv2", "val", _MXNETSEG, _R101, 43.0, 43.6, 71.3, 71.9, 8, "grateful-vortex-8")],
    "segformer": [*(Result(_CITYS, "val", _MMSEG, f"MiT-B{size}", *miou) for size, miou in enumerate([
                      (76.54, 78.22), (78.56, 79.73), (81.08, 82.18), (81.94, 83.14), (81.89, 83.38), (82.25, 83.48)])),
                  *(Result("ADE20K", "val", _MMSEG, f"MiT-B{size}", miou)
                    for size, miou in enumerate([37.41, 40.97, 45.58, 47.82, 48.46, 49.13]))],
    "sfnet": [Result(_CITYS, "val", _PORT, _R18, 78.03, pa=96.0),
              Result(_CITYS, "val", _PORT, "ResNet-18, auxiliary heads", 78.31, pa=95.97),
              Result(_CITYS, "val", _PORT, _R50, 80.17, pa=96.42),
              Result(_CITYS, "val", _PORT, _R101, 81.01, pa=96.47)],
    "swiftnet": [Result(_CITYS, "test", _PAPER, _R18, 75.5)],
}


def results(name: str) -> list[Result]:
    """Return the published results of a network, given its canonical name; the list may be empty."""
    return RESULTS.get(name, [])
