"""PIDNet: a real-time semantic segmentation network inspired by PID controllers. Xu, Xiong & Bhattacharyya, CVPR 2023.

Three branches: for detail, for context, and for boundaries, where the first of the two is preferred to the second.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import HybridBlock, nn

from ..errors import UnknownNameError
from ..losses import Blend, BoundaryAware, BoundaryLoss, Term
from ..nn.precision import as_type_of, to_float32
from ..nn.resize import resize
from ._base import norm_options
from .backbones._base import Backbone, Tap
from .ddrnet import (
    DAPPM,
    BranchedNetwork,
    PreActivationHead,
    ResidualBlock,
    bottlenecks,
    choose_variant,
    linear_conv,
    pre_activation,
    stage,
    stem,
)
from .weights.pytorch import gluon_name

# variant -> channels C of the stem; blocks per stage in the stem and the P branch, and in the I branch; channels per
# scale of the pyramid pooling; channels inside the heads
VARIANTS = {"s": (32, 2, 3, 96, 128), "m": (64, 2, 3, 96, 128), "l": (64, 3, 4, 112, 256)}
FORMS = ("paper", "mmseg")


class PIDNet(BranchedNetwork):
    """PIDNet: the boundary branch (D) selects at each pixel between the detail (P) and context (I) branches (figure 4).

    x: (N, 3, H, W) -> (logits (N, nclass, H, W),), with ``aux`` followed by the logits of the P branch
    (N, nclass, H, W) and the boundary logits of the D branch (N, 1, H, W).

    The original accepts only sizes that are multiples of 8; this network accepts any size, with equal results at those.

    Args:
        nclass: number of classes.
        variant: ``'s'``, ``'m'`` or ``'l'``.
        form: ``'paper'`` as in the authors' code: the auxiliary heads read their maps after a ReLU (which works in
            place), and the logits are resized with aligned corners. ``'mmseg'`` as in mmsegmentation: neither.
        aux: heads on the P and the D branch (section 3.5).
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        UnknownNameError: unknown variant or form.
    """

    needs_batch = 2  # the pyramid pooling normalises a 1 x 1 map
    structures = tuple({"variant": variant} for variant in VARIANTS)
    foreign_options = {"mmseg": {"form": "mmseg"}}
    mmseg_branches = (
        (r"^backbone\.([ipd])_branch_layers\.(\d)\.",
         lambda m: f"backbone.layer{int(m[2]) + 3}{dict(i='', p='_', d='_d')[m[1]]}."),
        (r"^backbone\.(pag|diff)_(\d)\.", lambda m: f"backbone.{m[1]}{int(m[2]) + 2}."),
        (r"\.(pag\d)\.f_([pi])\.", lambda m: f".{m[1]}.f_{dict(p='x', i='y')[m[2]]}."),
        (r"\.(pag\d\.f_[xy]|dfm\.f_[pi])\.conv\.", r".\1.0."),
        (r"\.(pag\d\.f_[xy]|dfm\.f_[pi])\.bn\.", r".\1.1."),
        (r"\.dfm\.f_([pi])\.", r".dfm.conv_\1."),
        (r"\.dfm\.conv\.bn\.", ".dfm.conv.0."), (r"\.dfm\.conv\.conv\.", ".dfm.conv.2."),
    )
    mmseg_heads = (
        (r"^decode_head\.i_head\.", "final_layer."), (r"^decode_head\.([pd])_head\.", r"seghead_\1."),
        (r"^decode_head\.(?:conv|cls)_seg\.", "final_layer.conv2."),
        (r"^decode_head\.([pd])_cls_seg\.", r"seghead_\1.conv2."),
        (r"^(final_layer|seghead_[pd])\.conv\.bn\.", r"\1.bn1."),
        (r"^(final_layer|seghead_[pd])\.conv\.conv\.", r"\1.conv1."),
        (r"^(final_layer|seghead_[pd])\.norm\.", r"\1.bn2."),
    )

    def __init__(self, *, nclass: int, variant: str = "s", form: str = "paper", aux: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if form not in FORMS:
            raise UnknownNameError("form of PIDNet:", form, FORMS)
        variant = choose_variant("PIDNet", variant, VARIANTS)
        channels, width = VARIANTS[variant][0], VARIANTS[variant][-1]
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(ThreeBranches(variant, **norm), nclass)
        self._mmseg = form == "mmseg"
        with self.name_scope():
            self.final_layer = PreActivationHead(nclass, 4 * channels, width, **norm)
            self.seghead_p = PreActivationHead(nclass, 2 * channels, width, **norm) if aux else None
            self.seghead_d = PreActivationHead(1, 2 * channels, channels, **norm) if aux else None

    def hybrid_forward(self, F, x):
        p3, d4, fused = self.backbone(x)
        outputs = [self.final_layer(fused)]
        if self.seghead_p is not None:
            outputs += [head(y if self._mmseg else F.relu(y))
                        for head, y in ((self.seghead_p, p3), (self.seghead_d, d4))]
        return tuple(resize(F, logits, x, align_corners=not self._mmseg) for logits in outputs)

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        """Return the loss of equation 5: l0 on the P branch, l1 on the boundary logits, l2 and l3 on the output.

        l3 is over the predicted boundaries only. The weights are ``aux_weight`` for l0 (0.4 in the paper), 20 for l1,
        and 1 for l2 and l3. As in the authors' code, l0 has no mining, and its mean is over all pixels, ignored ones
        included.
        """
        if self.seghead_p is None:
            return [Term(0, 1.0, pixel_loss)]
        near_boundaries = Blend([(weight, BoundaryAware(loss)) for weight, loss in pixel_loss.losses])
        return [Term(0, 1.0, pixel_loss), Term(1, aux_weight, pixel_loss.unmined(mean_over="all")),
                Term(2, 20.0, BoundaryLoss()), Term((0, 2), 1.0, near_boundaries)]

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the authors' checkpoints, or None if this network does not have it.

        Args:
            name: name in the checkpoint, without the prefix ``model.``.
        """
        if name.startswith(("sem_loss.", "bd_loss.", "linear.", "last_layer.")):  # criteria, ImageNet classifier
            return None
        is_head = name.startswith(("final_layer.", "seghead_"))
        return gluon_name(self.named_parameters(), name if is_head else f"backbone.{name}")


