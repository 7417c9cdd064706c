"""Pixel-wise cross-entropy on log-softmax.

GluonCV's segmentation losses rest on ``SoftmaxOutput``, whose backward ignores the gradient from
above: auxiliary weights, class weights and loss scaling do nothing there. This one is ordinary
arithmetic, so ``grad(k L) = k grad(L)``.
"""
from __future__ import annotations

from typing import Optional, Sequence

from mxnet.gluon import HybridBlock

from ..errors import ConfigError


class CrossEntropy(HybridBlock):
    """Cross-entropy over the valid pixels, as the pair (sum, weight); the loss is sum / weight.

    For a pixel of class y with probabilities p, class weights w, smoothing e and C classes:

        (1 - e) * w_y * (-log p_y) + e / C * sum_c w_c * (-log p_c),    weight w_y

    (Szegedy et al. 2016, eq. 7, weighted). With online hard example mining a pixel takes part only if
    p_y < max(t, q), where q is the ``min_kept``-th smallest p_y: all pixels less sure than t, and where
    these are fewer than ``min_kept``, all less sure than q (Shrivastava et al. 2016; the form of
    FlatteNet, in HRNet's q is the next larger one). Mining looks at the batch of one device.

    logits: (N, C, H, W); label: (N, H, W), any type, ``ignore`` where unlabelled -> two (1,) tensors.
    An all-ignored batch gives (0, 0). Computed in float32 whatever the type of the logits.

    Args:
        nclass: C.
        class_weights: C numbers above or equal to 0, or None for all 1.
        label_smoothing: e, in [0, 1).
        ohem_thresh: t, in (0, 1]; None switches mining off.
        ohem_min_kept: pixels of one device's batch.
        ignore: the label that does not count.

    Raises:
        ConfigError: class_weights that are not one number per class, negative, or all zero.
    """

    def __init__(self, nclass: int, *, class_weights: Optional[Sequence[float]] = None,
                 label_smoothing: float = 0.0, ohem_thresh: Optional[float] = None,
                 ohem_min_kept: int = 100000, ignore: int = 255):
        super().__init__()
        if class_weights is not None:
            if len(class_weights) != nclass:
                raise ConfigError(f"{nclass} classes need {nclass} class weights", where="loss.class_weights",
                                  received=f"{len(class_weights)} numbers", fix="one number per class, in the "
                                  "data set's order (`mxnetseg datasets NAME` prints it), or null")
            if min(class_weights) < 0 or max(class_weights) == 0:
                raise ConfigError("class weights are at least 0, and not all of them 0",
                                  where="loss.class_weights", received=list(class_weights))
        self._nclass, self._ignore, self._smoothing = nclass, ignore, label_smoothing
        self._thresh, self._min_kept = ohem_thresh, ohem_min_kept
        self._weighted = class_weights is not None
        if self._weighted:
            with self.name_scope():
                self.class_weights = self.params.get_constant("class_weights", list(map(float, class_weights)))

    def hybrid_forward(self, F, logits, label, class_weights=None):
        # channels last: log_softmax over the innermost axis is twice as fast on a CPU
        logits = F.transpose(F.cast(logits, "float32"), axes=(0, 2, 3, 1))
        label = F.cast(label, "float32")
        valid = label != self._ignore
        label = label * valid  # pick() would read an ignored pixel as the last class
        log_p = F.log_softmax(logits, axis=-1)
        log_p_y = F.pick(log_p, label, axis=-1)

        weight = F.take(class_weights, label) * valid if self._weighted else valid
        keep = valid
        if self._thresh is not None:
            keep = valid * self._hard(F, F.BlockGrad(F.exp(log_p_y)), valid)
            weight = weight * keep
        loss = log_p_y * weight
        if self._smoothing:
            over_classes = F.broadcast_mul(log_p, F.reshape(class_weights, (1, 1, 1, -1))) \
                if self._weighted else log_p
            loss = (1 - self._smoothing) * loss \
                + self._smoothing / self._nclass * F.sum(over_classes, axis=-1) * keep
        return -F.sum(loss), F.sum(weight)

    def _hard(self, F, p_y, valid):
        """1 where a pixel is hard enough to count: p_y and valid (N, H, W) -> the same shape."""
        # ignored pixels sort behind all others; probabilities are at most 1. The axis is said because
        # MXNet 1.9.1 cannot build the gradient of sort() with the default one, even where it is zero.
        ascending = F.sort(F.reshape(F.where(valid, p_y, 2 * F.ones_like(p_y)), (-1,)), axis=0)
        kept = F.broadcast_minimum(F.sum(valid), self._min_kept * F.ones_like(F.sum(valid)))
        q = F.take(ascending, F.relu(kept - 1))
        return F.broadcast_lesser(p_y, F.broadcast_maximum(q, self._thresh * F.ones_like(q)))
