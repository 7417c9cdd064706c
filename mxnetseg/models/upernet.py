"""UPerNet, "Unified perceptual parsing for scene understanding": Xiao, Liu, Zhou, Jiang & Sun, ECCV 2018.

A feature pyramid on top of pyramid pooling, whose levels are concatenated for the classifier.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.context import PPM
from ..nn.resize import resize
from ._base import SegModel, four_taps, norm_options
from ._mmseg import mmseg_name
from .backbones import get_backbone
from .hrnet import concat_resized


class UPerNet(SegModel):
    """UPerNet: a feature pyramid with pyramid pooling at its top, and a head on all levels (section 3.1, figure 4).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    Of the paper's heads this is the head for objects and parts, the network that is known as UPerNet today. As in
    mmsegmentation, whose weights it reads, norm and ReLU follow the pyramid's projections.

    Args:
        nclass: number of classes.
        backbone: any with four taps.
        channels: channels of the pyramid and of the head.
        aux: an FCN head on the second-to-last tap; the weight of its loss is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a backbone with another number of taps.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map

    def __init__(self, *, nclass: int, backbone: str = "resnet50", channels: int = 512, aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
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
        outputs = [self.head(self.fuse(concat_resized(F, levels[::-1])))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(fine[-1]))
        return tuple(resize(F, logits, x, align_corners=False) for logits in outputs)

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        return mmseg_name(self, name, {
            r"^decode_head\.bottleneck\.": "top.", r"^decode_head\.lateral_convs\.": "laterals.",
            r"^decode_head\.fpn_convs\.": "convs.", r"^decode_head\.fpn_bottleneck\.": "fuse.",
            r"^decode_head\.conv_seg\.": "head.1."})
