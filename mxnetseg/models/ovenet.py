"""OVeNet: offset vector network for semantic segmentation. Alexandropoulos, Sakaridis & Maragos, WACV 2024."""
from __future__ import annotations

from typing import Mapping, Optional

from mxnet.gluon import nn

from ..errors import ConfigError
from ..losses import Term
from ..nn.resize import length, resize
from .backbones.hrnet import HRNetV2
from .base import SegModel, norm_options
from .hrnet import head_name, in_backbone, joined, pointwise_head


class OVeNet(SegModel):
    """HRNetV2 with a second head, which says for every pixel where a pixel of the same class is easier to tell.

    x: (N, 3, H, W) -> (fused, initial, resampled) logits, each (N, nclass, H, W). The first are the
    prediction, F the confidence, o the offset vectors:

        resampled(p) = initial(p + o(p)),    fused = (1 - F) initial + F resampled

    This is the form on plain HRNetV2, of the first author's thesis; the paper's has OCR on top. The confidence
    is trained through the fused logits here; the original adds a term that tells it where the label at p + o(p)
    is the pixel's own.

    Args:
        nclass: classes.
        width: channels of the trunk's finest branch: 48 (the original's), 32, 18. The second head has a stage 4 of
            its own, of two modules.
        max_offset: T, the longest offset along each axis; the map's height or width is 2.
        refinements: how often an offset is replaced by itself plus the one at the place it points to.
        norm_layer, norm_kwargs: GluonCV's idiom.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(self, *, nclass: int, width: int = 48, max_offset: float = 0.5, refinements: int = 0,
                 norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Mapping] = None):
        if not 0 < max_offset <= 2:
            raise ConfigError("an offset has at most the size of the map, which is 2", where="model.options.max_offset",
                              received=max_offset)
        if not isinstance(refinements, int) or refinements < 0:
            raise ConfigError("a number of refinements is 0 or more", where="model.options.refinements",
                              received=refinements)
        norm = norm_options(norm_layer, norm_kwargs)
        super().__init__(HRNetV2(width=width, second_branch=True, **norm), nclass)
        channels = sum(tap.channels for tap in self.backbone.taps)
        self._max_offset, self._refinements = max_offset, refinements
        with self.name_scope():
            self.head = pointwise_head(nclass, channels, **norm)
            self.offset_head = pointwise_head(3, channels, **norm)

    def hybrid_forward(self, F, x):
        initial, _, resampled, fused, _ = self.details(F, self.backbone(x))
        return tuple(resize(F, logits, x, align_corners=False) for logits in (fused, initial, resampled))

    def details(self, F, maps):
        """All the network knows, at stride 4.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            maps: of the backbone.

        Returns:
            initial (N, nclass, h, w); offset (N, 2, h, w), to the right and down, where -1 and 1 are the
            outer samples of the map; resampled and fused as initial; confidence (N, 1, h, w) in (0, 1).
        """
        initial = self.head(joined(F, maps[:4]))
        learned = self.offset_head(joined(F, maps[4:]))
        offset = F.tanh(F.slice_axis(learned, axis=1, begin=0, end=2)) * self._max_offset
        confidence = F.sigmoid(F.slice_axis(learned, axis=1, begin=2, end=3))
        own = F.concat(_own_place(F, offset, 3, (1, 1, 1, -1)), _own_place(F, offset, 2, (1, 1, -1, 1)), dim=1)
        for _ in range(self._refinements):
            offset = offset + F.BilinearSampler(offset, _places(F, own, offset))
        resampled = F.BilinearSampler(initial, _places(F, own, offset))
        fused = F.broadcast_mul(1 - confidence, initial) + F.broadcast_mul(confidence, resampled)
        return initial, offset, resampled, fused, confidence

    def terms(self, pixel_loss, aux_weight):
        return [Term(0, 1.0, pixel_loss), Term(1, aux_weight, pixel_loss), Term(2, aux_weight, pixel_loss)]

    def from_pytorch(self, name: str) -> Optional[str]:
        """Our name of a parameter in the original's checkpoints (without the prefix ``model.``); None for one we
        have not."""
        if name == "coords":  # the pixels' own places, saved with the weights there
            return None
        return (head_name(name, last_layer="head", offset_layer="offset_head")
                or in_backbone(self.backbone, name))


def _own_place(F, like, axis, shape):
    """Where the pixels of ``like`` are along one axis: -1 .. 1, in a map of the same size. Shape (1, 1, H, W)."""
    like = F.BlockGrad(like)
    n = length(F, like, axis)
    place = F.broadcast_div(2 * F.contrib.arange_like(like, axis=axis), F.broadcast_maximum(n - 1, F.ones_like(n)))
    return F.broadcast_add(F.reshape(place - 1, shape), F.zeros_like(F.slice_axis(like, axis=1, begin=0, end=1)))


def _places(F, own, offset):
    """Where offsets point to; not beyond the outer samples."""
    return F.clip(own + offset, -1, 1)
