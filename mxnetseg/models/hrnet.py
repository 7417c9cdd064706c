"""HRNetV2: deep high-resolution representation learning.

A backbone that keeps a high resolution throughout, and a 1x1 classifier on all of its branches.

Source: Wang, Sun, Cheng, Jiang, Deng, Zhao, Liu, Mu, Tan, Wang, Liu & Xiao, TPAMI 2021.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._mmseg import is_mmseg, mmseg_name
from .backbones.hrnet import HRNetV2


class HRNet(SegModel):
    """HRNetV2: a 1x1 classifier on all branches, resized to the finest and concatenated (section 3.4).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),).

    Args:
        nclass: number of classes.
        width: channels of the finest branch: 48 (the paper's), 32 or 18.
        modules, blocks: see :class:`~mxnetseg.models.backbones.hrnet.HRNetV2`.
        variant: ``'paper'``, or ``'mmseg'`` as mmsegmentation's FCN on HRNet, which lacks a bias before a norm, and
            resizes differently inside the backbone where sizes are odd.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a width that is not a positive number.
        UnknownNameError: unknown variant.
    """

    foreign_options = {"mmseg": {"variant": "mmseg"}}
    structures = ({"width": 48}, {"width": 32}, {"width": 18}, {"width": 18, "modules": (1, 3, 2), "blocks": 2})

    def __init__(self, *, nclass: int, width: int = 48, modules: Sequence[int] = (1, 4, 3), blocks: int = 4,
                 variant: str = "paper", norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        mmseg = is_mmseg("HRNet", variant, other="paper")
        super().__init__(HRNetV2(width=width, modules=modules, blocks=blocks, by_factor=mmseg, **norm), nclass)
        channels = sum(tap.channels for tap in self.backbone.taps)
        with self.name_scope():
            self.head = pointwise_head(nclass, channels, bias=not mmseg, **norm)

    def hybrid_forward(self, F, x):
        return (resize(F, self.head(concat_resized(F, self.backbone(x))), x, align_corners=False),)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in HRNet's checkpoints, or None if this network does not have it.

        Args:
            name: name in the checkpoint, without the prefix ``model.``.
        """
        return head_name(name, last_layer="head") or in_backbone(self.backbone, name)

    def from_gluoncv(self, name: str) -> str | None:
        """Return our name of a parameter of GluonCV's HRNet for segmentation (``hrnet_w48_s``).

        GluonCV numbers the layers of a block, and of a path to a coarser branch, including the activations.
        """
        layers = ("conv", "bn", "relu")
        name = re.sub(r"\.body\.(\d)\.",
                      lambda found: f".{layers[int(found[1]) % 3]}{int(found[1]) // 3 + 1}.", name)
        name = re.sub(r"(fuse_layers\.(\d)\.(\d))\.(\d)\.", lambda found: (
            f"{found[1]}.{int(found[4]) // 3}.{int(found[4]) % 3}." if found[2] > found[3] else found[0]), name)
        return self.from_pytorch(name)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        if name.startswith("backbone."):
            return in_backbone(self.backbone, name[len("backbone."):])
        return mmseg_name(self, name, {r"^decode_head\.convs\.0\.conv\.": "head.0.",
                                       r"^decode_head\.convs\.0\.bn\.": "head.1.",
                                       r"^decode_head\.conv_seg\.": "head.3."})


def concat_resized(F, maps):
    """Return the concatenation of maps, fine to coarse, each resized to the size of the first."""
    finest = maps[0]
    return F.concat(finest, *(resize(F, y, finest, align_corners=False) for y in maps[1:]), dim=1)


def pointwise_head(outputs: int, channels: int, *, bias: bool = True, norm_layer: type,
                   norm_kwargs: Mapping | None) -> nn.HybridSequential:
    """Build a head of 1x1 convolution, norm, ReLU and 1x1 convolution: (N, channels, H, W) -> (N, outputs, H, W).

    Args:
        outputs: output channels.
        channels: input channels, and channels inside.
        bias: whether the first convolution has a bias; the second always has one.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """
    head = nn.HybridSequential()
    head.add(nn.Conv2D(channels, 1, in_channels=channels, use_bias=bias),
             norm_layer(in_channels=channels, **(norm_kwargs or {})), nn.Activation("relu"),
             nn.Conv2D(outputs, 1, in_channels=channels))
    return head


def head_name(name: str, **heads: str) -> str | None:
    """Return our name of a parameter of a :func:`pointwise_head`, or None if it does not belong to one of the heads.

    Args:
        name: the original's name.
        **heads: the original's name of a head -> our name of it.
    """
    theirs, _, rest = name.partition(".")
    if theirs not in heads or name.endswith("num_batches_tracked"):
        return None
    return f"{heads[theirs]}." + {"1.weight": "1.gamma", "1.bias": "1.beta"}.get(rest, rest)


def in_backbone(backbone: HRNetV2, name: str) -> str | None:
    """Return our name, in the whole network, of a parameter of HRNet's trunk, or None if it does not have it."""
    ours = backbone.from_pytorch(name)
    return None if ours is None else f"backbone.{ours}"
