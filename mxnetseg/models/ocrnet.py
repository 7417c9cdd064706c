"""OCRNet, "Object-contextual representations for semantic segmentation": Yuan, Chen & Wang, ECCV 2020."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..nn.blocks import ConvModule2d, FCNHead, classifier
from ..nn.precision import as_type_of, wide
from ..nn.resize import resize
from ._base import SegModel, norm_options
from .backbones.hrnet import HRNetV2
from .hrnet import in_backbone, joined
from .weights.mmseg import mmseg_name


class OCRNet(SegModel):
    """Every place looks at a vector for each class, which the places of that class have made (section 3, figure 3).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W), the coarse logits that say which place is of which class). The
    attention has H W / 16 rows of ``nclass`` weights, not of H W / 16 as among places.

    On HRNetV2; as in mmsegmentation, whose weights it reads.

    Args:
        nclass: classes.
        width: channels of HRNet's finest branch: 48 (the paper's), 18.
        channels: of the map that is augmented; half as many inside the attention.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: no width.
    """

    structures = ({"width": 48}, {"width": 32}, {"width": 18})

    def __init__(self, *, nclass: int, width: int = 48, channels: int = 512, norm_layer: type = nn.BatchNorm,
                 norm_kwargs: Optional[Mapping] = None):
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(HRNetV2(width=width, by_factor=True, **norm), nclass)
        in_channels = sum(tap.channels for tap in self.backbone.taps)
        with self.name_scope():
            self.conv = ConvModule2d(channels, 3, in_channels=in_channels, **norm)
            self.ocr = ObjectContext(channels, **norm)
            self.head = classifier(nclass, channels)
            # its loss weighs the configuration's loss.aux_weight: 0.4 in section 4.2
            self.aux_head = FCNHead(nclass, in_channels, channels=in_channels, kernel_size=1, **norm)

    def hybrid_forward(self, F, x):
        features = joined(F, self.backbone(x))
        coarse = self.aux_head(features)
        logits = self.head(self.ocr(self.conv(features), coarse))
        return tuple(resize(F, y, x, align_corners=False) for y in (logits, coarse))

    def from_mmseg(self, name: str) -> Optional[str]:
        """Our name of a parameter in mmsegmentation's checkpoints; None for one we have not."""
        if name.startswith("backbone."):
            return in_backbone(self.backbone, name[len("backbone."):])
        return mmseg_name(self, name, {
            r"^decode_head\.0\.": "aux_head.", r"^decode_head\.1\.conv_seg\.": "head.1.",
            r"^decode_head\.1\.bottleneck\.": "conv.", r"^decode_head\.1\.object_context_block\.": "ocr.",
            r"^ocr\.(\w+)_project\.": r"ocr.\1.", r"^ocr\.bottleneck\.": "ocr.join."})


class ObjectContext(nn.HybridBlock):
    """Object-contextual representations: section 3.2.

    With x_i the feature of place i and m_ki how much it belongs to region k, a softmax of k's coarse logits over the
    places,

        f_k = sum_i m_ki x_i,    w_ik = softmax_k(query(x_i) . key(f_k) / sqrt(d)),
        y_i = out(sum_k w_ik value(f_k)),    z_i = join([y_i, x_i])

    The division by sqrt(d) is not in the paper; the released code and mmsegmentation have it.

    x: (N, channels, H, W), coarse: (N, nclass, H, W) -> (N, channels, H, W).
    """

    def __init__(self, channels: int, *, norm_layer: type, norm_kwargs: Optional[Mapping]):
        super().__init__()
        norm = norm_options(norm_layer, norm_kwargs)
        inside = channels // 2
        self._scale = inside ** -0.5

        def two():
            pair = nn.HybridSequential()
            pair.add(ConvModule2d(inside, 1, in_channels=channels, **norm),
                     ConvModule2d(inside, 1, in_channels=inside, **norm))
            return pair

        with self.name_scope():
            self.query, self.key = two(), two()
            self.value = ConvModule2d(inside, 1, in_channels=channels, **norm)
            self.out = ConvModule2d(channels, 1, in_channels=inside, **norm)
            self.join = ConvModule2d(channels, 1, in_channels=2 * channels, **norm)

    def hybrid_forward(self, F, x, coarse):
        belongs = F.softmax(F.reshape(wide(F, coarse), (0, 0, -1)), axis=2)  # (N, K, HW)
        regions = F.batch_dot(F.reshape(wide(F, x), (0, 0, -1)), belongs, transpose_b=True)  # (N, C, K)
        regions = F.expand_dims(as_type_of(F, regions, x), 3)
        key, value = (F.reshape(wide(F, y), (0, 0, -1)) for y in (self.key(regions), self.value(regions)))  # (N, d, K)
        query = self.query(x)
        weights = F.batch_dot(F.reshape(wide(F, query), (0, 0, -1)) * self._scale, key, transpose_a=True)  # (N, HW, K)
        context = F.batch_dot(value, F.softmax(weights, axis=-1), transpose_b=True)  # (N, d, HW)
        context = self.out(F.reshape_like(as_type_of(F, context, x), F.BlockGrad(query)))
        return self.join(F.concat(context, x, dim=1))
