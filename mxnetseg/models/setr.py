"""SETR, segmentation transformer: Zheng et al., CVPR 2021.

A plain vision transformer as encoder, and one of three convolutional decoders.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mxnet.gluon import nn

from ..errors import ConfigError, UnknownNameError
from ..losses import Blend, Term
from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.norm import LayerNorm
from ..nn.resize import enlarge, resize
from ._base import SegModel, norm_options
from ._mmseg import mmseg_name
from .backbones import BACKBONES, get_backbone

# section 4.1: the layers, out of 24, that each decoder reads
LAYERS = {"naive": (10, 15, 20, 24), "pup": (10, 15, 20, 24), "mla": (6, 12, 18, 24)}
WIDTH = 256  # channels of the decoders
VARIANTS = ("paper", "port", "mmseg")


class SETR(SegModel):
    """SETR: a vision transformer as encoder, and one of the paper's three decoders.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits: three
    for ``naive``, four for ``pup`` and ``mla``.

    MXNetSeg's network accepts only squares of its crop size; this one accepts any size, see
    :class:`~mxnetseg.models.backbones.vit.VisionTransformer`. In MXNetSeg, ``pup`` ends with batch norm and ReLU, so no
    logit is below 0; here its last convolution has a bias and no norm or ReLU, unless ``variant='port'`` selects
    MXNetSeg's rule, which its weights need. MXNetSeg always has four layer norms, three of which are unused in
    ``naive`` and ``pup`` without ``aux``; here only the used ones exist.

    ``variant='mmseg'`` is as in mmsegmentation. Resizing does not align corners. Logits are upsampled before they are
    resized to the input: by 4 after a head of convolutions, and by 2 after the 1x1 classifier of ``pup``. ``pup`` has
    three auxiliary heads with 3x3 convolutions; the heads of ``mla`` are 1x1 classifiers on its four sums,
    starting with the last tap. In ``naive`` and ``pup`` the patches also attend to a class token.

    Args:
        nclass: number of classes.
        backbone: ``'vit_large_16'`` (the paper's), ``'vit_base_16'``, ``'vit_huge_16'`` or ``'vit_reduced'``,
            a tiny one for experiments. If it does not have 24 layers, the taps are at the same fractions of its depth.
        decoder: ``'naive'``, ``'pup'`` (progressive upsampling) or ``'mla'`` (multi-level aggregation).
        variant: ``'paper'``, ``'port'``, which differs for ``pup`` only, or ``'mmseg'``.
        grid: patches per side, or (rows, columns) of patches, of the position embedding in training: crop size / 16.
        aux: auxiliary heads on the tapped layers, from the last to the first; ``naive`` has none on the last layer.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV, for the decoder.

    Raises:
        ConfigError: a backbone that is not a vision transformer, or an invalid ``grid``.
        UnknownNameError: unknown decoder or variant.
    """

    mxnetseg_classes = ("SETR",)
    foreign_options = {"mxnetseg": {"variant": "port"}, "mmseg": {"variant": "mmseg"}}
    structures = tuple({"decoder": decoder} for decoder in LAYERS)
    mxnetseg_prefixes = {
        "pos_embed": "backbone.pos_embed", "layer_norms.": "norm", "head.aux_head.": "aux_heads.", "head.": "decoder."}

    def __init__(self, *, nclass: int, backbone: str = "vit_large_16", decoder: str = "pup",
                 variant: str = "paper", grid: int | Sequence[int] = 30, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if decoder not in DECODERS:
            raise UnknownNameError("decoder of SETR:", decoder, list(DECODERS))
        if variant not in VARIANTS:
            raise UnknownNameError("variant of SETR:", variant, VARIANTS)
        if not BACKBONES.resolve(backbone).startswith("vit_"):
            raise ConfigError("SETR needs a vision transformer", where="model.backbone", received=backbone,
                              fix="vit_base_16 or vit_large_16")

        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = variant == "mmseg"
        options = {"fractions": [layer / 24 for layer in LAYERS[decoder]], "grid": grid,
                   "class_token": self._mmseg and decoder != "mla"}
        super().__init__(get_backbone(backbone, output_stride=16, options=options, **norm), nclass)
        channels = self.backbone.taps[-1].channels

        with self.name_scope():
            self.decoder = DECODERS[decoder](nclass, channels, variant=variant, **norm)
            for k in range(4):  # Gluon's trainer fails on unused parameters
                if aux or k >= 4 - self.decoder.reads:
                    setattr(self, f"norm{k}", LayerNorm(axis=1, epsilon=1e-6, in_channels=channels))
            self.aux_heads = nn.HybridSequential() if aux else None
            if aux:
                if self._mmseg and decoder == "mla":
                    self.aux_heads.add(*(classifier(nclass, WIDTH) for _ in range(4)))
                else:
                    kernel_size, count = (3, 3) if self._mmseg and decoder == "pup" else (1, self.decoder.aux_heads)
                    self.aux_heads.add(*(FCNHead(nclass, channels, channels=WIDTH, kernel_size=kernel_size, **norm)
                                         for _ in range(count)))

    def hybrid_forward(self, F, x):
        taps = self.backbone(x)
        for k in range(4):
            if f"norm{k}" in self._children:
                taps[k] = self._children[f"norm{k}"](taps[k])
        logits, *sums = self.decoder(*taps[-self.decoder.reads:])

        outputs = [logits]
        if self.aux_heads is not None:
            heads = self.aux_heads._children.values()
            if self._mmseg and sums:
                outputs += [head(y) for head, y in zip(heads, sums)]
            else:
                aux = [head(tap) for head, tap in zip(heads, reversed(taps[:len(heads)]))]
                outputs += [enlarge(F, y, 4, align_corners=False) for y in aux] if self._mmseg else aux
        return tuple(resize(F, y, x, align_corners=not self._mmseg) for y in outputs)

    def from_mxnetseg(self, name: str) -> str | None:
        ours = super().from_mxnetseg(name)
        is_unused_norm = name.startswith("layer_norms.") and ours.split(".")[0] not in self._children
        return None if is_unused_norm else ours

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it.

        The latter holds for the class token of ``mla``, which mmsegmentation removes before the first layer.
        """
        if name == "backbone.cls_token":
            return None if isinstance(self.decoder, MultiLevelAggregation) else "backbone.class_token"
        return mmseg_name(self, name, {
            r"^backbone\.patch_embed\.projection\.": "backbone.patch_embed.linear.",
            r"^backbone\.layers\.(\d+)\.ln(\d)\.": r"backbone.blocks.\1.norm\2.",
            r"^backbone\.layers\.(\d+)\.attn\.attn\.in_proj_": r"backbone.blocks.\1.att.att_qkv.",
            r"^backbone\.layers\.(\d+)\.attn\.attn\.out_proj\.": r"backbone.blocks.\1.att.proj.",
            r"^backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.": r"backbone.blocks.\1.mlp.fc1.",
            r"^backbone\.layers\.(\d+)\.ffn\.layers\.1\.": r"backbone.blocks.\1.mlp.fc2.",
            r"^(?:neck\.norm\.(\d)|auxiliary_head\.(\d)\.norm|decode_head\.norm)\.":
                lambda found: f"norm{found[1] or found[2] or 3}.", **self.decoder.mmseg_names})

    def adapt_foreign(self, form: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return mmsegmentation's tensors with the class token's position embedding added to the token itself.

        The patch embedding, which has no bias there, gets a bias of zeros.
        """
        position, token = (tensors.get(f"backbone.{name}") for name in ("pos_embed", "cls_token"))
        if form != "mmseg" or token is None or position is None or position.shape[2:] != token.shape[2:]:
            return super().adapt_foreign(form, tensors)
        no_bias = np.zeros(position.shape[2:], position.dtype)
        return {"backbone.patch_embed.projection.bias": no_bias, **tensors,
                "backbone.cls_token": token + position[:, :1], "backbone.pos_embed": position[:, 1:]}

    @classmethod
    def arguments_of(cls, shapes: Mapping[str, Sequence[int]]) -> dict[str, object]:
        """Return the grid, if the number of positions is a square."""
        shape = shapes.get("backbone.pos_embed", ())
        side = round(shape[1] ** 0.5) if len(shape) == 3 else 0
        return {"grid": side} if side and side ** 2 == shape[1] else {}

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of section 4.1: every auxiliary head adds a loss, here with weight ``aux_weight``."""
        count = len(self.aux_heads) if self.aux_heads is not None else 0
        return [Term(0, 1.0, pixel_loss)] + [Term(k + 1, aux_weight, pixel_loss) for k in range(count)]


# mmsegmentation counts the auxiliary heads from the first tap, this network from the last
MMSEG_AUX_HEADS = {
    r"^auxiliary_head\.(\d)\.up_convs\.0\.0\.": lambda found: f"aux_heads.{2 - int(found[1])}.conv1.",
    r"^auxiliary_head\.(\d)\.conv_seg\.": lambda found: f"aux_heads.{2 - int(found[1])}.conv2."}


class Naive(nn.HybridBlock):
    """Naive decoder: two 1x1 convolutions on the last layer. (N, in_channels, h, w) -> (N, nclass, h, w)."""

    reads = 1  # number of taps, counted from the last
    aux_heads = 3
    mmseg_names = {r"^decode_head\.up_convs\.0\.0\.": "decoder.head.conv1.",
                   r"^decode_head\.conv_seg\.": "decoder.head.conv2.", **MMSEG_AUX_HEADS}

    def __init__(self, nclass: int, in_channels: int, *, variant: str, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        self._mmseg = variant == "mmseg"
        with self.name_scope():
            self.head = FCNHead(nclass, in_channels, channels=WIDTH, kernel_size=1,
                                **norm_options(norm_layer, norm_kwargs))

    def hybrid_forward(self, F, x):
        logits = self.head(x)
        return [enlarge(F, logits, 4, align_corners=False) if self._mmseg else logits]


class ProgressiveUpsampling(nn.HybridBlock):
    """Progressive upsampling (PUP): convolutions and upsampling by 2, alternately, to stride 2. Figure 1 (b).

    (N, in_channels, h, w) of the last layer -> (N, nclass, 8 h, 8 w).
    """

    reads = 1  # number of taps, counted from the last
    aux_heads = 4
    mmseg_names = {r"^decode_head\.up_convs\.(\d)\.0\.": r"decoder.conv\1.",
                   r"^decode_head\.conv_seg\.": "decoder.conv4.", **MMSEG_AUX_HEADS}

    def __init__(self, nclass: int, in_channels: int, *, variant: str, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = variant == "mmseg"

        with self.name_scope():
            self.conv0 = ConvModule2d(WIDTH, 3, in_channels=in_channels, **norm)
            self.conv1 = ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm)
            self.conv2 = ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm)
            self.conv3 = ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm)
            if variant == "port":
                self.conv4 = ConvModule2d(nclass, 3, in_channels=WIDTH, **norm)
            else:
                kernel_size = 1 if self._mmseg else 3
                self.conv4 = nn.Conv2D(nclass, kernel_size, padding=kernel_size // 2, in_channels=WIDTH)

    def hybrid_forward(self, F, x):
        x = self.conv0(x)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(enlarge(F, x, 2, align_corners=not self._mmseg))
        logits = self.conv4(x)
        return [enlarge(F, logits, 2, align_corners=False) if self._mmseg else logits]


class MultiLevelAggregation(nn.HybridBlock):
    """Multi-level aggregation (MLA): cumulative sums of four layers from the last to the first. Figure 1 (c).

    Each sum is convolved, and all are concatenated for the classifier. Four maps (N, in_channels, h, w) -> logits
    (N, nclass, h, w) and the convolved sums, from the last layer to the first. The paper upsamples by 4 before the
    concatenation and again after the classifier; here, as in MXNetSeg, there is one upsampling at the end.
    """

    reads = 4  # number of taps, counted from the last
    aux_heads = 4
    mmseg_names = {
        r"^neck\.mla\.channel_proj\.(\d)\.": lambda found: f"decoder.conv1x1_p{2 + int(found[1])}.",
        r"^neck\.mla\.feat_extract\.(\d)\.": lambda found: f"decoder.conv3x3_p{5 - int(found[1])}.",
        r"^decode_head\.up_convs\.(\d)\.": lambda found: f"decoder.head{5 - int(found[1])}.",
        r"^decode_head\.conv_seg\.": "decoder.head.", r"^auxiliary_head\.(\d)\.conv_seg\.": r"aux_heads.\1.1."}

    def __init__(self, nclass: int, in_channels: int, *, variant: str, norm_layer: type,
                 norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._mmseg = variant == "mmseg"

        def two_convs():
            pair = nn.HybridSequential()
            pair.add(ConvModule2d(WIDTH // 2, 3, in_channels=WIDTH, **norm),
                     ConvModule2d(WIDTH // 2, 3, in_channels=WIDTH // 2, **norm))
            return pair

        with self.name_scope():
            for level in (5, 4, 3, 2):
                setattr(self, f"conv1x1_p{level}", ConvModule2d(WIDTH, 1, in_channels=in_channels, **norm))
                setattr(self, f"conv3x3_p{level}", ConvModule2d(WIDTH, 3, in_channels=WIDTH, **norm))
                setattr(self, f"head{level}", two_convs())
            self.head = nn.Conv2D(nclass, 1, in_channels=4 * (WIDTH // 2))

    def hybrid_forward(self, F, c2, c3, c4, c5):
        p5 = self.conv1x1_p5(c5)
        p4 = self.conv1x1_p4(c4) + p5
        p3 = self.conv1x1_p3(c3) + p4
        p2 = self.conv1x1_p2(c2) + p3

        sums = [self.conv3x3_p5(p5), self.conv3x3_p4(p4), self.conv3x3_p3(p3), self.conv3x3_p2(p2)]
        heads = (self.head5, self.head4, self.head3, self.head2)
        logits = self.head(F.concat(*(head(y) for head, y in zip(heads, sums)), dim=1))
        return [enlarge(F, logits, 4, align_corners=False) if self._mmseg else logits, *sums]


DECODERS: dict[str, Any] = {"naive": Naive, "pup": ProgressiveUpsampling, "mla": MultiLevelAggregation}
