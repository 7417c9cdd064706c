"""Pixel-wise losses on log-softmax: cross-entropy, with or without mining, and focal loss.

GluonCV's segmentation losses use ``SoftmaxOutput``, whose backward pass ignores the incoming gradient, so that
auxiliary weights, class weights and loss scaling have no effect. The losses here use ordinary arithmetic, so
``grad(k L) = k grad(L)``.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet.gluon import HybridBlock

from ..errors import ConfigError
from .mining import Mining


class PixelLoss(HybridBlock):
    """Base class of the pixel-wise losses, with valid pixels, class weights and log-probabilities.

    logits: (N, C, H, W), label: (N, H, W), any type, ``ignore`` where unlabelled -> two (1,) tensors, a sum and
    its divisor; the loss is sum / divisor. The sum of a batch without labelled pixels is 0. Logits of any type are
    converted to float32 first.

    Args:
        nclass: C, the number of classes.
        class_weights: C numbers >= 0; None: all 1.
        ignore: label of the ignored pixels.

    Raises:
        ConfigError: class_weights that are not one number per class, negative, or all zero.
    """

    def __init__(self, nclass: int, *, class_weights: Sequence[float] | None = None, ignore: int = 255):
        super().__init__()
        if class_weights is not None:
            if len(class_weights) != nclass:
                raise ConfigError(f"{nclass} classes need {nclass} class weights", where="loss.class_weights",
                                  received=f"{len(class_weights)} numbers", fix="one number per class, in the "
                                  "data set's order (`mxnetseg datasets NAME` prints it), or null")
            if min(class_weights) < 0 or max(class_weights) == 0:
                raise ConfigError("class weights must be >= 0 and not all 0",
                                  where="loss.class_weights", received=list(class_weights),
                                  fix="positive weights; 0 for a class that should not be trained")

        self._nclass, self._ignore = nclass, ignore
        self._weighted = class_weights is not None
        if self._weighted:
            with self.name_scope():
                self.class_weights = self.params.get_constant("class_weights", list(map(float, class_weights)))

    def hybrid_forward(self, F, logits, label, class_weights=None):
        # log_softmax over the innermost axis is twice as fast on a CPU
        logits = F.transpose(F.cast(logits, "float32"), axes=(0, 2, 3, 1))  # (N, H, W, C)
        label = F.cast(label, "float32")
        valid = label != self._ignore
        label = label * valid  # pick() would read an ignored pixel as the last class
        log_p = F.log_softmax(logits, axis=-1)
        weight = F.take(class_weights, label) * valid if self._weighted else valid
        return self.weighted_sum(F, log_p, label, valid, weight, class_weights)

    def weighted_sum(self, F, log_p, label, valid, weight, class_weights):
        """Return the pair (sum, divisor).

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            log_p: (N, H, W, C) log-probabilities.
            label: (N, H, W), 0 where ignored.
            valid: (N, H, W), 0 where ignored, else 1.
            weight: (N, H, W), weight of each pixel's class, 0 where ignored.
            class_weights: (C,), or None for all 1.
        """
        raise NotImplementedError


class CrossEntropy(PixelLoss):
    """Cross-entropy over the valid pixels.

    For a pixel of class y with probabilities p, class weights w, smoothing e and C classes:

        (1 - e) * w_y * (-log p_y) + e / C * sum_c w_c * (-log p_c),    weight w_y

    (Szegedy et al. 2016, equation 7, with class weights). The divisor is given by ``mean_over``.

    Args:
        nclass, class_weights, ignore: see :class:`PixelLoss`.
        label_smoothing: e, in [0, 1).
        mining: selects the pixels that count, and the divisor; None: all valid pixels count.
        mean_over: the divisor without mining: ``'weights'``, the sum of the valid pixels' class weights, or ``'all'``,
            the number of all pixels, ignored ones included.
    """

    def __init__(self, nclass: int, *, class_weights: Sequence[float] | None = None,
                 label_smoothing: float = 0.0, mining: Mining | None = None, mean_over: str = "weights",
                 ignore: int = 255):
        super().__init__(nclass, class_weights=class_weights, ignore=ignore)
        self._smoothing, self._mining = label_smoothing, mining
        self._mean_over = mean_over if mining is None else mining.mean_over
        self._unmined: dict[str, Any] = {"class_weights": class_weights, "label_smoothing": label_smoothing,
                                         "ignore": ignore}

    def unmined(self, *, mean_over: str = "weights") -> CrossEntropy:
        """Return the same loss over every valid pixel, or ``self`` if it has no mining and the same divisor.

        Args:
            mean_over: see the class.
        """
        if self._mining is None and self._mean_over == mean_over:
            return self
        return CrossEntropy(self._nclass, mean_over=mean_over, **self._unmined)

    def weighted_sum(self, F, log_p, label, valid, weight, class_weights):
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

    With gamma 0 this is cross-entropy. (The paper divides by the number of anchors assigned to objects, which
    segmentation does not have.)

    Args:
        nclass, class_weights, ignore: see :class:`PixelLoss`.
        gamma: focusing parameter, >= 0: higher values down-weight easy pixels more.
    """

    def __init__(self, nclass: int, *, gamma: float = 2.0, class_weights: Sequence[float] | None = None,
                 ignore: int = 255):
        super().__init__(nclass, class_weights=class_weights, ignore=ignore)
        self._gamma = gamma

    def weighted_sum(self, F, log_p, label, valid, weight, class_weights):
        log_p_y = F.pick(log_p, label, axis=-1)
        # 1 - p without cancellation; not 0, because the gradient of a power below 1 is infinite there
        one_minus_p = F.clip(-F.expm1(log_p_y), 1e-12, 1)
        return -F.sum(one_minus_p ** self._gamma * log_p_y * weight), F.sum(weight)
