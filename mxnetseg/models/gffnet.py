"""GFFNet: gated fully fusion. Li, Zhao, Han, Tong, Tan & Yang, AAAI 2020.

Gates control what each level of the backbone sends to, and receives from, all other levels.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..errors import UnknownNameError
from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone

VARIANTS = ("port", "paper")


class GFFNet(SegModel):
    """GFFNet: gated fusion of every tap with all others, and a dense feature pyramid with PSPNet's context.

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg, a gate has one value per pixel and channel; in the paper it has one per pixel.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        variant: ``'port'`` as in MXNetSeg, whose weights need it: the taps are fused one after the other, and read the
            previous taps in their fused form. ``'paper'``: all taps read the unfused taps.
        aux: an auxiliary head on the second-to-last tap.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant.
    """

    mxnetseg_classes = ("GFFNet",)
    mxnetseg_prefixes = {"head.ppm.0.": "ppm.", "head.ppm.1.": "ppm_proj.", "head.dfp.head.": "head.",
                         **{f"head.conv1x1_{i + 1}.": f"reductions.{i}." for i in range(4)},
                         **{f"head.gate_{i + 1}.conv.": f"gates.{i}." for i in range(4)},
                         **{f"head.fusion_{i + 1}.": f"fusions.{i}." for i in range(4)},
                         **{f"head.dfp.blk_{i + 1}.": f"pyramid.{i}." for i in range(4)}}
    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8, variant: str = "port",
                 aux: bool = False, norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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
                fusion.add(*(ConvModule2d(256, 3, in_channels=256, **norm) for _ in range(2)))
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

        # dense feature pyramid, coarse to fine: each step reads its tap, the context and all previous steps
        dense = [context]
        for step, f in zip(reversed(list(self.pyramid)), reversed(fused)):
            dense.append(step(_concat_in_order(F, dense, f)))

        outputs = [self.head(F.concat(*dense, dim=1))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(taps[-2]))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)

    def _fuse(self, F, features, gates):
        """Return the fused features (1 + G_l) X_l + (1 - G_l) sum_{i != l} G_i X_i: section 3.2 of the paper."""
        available, fused = list(features), []
        for level, (feature, gate) in enumerate(zip(features, gates)):
            others = [resize(F, gates[i] * available[i], feature, align_corners=True)
                      for i in range(len(features)) if i != level]
            fused.append((1 + gate) * feature + (1 - gate) * F.add_n(*others))
            if self._sequential:
                available[level] = fused[level]
        return fused


def _concat_in_order(F, dense, f):
    """Concatenate a step's inputs in MXNetSeg's order: the previous step, the tap ``f``, older steps, the context."""
    context, *steps = dense
    if not steps:
        return F.concat(context, f, dim=1)
    *older, last = steps
    return F.concat(last, f, *reversed(older), context, dim=1)
