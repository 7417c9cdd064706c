"""UPerNet, "Unified perceptual parsing for scene understanding": Xiao, Liu, Zhou, Jiang & Sun, ECCV 2018."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from .backbones import get_backbone
from .hrnet import joined
from .weights.mmseg import mmseg_name


class UPerNet(SegModel):
    """A feature pyramid whose top is a pyramid pooling module, and a head on all of its levels (section 3.1, figure 4).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    Of the paper's heads this is the one for objects and parts, which is what became known as UPerNet; as in
    mmsegmentation, whose weights it reads, the pyramid's projections have norm and ReLU.

    Args:
        nclass: classes.
        backbone: any with four taps.
        channels: of the pyramid and of the head.
        aux: an FCN head on the tap before the last; its loss is weighted by the configuration's ``loss.aux_weight``.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: a backbone with another number of taps.
    """

    needs_batch = 2  # one cell of the pyramid pooling is the whole image

    def __init__(self, *, nclass: int, backbone: str = "resnet50", channels: int = 512, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=32, **norm), nclass)
        *fine, c4 = four_taps(self.backbone, backbone)
        with self.name_scope():
            self.ppm = PPM(c4.channels, channels=channels, align_corners=False, **norm)
            self.top = ConvModule2d(channels, 3, in_channels=self.ppm.out_channels, **norm)
            self.laterals, self.convs = nn.HybridSequential(), nn.HybridSequential()
            for tap in fine:
                self.laterals.add(ConvModule2d(channels, 1, in_channels=tap.channels, **norm))
                self.convs.add(ConvModule2d(channels, 3, in_channels=channels, **norm))
            self.fuse = ConvModule2d(channels, 3, in_channels=4 * channels, **norm)
            self.head = classifier(nclass, channels)
            self.aux_head = None
            if aux:
                self.aux_head = FCNHead(nclass, fine[-1].channels, channels=fine[-1].channels // 4, **norm)

    def hybrid_forward(self, F, x):
        *fine, c4 = self.backbone(x)
        high = self.top(self.ppm(c4))
        levels = [high]  # coarse to fine
        for lateral, conv, tap in reversed(list(zip(self.laterals, self.convs, fine))):
            low = lateral(tap)
            high = low + resize(F, high, low, align_corners=False)
            levels.append(conv(high))
        outputs = [self.head(self.fuse(joined(F, levels[::-1])))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(fine[-1]))
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        return mmseg_name(self, name, {
            r"^decode_head\.bottleneck\.": "top.", r"^decode_head\.lateral_convs\.": "laterals.",
            r"^decode_head\.fpn_convs\.": "convs.", r"^decode_head\.fpn_bottleneck\.": "fuse.",
            r"^decode_head\.conv_seg\.": "head.1."})
