"""GFFNet: gated fully fusion. Li, Zhao, Han, Tong, Tan & Yang, AAAI 2020."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..errors import UnknownNameError
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone

VARIANTS = ("port", "paper")


class GFFNet(SegModel):
    """Every tap is fused with all others, each behind a gate; then a dense pyramid with PSPNet's context.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    The gates are one for each channel, as in MXNetSeg; the paper has one for each place.

    Args:
        nclass: classes.
        backbone: any with four taps.
        output_stride: 8 (the paper's), 16 or 32.
        variant: ``'port'`` (MXNetSeg's, which its weights need: the taps are fused one after the other, so
            that all but the first see the ones before already fused) or ``'paper'`` (all from the
            unfused ones).
        aux: an auxiliary head on the last tap but one.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        UnknownNameError: no such variant.
    """

    mxnetseg_classes = ("GFFNet",)
    mxnetseg_prefixes = {"head.ppm.0.": "ppm.", "head.ppm.1.": "ppm_proj.", "head.dfp.head.": "head.",
                         **{f"head.conv1x1_{i + 1}.": f"reductions.{i}." for i in range(4)},
                         **{f"head.gate_{i + 1}.conv.": f"gates.{i}." for i in range(4)},
                         **{f"head.fusion_{i + 1}.": f"fusions.{i}." for i in range(4)},
                         **{f"head.dfp.blk_{i + 1}.": f"pyramid.{i}." for i in range(4)}}
    needs_batch = 2  # one cell of the pyramid pooling is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, variant: str = "port",
                 aux: bool = False, norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        if variant not in VARIANTS:
            raise UnknownNameError("variant of GFFNet", variant, VARIANTS)
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        taps = four_taps(self.backbone, backbone)
        self._sequential = variant == "port"
        with self.name_scope():
            self.ppm = PPM(taps[-1].channels, **norm)
            self.ppm_proj = ConvModule2d(256, 1, in_channels=self.ppm.out_channels, **norm)
            self.reductions, self.gates, self.fusions, self.pyramid = (nn.HybridSequential() for _ in range(4))
            for i, tap in enumerate(taps):
                self.reductions.add(ConvModule2d(256, 1, in_channels=tap.channels, **norm))
                self.gates.add(nn.Conv2D(256, 1, in_channels=tap.channels, activation="sigmoid"))
                fusion = nn.HybridSequential()
                fusion.add(ConvModule2d(256, 3, in_channels=256, **norm), ConvModule2d(256, 3, in_channels=256, **norm))
                self.fusions.add(fusion)
                self.pyramid.add(ConvModule2d(256, 3, in_channels=256 * (5 - i), **norm))
            self.head = FCNHead(nclass, 5 * 256, **norm)
            self.aux_head = FCNHead(nclass, taps[-2].channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        taps = self.backbone(x)
        context = self.ppm_proj(self.ppm(taps[-1]))
        gates = [gate(tap) for gate, tap in zip(self.gates, taps)]
        features = [reduce(tap) for reduce, tap in zip(self.reductions, taps)]

        fused = [fusion(f) for fusion, f in zip(self.fusions, self._fuse(F, features, gates))]
        finest = fused[0]
        context, *fused = (resize(F, f, finest, align_corners=True) for f in [context, *fused])

        # dense feature pyramid, coarse to fine: each step sees its tap, the context and all steps before
        dense = [context]
        for step, f in zip(reversed(list(self.pyramid)), reversed(fused)):
            dense.append(step(_arranged(F, dense, f)))
        outputs = [self.head(F.concat(*dense, dim=1))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(taps[-2]))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def _fuse(self, F, features, gates):
        """Section 3.2 of the paper: (1 + G_l) X_l + (1 - G_l) sum_{i != l} G_i X_i."""
        available, fused = list(features), []
        for own, (feature, gate) in enumerate(zip(features, gates)):
            others = [resize(F, gates[i] * available[i], feature, align_corners=True)
                      for i in range(len(features)) if i != own]
            fused.append((1 + gate) * feature + (1 - gate) * F.add_n(*others))
            if self._sequential:
                available[own] = fused[own]
        return fused


def _arranged(F, dense, f):
    """What a step of the dense pyramid reads, in MXNetSeg's order: the step before, the tap, the older ones."""
    context, *steps = dense
    if not steps:
        return F.concat(context, f, dim=1)
    *older, last = steps
    return F.concat(last, f, *reversed(older), context, dim=1)
