"""DenseASPP: Yang, Yu, Zhang, Li & Yang, CVPR 2018.

A chain of dilated convolutions, each of which reads the backbone's features and all previous results.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones import get_backbone


class DensePyramid(nn.HybridBlock):
    """Dense atrous spatial pyramid: y_l = dilated_l(narrow_l([x, y_1, ..., y_(l-1)])).

    x: (N, in_channels, H, W) -> (N, channels, H, W), the projection of x and all y_l, concatenated.

    Args:
        channels: channels of each y_l and of the output.
        in_channels: input channels.
        narrow: channels before each dilated convolution except the first.
        rates: dilation of each y_l.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, narrow: int, rates: Sequence[int],
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        self._steps = len(rates)

        with self.name_scope():
            self.dilate1 = ConvModule2d(channels, 3, dilation=rates[0], in_channels=in_channels, **norm)
            for i, rate in enumerate(rates[1:], start=1):
                before = in_channels + i * channels
                setattr(self, f"trans{i}", ConvModule2d(narrow, 1, in_channels=before, **norm))
                setattr(self, f"dilate{i + 1}",
                        ConvModule2d(channels, 3, dilation=rate, in_channels=narrow, **norm))
            joined = in_channels + len(rates) * channels
            self.projection = ConvModule2d(channels, 1, in_channels=joined, **norm)
            self.drop = nn.Dropout(0.5)

    def hybrid_forward(self, F, x):
        x = F.concat(x, self.dilate1(x), dim=1)
        for i in range(1, self._steps):
            narrowed = getattr(self, f"trans{i}")(x)
            x = F.concat(x, getattr(self, f"dilate{i + 1}")(narrowed), dim=1)
        return self.drop(self.projection(x))


class DenseASPP(SegModel):
    """DenseASPP: densely connected convolutions of increasing dilation (section 3 of the paper).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the auxiliary logits.

    As in MXNetSeg: a ResNet instead of the paper's DenseNet, branches of 256 channels, and a projection to 256 channels
    before an FCN head. The 1x1 convolutions have half the channels of the backbone's last tap (1024 in MXNetSeg, which
    is the same for the ResNets that it accepts).

    Args:
        nclass: number of classes.
        backbone: the pyramid reads its last tap, the auxiliary head the one before.
        output_stride: ratio of the input's size to the last tap's: 8 (the paper's), 16 or 32.
        rates: dilations of the 3x3 convolutions, in the order of the chain.
        aux: an auxiliary head; the weight of its loss is ``loss.aux_weight`` of the configuration.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    mxnetseg_classes = ("DenseASPP",)
    mxnetseg_prefixes = {"head.dense_aspp.": "pyramid.", "head.head.": "head."}

    def __init__(self, *, nclass: int, backbone: str = "resnet50", output_stride: int = 8,
                 rates: Sequence[int] = (3, 6, 12, 18, 24), aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(get_backbone(backbone, output_stride=output_stride, **norm), nclass)
        c3, c4 = self.backbone.taps[-2:]
        self.aligned_stride = self.backbone.grid_stride
        with self.name_scope():
            self.pyramid = DensePyramid(256, in_channels=c4.channels, narrow=c4.channels // 2, rates=rates,
                                        **norm)
            self.head = FCNHead(nclass, 256, **norm)
            self.aux_head = FCNHead(nclass, c3.channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        c3, c4 = self.backbone(x)[-2:]
        outputs = [self.head(self.pyramid(c4))]
        if self.aux_head is not None:
            outputs.append(self.aux_head(c3))
        return tuple(resize(F, logits, x, align_corners=True) for logits in outputs)
