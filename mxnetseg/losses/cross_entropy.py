"""Pixel-wise losses on log-softmax: cross-entropy, with mining or without, and focal loss.

GluonCV's segmentation losses rest on ``SoftmaxOutput``, whose backward ignores the gradient from
above: auxiliary weights, class weights and loss scaling do nothing there. These are ordinary
arithmetic, so ``grad(k L) = k grad(L)``.
"""
from __future__ import annotations

from typing import Optional, Sequence

from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from .mining import Mining


class PixelLoss(HybridBlock):
    """What the two have in common: valid pixels, class weights, log-probabilities.

    logits: (N, C, H, W); label: (N, H, W), any type, ``ignore`` where unlabelled -> two (1,) tensors, a sum and
    its divisor; the loss is sum / divisor. An all-ignored batch gives sum 0. Computed in float32 whatever
    the type of the logits.

    Args:
        nclass: C.
        class_weights: C numbers above or equal to 0, or None for all 1.
        ignore: the label that does not count.

    Raises:
        ConfigError: class_weights that are not one number per class, negative, or all zero.
    """

    def __init__(self, nclass: int, *, class_weights: Optional[Sequence[float]] = None, ignore: int = 255):
        super().__init__()
        if class_weights is not None:
            if len(class_weights) != nclass:
                raise ConfigError(f"{nclass} classes need {nclass} class weights", where="loss.class_weights",
                                  received=f"{len(class_weights)} numbers", fix="one number per class, in the "
                                  "data set's order (`mxnetseg datasets NAME` prints it), or null")
            if min(class_weights) < 0 or max(class_weights) == 0:
                raise ConfigError("class weights are at least 0, and not all of them 0",
                                  where="loss.class_weights", received=list(class_weights))
        self._nclass, self._ignore = nclass, ignore
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
        weight = F.take(class_weights, label) * valid if self._weighted else valid
        return self.reckon(F, log_p, label, valid, weight, class_weights)

    def reckon(self, F, log_p, label, valid, weight, class_weights):
        """The pair (sum, divisor).

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            log_p: (N, H, W, C) log-probabilities.
            label: (N, H, W), 0 where ignored.
            valid: (N, H, W), 0 where ignored, else 1.
            weight: (N, H, W), the weight of each pixel's class, 0 where ignored.
            class_weights: (C,) or None for all 1.
        """
        raise NotImplementedError


class CrossEntropy(PixelLoss):
    """Cross-entropy over the valid pixels.

    For a pixel of class y with probabilities p, class weights w, smoothing e and C classes:

        (1 - e) * w_y * (-log p_y) + e / C * sum_c w_c * (-log p_c),    weight w_y

    (Szegedy et al. 2016, eq. 7, weighted); the divisor is the sum of the weights, unless ``mean_over`` says otherwise.

    Args:
        nclass, class_weights, ignore: see :class:`PixelLoss`.
        label_smoothing: e, in [0, 1).
        mining: which of the pixels take part, and the divisor then; None: every valid pixel.
        mean_over: without mining, what the sum is divided by: ``'weights'``, the class weights of the valid pixels;
            ``'all'``, the number of all pixels, the ignored ones included.
    """

    def __init__(self, nclass: int, *, class_weights: Optional[Sequence[float]] = None,
                 label_smoothing: float = 0.0, mining: Optional[Mining] = None, mean_over: str = "weights",
                 ignore: int = 255):
        super().__init__(nclass, class_weights=class_weights, ignore=ignore)
        self._smoothing, self._mining = label_smoothing, mining
        self._mean_over = mean_over if mining is None else mining.mean_over
        self._unmined = dict(class_weights=class_weights, label_smoothing=label_smoothing, ignore=ignore)

    def unmined(self, *, mean_over: str = "weights") -> "CrossEntropy":
        """Return the same loss over every valid pixel; itself where that is what it is.

        Args:
            mean_over: see the class.
        """
        if self._mining is None and self._mean_over == mean_over:
            return self
        return CrossEntropy(self._nclass, mean_over=mean_over, **self._unmined)

    def reckon(self, F, log_p, label, valid, weight, class_weights):
        keep = valid
        if self._mining is not None:
            keep = self._mining.keep(F, log_p, label, valid)
            weight = weight * keep
        divisor = {"weights": weight, "pixels": keep, "all": F.ones_like(keep)}[self._mean_over]
        loss = F.pick(log_p, label, axis=-1) * weight
        if self._smoothing:
            over_classes = F.broadcast_mul(log_p, F.reshape(class_weights, (1, 1, 1, -1))) \
                if self._weighted else log_p
            loss = (1 - self._smoothing) * loss \
                + self._smoothing / self._nclass * F.sum(over_classes, axis=-1) * keep
        return -F.sum(loss), F.sum(divisor)


class Focal(PixelLoss):
    """Focal loss: Lin, Goyal, Girshick, He & Dollar, ICCV 2017, equation 5, over a softmax.

    For a pixel of class y with probabilities p and class weights w (the paper's alpha):

        w_y (1 - p_y)^gamma (-log p_y),    divisor: the sum of w_y

    With gamma 0 this is cross-entropy. (The paper divides by the number of anchors of objects, which pixels
    have no equal of.)

    Args:
        nclass, class_weights, ignore: see :class:`PixelLoss`.
        gamma: how little a sure pixel counts; at least 0.
    """

    def __init__(self, nclass: int, *, gamma: float = 2.0, class_weights: Optional[Sequence[float]] = None,
                 ignore: int = 255):
        super().__init__(nclass, class_weights=class_weights, ignore=ignore)
        self._gamma = gamma

    def reckon(self, F, log_p, label, valid, weight, class_weights):
        log_p_y = F.pick(log_p, label, axis=-1)
        # 1 - p without cancellation. Not 0, of which a power below 1 has no gradient
        unsure = F.clip(-F.expm1(log_p_y), 1e-12, 1)
        return -F.sum(unsure ** self._gamma * log_p_y * weight), F.sum(weight)
