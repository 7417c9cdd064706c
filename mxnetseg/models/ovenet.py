"""OVeNet: offset vector network for semantic segmentation. Alexandropoulos, Sakaridis & Maragos, WACV 2024.

A second head predicts, for every pixel, an offset to a pixel of the same class that is easier to classify.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mxnet.gluon import HybridBlock, nn

from ..errors import ConfigError
from ..losses import Blend, Term
from ..nn.precision import to_float32
from ..nn.resize import length, resize
from ._base import SegModel, norm_options
from .backbones.hrnet import HRNetV2
from .hrnet import concat_resized, head_name, in_backbone, pointwise_head


class OVeNet(SegModel):
    """OVeNet: HRNetV2 whose logits are mixed with the logits at learned offsets.

    x: (N, 3, H, W) -> (fused, initial, resampled) logits, each (N, nclass, H, W), the offset vectors o (N, 2, H, W)
    and the confidence F (N, 1, H, W). The fused logits are the prediction:

        resampled(p) = initial(p + o(p)),    fused = (1 - F) initial + F resampled

    This is the network on plain HRNetV2 of the first author's thesis; the paper adds OCR. The losses of the initial and
    the resampled logits have the weight of auxiliary heads (0.5 in the original), and the confidence has an additional
    loss, :class:`OffsetConfidence`.

    Args:
        nclass: number of classes.
        width: channels of the trunk's finest branch: 48 (the original's), 32 or 18.
        branch_stage: stage after which the second head's branch, with its own later stages, leaves the trunk: 3 (the
            original's default), 2 or 1. The original's ``OFFSET_BRANCH`` is larger by one.
        max_offset: T, the longest offset along each axis, in a unit in which the map's height and width are 2.
        refinements: number of times that an offset is replaced by its sum with the offset at its target.
        confidence_weight: weight of the confidence's loss.
        confidence_mean: see :class:`OffsetConfidence`. The original sums over the images of a GPU and averages over the
            GPUs; with its two images per GPU, this is twice the mean.
        norm_layer, norm_kwargs: class of the norms and its keyword arguments, as in GluonCV.

    Raises:
        ConfigError: a value out of range.
    """

    structures = (*({"width": 48, "branch_stage": stage} for stage in (3, 2, 1)), {"width": 32}, {"width": 18})

    def __init__(self, *, nclass: int, width: int = 48, branch_stage: int = 3, max_offset: float = 0.5,
                 refinements: int = 0, confidence_weight: float = 1.0, confidence_mean: bool = False,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Mapping | None = None):
        if not 0 < max_offset <= 2:
            raise ConfigError("max_offset must be > 0 and <= 2, the size of the map", where="model.options.max_offset",
                              received=max_offset, fix="for example 0.5, the default")
        if not isinstance(refinements, int) or refinements < 0:
            raise ConfigError("refinements must be an integer >= 0", where="model.options.refinements",
                              received=refinements, fix="0 for no refinement, or a small number such as 2")
        if confidence_weight < 0:
            raise ConfigError("confidence_weight must be >= 0", where="model.options.confidence_weight",
                              received=confidence_weight, fix="for example 1, the default")

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
        """Return all intermediate results at stride 4.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            maps: the maps of the backbone.

        Returns:
            initial (N, nclass, h, w); offset (N, 2, h, w), to the right and down, where the map's outer pixels lie at
            -1 and 1; resampled and fused, as initial; confidence (N, 1, h, w) in (0, 1). All are float32.
        """
        initial = to_float32(F, self.head(concat_resized(F, maps[:4])))
        learned = to_float32(F, self.offset_head(concat_resized(F, maps[4:])))
        offset = F.tanh(F.slice_axis(learned, axis=1, begin=0, end=2)) * self._max_offset
        confidence = F.sigmoid(F.slice_axis(learned, axis=1, begin=2, end=3))

        pixels = _pixel_coordinates(F, offset)
        for _ in range(self._refinements):
            offset = offset + F.BilinearSampler(offset, _targets(F, pixels, offset))
        resampled = F.BilinearSampler(initial, _targets(F, pixels, offset))
        fused = F.broadcast_mul(1 - confidence, initial) + F.broadcast_mul(confidence, resampled)
        return initial, offset, resampled, fused, confidence

    def terms(self, pixel_loss: Blend, aux_weight: float) -> Sequence[Term]:
        return [Term(0, 1.0, pixel_loss), Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss),
                Term((3, 4), self._confidence_weight, OffsetConfidence(mean=self._confidence_mean))]

    def from_pytorch(self, name: str) -> str | None:
        """Return our name of a parameter in the original's checkpoints, or None if this network does not have it.

        Args:
            name: name in the checkpoint, without the prefix ``model.``.
        """
        if name == "coords":  # the pixels' coordinates, which the original saves with the weights
            return None
        return (head_name(name, last_layer="head", offset_layer="offset_head")
                or in_backbone(self.backbone, name))


class OffsetConfidence(HybridBlock):
    """Binary cross-entropy of the confidence F, whose target is whether an offset is right.

    An offset o(p) is right if the pixel nearest to p + o(p) has the label of p. The loss is -log(F + 1e-7) at pixels
    with a right offset, and -log(1 - F + 1e-7) elsewhere. The offsets get no gradient.

    offset: (N, 2, H, W), in a unit in which the map's height and width are 2; confidence: (N, 1, H, W) in (0, 1);
    label: (N, H, W) -> two (1,) tensors, a sum and its divisor.

    Args:
        mean: average over all labelled pixels of the batch whose offset points to a labelled pixel. False: as in the
            original, average over the pixels of each map, with ignored pixels as class 0, and *sum* over the batch.
            The divisor is then 0, so that the result is the sum over all devices.
        ignore: label of the ignored pixels.
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

        targets = self._pixels(F, offset)
        is_right = F.take(F.reshape(label, (-1,)), targets) == label
        loss = -F.log(F.where(is_right, confidence, 1 - confidence) + 1e-7)
        if not self._mean:
            total = F.sum(loss) / (length(F, offset, 2) * length(F, offset, 3))
            return total, F.zeros_like(total)
        valid = valid * F.take(F.reshape(valid, (-1,)), targets)
        return F.sum(loss * valid), F.sum(valid)

    def _pixels(self, F, offset):
        """Return the pixel that each offset points to, as an index in the batch: (N, 2, H, W) -> (N, H, W)."""
        targets = (_targets(F, _pixel_coordinates(F, offset), offset) + 1) / 2  # 0 .. 1
        height, width = length(F, offset, 2), length(F, offset, 3)
        column, row = F.split(targets, num_outputs=2, axis=1, squeeze_axis=True)
        column = F.round(F.broadcast_mul(column, F.reshape(width - 1, (1, 1, 1))))
        row = F.round(F.broadcast_mul(row, F.reshape(height - 1, (1, 1, 1))))
        height, width, column, row, image = (F.cast(n, "int32") for n in (
            height, width, column, row, F.contrib.arange_like(offset, axis=0)))
        row = F.broadcast_add(row, F.broadcast_mul(F.reshape(image, (-1, 1, 1)), F.reshape(height, (1, 1, 1))))
        return F.broadcast_add(F.broadcast_mul(row, F.reshape(width, (1, 1, 1))), column)


def _pixel_coordinates(F, like):
    """Return (x, y) of the pixels of ``like`` (N, C, H, W), in -1 .. 1: shape (N, 2, H, W)."""
    like = F.BlockGrad(like)
    zeros = F.zeros_like(F.slice_axis(like, axis=1, begin=0, end=1))
    coordinates = []
    for axis, shape in ((3, (1, 1, 1, -1)), (2, (1, 1, -1, 1))):
        n = length(F, like, axis)
        along = F.broadcast_div(2 * F.contrib.arange_like(like, axis=axis), F.broadcast_maximum(n - 1, F.ones_like(n)))
        coordinates.append(F.broadcast_add(F.reshape(along - 1, shape), zeros))
    return F.concat(*coordinates, dim=1)


def _targets(F, pixels, offset):
    """Return the coordinates that the offsets of ``pixels`` point to, clipped to the map."""
    return F.clip(pixels + offset, -1, 1)
