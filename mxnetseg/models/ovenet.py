"""OVeNet: offset vector network for semantic segmentation. Alexandropoulos, Sakaridis & Maragos, WACV 2024."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import HybridBlock, nn

from ..errors import ConfigError
from ..losses import Term
from ..nn.precision import wide
from ..nn.resize import length, resize
from ._base import SegModel, norm_options
from .backbones.hrnet import HRNetV2
from .hrnet import head_name, in_backbone, joined, pointwise_head


class OVeNet(SegModel):
    """HRNetV2 with a second head, which says for every pixel where a pixel of the same class is easier to tell.

    x: (N, 3, H, W) -> (fused, initial, resampled) logits, each (N, nclass, H, W), the offset vectors o (N, 2, H, W)
    and the confidence F (N, 1, H, W). The first are the prediction:

        resampled(p) = initial(p + o(p)),    fused = (1 - F) initial + F resampled

    This is the form on plain HRNetV2, of the first author's thesis; the paper's has OCR on top. The initial and the
    resampled logits are trained with the weight of auxiliary heads (the original's: 0.5), the confidence also
    by a term of its own, :class:`OffsetConfidence`.

    Args:
        nclass: classes.
        width: channels of the trunk's finest branch: 48 (the original's), 32, 18.
        branch_stage: the second head's branch leaves the trunk after this stage, 3 (the original's default), 2 or 1,
            with later stages of its own (the original's ``OFFSET_BRANCH`` is one more: 4, 3 or 2).
        max_offset: T, the longest offset along each axis; the map's height or width is 2.
        refinements: how often an offset is replaced by itself plus the one at the place it points to.
        confidence_weight: of the confidence's term.
        confidence_mean: see :class:`OffsetConfidence`. The original sums over the pictures of a GPU and takes the mean
            over the GPUs; with the two pictures that it has on each, this is twice the mean.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: a value out of range.
    """

    structures = (*({"width": 48, "branch_stage": stage} for stage in (3, 2, 1)), {"width": 32}, {"width": 18})

    def __init__(self, *, nclass: int, width: int = 48, branch_stage: int = 3, max_offset: float = 0.5,
                 refinements: int = 0, confidence_weight: float = 1.0, confidence_mean: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        if not 0 < max_offset <= 2:
            raise ConfigError("an offset has at most the size of the map, which is 2", where="model.options.max_offset",
                              received=max_offset)
        if not isinstance(refinements, int) or refinements < 0:
            raise ConfigError("a number of refinements is 0 or more", where="model.options.refinements",
                              received=refinements)
        if confidence_weight < 0:
            raise ConfigError("the weight of a loss is 0 or more", where="model.options.confidence_weight",
                              received=confidence_weight)
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(HRNetV2(width=width, branch_stage=branch_stage, **norm), nclass)
        channels = sum(tap.channels for tap in self.backbone.taps)
        self._max_offset, self._refinements = max_offset, refinements
        self._confidence_weight, self._confidence_mean = confidence_weight, confidence_mean
        with self.name_scope():
            self.head = pointwise_head(nclass, channels, **norm)
            self.offset_head = pointwise_head(3, channels, **norm)

    def hybrid_forward(self, F, x):
        initial, offset, resampled, fused, confidence = self.details(F, self.backbone(x))
        return tuple(resize(F, y, x, align_corners=False) for y in (fused, initial, resampled, offset, confidence))

    def details(self, F, maps):
        """All the network knows, at stride 4.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            maps: of the backbone.

        Returns:
            in float32, initial (N, nclass, h, w); offset (N, 2, h, w), to the right and down, where -1 and 1 are the
            outer samples of the map; resampled and fused as initial; confidence (N, 1, h, w) in (0, 1).
        """
        initial = wide(F, self.head(joined(F, maps[:4])))
        learned = wide(F, self.offset_head(joined(F, maps[4:])))
        offset = F.tanh(F.slice_axis(learned, axis=1, begin=0, end=2)) * self._max_offset
        confidence = F.sigmoid(F.slice_axis(learned, axis=1, begin=2, end=3))
        own = F.concat(_own_place(F, offset, 3, (1, 1, 1, -1)), _own_place(F, offset, 2, (1, 1, -1, 1)), dim=1)
        for _ in range(self._refinements):
            offset = offset + F.BilinearSampler(offset, _places(F, own, offset))
        resampled = F.BilinearSampler(initial, _places(F, own, offset))
        fused = F.broadcast_mul(1 - confidence, initial) + F.broadcast_mul(confidence, resampled)
        return initial, offset, resampled, fused, confidence

    def terms(self, pixel_loss, aux_weight):
        return [Term(0, 1.0, pixel_loss), Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss),
                Term((3, 4), self._confidence_weight, OffsetConfidence(mean=self._confidence_mean))]

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter in the original's checkpoints (without the prefix ``model.``); None for one we
        have not."""
        if name == "coords":  # the pixels' own places, saved with the weights there
            return None
        return (head_name(name, last_layer="head", offset_layer="offset_head")
                or in_backbone(self.backbone, name))


class OffsetConfidence(HybridBlock):
    """Tells the confidence F where an offset is right: where the label at the pixel nearest to p + o(p) is p's own.

        -log(F + 1e-7) there, -log(1 - F + 1e-7) elsewhere

    The offsets have no gradient of it.

    offset: (N, 2, H, W), 2 being the height and the width of the map; confidence: (N, 1, H, W) in (0, 1); label:
    (N, H, W) -> two (1,) tensors, a sum and its divisor.

    Args:
        mean: over all labelled pixels of the batch whose offset leads to a labelled one. False: as in the original, the
            mean over the pixels of one map, *summed* over the batch, with ignored pixels as class 0. The divisor
            is 0 then, so that the sum over all devices is meant.
        ignore: the label that does not count.
    """

    def __init__(self, *, mean: bool = False, ignore: int = 255):
        super().__init__()
        self._mean, self._ignore = mean, ignore

    def hybrid_forward(self, F, offset, confidence, label):
        offset = F.BlockGrad(F.cast(offset, "float32"))
        confidence = F.reshape(F.cast(confidence, "float32"), (0, -3, -2))  # (N, H, W)
        label = F.cast(label, "float32")
        valid = label != self._ignore
        label = label * valid
        there = self._pixels(F, offset)
        right = F.take(F.reshape(label, (-1,)), there) == label
        loss = -F.log(F.where(right, confidence, 1 - confidence) + 1e-7)
        if not self._mean:
            total = F.sum(loss) / (length(F, offset, 2) * length(F, offset, 3))
            return total, F.zeros_like(total)
        valid = valid * F.take(F.reshape(valid, (-1,)), there)
        return F.sum(loss * valid), F.sum(valid)

    def _pixels(self, F, offset):
        """Numbers in the flattened batch of the pixels that offsets lead to: (N, 2, H, W) -> (N, H, W) int32."""
        own = F.concat(_own_place(F, offset, 3, (1, 1, 1, -1)), _own_place(F, offset, 2, (1, 1, -1, 1)), dim=1)
        place = (_places(F, own, offset) + 1) / 2  # 0 .. 1
        height, width = length(F, offset, 2), length(F, offset, 3)
        column, row = F.split(place, num_outputs=2, axis=1, squeeze_axis=True)
        column = F.round(F.broadcast_mul(column, F.reshape(width - 1, (1, 1, 1))))
        row = F.round(F.broadcast_mul(row, F.reshape(height - 1, (1, 1, 1))))
        height, width, column, row, image = (F.cast(n, "int32") for n in (
            height, width, column, row, F.contrib.arange_like(offset, axis=0)))
        row = F.broadcast_add(row, F.broadcast_mul(F.reshape(image, (-1, 1, 1)), F.reshape(height, (1, 1, 1))))
        return F.broadcast_add(F.broadcast_mul(row, F.reshape(width, (1, 1, 1))), column)


def _own_place(F, like, axis, shape):
    """Where the pixels of ``like`` are along one axis: -1 .. 1, in a map of the same size. Shape (1, 1, H, W)."""
    like = F.BlockGrad(like)
    n = length(F, like, axis)
    place = F.broadcast_div(2 * F.contrib.arange_like(like, axis=axis), F.broadcast_maximum(n - 1, F.ones_like(n)))
    return F.broadcast_add(F.reshape(place - 1, shape), F.zeros_like(F.slice_axis(like, axis=1, begin=0, end=1)))


def _places(F, own, offset):
    """Where offsets point to; not beyond the outer samples."""
    return F.clip(own + offset, -1, 1)
