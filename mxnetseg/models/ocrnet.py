"""OCRNet, "Object-contextual representations for semantic segmentation": Yuan, Chen & Wang, ECCV 2020.

Each pixel attends to one feature vector per class, which is the mean over the pixels of that class.
"""
from __future__ import annotations

from collections.abc import Mapping

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.precision import as_type_of, to_float32
from ..nn.resize import resize
from ._base import SegModel, norm_options
from ._mmseg import mmseg_name
from .backbones.hrnet import HRNetV2
from .hrnet import concat_resized, in_backbone


class OCRNet(SegModel):
    """OCRNet: attention from pixels to class regions, on HRNetV2 (section 3, figure 3).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W), coarse logits (N, nclass, H, W)). The coarse logits define the class
    regions. The attention map has H W / 16 x nclass weights, whereas self-attention between pixels has (H W / 16)^2.

    As in mmsegmentation, whose weights this network reads.

    Args:
        nclass: number of classes.
        width: channels of HRNet's finest branch: 48 (the paper's), 32 or 18.
        channels: channels of the map before and after the attention, which has half as many inside.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a width that is not a positive number.
    """

    structures = ({"width": 48}, {"width": 32}, {"width": 18})

    def __init__(self, *, nclass: int, width: int = 48, channels: int = 512, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Mapping | None = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(HRNetV2(width=width, by_factor=True, **norm), nclass)
        in_channels = sum(tap.channels for tap in self.backbone.taps)
        with self.name_scope():
            self.conv = ConvModule2d(channels, 3, in_channels=in_channels, **norm)
            self.ocr = ObjectContext(channels, **norm)
            self.head = classifier(nclass, channels)
            # the weight of its loss is loss.aux_weight of the configuration, 0.4 in section 4.2
            self.aux_head = FCNHead(nclass, in_channels, channels=in_channels, kernel_size=1, **norm)

    def hybrid_forward(self, F, x):
        features = concat_resized(F, self.backbone(x))
        coarse = self.aux_head(features)
        logits = self.head(self.ocr(self.conv(features), coarse))
        return tuple(resize(F, y, x, align_corners=False) for y in (logits, coarse))

    def from_mmseg(self, name: str) -> str | None:
        """Return our name of a parameter of mmsegmentation's, or None if this network does not have it."""
        if name.startswith("backbone."):
            return in_backbone(self.backbone, name[len("backbone."):])
        return mmseg_name(self, name, {
            r"^decode_head\.0\.": "aux_head.", r"^decode_head\.1\.conv_seg\.": "head.1.",
            r"^decode_head\.1\.bottleneck\.": "conv.", r"^decode_head\.1\.object_context_block\.": "ocr.",
            r"^ocr\.(\w+)_project\.": r"ocr.\1.", r"^ocr\.bottleneck\.": "ocr.join."})


class ObjectContext(nn.HybridBlock):
    """Object-contextual representations: section 3.2.

    Let x_i be the feature of pixel i, and m_ki its degree of membership in region k, a softmax of k's coarse logits
    over the pixels. Then

        f_k = sum_i m_ki x_i,    w_ik = softmax_k(query(x_i) . key(f_k) / sqrt(d)),
        y_i = out(sum_k w_ik value(f_k)),    z_i = join([y_i, x_i])

    The division by sqrt(d) is not in the paper, but in the released code and in mmsegmentation.

    x: (N, channels, H, W), coarse: (N, nclass, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, norm_layer: type, norm_kwargs: Mapping | None):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        attention_channels = channels // 2  # d
        self._scale = attention_channels ** -0.5

        def two_convs():
            pair = nn.HybridSequential()
            pair.add(ConvModule2d(attention_channels, 1, in_channels=channels, **norm),
                     ConvModule2d(attention_channels, 1, in_channels=attention_channels, **norm))
            return pair

        with self.name_scope():
            self.query, self.key = two_convs(), two_convs()
            self.value = ConvModule2d(attention_channels, 1, in_channels=channels, **norm)
            self.out = ConvModule2d(channels, 1, in_channels=attention_channels, **norm)
            self.join = ConvModule2d(channels, 1, in_channels=2 * channels, **norm)

    def hybrid_forward(self, F, x, coarse):
        membership = F.softmax(F.reshape(to_float32(F, coarse), (0, 0, -1)), axis=2)  # (N, K, HW)
        regions = F.batch_dot(F.reshape(to_float32(F, x), (0, 0, -1)), membership, transpose_b=True)  # (N, C, K)
        regions = F.expand_dims(as_type_of(F, regions, x), 3)
        key, value = (F.reshape(to_float32(F, y), (0, 0, -1))  # (N, d, K)
                      for y in (self.key(regions), self.value(regions)))
        query = self.query(x)
        flat = F.reshape(to_float32(F, query), (0, 0, -1)) * self._scale
        weights = F.batch_dot(flat, key, transpose_a=True)  # (N, HW, K)
        context = F.batch_dot(value, F.softmax(weights, axis=-1), transpose_b=True)  # (N, d, HW)
        context = self.out(F.reshape_like(as_type_of(F, context, x), F.BlockGrad(query)))
        return self.join(F.concat(context, x, dim=1))
