"""Sizes of the networks with their default backbones, as they stand in docs/models.md.

Measuring all networks takes half a minute and needs MXNet, so the figures that `mxnetseg models` prints are kept here.
A test compares them with the page, and another one the page with the networks.
"""
from __future__ import annotations

from typing import NamedTuple

SIDE = 512  # pixels, height and width of the image that the multiply-adds are counted for


class Size(NamedTuple):
    """Default backbone, parameters in millions, multiply-adds in billions (19 classes, no auxiliary head), stride."""

    backbone: str
    parameters: float
    multiply_adds: float
    stride: int


SIZES = {
    "acfnet": Size("resnet50", 58.18, 248.0, 8),
    "alignseg": Size("resnet50", 34.27, 80.8, 32),
    "att2scale": Size("resnet50", 47.29, 249.4, 8),
    "attanet": Size("resnet18", 12.50, 10.3, 32),
    "bisenet": Size("resnet18", 13.21, 14.6, 32),
    "canet": Size("resnet50", 33.79, 136.8, 8),
    "canetv2": Size("resnet50", 38.86, 131.9, 8),
    "danet": Size("resnet50", 47.62, 204.8, 8),
    "ddrnet": Size("ddrnet", 5.72, 4.5, 8),
    "deeplabv3": Size("resnet50", 39.82, 170.7, 8),
    "deeplabv3plus": Size("resnet50", 40.63, 191.3, 8),
    "denseaspp": Size("resnet50", 50.32, 215.8, 8),
    "eprnet": Size("eprnet", 0.90, 7.5, 8),
    "fapn": Size("resnet50", 33.57, 89.8, 32),
    "fastscnn": Size("fastscnn", 1.42, 0.9, 32),
    "fcn": Size("resnet18", 12.37, 53.0, 8),
    "flattenet": Size("resnet101", 49.82, 48.7, 32),
    "gffnet": Size("resnet50", 46.85, 338.3, 8),
    "hrnet": Size("hrnet", 65.94, 93.4, 32),
    "icnet": Size("resnet50", 47.69, 16.8, 8),
    "ladderdensenet": Size("densenet121", 7.99, 21.4, 32),
    "ocrnet": Size("ocrnet", 70.46, 161.9, 32),
    "ovenet": Size("ovenet", 98.92, 126.0, 32),
    "pidnet": Size("pidnet", 7.65, 5.9, 8),
    "pspnet": Size("resnet50", 37.33, 145.5, 8),
    "seenet": Size("resnet50", 29.28, 134.0, 8),
    "segformer": Size("mit_b0", 3.72, 6.8, 32),
    "semanticfpn": Size("resnet50", 28.07, 50.9, 32),
    "setr": Size("vit_large_16", 308.20, 366.1, 16),
    "sfnet": Size("resnet18", 12.88, 30.4, 32),
    "swiftnet": Size("resnet18", 14.20, 32.4, 32),
    "swiftnetpr": Size("resnet18", 12.18, 17.8, 32),
    "upernet": Size("resnet50", 64.22, 242.6, 32),
}