class ThreeBranches(Backbone):
    """The P, I and D branches and their fusion: figure 4 and table 1 of the paper.

    x: (N, 3, H, W) -> [p3 (N, 2 C, h, w), d4 (N, 2 C, h, w), fused (N, 4 C, h, w)] with h = H / 8, w = W / 8, rounded
    up: the P branch's map after its first fusion, the D branch's after its second, and the fusion of all three.

    Args:
        variant: a key of :data:`VARIANTS`.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, variant: str, *, norm_layer: type, norm_kwargs: Mapping | None):
        norm = norm_options(norm_layer, norm_kwargs)
        c, p_blocks, i_blocks, pyramid, _ = VARIANTS[variant]
        large = variant == "l"
        boundary = 2 * c if large else c  # channels of the D branch at its start
        super().__init__((), [Tap(2 * c, 8), Tap(2 * c, 8), Tap(4 * c, 8)])

        with self.name_scope():
            self.conv1 = stem(c, **norm)
            self.layer1 = stage(c, p_blocks, in_channels=c, **norm)
            self.layer2 = stage(2 * c, p_blocks, 2, in_channels=c, **norm)

            # I: context
            self.layer3 = stage(4 * c, i_blocks, 2, in_channels=2 * c, **norm)
            self.layer4 = stage(8 * c, i_blocks, 2, in_channels=4 * c, **norm)
            self.layer5 = bottlenecks(8 * c, 2, 2, in_channels=8 * c, **norm)
            self.spp = (DAPPM if large else PAPPM)(pyramid, 4 * c, in_channels=16 * c, **norm)

            # P: detail
            self.layer3_ = stage(2 * c, p_blocks, in_channels=2 * c, **norm)
            self.layer4_ = stage(2 * c, p_blocks, in_channels=2 * c, **norm)
            self.layer5_ = bottlenecks(2 * c, 1, in_channels=2 * c, **norm)
            self.compression3 = linear_conv(2 * c, 1, in_channels=4 * c, **norm)
            self.compression4 = linear_conv(2 * c, 1, in_channels=8 * c, **norm)
            self.pag3 = PixelAttention(c, in_channels=2 * c, **norm)
            self.pag4 = PixelAttention(c, in_channels=2 * c, **norm)

            # D: boundaries
            self.layer3_d = ResidualBlock(boundary, in_channels=2 * c, activation=False, **norm)
            self.layer4_d = ResidualBlock(2 * c, in_channels=2 * c, activation=False, **norm) if large else \
                bottlenecks(c, 1, in_channels=c, **norm)
            self.layer5_d = bottlenecks(2 * c, 1, in_channels=2 * c, **norm)
            self.diff3 = linear_conv(boundary, 3, in_channels=4 * c, **norm)
            self.diff4 = linear_conv(2 * c, 3, in_channels=8 * c, **norm)
            self.dfm = (Bag if large else LightBag)(4 * c, **norm)

    def hybrid_forward(self, F, x):
        def at_stride_8(y):
            return resize(F, y, x, align_corners=False)

        x = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        i3 = F.relu(self.layer3(x))
        p3 = self.pag3(self.layer3_(x), self.compression3(i3))
        d3 = self.layer3_d(x) + at_stride_8(self.diff3(i3))

        i4 = F.relu(self.layer4(i3))
        p4 = self.pag4(self.layer4_(F.relu(p3)), self.compression4(i4))
        d4 = self.layer4_d(F.relu(d3)) + at_stride_8(self.diff4(i4))

        p5, d5 = self.layer5_(F.relu(p4)), self.layer5_d(F.relu(d4))
        return [p3, d4, self.dfm(p5, at_stride_8(self.spp(self.layer5(i4))), d5)]


class PixelAttention(HybridBlock):
    """Pixel-attention-guided fusion (Pag) of detail and context: section 3.2, equations 1 and 2 of the paper.

    At each pixel the context's weight is high if both maps agree.

    detail: (N, in_channels, H, W), context: (N, in_channels, h, w) -> (N, in_channels, H, W).

    Args:
        channels: channels of the projections whose product measures the agreement.
        in_channels: input channels.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.
    """

    def __init__(self, channels: int, *, in_channels: int, **norm):
        super().__init__()
        with self.name_scope():
            self.f_x = linear_conv(channels, 1, in_channels=in_channels, **norm)
            self.f_y = linear_conv(channels, 1, in_channels=in_channels, **norm)

    def hybrid_forward(self, F, detail, context):
        agreement = self.f_x(detail) * resize(F, self.f_y(context), detail, align_corners=False)
        weight = F.sigmoid(F.sum(to_float32(F, agreement), axis=1, keepdims=True))  # (N, 1, H, W)
        weight = as_type_of(F, weight, detail)
        context = resize(F, context, detail, align_corners=False)
        return F.broadcast_mul(1 - weight, detail) + F.broadcast_mul(weight, context)


class PAPPM(DAPPM):
    """Parallel aggregation pyramid pooling module: section 3.3, figure 6 of the paper.

    x: (N, in_channels, H, W) -> (N, channels, H, W). Unlike :class:`~mxnetseg.models.ddrnet.DAPPM`, it processes the
    four coarser scales at once, by one convolution in four groups.
    """

    def _add_processes(self, branch_channels: int, norm: Mapping) -> None:
        self.scale_process = pre_activation(4 * branch_channels, 3, groups=4, in_channels=4 * branch_channels, **norm)

    def hybrid_forward(self, F, x):
        finest = self.scale0(x)
        processed = self.scale_process(F.concat(*(coarse + finest for coarse in self._upsampled(F, x)), dim=1))
        return self.compression(F.concat(finest, processed, dim=1)) + self.shortcut(x)


class LightBag(HybridBlock):
    """Light boundary-attention-guided fusion of detail and context, with 1x1 convolutions: section 3.4, figure 7 (b).

    detail, context, boundary: (N, channels, H, W) -> same.
    """

    def __init__(self, channels: int, **norm):
        super().__init__()
        with self.name_scope():
            self.conv_p = linear_conv(channels, 1, in_channels=channels, **norm)
            self.conv_i = linear_conv(channels, 1, in_channels=channels, **norm)

    def hybrid_forward(self, F, detail, context, boundary):
        edge = F.sigmoid(boundary)
        return self.conv_p((1 - edge) * context + detail) + self.conv_i(context + edge * detail)


class Bag(HybridBlock):
    """Boundary-attention-guided fusion of detail and context, with a 3x3 convolution: section 3.4, figure 7 (a).

    detail, context, boundary: (N, channels, H, W) -> same.
    """

    def __init__(self, channels: int, **norm):
        super().__init__()
        with self.name_scope():
            self.conv = pre_activation(channels, 3, in_channels=channels, **norm)

    def hybrid_forward(self, F, detail, context, boundary):
        edge = F.sigmoid(boundary)
        return self.conv(edge * detail + (1 - edge) * context)
