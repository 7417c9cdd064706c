"""SegFormer: simple and efficient design for semantic segmentation with transformers.

A hierarchical transformer without position embeddings, and a decoder of linear layers.

Source: Xie, Wang, Yu, Anandkumar, Alvarez & Luo, NeurIPS 2021.
"""
from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from mxnet.gluon import nn

from ..errors import UnknownNameError
from ..nn.blocks import ConvModule2d
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import BACKBONES, get_backbone
from .backbones.mit import separate, to_map, to_tokens
from .ddrnet import choose_variant
from .weights.pytorch import gluon_name

# variant -> channels of the decoder
VARIANTS = {"b0": 256, "b1": 256, "b2": 768, "b3": 768, "b4": 768, "b5": 768}
# form -> epsilons of the layer norms, see MixTransformer
FORMS = {"paper": (1e-6, 1e-5), "huggingface": (1e-5, 1e-5), "mmseg": (1e-6, 1e-6)}


class SegFormer(SegModel):
    """SegFormer: a mix transformer (MiT) and a decoder of linear layers (figure 2, equation 4 of the paper).

    x: (N, 3, H, W), at least 29 pixels a side -> (logits (N, nclass, H, W),).

    The decoder runs on any backbone with four taps.

    Args:
        nclass: number of classes.
        variant: ``'b0'`` to ``'b5'``, the same as ``backbone='mit_b0'`` to ``'mit_b5'``.
        backbone: the encoder.
        channels: channels of the decoder; None: the paper's, 768 on ``mit_b2`` to ``mit_b5`` and 256 otherwise.
        form: ``'paper'`` as in the authors' code; ``'huggingface'`` with other epsilons of the layer norms; or
            ``'mmseg'`` as in mmsegmentation, where norm and ReLU follow every linear layer of the decoder.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV, for the decoder.

    Raises:
        UnknownNameError: unknown variant, backbone or form.
        ConfigError: a backbone without four taps.
    """

    foreign_options = {"mmseg": {"form": "mmseg"}}

    def __init__(self, *, nclass: int, backbone: str = "mit_b0", variant: str | None = None,
                 channels: int | None = None, form: str = "paper", norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        if form not in FORMS:
            raise UnknownNameError("form of SegFormer:", form, list(FORMS))

        if variant is not None:
            backbone = f"mit_{choose_variant('SegFormer', variant, VARIANTS)}"
        norm, backbone = norm_options(norm_layer, norm_kwargs), BACKBONES.resolve(backbone)
        width = channels or VARIANTS.get(backbone[len("mit_"):], 256)
        options = {"epsilons": FORMS[form]} if backbone.startswith("mit_") else None
        super().__init__(get_backbone(backbone, output_stride=32, options=options, **norm), nclass)
        self.backbone_name = backbone
        taps = four_taps(self.backbone, backbone)
        self._mmseg = form == "mmseg"

        with self.name_scope():
            self.linear_c = nn.HybridSequential()
            for tap in taps:
                self.linear_c.add(ConvModule2d(width, 1, in_channels=tap.channels, **norm) if self._mmseg
                                  else MapLinear(width, in_channels=tap.channels))
            self.fuse = ConvModule2d(width, 1, in_channels=4 * width, **norm)
            self.drop = nn.Dropout(0.1, axes=(2, 3))  # drops whole channels, as in the authors' code
            self.head = nn.Conv2D(nclass, 1, in_channels=width)

    def hybrid_forward(self, F, x):
        taps = self.backbone(x)
        maps = [linear(tap) for linear, tap in zip(self.linear_c._children.values(), taps)]
        maps = maps[:1] + [resize(F, y, taps[0], align_corners=False) for y in maps[1:]]
        if not self._mmseg:
            maps.reverse()
        logits = self.head(self.drop(self.fuse(F.concat(*maps, dim=1))))
        return (resize(F, logits, x, align_corners=False),)

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in SegFormer's checkpoints, or None if this network does not have it.

        The checkpoints are the authors' or Hugging Face's.
        """
        if name.startswith("decode_head.conv_seg."):  # an unused layer of a base class
            return None
        for pattern, ours in [(r"^decode_head\.linear_c\.(\d)\.proj\.", r"linear_c.\1."),
                              (r"^decode_head\.linear_c(\d)\.proj\.", lambda m: f"linear_c.{int(m[1]) - 1}."),
                              (r"^decode_head\.linear_fuse\.(weight|bias)$", r"fuse.conv.\1"),
                              (r"^decode_head\.linear_fuse\.", "fuse."), (r"^decode_head\.batch_norm\.", "fuse.bn."),
                              (r"^decode_head\.(?:classifier|linear_pred)\.", "head.")]:
            name = re.sub(pattern, ours, name)
        return self._ours(name)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        for pattern, ours in [(r"^decode_head\.convs\.(\d)\.", r"linear_c.\1."),
                              (r"^decode_head\.fusion_conv\.", "fuse."), (r"^decode_head\.conv_seg\.", "head.")]:
            name = re.sub(pattern, ours, name)
        return self._ours(name)

    def _ours(self, name: str) -> str | None:
        """Return our name of a parameter whose name in the decoder is ours already."""
        if name.startswith(("linear_c.", "fuse.", "head.", "decode_head.")):
            return gluon_name(self.named_parameters(), name)
        ours = self.backbone.from_pytorch(re.sub(r"^backbone\.", "", name))
        return None if ours is None else f"backbone.{ours}"

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors with separate queries, keys and values, which most files join."""
        return separate(tensors) if form in ("pytorch", "mmseg") else tensors


class MapLinear(nn.Dense):
    """Linear layer on each pixel of a map: (N, in_channels, H, W) -> (N, channels, H, W)."""

    def __init__(self, channels: int, *, in_channels: int):
        super().__init__(channels, flatten=False, in_units=in_channels)

    def hybrid_forward(self, F, x, weight, bias=None):
        y = super().hybrid_forward(F, to_tokens(F, x), weight, bias)
        return to_map(F, y, F.BlockGrad(x))
