"""Backbones by name: ``get_backbone('resnet50', output_stride=8)``."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...registry import Registry

if TYPE_CHECKING:
    from ._base import Backbone

__all__ = ["BACKBONES", "get_backbone", "list_backbones"]

# A new backbone is one line here; its module is imported on first use.
BACKBONES = Registry("backbone", {
    **{name: f"mxnetseg.models.backbones.resnet:{name}"
       for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet18_v1c",
                    "resnet34_v1c", *(f"resnet{depth}_v1{letter}" for letter in "bcde" for depth in (50, 101, 152)))},
    **{name: f"mxnetseg.models.backbones.mobilenet:{name}"
       for name in ("mobilenet_v2_1_0", "mobilenet_v2_0_75", "mobilenet_v2_0_5", "mobilenet_v2_0_25",
                    "mobilenet_v3_large")},
    **{name: f"mxnetseg.models.backbones.densenet:{name}"
       for name in ("densenet121", "densenet161", "densenet169", "densenet201")},
    **{f"resnest{layers}": f"mxnetseg.models.backbones.resnest:resnest{layers}"
       for layers in (14, 26, 50, 101, 200, 269)},
    **{name: f"mxnetseg.models.backbones.ecaresnet:{name}" for name in ("ecaresnet50", "ecaresnet101",
                                                                            "ecaresnet50_v1d", "ecaresnet101_v1d")},
    **{f"efficientnet_lite{size}": f"mxnetseg.models.backbones.efficientnet:efficientnet_lite{size}"
       for size in range(3)},
    **{name: f"mxnetseg.models.backbones.eprnet:{name}" for name in ("eprnet", "eprnet_light")},
    **{f"mit_b{size}": f"mxnetseg.models.backbones.mit:mit_b{size}" for size in range(6)},
    **{name: f"mxnetseg.models.backbones.vit:{name}"
       for name in ("vit_base_16", "vit_large_16", "vit_huge_16", "vit_reduced")},
    "xception39": "mxnetseg.models.backbones.xception39:xception39",
    "xception65": "mxnetseg.models.backbones.xception:Xception65",
    "xception65_tf": "mxnetseg.models.backbones.xception:xception65_tf",
}, aliases={"mobilenetv2": "mobilenet_v2_1_0", "eprnet_cls": "eprnet", "eprnet_cls_light": "eprnet_light",
            "resnet18_v1b": "resnet18", "resnet34_v1b": "resnet34",
            "resnet50_v1s": "resnet50", "resnet101_v1s": "resnet101", "resnet152_v1s": "resnet152"})


def list_backbones() -> list[str]:
    """Return the names of the backbones, sorted."""
    return BACKBONES.names()


def get_backbone(name: str, *, output_stride: int = 32, norm_layer: type | None = None,
                 norm_kwargs: Mapping | None = None, options: Mapping | None = None) -> Backbone:
    """Build a backbone without initialising its parameters.

    >>> from mxnetseg.models.backbones import get_backbone
    >>> get_backbone("resnet18", output_stride=8).taps[-1]
    Tap(channels=512, reduction=8)

    Args:
        name: a name of :func:`list_backbones`.
        output_stride: ratio of the input's size to the last tap's: 8, 16 or 32.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV; default:
            ``gluon.nn.BatchNorm``.
        options: further keyword arguments of this backbone's class.

    Raises:
        UnknownNameError: unknown backbone; the message has the nearest names.
        ConfigError: an output stride that this backbone does not support.
    """
    norm = {} if norm_layer is None else {"norm_layer": norm_layer}
    return BACKBONES.get(name)(output_stride=output_stride, norm_kwargs=norm_kwargs, **norm, **(options or {}))
